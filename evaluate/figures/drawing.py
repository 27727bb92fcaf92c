"""What the figures share: colours, what a title says of a result, and the file."""

from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from ..results import Result

COLOURS: list[str] = matplotlib.style.library["petroff10"]["axes.prop_cycle"].by_key()["color"]
"""Ten colours that stay apart under colour-vision deficiency (Petroff 2021, "Accessible Color Sequences")."""


def named(*results: Result, part: str = "") -> str:
    """Experiments, corpus, the part of it, streams and marks of results that share their corpus and streams."""
    experiments = [result.first.experiment for result in results]
    marks = dict.fromkeys(mark for result in results for mark in result.marks)
    return ", ".join(filter(None, (*experiments, results[0].corpus, part, "+".join(results[0].streams), *marks)))


def save_png(figure: Figure, path: Path) -> Path:
    """Write the figure without anything that differs between machines or days; returns the path."""
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})
    return path
