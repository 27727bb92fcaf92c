"""The confusion matrix as a PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..metrics import row_normalised

_CELL = 0.62  # inches


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
    axes.set_title(title, fontsize=9, wrap=True, parse_math=False)
    for row, column in np.ndindex(counts.shape):
        share = shares[row, column]
        text = f"{share:.2f}\n{counts[row, column]}" if np.isfinite(share) else "–"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if share > 0.5 else "black")
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})
