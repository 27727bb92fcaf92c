"""The parts that figures share: colours, titles, names of files, and the file itself."""

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from ...scoring.result_groups import Result
from .look import Look

Floats = NDArray[np.float64]
_DPI = 300
_PACKED = 3  # of zlib's 9, from where on it takes longer than all the drawing

COLOURS: list[str] = matplotlib.style.library["petroff10"]["axes.prop_cycle"].by_key()["color"]
"""Ten colours that stay apart under colour-vision deficiency (Petroff 2021, "Accessible Color Sequences")."""


class Refilled(Figure):
    """A figure that is filled and drawn again and again, in which all but some artists stay as they are.

    Attributes:
        changing: those artists, in the order in which they lie on each other; none: everything is drawn every time.
    """

    changing: Sequence[Artist] = ()
    _still: tuple[FigureCanvasAgg, Any] | None = None  # the canvas, and all that stays

    def drawn(self) -> FigureCanvasAgg:
        """Return the drawing; what stays is drawn for the first one only."""
        for artist in self.changing:
            artist.set_animated(True)  # which is to say: left out of `draw`
        if self._still is None:
            canvas = FigureCanvasAgg(self)
            canvas.draw()  # type: ignore[no-untyped-call]
            self._still = canvas, canvas.copy_from_bbox(self.bbox)  # type: ignore[no-untyped-call]
        canvas, still = self._still
        canvas.restore_region(still)  # type: ignore[no-untyped-call]
        for artist in self.changing:
            artist.draw(canvas.get_renderer())  # type: ignore[no-untyped-call]
            artist.set_animated(False)
        return canvas


def named(*results: Result, part: str = "") -> str:
    """Name the experiments, corpus, part, streams and marks of results that share their corpus and streams."""
    experiments = [result.first.experiment for result in results]
    marks = dict.fromkeys(mark for result in results for mark in result.marks)
    return ", ".join(filter(None, (*experiments, results[0].corpus, part, results[0].streams_told, *marks)))


def wrapped(text: str, inches: float, size: float = 9) -> str:
    """Break the text into lines that fit a width, after blanks and after signs that join names."""
    most = max(12, int(inches * 72 / (0.65 * size)))  # 0.65: a sign's width by its height
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in re.findall(r".+?(?:[\s+/,\-_]+|\.(?!\d)|$)", paragraph):
            # A name without a place to break is cut where the line is full.
            while len(piece) > most:
                lines, line, piece = [*lines, line + piece[: most - len(line)]], "", piece[most - len(line) :]
            if len(line) + len(piece.rstrip()) > most:
                lines, line = [*lines, line], ""
            line += piece
        lines.append(line)
    return "\n".join(line.rstrip() for line in lines)


def file_part(text: str) -> str:
    """Make a value a part of a file's name that every system and LaTeX takes; two values never give one name."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", text)
    return safe if safe == text else f"{safe}-{zlib.crc32(text.encode()):08x}"


def entitle(figure: Figure, title: str, look: Look) -> Text | None:
    """Give a figure its title: above it on a screen, else none, and `save` writes it beside; returns what is drawn."""
    figure.set_label(title)
    if look.paper:
        return None
    return figure.suptitle(fitted(title, figure, look), fontsize=look.text, parse_math=False)


def fitted(title: str, figure: Figure, look: Look) -> str:
    """Break a title into lines that fit a figure."""
    return wrapped(title, figure.get_figwidth(), look.text)


def cells(
    axes: Axes, values: Floats, colours: str, ends: tuple[float, float], texts: Sequence[str], size: float
) -> QuadMesh:
    """Draw a matrix as coloured cells with a text in each.

    Args:
        axes: empty ones.
        values: (R, C); NaN has no colour.
        colours: a colour map that is safe for the colour-blind, from light to dark or from dark to light.
        ends: the values of its first and its last colour.
        texts: R times C, row by row.
        size: of the texts, in points.

    Returns:
        The cells, which a colour bar is made of; see `fill_cells` for other values in their place.
    """
    rows, columns = values.shape
    # Quadrilaterals stay sharp at any size, where an image is blurred by some readers of PDF.
    edges = (np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(values), cmap=colours, vmin=ends[0], vmax=ends[1])
    axes.set(aspect="equal", xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    for row, column in np.ndindex(values.shape):
        told = axes.text(column, row, "", ha="center", va="center", fontsize=size, parse_math=False)
        told.set_in_layout(False)  # it lies inside, and measuring it takes half of the drawing
    fill_cells(mesh, values, texts)
    return mesh


def fill_cells(mesh: QuadMesh, values: Floats, texts: Sequence[str]) -> None:
    """Put other values and texts into the cells that `cells` drew."""
    mesh.set_array(np.ma.masked_invalid(values))
    axes: Any = mesh.axes
    for told, value, text in zip(axes.texts, values.flat, texts, strict=True):
        red, green, blue, _ = mesh.to_rgba(np.array([value]))[0] if np.isfinite(value) else (1.0, 1.0, 1.0, 1.0)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        told.set(text=text, color="white" if dark else "black")


def save(figure: Figure, stem: Path, look: Look) -> list[Path]:
    """Write a figure in each format, without anything that differs between machines or days.

    Args:
        figure: drawn inside `look.drawing`.
        stem: the path without its ending.
        look: names the formats; for a paper the figure's title is written beside it, as a text for the caption.

    Returns:
        The paths of what was written.
    """
    written = []
    for form in look.formats:
        written.append(stem.with_name(f"{stem.name}.{form}"))
        if form == "png":
            _write_png(figure, written[-1])
        else:
            figure.savefig(written[-1], format=form, metadata={{"pdf": "CreationDate", "svg": "Date"}[form]: None})
    if look.paper and figure.get_label():
        written.append(stem.with_name(f"{stem.name}.txt"))
        written[-1].write_text(f"{figure.get_label()}\n", encoding="utf-8", newline="\n")
    return written


def _write_png(figure: Figure, path: Path) -> None:
    """Write what `savefig` does, which draws twice, and packs a channel of transparency that nothing uses."""
    figure.set_dpi(_DPI)
    if isinstance(figure, Refilled) and figure.changing:
        canvas = figure.drawn()
    else:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    picture.save(path, format="png", dpi=(_DPI, _DPI), compress_level=_PACKED)
