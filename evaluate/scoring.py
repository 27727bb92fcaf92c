"""From a result's stored predictions to everything that is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics import METRICS, Score, confusion_counts, metrics_of
from .predictions import Predictions, concatenate, read_predictions
from .resampling import draw, metric_name, resample, statistics_of
from .results import Cell, Result
from .sanity import SANITY, guess
from .statistics import FEWEST_GROUPS, Summary, summarise


@dataclass(frozen=True)
class Evaluation:
    """A result with its numbers."""

    result: Result
    metrics: dict[str, Summary]  # by `metric` or `metric.target`
    sanity: dict[str, dict[str, Summary]]  # the same of what needs no model: "majority", "uniform", "training_mean"
    groups: int  # that the bootstrap drew from
    unit: str  # what a group is: "speaker", "session", "utterance" or "group"
    confusion: NDArray[np.int64] | None  # (C, C) summed over folds and seeds; None for a regression

    @property
    def approximate(self) -> bool:
        """Whether the intervals rest on too few groups to be more than approximate."""
        return self.groups < FEWEST_GROUPS


def evaluate_result(result: Result) -> Evaluation:
    """Score a result; reads the predictions of all its runs.

    Raises:
        EmocacheError: predictions that cannot be read, see `read_predictions`.
    """
    task, classes = result.first.task, result.classes
    cells = {cell: read_predictions(run, classes) for cell, run in sorted(result.runs.items())}
    metrics = score_grid(cells, task, len(classes))
    # Without a model seeds do not matter: each fold is scored once.
    firsts = {fold: min(cell for cell in cells if cell[0] == fold) for fold in result.folds}
    sanity = {}
    for name, rule in SANITY[task].items():
        guesses = {(k, 0): guess(rule, cells[cell], result.runs[cell].record, classes) for k, cell in firsts.items()}
        sanity[name] = score_grid(guesses, task, len(classes))
    everything = concatenate(list(cells.values()))
    confusion = None
    if task == "classification":
        samples = everything.samples[""]
        confusion = confusion_counts(samples.reference, samples.prediction, len(classes))
    return Evaluation(result, metrics, sanity, len(np.unique(everything.groups)), everything.unit, confusion)


def score_grid(cells: Mapping[Cell, Predictions], task: str, classes: int) -> dict[str, Summary]:
    """Every metric of a task over a grid of folds and seeds.

    Args:
        cells: the predictions of each fold and seed.
        task: "classification", "regression" or "frame_regression".
        classes: how many classes there are; 0 for a regression.
    """
    by_cell = {cell: scores_of(predictions, task) for cell, predictions in cells.items()}
    seeds = pool_folds(cells)
    by_seed = {seed: scores_of(predictions, task) for seed, predictions in seeds.items()}
    names = np.unique(np.concatenate([predictions.groups for predictions in seeds.values()]))
    resampled: dict[str, NDArray[np.float64]] = {}
    if len(names) > 1:
        statistics = [statistics_of(predictions, names, task, classes) for predictions in seeds.values()]
        resampled = resample(statistics, draw(len(names)))
    empty = np.empty(0)
    return {
        name: summarise(
            {cell: scores[name] for cell, scores in by_cell.items()},
            {seed: scores[name] for seed, scores in by_seed.items()},
            resampled.get(name, empty),
        )
        for name in next(iter(by_cell.values()))
    }


def scores_of(predictions: Predictions, task: str) -> dict[str, Score]:
    """Every metric of a task, by `metric` or `metric.target`."""
    return {
        metric_name(name, target): METRICS[name].score(samples)
        for target, samples in predictions.samples.items()
        for name in metrics_of(task)
    }


def pool_folds(cells: Mapping[Cell, Predictions]) -> dict[int, Predictions]:
    """Each seed's predictions of all its folds together."""
    seeds = sorted({seed for _, seed in cells})
    return {s: concatenate([part for cell, part in sorted(cells.items()) if cell[1] == s]) for s in seeds}
