"""Results that can be held against each other, best first, and all of their pairs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....cache import EmocacheError
from ....train.records.metrics import METRICS, base_name
from ..result_groups import Result
from ..scored import Evaluation, scores_of
from ..statistics import Interval
from ..stored_predictions import Predictions, read_predictions
from ..stored_runs import Run
from .comparison import paired
from .differences import Difference, corrected
from .standings import Standing, standings

MOST = 12
"""Systems of a contest that are compared pair by pair: the best ones."""


@dataclass(frozen=True)
class Pair:
    """Two systems of a contest, by their places in it; the first has the better score."""

    a: int
    b: int
    difference: Difference | None  # in favour of `a` where positive, also of a metric of which less is better
    utterances: int = 0  # that both tested
    why: str = ""  # there is no difference

    @property
    def apart(self) -> bool:
        """True where the interval of the difference does not hold 0."""
        return self.difference is not None and excludes_zero(self.difference.ci95)


@dataclass(frozen=True)
class Contest:
    """A standing with its pairs."""

    standing: Standing
    pairs: list[Pair] = field(default_factory=list)  # of the first `MOST`
    ranks: dict[int, float] = field(default_factory=dict)  # {place: mean rank over folds}, where all have the same

    @property
    def metric(self) -> str:
        """`metric` or `metric.target`."""
        return self.standing.metric

    @property
    def entries(self) -> list[Evaluation]:
        """The results, the best first."""
        return self.standing.entries

    @property
    def best(self) -> Evaluation:
        """The result that is told of first."""
        return self.standing.best

    @property
    def lead(self) -> Pair | None:
        """The best two."""
        return next((pair for pair in self.pairs if (pair.a, pair.b) == (0, 1)), None)

    @property
    def alike(self) -> list[tuple[int, int]]:
        """The longest stretches (first, last) of the order in which no two systems are told apart."""
        told = {(pair.a, pair.b): pair.apart for pair in self.pairs}
        size = min(len(self.entries), MOST)
        found: list[tuple[int, int]] = []
        for first in range(size):
            last = first
            while last + 1 < size and not any(told[k, last + 1] for k in range(first, last + 1)):
                last += 1
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found

    @property
    def alike_across(self) -> list[tuple[int, int]]:
        """The pairs that are not told apart and in no stretch of `alike`: others stand between them."""
        inside = {pair for first, last in self.alike for pair in combinations(range(first, last + 1), 2)}
        return [(pair.a, pair.b) for pair in self.pairs if not pair.apart and (pair.a, pair.b) not in inside]


def contests(evaluations: Sequence[Evaluation]) -> list[Contest]:
    """Compare all pairs of the results that can be held against each other.

    Args:
        evaluations: the results with their numbers.

    Returns:
        A contest for each of `standings`; those with most systems first.
    """
    found = [_held(standing) for standing in standings(evaluations)]
    return sorted(found, key=lambda contest: -len(contest.entries))


def excludes_zero(ci95: Interval) -> bool:
    """Tell whether an interval lies on one side of 0; an undefined one does not."""
    return ci95[0] > 0 or ci95[1] < 0


def _held(standing: Standing) -> Contest:
    metric, entries = standing.metric, standing.entries
    sign = -1.0 if METRICS[base_name(metric)].smaller_is_better else 1.0
    remembered: dict[tuple[Path, tuple[str, ...]], Predictions] = {}

    def read(run: Run, classes: Sequence[str]) -> Predictions:
        place = (run.folder, tuple(classes))
        if place not in remembered:
            remembered[place] = read_predictions(run, classes)
        return remembered[place]

    results = [entry.result for entry in entries[:MOST]]
    pairs = []
    for a, b in combinations(range(len(results)), 2):
        try:
            made = paired(results[a], results[b], [metric], read)
            difference = made.metrics.get(metric)
            pairs.append(
                Pair(a, b, difference and _signed(difference, sign), made.utterances, made.left_out.get(metric, ""))
            )
        except EmocacheError as error:
            pairs.append(Pair(a, b, None, why=str(error)))
    holm = corrected([{metric: pair.difference} if pair.difference else {} for pair in pairs])
    pairs = [replace(pair, difference=own.get(metric)) for pair, own in zip(pairs, holm, strict=True)]
    grids = [[read(run, result.classes) for _, run in sorted(result.runs.items())] for result in results]
    return Contest(standing, pairs, _mean_ranks(results, grids, metric, sign))


def _signed(found: Difference, sign: float) -> Difference:
    low, high = sorted(sign * end for end in found.ci95) if not np.isnan(found.ci95[0]) else found.ci95
    return replace(found, difference=sign * found.difference, ci95=(low, high))


def _mean_ranks(
    results: Sequence[Result], grids: Sequence[Sequence[Predictions]], metric: str, sign: float
) -> dict[int, float]:
    """The mean rank over folds, 1 the best, ties averaged; nothing where folds differ or a score is undefined."""
    tables: list[NDArray[np.float64]] = []
    tested = []
    for result, grid in zip(results, grids, strict=True):
        by_fold: defaultdict[int, list[float]] = defaultdict(list)
        for (fold, _), part in zip(sorted(result.runs), grid, strict=True):
            by_fold[fold].append(scores_of(part, [metric])[metric].value)
        tables.append(np.array([np.mean(by_fold[fold]) for fold in sorted(by_fold)]))
        tested.append({fold: frozenset(p.utterances) for (fold, _), p in zip(sorted(result.runs), grid, strict=True)})
    if len(results) < 2 or any(one != tested[0] for one in tested) or np.isnan(np.concatenate(tables)).any():
        return {}
    from scipy.stats import rankdata

    ranks = rankdata(-sign * np.round(np.stack(tables), 12), axis=0).mean(axis=1)
    return {place: float(rank) for place, rank in enumerate(ranks)}
