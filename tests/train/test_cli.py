"""`emocache train` as it is typed."""

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from emocache.cache import EmocacheError
from emocache.train.cli import train

if TYPE_CHECKING:
    from .conftest import Toy


def call(toy: "Toy", *more: str) -> Result:
    app = typer.Typer()
    app.command()(train)
    where = ["--corpus", "toys", "--cache", str(toy.root), "--runs", str(toy.folder / "runs")]
    return CliRunner().invoke(app, [toy.experiment(), *where, "--device", "cpu", "--set", "training.epochs=2", *more])


def test_a_second_run_trains_nothing_and_says_so(toy: "Toy") -> None:
    toy.cache(failures=["spk1_0"])
    first = call(toy, "--set", "labels={angry=['angry'], sad=['sad']}")
    assert first.exit_code == 0, first.exception
    assert "dropped by the label map: happy (12)" in first.output
    assert "without features: 1 utterances (toys/spk1_0); in the test part: prior" in first.output
    assert "shared between train, valid and test: no speaker; no session" in first.output
    assert "3 trained, 0 reused: " in first.output and "fold 2 seed 0: validation accuracy" in first.output
    again = call(toy, "--set", "labels={angry=['angry'], sad=['sad']}")
    assert "0 trained, 3 reused: " in again.output and "seed" not in again.output.splitlines()[-2]


def test_dry_run_tells_and_trains_nothing(toy: "Toy") -> None:
    toy.cache()
    result = call(toy, "--dry-run", "--set", "protocol.name=random_folds", "--set", "features.normalise=per_speaker")
    assert result.exit_code == 0, result.exception
    assert "shared between train, valid and test: speakers 1" in result.output and "TRANSDUCTIVE" in result.output
    assert "fold 0: 12 train, 12 valid, 12 test of S1, " in result.output and " angry, " in result.output
    assert "memory: " in result.output and "runs: 3 to train, 0 stored already" in result.output
    assert "time: at most " in result.output
    assert not (toy.folder / "runs").exists()


def test_errors_are_emocache_errors_and_usage_is_usage(toy: "Toy") -> None:
    toy.cache()
    misspelt = call(toy, "--set", "training.epoch=2")
    assert isinstance(misspelt.exception, EmocacheError) and "did you mean 'training.epochs'?" in str(
        misspelt.exception
    )
    assert call(toy, "--device", "tpu").exit_code == 2
    assert call(toy, "--jobs", "0").exit_code == 2


@pytest.mark.parametrize("module", ["emocache.train", "emocache.train.cli"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'sklearn', 'pydantic', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
