"""Figures of any run, one module each, of stored predictions or of a manifest; importing this draws nothing."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from ...scoring.scored import Evaluation
from .look import Look

FIGURES: dict[str, str] = {
    "confusion_matrix": "save_confusion_matrices",
    "scatter": "save_scatters",
}
"""{a module of this folder: its function that writes what it can draw of evaluations, and returns the files' paths}."""


def figure_writers() -> list[Callable[[Path, Sequence[Evaluation], Look], list[Path]]]:
    """Return the function of every figure, which takes the folder to write to, the evaluations and the look."""
    return [getattr(import_module(f".{module}", __name__), function) for module, function in FIGURES.items()]
