"""Tables and notes as lines for a screen: none is wider than it is."""

import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from .text_table import Table

PLAIN_WIDTH = 100
"""Columns where there is no terminal, such as in a file or a pipe."""
_NARROWEST = 20  # below, nothing can be read anyway
_WORDS, _GAP = 10, 2  # columns for a cell of words at least, and between two columns


@dataclass(frozen=True)
class Screen:
    """A place to print to.

    Attributes:
        width: columns. styled: it shows bold and dim text.
    """

    width: int = PLAIN_WIDTH
    styled: bool = False

    def table(self, table: Table) -> str:
        """Return a table with its title and notes, in columns that are fitted to the screen."""
        title: list[RenderableType] = [Text(table.title, "bold")] if table.title else []
        notes = ["", *table.notes] if table.notes else []
        return self._rendered([*title, _columns(table, self.width), *map(Text, notes)])

    def lines(self, lines: Sequence[str], style: str = "") -> str:
        """Return lines of text, those that are too long on several; each keeps its indent."""
        return self._rendered([_indented(line, style) for line in lines])

    def _rendered(self, parts: Sequence[RenderableType]) -> str:
        out = io.StringIO()
        console = Console(
            file=out, width=max(_NARROWEST, self.width), force_terminal=self.styled, legacy_windows=False,
            color_system="standard" if self.styled else None, markup=False, emoji=False, highlight=False,
        )  # fmt: skip
        for part in parts:
            console.print(part, overflow="fold")
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def screen() -> Screen:
    """Return the terminal that standard output is, or a plain screen where it is none."""
    if not sys.stdout.isatty():
        return Screen()
    return Screen(shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns, os.environ.get("TERM") != "dumb")


def _columns(table: Table, width: int) -> RichTable:
    grid = RichTable(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    # A heading may break where its words do; numbers may not, as long as that leaves room for the words before them.
    headings = [h.replace("_", " ") if i >= table.numbers else h for i, h in enumerate(table.headings)]
    needed: list[int | None] = [None] * table.numbers
    for i, heading in list(enumerate(headings))[table.numbers :]:
        needed.append(max(map(cell_len, [*heading.split(), *(row[i] for row in table.rows)]), default=0))
    if sum((_WORDS if one is None else one) + _GAP for one in needed) > width:
        needed = [None] * len(headings)
    for i, heading in enumerate(headings):
        side: JustifyMethod = "right" if i >= table.numbers else "left"
        grid.add_column(Text(heading), justify=side, overflow="fold", width=needed[i])
    for i, row in enumerate(table.rows):
        style = "dim" if i in table.faint else "bold" if i in table.strong else ""
        grid.add_row(*map(Text, row), style=style, end_section=i + 1 in table.sections)
    return grid


def _indented(line: str, style: str) -> RenderableType:
    bare = line.lstrip(" ")
    return Padding(Text(bare, style), (0, 0, 0, len(line) - len(bare)))
