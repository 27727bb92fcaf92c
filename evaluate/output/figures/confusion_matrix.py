"""Confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.text import Text
from numpy.typing import NDArray

from ....train.records.confusion import row_normalised
from ...scoring.scored import Evaluation, Part, Scored
from ..cells import grid_of
from .drawing import Refilled, cells, entitle, file_part, fill_cells, fitted, named, save, wrapped
from .look import SCREEN, Look, widest

_CELL = 0.55  # inches


def save_confusion_matrices(out: Path, evaluations: Sequence[Evaluation], look: Look = SCREEN) -> list[Path]:
    """Draw that of every classification, and of each culture or corpus of its test part; returns the files' paths."""
    written = []
    drawn: dict[tuple[str, ...], ConfusionFigure] = {}  # one for all with the same classes: making it takes longest
    for evaluation in evaluations:
        for scored in (evaluation, *evaluation.breakdown):
            if scored.confusion is not None:
                part = f"-{scored.column}-{file_part(scored.value)}" if isinstance(scored, Part) else ""
                stem = out / f"confusion-{evaluation.result.file_name}{part}"
                classes, title = evaluation.result.classes, _title(evaluation, scored)
                own = drawn.setdefault(tuple(classes), ConfusionFigure(classes, look))
                written += save(own.filled(scored.confusion, title), stem, look)
    return written


def _title(evaluation: Evaluation, scored: Scored) -> str:
    result = evaluation.result
    part = f"{scored.column} {scored.value}" if isinstance(scored, Part) else ""
    told = f"share of the true class, and count over {grid_of(result)}"
    return f"{named(result, part=part)}\n{told}"


class ConfusionFigure:
    """A picture of confusion matrices of the same classes, one after another.

    Rows are the true class, colours and the upper numbers the share of the row.
    """

    def __init__(self, classes: Sequence[str], look: Look = SCREEN) -> None:
        self.classes, self.look = classes, look
        self._figures: dict[
            int, tuple[Refilled, QuadMesh, Text | None]
        ] = {}  # by the lines of the title, which move all below

    def filled(self, counts: NDArray[np.int64], title: str) -> Refilled:
        """Return the picture with the counts, (C, C) int64, and the title; it is drawn over by the next."""
        shares = row_normalised(counts)
        texts = [
            f"{share:.2f}\n{count}" if np.isfinite(share) else "–"
            for share, count in zip(shares.flat, counts.flat, strict=True)
        ]
        lines = wrapped(title, self._size[0], self.look.text).count("\n")
        if lines not in self._figures:
            figure, mesh = self._made(shares, texts)
            self._figures[lines] = (figure, mesh, entitle(figure, title, self.look))
            return figure
        figure, mesh, above = self._figures[lines]
        figure.set_layout_engine("none")  # all stays in the place that the first drawing has found
        figure.set_label(title)
        axes = mesh.axes
        assert axes is not None
        figure.changing = [mesh, *axes.spines.values(), *axes.texts]  # the cells lie below the frame
        if above is not None:
            figure.changing.append(above)
            above.set_text(fitted(title, figure, self.look))
        fill_cells(mesh, shares, texts)
        return figure

    @property
    def _size(self) -> tuple[float, float]:
        side = _CELL * len(self.classes) + widest(self.classes, self.look.text)
        return self.look.size(max(4.0, side + 1.6), max(3.0, side + 1.2))

    def _made(self, shares: NDArray[np.float64], texts: Sequence[str]) -> tuple[Refilled, QuadMesh]:
        look = self.look
        figure = Refilled(figsize=self._size, layout="constrained")  # draws with Agg, whatever the machine's display
        axes = figure.add_subplot()
        mesh = cells(axes, shares, "Blues", (0, 1), texts, look.small)
        ticks = np.arange(len(self.classes))
        axes.set_xticks(ticks, self.classes, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(ticks, self.classes, parse_math=False)
        axes.tick_params(labelsize=look.text)
        axes.set_xlabel("predicted", fontsize=look.text)
        axes.set_ylabel("true", fontsize=look.text)
        bar = figure.colorbar(mesh, ax=axes, ticks=[0, 0.5, 1], fraction=0.05, aspect=25)
        bar.set_label("share of the true class", fontsize=look.text)
        bar.ax.tick_params(labelsize=look.small)
        return figure, mesh
