"""A picture of the page: its SVG, and the words and numbers for those who do not see it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from markupsafe import Markup
from matplotlib.figure import Figure

from .svg import inline


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        id: unique in the page. svg: the drawing.
        label: one sentence that says what it shows. caption: the line below.
        headings, rows: the numbers, as a table that opens below.
        paper: drawn for white paper, so that it keeps a white ground in the dark.
    """

    id: str
    svg: Markup
    label: str
    caption: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    paper: bool = False


@dataclass
class Album:
    """Makes pictures, and sees to it that their ids are unique."""

    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def picture(
        self,
        figure: Figure,
        label: str,
        caption: str,
        headings: Sequence[str] = (),
        rows: Sequence[Sequence[str]] = (),
        paper: bool = False,
    ) -> Picture:
        """Return a figure as a picture, see `Picture`."""
        own = f"picture{next(self.numbers)}"
        # Matplotlib escapes the texts that it writes into an SVG.
        return Picture(own, Markup(inline(figure, own)), label, caption, headings, rows, paper)
