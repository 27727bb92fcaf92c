"""Predicted against true values, a panel for each target (Emotion Share paper, Figure 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ....train.records.metrics import metric_name
from ...scoring.scored import Evaluation
from ...scoring.stored_predictions import concatenate, read_predictions
from ..cells import grid_of, number
from .drawing import COLOURS, entitle, named, save
from .look import SCREEN, Look

MOST_TARGETS = 9
_COLUMNS = 3
_PANEL = 2.4  # inches


@dataclass(frozen=True)
class Panel:
    """The N test samples of one target, of all folds and seeds."""

    target: str
    reference: NDArray[np.float64]  # (N,)
    prediction: NDArray[np.float64]  # (N,)
    rho: float  # Spearman's correlation as the tables have it: pooled over folds, mean over seeds


def save_scatters(out: Path, evaluations: Sequence[Evaluation], look: Look = SCREEN) -> list[Path]:
    """Draw every regression of utterances with at most `MOST_TARGETS` targets; returns the files' paths."""
    written = []
    for evaluation in evaluations:
        if made := panels(evaluation):
            result = evaluation.result
            told = f"test utterances of {grid_of(result)}; ρ: Spearman's, pooled"
            stem = out / f"scatter-{result.file_name}"
            written += save(_figure(made, f"{named(result)}\n{told}", look), stem, look)
    return written


def panels(evaluation: Evaluation) -> list[Panel]:
    """Gather each target's true and predicted values.

    Args:
        evaluation: of a result; its predictions are read again.

    Returns:
        A panel for each target; none where the result is no regression of utterances, or has too many targets.

    Raises:
        EmocacheError: predictions that cannot be read, see `read_predictions`.
    """
    result = evaluation.result
    if result.first.task != "regression" or len(result.targets) > MOST_TARGETS:
        return []
    # Regressions have no classes to look up.
    pooled = concatenate([read_predictions(run, []) for _, run in sorted(result.runs.items())])
    rho = {target: evaluation.metrics[metric_name("spearman", target)].pooled for target in result.targets}
    return [Panel(name, own.reference, own.prediction, rho[name]) for name, own in pooled.samples.items()]


def limits(made: Sequence[Panel]) -> tuple[float, float]:
    """Return the least and the largest finite value of all panels, with a margin of 3%: the range of every axis."""
    values = np.concatenate([values for panel in made for values in (panel.reference, panel.prediction)])
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    # One value alone has no range to take a margin of.
    margin = 0.03 * (high - low) or 0.5
    return low - margin, high + margin


def _figure(made: Sequence[Panel], title: str, look: Look) -> Figure:
    columns = min(_COLUMNS, len(made))
    rows = math.ceil(len(made) / columns)
    size = (max(4.0, _PANEL * columns + 0.4), (_PANEL + 0.3) * rows + 0.8)
    figure = Figure(figsize=look.size(*size), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    ends = limits(made)
    for axes in grid.flat[len(made) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, made, strict=False):
        axes.plot(ends, ends, color="black", linewidth=0.8, zorder=3)
        axes.scatter(panel.reference, panel.prediction, s=8, alpha=0.5, color=COLOURS[0], linewidths=0)
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.tick_params(labelsize=look.small)
        axes.set_title(f"{panel.target}, ρ = {number(panel.rho)}", fontsize=look.text, wrap=True, parse_math=False)
    figure.supxlabel("true", fontsize=look.text)
    figure.supylabel("predicted (line: predicted = true)", fontsize=look.text)
    entitle(figure, title, look)
    return figure
