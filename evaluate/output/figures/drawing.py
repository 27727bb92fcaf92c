"""The parts that figures share: colours, titles, names of files, and the file itself."""

import re
import zlib
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from ...scoring.result_groups import Result

COLOURS: list[str] = matplotlib.style.library["petroff10"]["axes.prop_cycle"].by_key()["color"]
"""Ten colours that stay apart under colour-vision deficiency (Petroff 2021, "Accessible Color Sequences")."""


def named(*results: Result, part: str = "") -> str:
    """Name the experiments, corpus, part, streams and marks of results that share their corpus and streams."""
    experiments = [result.first.experiment for result in results]
    marks = dict.fromkeys(mark for result in results for mark in result.marks)
    return ", ".join(filter(None, (*experiments, results[0].corpus, part, "+".join(results[0].streams), *marks)))


def wrapped(text: str, inches: float, size: float = 9) -> str:
    """Break the text into lines that fit a width, after blanks and after signs that join names."""
    most = max(12, int(inches * 72 / (0.65 * size)))  # 0.65: a sign's width by its height
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in re.findall(r".+?(?:[\s+/,.\-_]+|$)", paragraph):
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


def save_png(figure: Figure, path: Path) -> Path:
    """Write the figure without anything that differs between machines or days; returns the path."""
    figure.savefig(path, format="png", dpi=300, metadata={"Software": None})
    return path
