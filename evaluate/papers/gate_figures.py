"""Figures of stored gate weights: the heaviest channels, and cultures that are alike (paper 1, Figures 4 and 5)."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..output.figures.drawing import COLOURS, cells, entitle, named, save, wrapped
from ..output.figures.look import SCREEN, Look
from ..scoring.scored import Evaluation
from . import PaperReport
from .gates import Gates, appearances, families, heaviest, read_gates, similarity

MEASURE = "Pearson"
_HEAVIEST = 10
_CELL = 0.55  # inches
_WEIGHTS = [
    "experiment", "marks", "task", "culture", "part", "clips", "seeds", "channel", "weight", "weight_std_seeds",
    "among_heaviest",
]  # fmt: skip
_FREQUENCIES = ["channel", "appearances", "most_possible", "mean_over_seeds", "std_over_seeds"]
_SIMILARITIES = ["experiment", "marks", "task", "culture", "other", "measure", "similarity", "std_over_seeds", "seeds"]


def save_channel_gates(out: Path, evaluations: Sequence[Evaluation], look: Look = SCREEN) -> list[Path]:
    """Draw both figures, and write their numbers, of every model whose runs kept "gate"; returns the files' paths.

    Results that differ in their target only are tasks of one figure. `gated_channels` tells which channels count.
    """
    found = [gates for e in evaluations if (gates := read_gates(e.result)) is not None]
    return [path for family in families(found) for path in _save(out, family, look)]


def _save(out: Path, tasks: Sequence[Gates], look: Look) -> list[Path]:
    name = tasks[0].result.file_name
    tables = {
        "gate-weights": (_WEIGHTS, _weight_lines(tasks)),
        "gate-channels": (_FREQUENCIES, _frequency_lines(tasks)),
        "gate-similarity": (_SIMILARITIES, _similarity_lines(tasks)),
    }
    written = []
    for kind, (headings, lines) in tables.items():
        written.append(out / f"{kind}-{name}.csv")
        with written[-1].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([headings, *lines])
    for kind, draw in (("gate-channels", frequency_figure), ("gate-similarity", similarity_figure)):
        written += save(draw(tasks, look), out / f"{kind}-{name}", look)
    return written


def _weight_lines(tasks: Sequence[Gates]) -> Iterator[list[object]]:
    for gates in tasks:
        mean, spread, top = gates.mean, gates.weights.std(axis=0), heaviest(gates.mean, _HEAVIEST)
        for k, culture in enumerate(gates.cultures):
            about = [*_about(gates), culture, gates.parts[k], gates.clips[k], len(gates.weights)]
            for channel in range(mean.shape[1]):
                numbers = [float(mean[k, channel]), float(spread[k, channel])]
                yield [*about, channel, *numbers, channel in top[k]]


def _frequency_lines(tasks: Sequence[Gates]) -> Iterator[list[object]]:
    counts, by_seed = _frequencies(tasks)
    most = sum(len(gates.cultures) for gates in tasks)
    # Those that a seed alone puts among the heaviest have a line too: the mean over seeds may hide them.
    for channel in np.flatnonzero(counts + by_seed.sum(axis=0)):
        own = by_seed[:, channel]
        yield [int(channel), int(counts[channel]), most, float(own.mean()), float(own.std())]


def _similarity_lines(tasks: Sequence[Gates]) -> Iterator[list[object]]:
    for gates in tasks:
        alike, spread = _similarities(gates)
        for i, culture in enumerate(gates.cultures):
            for j, other in enumerate(gates.cultures):
                numbers = ["" if np.isnan(x) else float(x) for x in (alike[i, j], spread[i, j])]
                yield [*_about(gates), culture, other, MEASURE, *numbers, len(gates.weights)]


def _about(gates: Gates) -> list[object]:
    return [gates.result.first.experiment, "; ".join(gates.result.marks), gates.task]


def _frequencies(tasks: Sequence[Gates]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count appearances in the mean over seeds, (C,), and in each seed that all tasks have, (S, C)."""
    # A count adds up all tasks, so that a seed which one of them lacks gives none.
    seeds = min(len(gates.weights) for gates in tasks)
    by_seed = [appearances([gates.weights[s] for gates in tasks], _HEAVIEST) for s in range(seeds)]
    return appearances([gates.mean for gates in tasks], _HEAVIEST), np.array(by_seed)


def _similarities(gates: Gates) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare cultures by the mean over seeds, (K, K), with the standard deviation over seeds, (K, K)."""
    return similarity(gates.mean), np.std([similarity(seed) for seed in gates.weights], axis=0)


def frequency_figure(tasks: Sequence[Gates], look: Look = SCREEN) -> Figure:
    """Draw how often each channel is among the heaviest of a culture and task; those that never are have no bar."""
    counts, by_seed = _frequencies(tasks)
    shown = np.flatnonzero(counts)
    figure = Figure(figsize=look.size(max(5.0, 0.2 * len(shown) + 1.5), 3.6), layout="constrained")
    axes = figure.add_subplot()
    spread = by_seed[:, shown].std(axis=0) if len(by_seed) > 1 else None
    axes.bar(np.arange(len(shown)), counts[shown], yerr=spread, color=COLOURS[0], ecolor="0.3", capsize=2)
    axes.set_xticks(np.arange(len(shown)), [str(channel) for channel in shown], rotation=90, fontsize=look.small)
    most = sum(len(gates.cultures) for gates in tasks)
    axes.set(xlim=(-0.8, len(shown) - 0.2), ylim=(0, 1.06 * most))  # a bar of the largest height is seen to end
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(most, color="0.4", linewidth=0.8, linestyle="--")
    label = wrapped(f"channel: {tasks[0].channels}", figure.get_figwidth(), look.text)
    axes.set_xlabel(label, fontsize=look.text, parse_math=False)
    axes.set_ylabel(f"times among the {_HEAVIEST} heaviest", fontsize=look.text)
    bars = f"; bars: ± std over {len(by_seed)} seeds" if spread is not None else ""
    cultures = ", ".join(dict.fromkeys(culture for gates in tasks for culture in gates.cultures))
    _entitle(
        figure, tasks, f"cultures {cultures}; mean gate weights over clips; dashed: every culture and task{bars}", look
    )
    return figure


def similarity_figure(tasks: Sequence[Gates], look: Look = SCREEN) -> Figure:
    """Draw the similarity of every two cultures: a matrix for each task, in colours that span what was found."""
    side = _CELL * max(len(gates.cultures) for gates in tasks) + 0.9
    figure = Figure(figsize=look.size(max(4.0, side * len(tasks) + 0.9), max(2.6, side + 0.7)), layout="constrained")
    panels = list(np.ravel(figure.subplots(1, len(tasks))))
    found = [_similarities(gates) for gates in tasks]
    low, high = similarity_limits([alike for alike, _ in found])
    for axes, gates, (alike, spread) in zip(panels, tasks, found, strict=True):
        several = len(gates.weights) > 1
        texts = [
            "–" if np.isnan(value) else f"{value:.2f}" + (f"\n±{std:.3f}" if several else "")
            for value, std in zip(alike.flat, spread.flat, strict=True)
        ]
        mesh = cells(axes, alike, "cividis", (low, high), texts, look.small)
        ticks = np.arange(len(gates.cultures))
        axes.set_xticks(ticks, gates.cultures, fontsize=look.text, parse_math=False)
        axes.set_yticks(ticks, gates.cultures, fontsize=look.text, parse_math=False)
        axes.set_title(gates.task, fontsize=look.text, parse_math=False)
    bar = figure.colorbar(mesh, ax=panels, ticks=np.linspace(low, high, 5), format="%.3f", aspect=25)
    bar.set_label(f"{MEASURE} correlation", fontsize=look.text)
    bar.ax.tick_params(labelsize=look.small)
    spread_told = "; ± std over seeds" if any(len(gates.weights) > 1 for gates in tasks) else ""
    told = f"{MEASURE} correlation of mean gate weights over channels: {tasks[0].channels}{spread_told}"
    _entitle(figure, tasks, f"{told}; colours from {low:.3f} to {high:.3f}, the range of the data", look)
    return figure


def similarity_limits(found: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the least and the largest similarity of all matrices: the ends of their common colours."""
    values = np.concatenate([alike[np.isfinite(alike)] for alike in found])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if high - low > 1e-6 else (low - 0.5, high)  # one culture has no range


def _entitle(figure: Figure, tasks: Sequence[Gates], told: str, look: Look) -> None:
    entitle(figure, f"{named(*(gates.result for gates in tasks))}\n{told}", look)


REPORT = PaperReport(figures=(save_channel_gates,))
