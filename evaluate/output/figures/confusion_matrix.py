"""Confusion matrices as PNGs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ....train.records.metrics import row_normalised
from ...scoring.scored import Evaluation, Part, Scored
from .drawing import file_part, named, save_png, wrapped

_CELL = 0.62  # inches


def save_confusion_matrices(out: Path, evaluations: Sequence[Evaluation]) -> list[Path]:
    """Draw that of every classification, and of each culture or corpus of its test part; returns the files' paths."""
    written = []
    for evaluation in evaluations:
        for scored in (evaluation, *evaluation.breakdown):
            if scored.confusion is not None:
                part = f"-{scored.column}-{file_part(scored.value)}" if isinstance(scored, Part) else ""
                written.append(out / f"confusion-{evaluation.result.file_name}{part}.png")
                classes, title = evaluation.result.classes, _title(evaluation, scored)
                save_confusion_matrix(written[-1], scored.confusion, classes, title)
    return written


def _title(evaluation: Evaluation, scored: Scored) -> str:
    result = evaluation.result
    part = f"{scored.column} {scored.value}" if isinstance(scored, Part) else ""
    told = f"share of the true class, and count over {len(result.folds)} folds x {len(result.seeds)} seeds"
    return f"{named(result, part=part)}\n{told}"


def save_confusion_matrix(path: Path, counts: NDArray[np.int64], classes: Sequence[str], title: str) -> None:
    """Draw a confusion matrix: rows are the true class, colours and the upper numbers the share of the row.

    Args:
        path: the PNG to write.
        counts: (C, C) int64.
        classes: C names.
        title: the line above.
    """
    shares = row_normalised(counts)
    size = max(4.0, _CELL * len(classes) + 2.2)
    figure = Figure(figsize=(size, size), layout="constrained")  # draws with Agg, whatever the machine's display
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = np.arange(len(classes))
    axes.set_xticks(ticks, list(classes), rotation=45, ha="right", parse_math=False)
    axes.set_yticks(ticks, list(classes), parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(wrapped(title, size - 1.5), fontsize=9, parse_math=False)
    for row, column in np.ndindex(counts.shape):
        share = shares[row, column]
        text = f"{share:.2f}\n{counts[row, column]}" if np.isfinite(share) else "–"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if share > 0.5 else "black")
    save_png(figure, path)
