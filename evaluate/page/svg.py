"""Figures as SVG inside the page: their colours follow its scheme, and their ids are theirs alone."""

import io
import re
import warnings
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#010203"
FAINT = "#010304"
HEAT = "#010405"
SERIES = [f"#0105{k:02x}" for k in range(6)]
"""Colours that no figure has by chance; in the page each is a variable of its style sheet."""

_VARIABLES = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    HEAT: "var(--heat)",
    **{name: f"var(--series-{k})" for k, name in enumerate(SERIES)},
}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp, and found by a search in the page
    "svg.hashsalt": "emocache",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), "none"),
    "grid.color": FAINT,
    "legend.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}


def in_style() -> AbstractContextManager[None]:
    """Return the context in which the page's own figures are made."""
    return mpl.rc_context(_STYLE)


def inline(figure: Figure, prefix: str) -> str:
    """Write a figure as an SVG element that can stand in an HTML page.

    Args:
        figure: what is drawn.
        prefix: of its ids, which no other figure of the page has.

    Returns:
        The element, without a declaration, metadata, or names of its own for screen readers.
    """
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), warnings.catch_warnings():
        # Texts stay texts, and the browser has fonts for what matplotlib's has no glyphs for.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing|Matplotlib currently does not support")
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', '<svg aria-hidden="true" focusable="false"', text, count=1)
    text = re.sub(r"<g([^>]*)>\s*((?:<use [^>]*/>\s*)+)</g>", _once, text)
    # In coordinates, not in texts: a hundredth of a point is less than a screen shows.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r">\s+<", "><", text)


def _once(found: re.Match[str]) -> str:
    """A group of markers, with the style of all said once: thousands of points say little else."""
    styles = set(re.findall(r' style="[^"]*"', found[2]))
    if len(styles) != 1 or "style=" in found[1]:
        return found[0]
    (style,) = styles
    return f"<g{found[1]}{style}>{found[2].replace(style, '')}</g>"
