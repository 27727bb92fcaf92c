"""The numbers that the papers published, as data: the tables with their columns, rows and values as printed."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

PUBLISHED = Path(__file__).parent / "published"
EMPTY = "-"
"""Stands in a line of values for a cell that the paper leaves empty."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Model):
    """A column of numbers.

    Attributes:
        label: its heading. under: the heading above it, of several columns.
        metric: as evaluation names it. target: of the metric, where it has one; "mean": over all targets of a result.
        fill: takes the place of `{}` in the names of the rows' experiments; the target where nothing is given.
        corpus: the only one whose results it shows; "": any of the paper's.
        system: row of systems.toml that it shows, where columns are systems.
    """

    label: str
    under: str = ""
    metric: str
    target: str = ""
    fill: str = ""
    corpus: str = ""
    system: str = ""


class PublishedRow(_Model):
    """A row of a table.

    Attributes:
        label: as the paper calls it.
        system: row of systems.toml that it shows; "" where the columns say so.
        ours, faithful: name of the experiment that fills it, and of its variant with the paper's faults; `{}` in it is
            filled by the column. "": none.
        guess: what needs no model and fills it, such as "uniform".
        target: of the metrics, where the columns have none.
        published: a line of values, or one for each part, in the order of the columns.
        note: what must be known of the values.
    """

    label: str
    system: str = ""
    ours: str = ""
    faithful: str = ""
    guess: str = ""
    target: str = ""
    published: str | dict[str, str]
    note: str = ""

    def values(self, part: str) -> list[str]:
        """Return the values of a part ("" of the whole), as printed; "" where the paper leaves the cell empty."""
        line = self.published if isinstance(self.published, str) else self.published[part]
        return ["" if value == EMPTY else value for value in line.split()]

    @property
    def parts(self) -> list[str]:
        """The parts that the row has a line for; "" alone where it has one line."""
        return [""] if isinstance(self.published, str) else list(self.published)


class PublishedTable(_Model):
    """A table of a paper.

    Attributes:
        name: such as "table2"; of a table whose number is not known, what it is about.
        title: the paper's, in our words.
        mark: why our numbers are not to be held against it, whatever the corpus and the weights.
        part: the column of the predictions whose values the rows are divided by, such as "culture".
        averages: it has the means over the targets of both architectures, and their changes against the baseline.
    """

    name: Annotated[str, Field(pattern=r"table\d+|[a-z-]+")]
    title: str
    mark: str = ""
    part: str = ""
    averages: bool = False
    note: str = ""
    column: tuple[Column, ...]
    row: tuple[PublishedRow, ...]

    @property
    def called(self) -> str:
        """Its name in systems.toml: "Table 2"; without a number as it is."""
        number = self.name.removeprefix("table")
        return f"Table {number}" if number.isdecimal() else self.name

    @model_validator(mode="after")
    def _lines_fit_columns(self) -> "PublishedTable":
        for row in self.row:
            for part in row.parts:
                if len(row.values(part)) != len(self.column):
                    raise ValueError(f"{self.name}, {row.label} {part}: as many values as columns, {len(self.column)}")
        return self


class Variant(_Model):
    """Experiments beside those of the tables, which make tables of their own.

    Attributes:
        name: follows that of the table. experiments: their names, `*` standing for what follows the paper's folder.
        mark: why their numbers are not to be held against the paper's.
        corpora: that they are for; the paper's where nothing is given.
    """

    name: str
    experiments: str
    mark: str
    corpora: tuple[str, ...] = ()


class Paper(_Model):
    """One paper.

    Attributes:
        paper: its number. folder: its name before the slash in the names of tables; `paper` and its number where
            nothing is given.
        corpora: that its numbers are of, by their names here; the first is the one to train on.
        weights: {encoder: the weights it must have}, as streams tell their origin; "" of encoders without weights.
        utterances: {corpus: how many are tested, over all folds}, where the paper tells it.
    """

    paper: int
    folder: str = ""
    corpora: tuple[str, ...]
    weights: dict[str, str]
    utterances: dict[str, int] = {}
    variant: tuple[Variant, ...] = ()
    table: tuple[PublishedTable, ...]

    @property
    def place(self) -> str:
        """The part before the slash in the names of its tables."""
        return self.folder or f"paper{self.paper}"


@cache
def read_papers() -> tuple[Paper, ...]:
    """Read the published tables of all papers, in order; pydantic's ValidationError where one is malformed."""
    papers = (
        Paper.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))) for file in PUBLISHED.glob("*.toml")
    )
    return tuple(sorted(papers, key=lambda paper: paper.paper))


def mean_and_std(value: str) -> tuple[float, float | None]:
    """Read a value as printed: a number, or a mean with its standard deviation.

    >>> mean_and_std("0.522±0.014")
    (0.522, 0.014)
    """
    mean, _, std = value.partition("±")
    return float(mean), float(std) if std else None


def published_text(paper: int, table: str, system: str) -> str:
    """Tell what a paper published of a system in one of its tables.

    Args:
        paper: its number.
        table: "Table 2", see `PublishedTable.called`.
        system: row of systems.toml.

    Returns:
        The columns and, after a colon, the values as printed, part by part; "" where there are no numbers.
    """
    of_paper = [one for one in read_papers() if one.paper == paper]
    found = [one for whole in of_paper for one in whole.table if one.called == table]
    for one in found:
        shown = [i for i, column in enumerate(one.column) if column.system in ("", system)]
        rows = [row for row in one.row if row.system == system or (not row.system and shown)]
        headings = ", ".join(f"{one.column[i].under} {one.column[i].label}".strip() for i in shown)
        lines = []
        for row in rows:
            for part in row.parts:
                values = row.values(part)
                label = f"{row.label if len(rows) > 1 else ''} {part}".strip()
                lines.append(f"{label} {' '.join(values[i] or EMPTY for i in shown)}".strip())
        if lines:
            return f"{headings}: {'; '.join(lines)}"
    return ""
