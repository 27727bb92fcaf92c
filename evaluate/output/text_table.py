"""One table of text cells, as a terminal and as Markdown show it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Text cells under headings; the columns from `numbers` on are aligned to the right."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    numbers: int
    notes: list[str]

    def text(self) -> str:
        """Return the table for a terminal, in columns of even width."""
        widths = [max(map(_width, column)) for column in zip(self.headings, *self.rows, strict=True)]
        lines = [self._line(row, widths) for row in (self.headings, ["─" * width for width in widths], *self.rows)]
        return "\n".join([self.title, "", *lines, *([""] if self.notes else []), *self.notes])

    def markdown(self) -> str:
        """Return the table as a Markdown section."""
        rule = ["---" if i < self.numbers else "---:" for i in range(len(self.headings))]
        body = [[cell.replace("|", "\\|") for cell in row] for row in (self.headings, *self.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in (body[0], rule, *body[1:])]
        return "\n".join([f"## {self.title}", "", *lines, "", *(f"- {note}" for note in self.notes)])

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(cell + space if i < self.numbers else space + cell)
        return "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Count the columns that a text takes in a terminal: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))
