"""Titles that fit their figures, and names of files."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emocache.evaluate.output.figures.drawing import file_part, wrapped

LONG = [
    "a-rather-long-name-of-an-experiment-that-a-student-wrote-on-a-monday, corpus, whisper-base",
    "probe, corpus, " + "+".join(f"whisper-base.L{k}" for k in range(7)),
    "x" * 200,
    "short\nand a second line",
]


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("inches", [2.5, 4.0, 10.0])
def test_wrapped_text_fits_and_loses_nothing(text: str, inches: float) -> None:
    found = wrapped(text, inches)
    figure = Figure(figsize=(inches, 4))
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for line in found.split("\n"):
        drawn = figure.text(0, 0, line, fontsize=9, parse_math=False)
        assert drawn.get_window_extent(renderer).width <= figure.bbox.width
    assert "".join(found.split()) == "".join(text.split())


def test_short_text_stays_as_it_is() -> None:
    assert wrapped("probe, demo, mfcc\nfive folds", 4.0) == "probe, demo, mfcc\nfive folds"


def test_a_file_part_names_one_value() -> None:
    values = ["british", "new zealand", "new_zealand", "new/zealand", "中文", "a.b", ""]
    parts = [file_part(value) for value in values]
    assert len(set(parts)) == len(values) and parts[0] == "british"
    assert all(part.isascii() and not set(part) & set("/ %.") for part in parts)
