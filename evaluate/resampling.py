"""The bootstrap over groups, from what each group adds up to.

A resample draws as many groups as there are, with replacement. It is held as how often each group was drawn, so that
a metric of 2,000 resamples is a matrix product with the groups' sums and not 2,000 passes over the samples. Every
class here gives what its metrics would give on the drawn samples, written one after another.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from .metrics import clip_cccs, metric_name, most_voted_hits
from .predictions import Predictions, Samples, Values

Floats = NDArray[np.float64]
Weights = NDArray[np.uint16]
"""(R, G): how often resample r drew group g."""

_BLOCK = 2_000_000  # numbers held at a time
_RANK_BUDGET = 10_000_000  # samples x resamples for Spearman, whose ranks are recounted in every resample
FEWEST_RESAMPLES = 200


def draw(groups: int, resamples: int = 2000, seed: int = 0) -> Weights:
    """`resamples` draws of `groups` groups with replacement, (resamples, groups); the same for the same seed."""
    generator = np.random.default_rng(seed)
    weights = np.empty((resamples, groups), np.uint16)
    rows = max(1, _BLOCK // max(groups, 1))
    for start in range(0, resamples, rows):
        block = weights[start : start + rows]
        drawn = generator.integers(groups, size=block.shape) + np.arange(len(block))[:, None] * groups
        block[...] = np.bincount(drawn.ravel(), minlength=block.size).reshape(block.shape)
    return weights


class Statistic(Protocol):
    """What the groups add up to, for some metrics."""

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """Each metric's value in each resample, (R,) or fewer; NaN where it is undefined."""


@dataclass(frozen=True)
class ConfusionCounts:
    """accuracy, balanced_accuracy, weighted_f1 and macro_f1 from a confusion matrix of every group."""

    counts: Floats  # (G, C, C), C the classes that occur
    prefix: str = ""  # of the metrics' names

    @classmethod
    def of(cls, samples: Samples, group: NDArray[np.int64], groups: int, prefix: str = "") -> "ConfusionCounts":
        """From samples and the group of each, (N,)."""
        names, number = np.unique(np.concatenate([samples.reference, samples.prediction]), return_inverse=True)
        classes, n = len(names), len(samples.reference)
        cell = (group * classes + number[:n]) * classes + number[n:]
        counts = np.bincount(cell.astype(np.int64), minlength=groups * classes * classes)
        return cls(counts.astype(np.float64).reshape(groups, classes, classes), prefix)

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """See `Statistic`."""
        classes = self.counts.shape[1]
        summed = _summed(weights, self.counts.reshape(len(self.counts), -1))
        scores = scores_from_counts(summed.reshape(len(weights), classes, classes))
        return {f"{self.prefix}{name}": values for name, values in scores.items()}


def scores_from_counts(counts: Floats) -> dict[str, Floats]:
    """The four classification metrics of (..., C, C) confusion matrices, (...) each; NaN where a matrix is empty."""
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    total = support.sum(axis=-1)
    recall = _ratio(correct, support)
    f1 = _ratio(2 * correct, support + predicted)
    return {
        "accuracy": _ratio(correct.sum(axis=-1), total),
        "balanced_accuracy": _ratio(np.nansum(recall, axis=-1), (support > 0).sum(axis=-1)),
        "weighted_f1": _ratio(np.nansum(support * f1, axis=-1), total),
        "macro_f1": _ratio(np.nansum(f1, axis=-1), (support + predicted > 0).sum(axis=-1)),
    }


@dataclass(frozen=True)
class Moments:
    """ccc, pearson, rmse and reference_std from every group's n, sums and sums of products."""

    sums: Floats  # (G, 6): n, y, p, yy, pp, yp, after subtracting the centres
    centres: tuple[float, float]  # of y and p: keeps the sums of squares free of large cancelling parts

    @classmethod
    def of(cls, samples: Samples, group: NDArray[np.int64], groups: int) -> "Moments":
        """From samples and the group of each, (N,)."""
        centres = (float(samples.reference.mean()), float(samples.prediction.mean())) if len(group) else (0.0, 0.0)
        y, p = samples.reference - centres[0], samples.prediction - centres[1]
        columns = [np.bincount(group, part, groups) for part in (np.ones(len(y)), y, p, y * y, p * p, y * p)]
        return cls(np.stack(columns, axis=1), centres)

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """See `Statistic`; a constant prediction counts as 0, as it does in means over folds."""
        n, *sums = _summed(weights, self.sums).T
        y, p, yy, pp, yp = (_ratio(part, n) for part in sums)
        var_y, var_p = _variance(yy, y, self.centres[0]), _variance(pp, p, self.centres[1])
        cov = np.where((var_y > 0) & (var_p > 0), yp - y * p, np.where(np.isnan(y), np.nan, 0.0))
        denominator = var_y + var_p + (y + self.centres[0] - p - self.centres[1]) ** 2
        correlation = _ratio(cov, np.sqrt(var_y * var_p))
        return {
            "ccc": _ratio(2 * cov, denominator),
            "pearson": np.where((var_p == 0) & (var_y > 0), 0.0, correlation),
            "rmse": np.sqrt(np.maximum(denominator - 2 * cov, 0)),
            "reference_std": np.sqrt(var_y),
        }


@dataclass(frozen=True)
class Means:
    """A metric that is a mean over utterances, from every group's sum and number of them."""

    metric: str
    sums: Floats  # (G, 2)

    @classmethod
    def of(cls, metric: str, values: Floats, group: NDArray[np.int64], groups: int) -> "Means":
        """From the values and the group of each, (n,); what is NaN is left out."""
        defined = ~np.isnan(values)
        total = np.bincount(group[defined], values[defined], groups)
        return cls(metric, np.stack([total, np.bincount(group[defined], minlength=groups)], axis=1))

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """See `Statistic`."""
        total, count = _summed(weights, self.sums).T
        return {self.metric: _ratio(total, count)}


@dataclass(frozen=True)
class Ranks:
    """spearman: sorted once; in each resample only the ranks are recounted."""

    samples: Samples
    group: NDArray[np.int64]  # (N,)

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """See `Statistic`; of many samples fewer resamples, and a constant prediction counts as 0."""
        size = max(len(self.group), 1)
        weights = weights[: max(FEWEST_RESAMPLES, _RANK_BUDGET // size)]
        rankings = [_Ranking.of(values) for values in (self.samples.reference, self.samples.prediction)]
        # Resamples are the last axis here: reordering samples then moves whole rows, which is several times faster.
        blocks = (block.astype(np.float64).T[self.group] for block in _blocks(weights, size))
        return {"spearman": np.concatenate([_rank_correlation(block, *rankings) for block in blocks])}


@dataclass(frozen=True)
class _Ranking:
    """The order of some values, from which the ranks of any multiset of them follow without sorting again."""

    order: NDArray[np.int64]  # (N,)
    starts: NDArray[np.int64]  # (U,) where each distinct value starts in that order
    distinct: NDArray[np.int64]  # (N,) the distinct value each sample has

    @classmethod
    def of(cls, values: Values) -> "_Ranking":
        order = np.argsort(values, kind="stable")
        _, starts, distinct = np.unique(values[order], return_index=True, return_inverse=True)
        back = np.empty_like(distinct)
        back[order] = distinct
        return cls(order, starts, back)

    def ranks(self, weight: Floats) -> Floats:
        """Average ranks (N, r) of samples that occur `weight` (N, r) times."""
        count = weight[self.order]
        if len(self.starts) < len(self.order):
            count = np.add.reduceat(count, self.starts, axis=0)
        return (np.cumsum(count, axis=0) - (count - 1) / 2)[self.distinct]


def _rank_correlation(weight: Floats, of_y: _Ranking, of_p: _Ranking) -> Floats:
    """Spearman's correlation of samples that occur `weight` (N, r) times, (r,)."""
    centre = (weight.sum(axis=0) + 1) / 2  # the mean of average ranks, ties or not
    y, p = of_y.ranks(weight) - centre, of_p.ranks(weight) - centre
    cov, var_y, var_p = (np.einsum("ij,ij,ij->j", weight, a, b) for a, b in ((y, p), (y, y), (p, p)))
    return np.where((var_p == 0) & (var_y > 0), 0.0, _ratio(cov, np.sqrt(var_y * var_p)))


Statistics = Mapping[str, Sequence[Statistic]]
"""The statistics of each target."""


def statistics_of(predictions: Predictions, names: NDArray[np.str_]) -> Statistics:
    """What a set of predictions adds up to in every group; `names` are all groups' names, sorted, (G,)."""
    group_of_row = np.searchsorted(names, predictions.groups).astype(np.int64)
    collected: defaultdict[str, list[Statistic]] = defaultdict(list)
    with np.errstate(invalid="ignore"):
        for target, samples in predictions.scored():
            collected[target] += _statistics(samples, group_of_row, len(names))
    return collected


def _statistics(samples: Samples, group_of_row: NDArray[np.int64], groups: int) -> list[Statistic]:
    group = group_of_row[samples.row]
    if samples.kind == "classification":
        return [ConfusionCounts.of(samples, group, groups)]
    if samples.kind == "auxiliary":
        return [ConfusionCounts.of(samples, group, groups, "auxiliary_")]
    if samples.kind == "distribution":
        clear, hits = most_voted_hits(samples)
        divergence = rel_entr(samples.reference, samples.prediction).sum(axis=1)
        return [
            Means.of("kl_divergence", divergence, group, groups),
            Means.of("most_voted_accuracy", hits.astype(np.float64), group[clear], groups),
        ]
    found: list[Statistic] = [Moments.of(samples, group, groups)]
    if len(group):
        found.append(Ranks(samples, group))
    if samples.kind == "frame_regression":
        rows, values = clip_cccs(samples)
        found.append(Means.of("ccc_per_clip", values, group_of_row[rows], groups))
    return found


def resample(seeds: Sequence[Statistics], weights: Weights) -> dict[str, Floats]:
    """Each metric in each resample, (R,) or fewer, averaged over the seeds inside the resample."""
    by_name: defaultdict[str, list[Floats]] = defaultdict(list)
    with np.errstate(invalid="ignore"):  # predictions that are not finite stay NaN, which their score explains
        for seed in seeds:
            for target, statistics in seed.items():
                for name, values in (item for s in statistics for item in s.resampled(weights).items()):
                    by_name[metric_name(name, target)].append(values)
    return {name: np.mean([v[: min(map(len, parts))] for v in parts], axis=0) for name, parts in by_name.items()}


def _summed(weights: Weights, sums: Floats) -> Floats:
    """(R, K): the groups' sums (G, K) added up as each resample drew them."""
    return np.concatenate([block.astype(np.float64) @ sums for block in _blocks(weights, weights.shape[1])])


def _blocks(weights: Weights, width: int) -> Iterator[Weights]:
    rows = max(1, _BLOCK // max(width, 1))
    for start in range(0, len(weights), rows):
        yield weights[start : start + rows]


def _ratio(numerator: Floats, denominator: NDArray[np.generic]) -> Floats:
    nan = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=nan, where=denominator != 0), np.float64)


def _variance(squares: Floats, mean: Floats, centre: float) -> Floats:
    """Mean square less squared mean; what is only rounding is 0, so that a constant is seen as one."""
    variance = squares - mean**2
    noise = 1e-14 * squares + (1e-15 * centre) ** 2
    return np.where(variance <= noise, np.where(np.isnan(variance), np.nan, 0.0), variance)
