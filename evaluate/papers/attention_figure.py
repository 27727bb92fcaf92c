"""Pictures of the words that a head looks at: its kept attention weights, utterance by utterance."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..output.figures.composition import shorten
from ..output.figures.drawing import entitle, named, save
from ..output.figures.look import SCREEN, Look
from ..scoring.scored import Evaluation
from . import PaperReport
from .attention_weights import Attention, read_attention

MOST = 24  # utterances in the picture
_ROW = 0.2  # inches


def save_attention(out: Path, evaluations: Sequence[Evaluation], look: Look = SCREEN) -> list[Path]:
    """Draw the weights of classifications that kept "attention", and write all of them; returns the files' paths."""
    written = []
    for evaluation in evaluations:
        found = read_attention(evaluation.result)
        if found is not None:
            stem = out / f"attention-{evaluation.result.file_name}"
            written += [_write(found, stem.with_name(f"{stem.name}.csv"))]
            written += save(draw(found, look), stem, look)
    return written


def _write(found: Attention, path: Path) -> Path:
    first = found.result.first
    about = [first.experiment, "; ".join(found.result.marks), *found.cell]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["experiment", "marks", "fold", "seed", "utterance", "true", "predicted", "channel", "position", "weight"]
        )
        for utterance, classes, weights in zip(found.utterances, found.classes, found.weights, strict=True):
            for (position, channel), weight in np.ndenumerate(weights):
                told = [utterance, *classes, found.channels[channel], position + 1, repr(float(weight))]
                writer.writerow([*about, *told])
    return path


def draw(found: Attention, look: Look = SCREEN) -> Figure:
    """Draw a panel for each channel with a row for each of at most `MOST` utterances; darker is more weight."""
    # Evenly chosen: utterances stand in the order of their classes, so that every class with many has rows.
    chosen = np.unique(np.linspace(0, len(found.utterances) - 1, MOST).round().astype(int))
    longest = max(len(found.weights[i]) for i in chosen)
    largest = max(found.weights[i].max() for i in chosen)
    size = look.size(4.0 + 2.6 * len(found.channels), 1.6 + _ROW * len(chosen))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(found.channels), squeeze=False, sharey=True)[0]
    for channel, (axes, name) in enumerate(zip(panels, found.channels, strict=True)):
        # NaN has no colour: what lies behind an utterance's end differs from a word without weight.
        picture = np.full((len(chosen), longest), np.nan)
        for row, i in enumerate(chosen):
            picture[row, : len(found.weights[i])] = found.weights[i][:, channel]
        extent = (0.5, longest + 0.5, len(chosen) - 0.5, -0.5)
        image = axes.imshow(picture, cmap="Blues", vmin=0, vmax=largest, aspect="auto", extent=extent,
                            interpolation="nearest")  # fmt: skip
        axes.set_title(name, fontsize=look.text)
        axes.set_xlabel("word" if longest < 100 else "frame")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, ax=panels, label="weight")
    labels = [f"{shorten(found.utterances[i])}: {' → '.join(found.classes[i])}" for i in chosen]
    panels[0].set_yticks(np.arange(len(chosen)), labels, fontsize=look.small, parse_math=False)
    fold, seed = found.cell
    told = (
        f"attention, mean over heads; true → predicted class; {len(chosen)} test utterances of fold {fold}, seed {seed}"
    )
    entitle(figure, f"{named(found.result)}\n{told}", look)
    return figure


REPORT = PaperReport(figures=(save_attention,))
