"""The formats of tables that lay ours beside a paper's: Markdown, CSV, LaTeX and JSON."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from .paper_table import Cell, PaperTable
from .text_table import Table


def to_markdown(tables: Sequence[PaperTable]) -> str:
    """Write tables as Markdown sections."""
    return "\n\n".join(table.as_text_table().markdown() for table in tables) + "\n"


_CELL = ["value", "std", "ci95_low", "ci95_high", "text", "experiment", "command"]


def to_csv(tables: Sequence[PaperTable]) -> str:
    """Write a line for every cell, with full precision; what is undefined or not run is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "marked", "row", "part", "numbers", "column", *_CELL])
    for table in tables:
        for line in table.lines:
            for column, cell in zip(table.columns, line.cells, strict=True):
                values = [cell.value, math.nan if cell.std is None else cell.std, *cell.ci95]
                numbers = ["" if math.isnan(value) else repr(value) for value in values]
                place = [table.name, table.marked, line.row, line.part, line.whose, column]
                writer.writerow([*place, *numbers, cell.text, cell.experiment, cell.command])
    return out.getvalue()


def to_json(tables: Sequence[PaperTable]) -> str:
    """Write `tables` as one JSON object, with full precision; what is undefined or not run is null."""
    return json.dumps({"tables": [_object(table) for table in tables]}, indent=2, ensure_ascii=False) + "\n"


def _object(table: PaperTable) -> dict[str, Any]:
    lines = [
        {"row": line.row, "part": line.part, "numbers": line.whose, "cells": [_numbers(cell) for cell in line.cells]}
        for line in table.lines
    ]
    told = {"name": table.name, "title": table.title, "marked": table.marked, "notes": table.notes}
    return {**told, "columns": list(table.columns), "lines": lines}


def _numbers(cell: Cell) -> dict[str, Any]:
    values = (cell.value, math.nan if cell.std is None else cell.std, *cell.ci95)
    told = (*(None if math.isnan(value) else value for value in values), cell.text, cell.experiment, cell.command)
    return dict(zip(_CELL, told, strict=True))


def to_latex(tables: Sequence[PaperTable]) -> str:
    """Write tables for LaTeX with the package booktabs; notes stand below each."""
    return latex_tables([table.as_text_table() for table in tables])


def latex_tables(tables: Sequence[Table]) -> str:
    """Write any tables for LaTeX, see `to_latex`."""
    head = "% \\usepackage{booktabs}, and \\usepackage[utf8]{inputenc} for older LaTeX\n"
    return head + "\n".join(map(_latex, tables))


def _latex(table: Table) -> str:
    layout = "l" * table.numbers + "r" * (len(table.headings) - table.numbers)
    lines = [" & ".join(map(escape_latex, row)) + r" \\" for row in (table.headings, *table.rows)]
    # A rule before each row of the paper: its lines belong together. Where no row has several, none is between.
    new = [i == 0 or table.rows[i][0] != table.rows[i - 1][0] for i in range(len(table.rows))]
    body = [("\\midrule\n" if i == 0 or (new[i] and not all(new)) else "") + line for i, line in enumerate(lines[1:])]
    notes = [rf"\par\smallskip\footnotesize {escape_latex(note)}" for note in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
            lines[0],
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--",
          "−": "$-$", "<": "$<$", ">": "$>$", **{sign: f"\\{sign}" for sign in "&%$#_{}"}}  # fmt: skip


def escape_latex(text: str) -> str:
    r"""Escape what LaTeX would read as something else.

    >>> escape_latex("a_b & 5 %")
    'a\\_b \\& 5 \\%'
    """
    return "".join(_LATEX.get(sign, sign) for sign in text)


FORMATS: dict[str, Callable[[Sequence[PaperTable]], str]] = {
    "markdown": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "json": to_json,
}
"""{name of a format: its writer}."""
