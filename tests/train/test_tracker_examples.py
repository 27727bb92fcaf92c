"""The trackers that docs/training.md shows are short, and run as they stand, on stubs of the modules they import."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emocache.train.watch.watching import Watching

DOCS = Path(__file__).parents[2] / "docs" / "training.md"
LINE = {"epoch": 1, "phase": "search", "trial": 0, "train_loss": 0.5, "valid_loss": 0.25}


class Stub(ModuleType):
    """A module whose every function notes its call."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def called(*given: Any, **named: Any) -> "Stub":
            self.calls.append((name, given, named))
            return self

        return called


def example(module: str) -> str:
    """The Python of the docs that imports a module."""
    (found,) = re.findall(rf"```python\n(import {module}\n.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    return str(found)


@pytest.mark.parametrize(("module", "last"), [("wandb", ("finish", (), {"exit_code": 0})),
                                              ("mlflow", ("end_run", ("FINISHED",), {}))])  # fmt: skip
def test_an_example_takes_the_epochs_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, last: object
) -> None:
    code, stub = example(module), Stub(module)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    (tmp_path / f"my_{module}.py").write_text(code, "utf-8")
    monkeypatch.setitem(sys.modules, module, stub)
    monkeypatch.delitem(sys.modules, f"my_{module}", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    watching = Watching((f"my_{module}:Run",), tmp_path)
    watching.check()
    about = {
        "experiment": "probe", "corpora": ["toys"], "setting": "0123456789ab", "fold": 2, "seed": 0,
        "folder": str(tmp_path / "probe" / "fold2-seed0"), "settings": {"seeds": [0]},
    }  # fmt: skip
    (tmp_path / "probe").mkdir()
    with watching.run(about) as take:
        take(dict(LINE))
    told = " ".join(map(str, stub.calls))
    assert "fold 2 seed 0" in told and "0123456789ab" in told
    assert "'search/train_loss': 0.5" in told and "'search/valid_loss': 0.25" in told and "trial" not in told
    assert stub.calls[-1] == last
