"""The epochs of training, as each run wrote them down."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....cache import EmocacheError
from ....train.records.run_record import HISTORY
from ..result_groups import Result
from ..stored_runs import Run


@dataclass(frozen=True)
class Curve:
    """One number of one run, epoch by epoch."""

    fold: int
    seed: int
    phase: str  # "search", or "refit" where the head was trained anew on more; with what tells its trainings apart
    name: str  # "train_loss", "valid_loss", "valid_ccc"...
    epochs: Sequence[int]
    values: Sequence[float]


def curves(result: Result) -> list[Curve]:
    """Read the losses and validation scores of a result's runs; none of runs that have no epochs.

    Args:
        result: runs that differ in fold and seed only.

    Returns:
        The curves, by fold, seed, phase and name.

    Raises:
        EmocacheError: a history that cannot be read.
    """
    found: dict[tuple[int, int, str, str], list[tuple[int, float]]] = {}
    for (fold, seed), run in sorted(result.runs.items()):
        for line in _lines(run):
            named = {"target": "{}", "head": "head {}", "inner": "part {}", "phase": "{}"}
            phase = " ".join(text.format(line[key]) for key, text in named.items() if line.get(key))
            for name, value in line.items():
                if name.startswith(("train_", "valid_")) and isinstance(value, int | float) and math.isfinite(value):
                    found.setdefault((fold, seed, phase, name), []).append((int(line["epoch"]), float(value)))
    return [Curve(*place, *map(list, zip(*points, strict=True))) for place, points in found.items()]


def _lines(run: Run) -> list[dict[str, Any]]:
    path = run.folder / HISTORY
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise EmocacheError(f"{path}: {error}; delete the run's folder and train it again") from error
    return [line for line in lines if "epoch" in line]
