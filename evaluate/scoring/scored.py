"""From a result's stored predictions to everything that is told of it."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...train.records.confusion import Floats, confusion_counts
from ...train.records.group_sums import Drawn, Weights, draw
from ...train.records.metrics import FEWEST_GROUPS, NO_SAMPLES, Score, metric_name, metrics_of
from .result_groups import Cell, Result
from .sanity import SANITY, guess
from .statistics import Summary, summarise
from .stored_predictions import Predictions, concatenate, read_predictions

BREAKDOWN = ("corpus", "culture")
"""The columns that scores are also told apart by, wherever the test part has several."""

Grid = Mapping[Cell, Predictions]
"""The predictions of each fold and seed."""


@dataclass(frozen=True)
class Scored:
    """The numbers of a result's test utterances, or of some of them."""

    metrics: dict[str, Summary]  # by `metric` or `metric.target`
    sanity: dict[str, dict[str, Summary]]  # the same of what needs no model: "majority", "uniform", "training_mean"...
    groups: int  # that the bootstrap drew from
    unit: str  # what a group is: "speaker", "session", another column, "utterance" or "group"
    confusion: NDArray[np.int64] | None  # (C, C) summed over folds and seeds; only of a classification

    @property
    def approximate(self) -> bool:
        """True where the intervals rest on too few groups to be more than approximate."""
        return self.groups < FEWEST_GROUPS


@dataclass(frozen=True)
class Part(Scored):
    """The test utterances of one culture, or of one corpus."""

    column: str  # "culture" or "corpus"
    value: str
    utterances: int  # of all folds, in their first seed
    predicted: int  # of these, the ones with features


@dataclass(frozen=True)
class Evaluation(Scored):
    """A result with its numbers."""

    result: Result

    @cached_property
    def breakdown(self) -> list[Part]:
        """The numbers of each corpus and culture, where there are several; reads the predictions when asked for."""
        return _breakdown(self.result, _read(self.result))


def evaluate_result(result: Result) -> Evaluation:
    """Score a result; reads the predictions of all its runs.

    Args:
        result: runs that differ in fold and seed only.

    Returns:
        Its numbers.

    Raises:
        EmocacheError: predictions that cannot be read, see `read_predictions`.
    """
    return Evaluation(**vars(_scored(result, _read(result))), result=result)


def _read(result: Result) -> Grid:
    return {cell: read_predictions(run, result.classes) for cell, run in sorted(result.runs.items())}


def _scored(result: Result, cells: Grid) -> Scored:
    task, classes = result.first.task, result.classes
    sanity = {}
    for name, rule in SANITY[task].items():
        guesses = {
            (fold, 0): guess(rule, cells[fold, seed], result.runs[fold, seed].record, classes)
            for fold, seed in first_seeds(cells)  # without a model seeds do not matter
        }
        sanity[name] = _score_guesses(guesses)
    everything = concatenate(list(cells.values()))
    confusion = None
    if task == "classification":
        samples = everything.samples[""]
        confusion = confusion_counts(samples.reference, samples.prediction, len(classes))
    return Scored(score_grid(cells), sanity, len(np.unique(everything.groups)), everything.unit, confusion)


_known: dict[str, dict[str, Summary]] = {}  # {digest of guesses: their scores}


def _score_guesses(guesses: Grid) -> dict[str, Summary]:
    """Score guesses without a model; systems with the same labels and split share them, and so their scores."""
    digest = sha256()
    for cell, predictions in guesses.items():
        arrays: dict[str, NDArray[Any]] = {"": predictions.groups}
        for target, own in predictions.scored():
            told = f"{target} {own.kind}"
            arrays |= {f"y {told}": own.reference, f"p {told}": own.prediction, f"row {told}": own.row}
        for name, array in arrays.items():
            digest.update(repr((cell, predictions.unit, name, array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    key = digest.hexdigest()
    if key not in _known:
        _known[key] = score_grid(guesses)
    return _known[key]


def _breakdown(result: Result, cells: Grid) -> list[Part]:
    parts = []
    for column in BREAKDOWN:
        values = sorted({str(value) for part in cells.values() for value in part.columns[column]})
        for value in values if len(values) > 1 else ():
            own = {cell: part.keep(part.columns[column] == value) for cell, part in cells.items()}
            own = {cell: part for cell, part in own.items() if len(part.utterances)}
            missing = np.concatenate([own[cell].columns["missing"] for cell in first_seeds(own)])
            numbers = vars(_scored(result, own))
            predicted = int(np.count_nonzero(~missing))
            parts.append(Part(**numbers, column=column, value=value, utterances=len(missing), predicted=predicted))
    return parts


def first_seeds(cells: Grid) -> list[Cell]:
    """The first seed of each fold."""
    return [min(cell for cell in cells if cell[0] == fold) for fold in sorted({fold for fold, _ in cells})]


def score_grid(cells: Grid) -> dict[str, Summary]:
    """Every metric over a grid of folds and seeds."""
    by_cell = {cell: scores_of(predictions) for cell, predictions in cells.items()}
    seeds = pool_folds(cells)
    by_seed = {seed: scores_of(predictions) for seed, predictions in seeds.items()}
    names = np.unique(np.concatenate([predictions.groups for predictions in seeds.values()]))
    resampled = resample(list(seeds.values()), names, draw(len(names))) if len(names) > 1 else None
    summaries = {}
    for name in next(iter(by_cell.values())):
        scores = {cell: scores[name] for cell, scores in by_cell.items()}
        # A fold in which no utterance has the target is none of that target's folds.
        own = {cell: score for cell, score in scores.items() if score.reason != NO_SAMPLES} or scores
        drawn = resampled[name] if resampled is not None else np.empty(0)
        summary = summarise(own, {seed: found[name] for seed, found in by_seed.items()}, drawn)
        if without := sorted({fold for fold, _ in scores} - {fold for fold, _ in own}):
            summary.notes.append(
                f"the mean is over the other folds than {', '.join(map(str, without))}, which have none"
            )
        summaries[name] = summary
    return summaries


def scores_of(predictions: Predictions, chosen: Collection[str] | None = None) -> dict[str, Score]:
    """The chosen metrics, or all, of a set of predictions, by `metric` or `metric.target`."""
    scores = {}
    for target, samples in predictions.scored():
        left_out = len(predictions.utterances) - len(np.unique(samples.row))
        why = f", which have no {target}" if target else ""
        for name, metric in metrics_of(samples.kind).items():
            if chosen is not None and metric_name(name, target) not in chosen:
                continue
            score = metric.score(samples)
            if left_out:
                score = score._replace(note=f"{left_out} of {len(predictions.utterances)} utterances left out{why}")
            scores[metric_name(name, target)] = score
    return scores


def names_of(predictions: Predictions) -> list[str]:
    """Every metric that a set of predictions has, by `metric` or `metric.target`."""
    return [metric_name(name, target) for target, own in predictions.scored() for name in metrics_of(own.kind)]


def resample(
    seeds: Sequence[Predictions],
    names: NDArray[np.str_],
    weights: Weights,
    chosen: Collection[str] | None = None,
) -> dict[str, Floats]:
    """Compute each metric in each bootstrap resample.

    Args:
        seeds: the predictions of each.
        names: all groups' names, sorted, (G,).
        weights: see `group_sums.draw`, (R, G).
        chosen: of these metrics, by `metric` or `metric.target`; None: of all.

    Returns:
        {metric: (R,) or fewer}, averaged over the seeds inside the resample.
    """
    by_name: defaultdict[str, list[Floats]] = defaultdict(list)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite stays NaN, which its score explains
        for predictions in seeds:
            group_of_row = np.searchsorted(names, predictions.groups).astype(np.int64)
            for target, samples in predictions.scored():
                drawn = Drawn(samples, group_of_row, weights)
                for name, metric in metrics_of(samples.kind).items():
                    if chosen is None or metric_name(name, target) in chosen:
                        by_name[metric_name(name, target)].append(metric.resampled(drawn))
    return {name: np.mean([v[: min(map(len, parts))] for v in parts], axis=0) for name, parts in by_name.items()}


def pool_folds(cells: Grid) -> dict[int, Predictions]:
    """Each seed's predictions of all its folds together."""
    seeds = sorted({seed for _, seed in cells})
    return {s: concatenate([part for cell, part in sorted(cells.items()) if cell[1] == s]) for s in seeds}
