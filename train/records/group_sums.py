"""The bootstrap over groups, from what each group adds up to.

A resample draws as many groups as there are, with replacement. It is held as how often each group was drawn, so that
a metric of 2,000 resamples is a matrix product with the groups' sums and not 2,000 passes over the samples. `Drawn`
has what metrics are computed from; which metric takes what stands beside its definition, in `metrics.METRICS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .confusion import Confusion, Floats, ratio
from .samples import Samples, Values

Weights = NDArray[np.uint16]
"""(R, G): how often resample r drew group g."""

_BLOCK = 2_000_000  # numbers held at a time
_RANK_BUDGET = 10_000_000  # samples x resamples for Spearman, whose ranks are recounted in every resample
FEWEST_RESAMPLES = 200
ANEW_RESAMPLES = 400  # for what is computed from the samples themselves, a thousand times slower than from sums


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


@dataclass(frozen=True, eq=False)
class Drawn:
    """One target's samples in every resample, as if those of the drawn groups were written one after another.

    What several metrics need is added up once. All numbers are NaN where they are undefined.
    """

    samples: Samples  # N of n utterances
    group_of_row: NDArray[np.int64]  # (n,) of each utterance
    weights: Weights  # (R, G)

    @property
    def group(self) -> NDArray[np.int64]:
        """(N,) of each sample."""
        return self.group_of_row[self.samples.row]

    @cached_property
    def confusion(self) -> Confusion:
        """The confusion matrix of every resample."""
        own, groups = self.samples, self.weights.shape[1]
        names, number = np.unique(np.concatenate([own.reference, own.prediction]), return_inverse=True)
        classes, n = len(names), len(own.reference)
        cell = (self.group * classes + number[:n]) * classes + number[n:]
        counts = np.bincount(cell.astype(np.int64), minlength=groups * classes * classes)
        summed = self._summed(counts.astype(np.float64).reshape(groups, classes * classes))
        return Confusion(summed.reshape(len(self.weights), classes, classes))

    @cached_property
    def moments(self) -> "Moments":
        """Means, variances and covariance of every resample."""
        own, some = self.samples, len(self.samples.row) > 0
        # Subtracting the centres keeps the sums of squares free of large cancelling parts.
        centres = (float(own.reference.mean()), float(own.prediction.mean())) if some else (0.0, 0.0)
        y, p = own.reference - centres[0], own.prediction - centres[1]
        products = (np.ones(len(y)), y, p, y * y, p * p, y * p)
        n, *sums = self._summed(np.stack([self._by_group(part, self.group) for part in products], axis=1)).T
        y, p, yy, pp, yp = (ratio(part, n) for part in sums)
        var_y, var_p = _variance(yy, y, centres[0]), _variance(pp, p, centres[1])
        cov = np.where((var_y > 0) & (var_p > 0), yp - y * p, np.where(np.isnan(y), np.nan, 0.0))
        return Moments(var_y, var_p, cov, y + centres[0] - p - centres[1])

    def mean(self, values: Floats, row: NDArray[np.int64]) -> Floats:
        """(R,) means of (k,) values, each of the utterance `row` (k,); what is NaN is left out."""
        defined = ~np.isnan(values)
        group = self.group_of_row[row][defined]
        sums = [self._by_group(part, group) for part in (values[defined], np.ones(len(group)))]
        total, count = self._summed(np.stack(sums, axis=1)).T
        return ratio(total, count)

    def rank_correlation(self) -> Floats:
        """(R,) or fewer, of many samples: sorted once, in each resample only the ranks are recounted."""
        if not len(self.samples.row):
            return np.full(len(self.weights), np.nan)
        group = self.group
        rankings = [_Ranking.of(values) for values in (self.samples.reference, self.samples.prediction)]
        weights = self.weights[: max(FEWEST_RESAMPLES, _RANK_BUDGET // len(group))]
        # Resamples are the last axis here: reordering samples then moves whole rows, which is several times faster.
        blocks = (block.astype(np.float64).T[group] for block in _blocks(weights, len(group)))
        return np.concatenate([_rank_correlation(block, *rankings) for block in blocks])

    def anew(self, value: Callable[[Samples], float]) -> Floats:
        """(R,), at most `ANEW_RESAMPLES`: a function of the samples, which are written out for every resample."""
        return np.array([value(self._written_out(own)) for own in self.weights[:ANEW_RESAMPLES]], np.float64)

    def _written_out(self, weights: NDArray[np.uint16]) -> Samples:
        """The samples of the drawn groups, with utterances of their own for every time that a group was drawn."""
        clips = np.repeat(np.arange(len(self.group_of_row)), weights[self.group_of_row])
        ends = np.searchsorted(self.samples.row, clips, side="right")
        starts = np.searchsorted(self.samples.row, clips)
        lengths = ends - starts
        inside = np.arange(int(lengths.sum())) + np.repeat(ends - np.cumsum(lengths), lengths)
        return replace(self.samples.take(inside), row=np.repeat(np.arange(len(clips)), lengths))

    def _by_group(self, values: Values, group: NDArray[np.int64]) -> Floats:
        return np.asarray(np.bincount(group, values, self.weights.shape[1]), np.float64)

    def _summed(self, sums: Floats) -> Floats:
        """(R, K): the groups' sums (G, K) added up as each resample drew them."""
        blocks = _blocks(self.weights, self.weights.shape[1])
        return np.concatenate([block.astype(np.float64) @ sums for block in blocks])


@dataclass(frozen=True)
class Moments:
    """The metrics of values that follow from moments, (R,) each; a constant prediction counts as 0, as in means."""

    var_y: Floats
    var_p: Floats
    cov: Floats
    shift: Floats  # mean of the reference less that of the prediction

    @property
    def _denominator(self) -> Floats:
        return self.var_y + self.var_p + self.shift**2

    @property
    def ccc(self) -> Floats:
        """Concordance correlation."""
        return ratio(2 * self.cov, self._denominator)

    @property
    def pearson(self) -> Floats:
        """Pearson's correlation."""
        correlation = ratio(self.cov, np.sqrt(self.var_y * self.var_p))
        return np.where((self.var_p == 0) & (self.var_y > 0), 0.0, correlation)

    @property
    def rmse(self) -> Floats:
        """Root of the mean squared error."""
        return np.sqrt(np.maximum(self._denominator - 2 * self.cov, 0))

    @property
    def reference_std(self) -> Floats:
        """Standard deviation of the reference."""
        return np.sqrt(self.var_y)


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
    return np.where((var_p == 0) & (var_y > 0), 0.0, ratio(cov, np.sqrt(var_y * var_p)))


def _blocks(weights: Weights, width: int) -> Iterator[Weights]:
    rows = max(1, _BLOCK // max(width, 1))
    for start in range(0, len(weights), rows):
        yield weights[start : start + rows]


def _variance(squares: Floats, mean: Floats, centre: float) -> Floats:
    """Mean square less squared mean; what is only rounding is 0, so that a constant is seen as one."""
    variance = squares - mean**2
    noise = 1e-14 * squares + np.square(1e-15 * centre)
    return np.where(variance <= noise, np.where(np.isnan(variance), np.nan, 0.0), variance)
