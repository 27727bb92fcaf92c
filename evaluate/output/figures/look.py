"""The look of figures: for a screen or for a paper, and the kinds of files they are written as."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ....cache import EmocacheError

Style = Literal["screen", "paper"]
FORMATS = ("png", "pdf", "svg")
_COLUMN, _PAGE = 3.3, 6.9  # inches: one column of a paper, and both with what lies between
_ONE_COLUMN = 5.2  # inches on a screen of what still reads well in one column
_LONGEST = 9.0  # inches, of a page


@dataclass(frozen=True)
class Look:
    """The choices that hold for every figure.

    Attributes:
        style: "paper" has the width of a column or a page, text of 8 pt and no title, which goes to a file beside it.
        formats: of `FORMATS`, in which each figure is written.
    """

    style: Style = "screen"
    formats: tuple[str, ...] = ("png",)

    @property
    def paper(self) -> bool:
        """True for a paper."""
        return self.style == "paper"

    @property
    def text(self) -> float:
        """The height of titles and labels in points."""
        return 8.0 if self.paper else 9.0

    @property
    def small(self) -> float:
        """The height of numbers inside a figure, and of many labels side by side, in points."""
        return 6.0 if self.paper else 7.5

    def size(self, width: float, height: float) -> tuple[float, float]:
        """Return the inches of a figure that a screen shows at `width` x `height`."""
        if not self.paper:
            return width, height
        column = _COLUMN if width <= _ONE_COLUMN else _PAGE
        return column, min(_LONGEST, height * column / width)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let matplotlib's defaults be those of this look inside; figures are made and written in it."""
        import matplotlib

        # Text stays text, so that it can be searched, and edited, in the paper.
        settings: dict[str, object] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "emocache"}
        if self.paper:
            sizes = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize")
            settings |= dict.fromkeys(sizes, self.text) | {"axes.linewidth": 0.6, "lines.linewidth": 1.0}
        with matplotlib.rc_context(settings):  # type: ignore[arg-type]
            yield


SCREEN = Look()
"""PNGs for a screen."""


def parse_formats(text: str) -> tuple[str, ...]:
    """Read a list such as "png,pdf".

    Args:
        text: names of `FORMATS` with commas between.

    Returns:
        Each once, in the order given.

    Raises:
        EmocacheError: another name, or none.
    """
    names = [name.strip().lower() for name in text.split(",")]
    if wrong := [name for name in names if name not in FORMATS]:
        raise EmocacheError(f"--figures {text!r}: {wrong[0]!r} is not one of {', '.join(FORMATS)}; give some, with"
                            " commas between")  # fmt: skip
    return tuple(dict.fromkeys(names))


def widest(texts: Sequence[str], points: float) -> float:
    """Return about how many inches the longest of some texts takes."""
    return max((len(text) for text in texts), default=0) * 0.6 * points / 72
