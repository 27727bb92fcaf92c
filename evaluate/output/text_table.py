"""One table of text cells; a screen and Markdown show it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Text cells under headings; the columns from `numbers` on are aligned to the right.

    Attributes:
        sections: numbers of the rows that begin something new. strong, faint: rows that a screen sets apart.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]
    numbers: int
    notes: list[str]
    sections: tuple[int, ...] = ()
    strong: tuple[int, ...] = ()
    faint: tuple[int, ...] = ()

    def markdown(self) -> str:
        """Return the table as a Markdown section."""
        rule = ["---" if i < self.numbers else "---:" for i in range(len(self.headings))]
        body = [[cell.replace("|", "\\|") for cell in row] for row in (self.headings, *self.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in (body[0], rule, *body[1:])]
        return "\n".join([f"## {self.title}", "", *lines, "", *(f"- {note}" for note in self.notes)])
