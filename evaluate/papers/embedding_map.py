"""A map of kept vectors, coloured by class, with how well the classes lie apart (CAMuLeNet paper, Figure 3)."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..output.cells import number
from ..output.figures.drawing import COLOURS, entitle, named, save
from ..output.figures.look import SCREEN, Look
from ..scoring.scored import Evaluation
from . import PaperReport
from .embeddings import NEIGHBOURS, Embeddings, nearest_neighbours_right, plane, read_embeddings, silhouettes

_MARKERS = "o^sDvPX*<>p"  # eleven, so that marker and colour together tell 110 classes apart
_HEADINGS = [
    "experiment", "marks", "fold", "seed", "class", "utterances", "silhouette", f"{NEIGHBOURS}nn_accuracy",
]  # fmt: skip


def save_embedding_maps(
    out: Path, evaluations: Sequence[Evaluation], look: Look = SCREEN, fold: int | None = None
) -> list[Path]:
    """Draw a map of every classification whose runs kept "embedding", and write its numbers.

    Args:
        out: the folder.
        evaluations: those looked through.
        look: of the figures.
        fold: whose test utterances are drawn; the first if not given.

    Returns:
        The paths of a CSV and a figure for each.
    """
    written = []
    for evaluation in evaluations:
        found = read_embeddings(evaluation.result, fold)
        if found is not None:
            numbers = list(_numbers(found))
            written += _save(out / f"embedding-map-{evaluation.result.file_name}", found, numbers, look)
    return written


def _save(stem: Path, found: Embeddings, numbers: Sequence[tuple[str, int, float, float]], look: Look) -> list[Path]:
    result, table = found.result, stem.with_name(f"{stem.name}.csv")
    about = [result.first.experiment, "; ".join(result.marks), *found.cell]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADINGS)
        for name, count, *scores in numbers:
            writer.writerow([*about, name, count, *("" if math.isnan(score) else repr(score) for score in scores)])
    return [table, *save(_figure(found, numbers[0], look), stem, look)]


def _numbers(found: Embeddings) -> Iterator[tuple[str, int, float, float]]:
    """Yield (class, utterances, mean silhouette, share with the right neighbours), first of all under no name."""
    apart, right = silhouettes(found.vectors, found.classes), nearest_neighbours_right(found.vectors, found.classes)
    yield "", len(right), float(apart.mean()), float(right.mean())
    for k, name in enumerate(found.result.classes):
        own = found.classes == k
        if own.any():
            yield name, int(own.sum()), float(apart[own].mean()), float(right[own].mean())


def _figure(found: Embeddings, numbers: tuple[str, int, float, float], look: Look) -> Figure:
    figure = Figure(figsize=look.size(6.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    places = plane(found.vectors)
    for k, name in enumerate(found.result.classes):
        own = places[found.classes == k]
        marker, colour = _MARKERS[k % len(_MARKERS)], COLOURS[k % len(COLOURS)]
        if len(own):
            axes.scatter(own[:, 0], own[:, 1], s=22, marker=marker, color=colour, alpha=0.8, linewidths=0, label=name)
    # Only nearness means something in a t-SNE, not where the axes lie nor how long they are.
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    legend = figure.legend(loc="outside right center", fontsize=look.text, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _, count, *scores = numbers
    apart, right = map(number, scores)
    fold, seed = found.cell
    told = f"t-SNE of {count} test utterances of fold {fold}, seed {seed}; of the vectors themselves:"
    measured = f"silhouette {apart}, leave-one-out {NEIGHBOURS}-nearest-neighbour accuracy {right}"
    entitle(figure, f"{named(found.result)}\n{told}\n{measured}", look)
    return figure


REPORT = PaperReport(figures=(save_embedding_maps,))
