"""What a corpus consists of: a pie for each column of its manifest (CAMuLeNet paper, Figure 2)."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...cache import Manifest
from ..predictions import UNKNOWN
from .drawing import COLOURS, save_png

COLUMNS = ("gender", "speaker", "emotion")
"""Sex, characters and emotions; BhavVani's characters are its speakers."""

MOST_SLICES = 12
_PANEL = 3.6  # inches


@dataclass(frozen=True)
class Composition:
    """How many utterances have each value of a column."""

    column: str
    counts: dict[str, int]  # the largest first, of equals in the order of their names; `UNKNOWN` last

    @property
    def others(self) -> list[str]:
        """The values that share a slice, so that there are at most `MOST_SLICES` with that of the unknown."""
        known = [value for value in self.counts if value != UNKNOWN]
        if len(self.counts) <= MOST_SLICES:
            return []
        return known[MOST_SLICES - 1 - (UNKNOWN in self.counts) :]

    @property
    def slices(self) -> dict[str, int]:
        """The pie's slices with their utterances."""
        rest = set(self.others)
        own = {value: count for value, count in self.counts.items() if value not in rest}
        if not rest:
            return own
        unknown = {UNKNOWN: own.pop(UNKNOWN)} if UNKNOWN in own else {}
        return {**own, self.rest: sum(self.counts[value] for value in rest), **unknown}

    @property
    def rest(self) -> str:
        """What the slice of the others is called."""
        return f"{len(self.others)} others"


def composition(manifest: Manifest, column: str) -> Composition:
    """Count the utterances by a field of `Utterance` or a label; those without a value count as `UNKNOWN`.

    Raises:
        EmocacheError: there is no such column; the message lists those there are.
    """
    counts = Counter(UNKNOWN if value in (None, "") else str(value) for value in manifest.column(column))
    ordered = sorted(counts.items(), key=lambda item: (item[0] == UNKNOWN, -item[1], item[0]))
    return Composition(column, dict(ordered))


def save_composition(out: Path, manifest: Manifest, columns: Sequence[str] = COLUMNS) -> list[Path]:
    """Draw a pie for each column, and write the counts; returns the files' paths.

    Args:
        out: the folder, made if there is none. manifest: of the corpus. columns: fields of `Utterance` or labels.

    Raises:
        EmocacheError: a column that the corpus has not.
    """
    made = [composition(manifest, column) for column in columns]
    out.mkdir(parents=True, exist_ok=True)
    table = out / f"composition-{manifest.corpus}.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["corpus", "column", "value", "utterances", "share", "slice"])
        for own in made:
            for value, count in own.counts.items():
                shown = own.rest if value in own.others else value
                writer.writerow([manifest.corpus, own.column, value, count, repr(count / len(manifest)), shown])
    title = f"{manifest.corpus}, {len(manifest)} utterances"
    return [table, save_png(_figure(made, title), out / f"composition-{manifest.corpus}.png")]


def _figure(made: Sequence[Composition], title: str) -> Figure:
    figure = Figure(figsize=(_PANEL * len(made), _PANEL + 1.4), layout="constrained")
    for axes, own in zip(np.ravel(figure.subplots(1, len(made))), made, strict=True):
        slices = own.slices
        greys = {own.rest: "0.2", UNKNOWN: "0.88"}
        colours = [greys.get(value, COLOURS[k % len(COLOURS)]) for k, value in enumerate(slices)]
        edges = {"edgecolor": "white"}
        wedges = axes.pie(list(slices.values()), colors=colours, startangle=90, counterclock=False, wedgeprops=edges)[0]
        for wedge, value in list(zip(wedges, slices, strict=True))[len(COLOURS) :]:
            wedge.set_hatch("" if value in greys else "///")  # its colour was there before
        total = sum(slices.values())
        told = [f"{value}: {count} ({100 * count / total:.1f}%)" for value, count in slices.items()]
        # Beside small slices, texts would lie on one another.
        legend = axes.legend(wedges, told, loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=8, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        axes.set_title(own.column, fontsize=9, parse_math=False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure
