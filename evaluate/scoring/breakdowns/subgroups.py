"""Scores of parts of the test utterances: each speaker, each culture, and each class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..result_groups import Result
from ..scored import Evaluation, pool_folds, scores_of
from ..stored_predictions import Predictions, read_predictions


@dataclass(frozen=True)
class Subgroup:
    """The test utterances with one value in a column."""

    column: str  # "speaker" or "culture"
    value: str
    utterances: int
    scores: dict[str, float]  # by `metric` or `metric.target`: over all folds, mean over seeds; NaN where undefined


@dataclass(frozen=True)
class ClassScore:
    """One class of a classification, over all folds and seeds."""

    name: str
    utterances: int  # with this class, of all folds and seeds
    recall: float
    precision: float
    f1: float
    taken_for: str  # the other class that most of the rest were taken for; "" where there is no rest


def pooled_predictions(result: Result) -> list[Predictions]:
    """Read a result's predictions: those of all folds together, for each seed."""
    cells = {cell: read_predictions(run, result.classes) for cell, run in sorted(result.runs.items())}
    return list(pool_folds(cells).values())


def subgroups(seeds: Sequence[Predictions], column: str) -> list[Subgroup]:
    """Score each value of a column by itself.

    Args:
        seeds: see `pooled_predictions`.
        column: one of `Predictions.columns` with texts.

    Returns:
        The subgroups by name; none where there is a single one. A speaker of one of several corpora is "corpus/name".
    """
    named = [_values(part, column) for part in seeds]
    values = sorted({str(value) for names in named for value in names})
    found = []
    for value in values if len(values) > 1 else ():
        parts = [part.keep(names == value) for part, names in zip(seeds, named, strict=True)]
        scores = [scores_of(part) for part in parts if len(part.utterances)]
        means = {name: float(np.mean([own[name].value for own in scores])) for name in scores[0]}
        found.append(Subgroup(column, value, len(parts[0].utterances), means))
    return found


def _values(part: Predictions, column: str) -> NDArray[np.str_]:
    values, corpora = part.columns[column], part.columns["corpus"]
    if column != "speaker" or len(np.unique(corpora)) == 1:
        return values
    return np.array([f"{corpus}/{value}" for corpus, value in zip(corpora, values, strict=True)], np.str_)


def class_scores(evaluation: Evaluation) -> list[ClassScore]:
    """Score each class by the counts of the confusion matrix; none of a regression."""
    counts = evaluation.confusion
    if counts is None:
        return []
    found = []
    for i, name in enumerate(evaluation.result.classes):
        hits, there, said = counts[i, i], counts[i].sum(), counts[:, i].sum()
        others = counts[i].copy()
        others[i] = 0
        worst = evaluation.result.classes[int(others.argmax())] if others.any() else ""
        ratios = (_ratio(hits, there), _ratio(hits, said), _ratio(2 * hits, there + said))
        found.append(ClassScore(name, int(there), *ratios, worst))
    return found


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")
