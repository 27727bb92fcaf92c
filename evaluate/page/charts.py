"""The page's own charts, drawn by matplotlib in the colours of the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ...train.records.confusion import row_normalised
from ..output.figures.composition import shorten
from ..output.figures.scatter import Panel, limits
from ..scoring.breakdowns.clip_losses import Track
from ..scoring.breakdowns.histories import Curve
from ..scoring.ranking.contests import MOST, Contest
from .svg import FAINT, HEAT, INK, SERIES, in_style

WIDTH = 4.2  # inches, of which a phone shows most
MOST_POINTS = 1500
"""Of a scatter, in all of its panels; more of them are thinned out evenly."""


def _figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def ranking(contest: Contest, names: Sequence[str]) -> Figure:
    """Draw scores with their intervals, best first; a bar at the right joins systems that are not told apart."""
    shown = min(len(contest.entries), MOST)
    with in_style():
        figure, axes = _figure(0.34 * shown + 0.9)
        for place, entry in enumerate(contest.entries[:shown]):
            summary = entry.metrics[contest.metric]
            axes.plot(summary.ci95, [place, place], color=SERIES[0], linewidth=2)
            axes.plot([summary.pooled], [place], "o", color=SERIES[0], markersize=6)
        for k, (first, last) in enumerate(contest.alike):
            x = 1.03 + 0.03 * k
            right: Any = {"transform": axes.get_yaxis_transform(), "clip_on": False}
            axes.plot([x, x], [first - 0.2, last + 0.2], color=INK, linewidth=3, **right)
        axes.set_yticks(range(shown), [shorten(name) for name in names[:shown]])
        axes.set_ylim(shown - 0.5, -0.5)
        axes.set_xlabel(contest.metric)
        axes.grid(axis="x", linewidth=0.5)
        return figure


def bars(names: Sequence[str], values: Sequence[float], label: str, whole: float) -> Figure:
    """Draw a value for each name, with a line at the value of all together."""
    with in_style():
        figure, axes = _figure(0.22 * len(names) + 0.8)
        axes.barh(range(len(names)), np.nan_to_num(np.asarray(values)), color=SERIES[0], height=0.7)
        axes.axvline(whole, color=INK, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(names)), [shorten(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(f"{label} (dashed: all)")
        return figure


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: rows are the true class; the darker, the larger the share of the row."""
    shares, size = row_normalised(counts), len(classes)
    with in_style():
        side = min(7.0, max(WIDTH, 0.48 * size + 1.0))
        figure, axes = _figure(side, side)
        for (row, column), share in np.ndenumerate(shares):
            if not np.isfinite(share):
                continue
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=HEAT, alpha=0.6 * float(share), linewidth=0)
            )
            axes.text(column, row, f"{share:.2f}".lstrip("0"), ha="center", va="center", fontsize=8)
        ticks = range(size)
        axes.set_xticks(ticks, [shorten(name) for name in classes], rotation=45, ha="right")
        axes.set_yticks(ticks, [shorten(name) for name in classes])
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="predicted", ylabel="true", aspect="equal")
        return figure


def learning_curves(curves: Sequence[Curve]) -> Figure:
    """Draw training and validation loss, a line for each run, with the validation score below where there is one."""
    losses = [curve for curve in curves if curve.name.endswith("_loss")]
    scores = [curve for curve in curves if not curve.name.endswith("_loss")]
    with in_style():
        figure = Figure(figsize=(WIDTH, 2.3 * (1 + bool(scores))), layout="constrained")
        grid = figure.subplots(1 + bool(scores), 1, squeeze=False)[:, 0]
        for axes, own in zip(grid, (losses, scores), strict=False):
            names = list(dict.fromkeys(curve.name for curve in own))
            for curve in own:
                k = names.index(curve.name)
                dashes = "-" if k == 0 else "--"
                mark = "." if len(curve.epochs) == 1 else ""
                axes.plot(
                    curve.epochs,
                    curve.values,
                    dashes,
                    marker=mark,
                    color=SERIES[k % len(SERIES)],
                    linewidth=1,
                    alpha=0.8,
                )
            for k, name in enumerate(names):
                axes.plot([], [], "-" if k == 0 else "--", color=SERIES[k % len(SERIES)], label=name)
            axes.legend(fontsize=8, framealpha=0)
            axes.set_xlim(0.5, max((max(curve.epochs) for curve in own), default=1) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(linewidth=0.4)
        grid[-1].set_xlabel("epoch")
        return figure


def over_time(tracks: Sequence[Track]) -> Figure:
    """Draw true and predicted values over time, a panel for each target; stretches without a label are grey."""
    with in_style():
        figure = Figure(figsize=(WIDTH, 1.7 * len(tracks) + 0.4), layout="constrained")
        grid = figure.subplots(len(tracks), 1, sharex=True, squeeze=False)[:, 0]
        for axes, track in zip(grid, tracks, strict=True):
            for start, end in gaps(track):
                axes.axvspan(start, end, color=FAINT, alpha=0.5, linewidth=0)
            axes.plot(track.times, track.reference, color=INK, linewidth=1.2, label="true")
            axes.plot(track.times, track.prediction, "--", color=SERIES[1], linewidth=1.2, label="predicted")
            axes.set_ylabel(track.target)
        grid[0].legend(fontsize=8, framealpha=0, ncols=2)
        grid[-1].set_xlabel("seconds")
        return figure


def gaps(track: Track) -> list[tuple[float, float]]:
    """Return the stretches of time (start, end) in which a track has no label."""
    absent = np.flatnonzero(np.diff(np.concatenate([[0], np.isnan(track.reference), [0]])))
    last = len(track.times) - 1
    return [(float(track.times[a]), float(track.times[min(b, last)])) for a, b in absent.reshape(-1, 2)]


def scatter(panels: Sequence[Panel]) -> Figure:
    """Draw predicted against true values, a panel for each target; the line is where they are equal."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with in_style():
        figure = Figure(figsize=(WIDTH, rows * WIDTH / columns), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        ends = limits(panels)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, panels, strict=False):
            step = -(-len(panel.reference) * len(panels) // MOST_POINTS) or 1
            axes.plot(ends, ends, color=INK, linewidth=0.8)
            axes.plot(panel.reference[::step], panel.prediction[::step], ".", color=SERIES[0], alpha=0.4, markersize=3)
            axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="true", ylabel="predicted", title=panel.target)
        return figure
