"""Pies of a corpus: one for each column of its manifest (CAMuLeNet paper, Figure 2)."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ....cache import EmocacheError, Manifest
from ...scoring.stored_predictions import UNKNOWN
from .drawing import COLOURS, entitle, save
from .look import SCREEN, Look

COLUMNS = ("gender", "speaker", "emotion")
"""Sex, characters and emotions; BhavVani's characters are its speakers."""

MOST_SLICES = 12
_PANEL = 3.6  # inches
_LINE = 0.19  # inches of the legend
_ABREAST = 4  # pies
_LONGEST = 32  # signs of a value in the legend


@dataclass(frozen=True)
class Composition:
    """The number of utterances with each value of a column."""

    column: str
    counts: dict[str, int]  # the largest first, of equals in the order of their names; `UNKNOWN` last

    @property
    def others(self) -> list[str]:
        """The values that share a slice, so that there are at most `MOST_SLICES` with that of the unknown."""
        known = [value for value in self.counts if value != UNKNOWN]
        if len(self.counts) <= MOST_SLICES:
            return []
        # One slice is for the others together, and one for the unknown where there are some.
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
        """The name of the slice of the others."""
        return f"{len(self.others)} others"


def composition(manifest: Manifest, column: str) -> Composition:
    """Count the utterances by a field of `Utterance` or a label; those without a value count as `UNKNOWN`.

    Args:
        manifest: the corpus's.
        column: the name of the field or label.

    Returns:
        The counts, the largest first.

    Raises:
        EmocacheError: there is no such column; the message lists those there are.
    """
    counts = Counter(UNKNOWN if value in (None, "") else str(value) for value in manifest.column(column))
    ordered = sorted(counts.items(), key=lambda item: (item[0] == UNKNOWN, -item[1], item[0]))
    return Composition(column, dict(ordered))


def save_composition(
    out: Path, manifest: Manifest, columns: Sequence[str] = COLUMNS, look: Look = SCREEN
) -> list[Path]:
    """Draw a pie for each column, and write the counts.

    Args:
        out: the folder, made if there is none.
        manifest: the corpus's.
        columns: fields of `Utterance` or labels.
        look: of the figure.

    Returns:
        The paths of the CSV and of the figure.

    Raises:
        EmocacheError: a column that the corpus has not, or a folder that cannot be written to.
    """
    made = [composition(manifest, column) for column in columns]
    table = out / f"composition-{manifest.corpus}.csv"
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(table, manifest, made)
        with look.drawing():
            figure = draw(made, f"{manifest.corpus}, {len(manifest)} utterances", look)
            return [table, *save(figure, table.with_suffix(""), look)]
    except OSError as error:
        raise EmocacheError(f"{out} cannot be written to: {error.strerror}; name another folder with --out") from error


def _write(path: Path, manifest: Manifest, made: Sequence[Composition]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["corpus", "column", "value", "utterances", "share", "slice"])
        for own in made:
            for value, count in own.counts.items():
                shown = own.rest if value in own.others else value
                writer.writerow([manifest.corpus, own.column, value, count, repr(count / len(manifest)), shown])


def draw(made: Sequence[Composition], title: str, look: Look = SCREEN) -> Figure:
    """Draw a pie for each column, at most four abreast, each with its legend below."""
    abreast = min(len(made), _ABREAST)
    rows = -(-len(made) // abreast)
    # Legends hang below their pies, where the layout gives them no room of their own.
    below = _LINE * (2 + max(len(own.slices) for own in made))
    figure = Figure(figsize=(_PANEL * abreast, rows * (_PANEL + below) + 0.4))
    height = figure.get_figheight()
    grid = figure.subplots(rows, abreast, squeeze=False)
    figure.subplots_adjust(
        left=0.02, right=0.98, top=1 - 0.6 / height, bottom=below / height, wspace=0.1, hspace=below / _PANEL
    )
    for axes in grid.flat[len(made) :]:
        axes.set_axis_off()
    for axes, own in zip(grid.flat, made, strict=False):
        slices = own.slices
        greys = {own.rest: "0.2", UNKNOWN: "0.88"}
        colours = [greys.get(value, COLOURS[k % len(COLOURS)]) for k, value in enumerate(slices)]
        edges = {"edgecolor": "white", "linewidth": 0.5}  # thin, so that small slices keep their colour
        wedges = axes.pie(list(slices.values()), colors=colours, startangle=90, counterclock=False, wedgeprops=edges)[0]
        for wedge, value in list(zip(wedges, slices, strict=True))[len(COLOURS) :]:
            wedge.set_hatch("" if value in greys else "///")  # its colour was there before
        total = sum(slices.values())
        told = [f"{shorten(value)}: {count} ({100 * count / total:.1f}%)" for value, count in slices.items()]
        # Beside small slices, texts would lie on one another.
        legend = axes.legend(wedges, told, loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=8, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        axes.set_title(own.column, fontsize=9, parse_math=False)
    entitle(figure, title, look)
    return figure


def shorten(value: str) -> str:
    """Cut a value so that it fits beside the legend of the next pie."""
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"
