"""A table that lays our numbers beside a paper's, as cells that any format is made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..scoring.statistics import NO_INTERVAL, Interval
from .cells import interval, number
from .text_table import Table


@dataclass(frozen=True)
class Cell:
    """One number; NaN where there is none.

    Attributes:
        value: a mean over folds. std: over them. ci95: of the pooled score.
        text: as the paper printed it; "" of a number of ours.
        experiment: that it is of. command: that gives the number, where it is lacking.
        signed, digits: how it is shown.
    """

    value: float = math.nan
    std: float | None = None
    ci95: Interval = NO_INTERVAL
    text: str = ""
    experiment: str = ""
    command: str = ""
    signed: bool = False
    digits: int = 3

    def shown(self) -> str:
        """Return the text of the cell; "" where there is no experiment, or it is not run."""
        if self.text or not self.experiment or self.command:
            return self.text
        spread = f" ± {number(self.std)}" if self.std is not None and not math.isnan(self.std) else ""
        return f"{number(self.value, self.signed, self.digits)}{spread} {interval(self.ci95, self.signed)}".rstrip()


@dataclass(frozen=True)
class Line:
    """One line of cells: whose they are, and of which row, and part of it."""

    row: str
    part: str
    whose: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper with our numbers.

    Attributes:
        name: such as "paper1/table2". title: in words, with what marks the table.
        part: the heading of the column of parts; "" where there are none.
        columns: the headings of the cells.
        lines: ours, the faithful variant's and the published ones, row by row.
        notes: what must be told below. marked: why it is not to be held against the paper; "" where it may be.
    """

    name: str
    title: str
    part: str
    columns: Sequence[str]
    lines: Sequence[Line]
    notes: list[str] = field(default_factory=list)
    marked: str = ""

    @property
    def file_name(self) -> str:
        """The name of its file, without an ending."""
        return self.name.replace("/", "-")

    def as_text_table(self) -> Table:
        """Return it as cells of text."""
        parts = bool(self.part)
        headings = ["row", *([self.part] if parts else []), "numbers", *self.columns]
        rows = [
            [line.row, *([line.part] if parts else []), line.whose, *(cell.shown() for cell in line.cells)]
            for line in self.lines
        ]
        return Table(self.title, headings, rows, 2 + parts, list(self.notes))
