"""From the scores of a grid of folds and seeds to the numbers of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...train.records.metrics import DEAD_OUTPUT, Score
from .result_groups import Cell

Interval = tuple[float, float]

FEWEST_FOLDS = 8  # below, Wilcoxon's test is not made
SMALL_P = 0.05  # what a p that cannot be as small as this is told of
NO_INTERVAL = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Summary:
    """One metric of one result. A number that is undefined is NaN, and `reasons` has its name with the reason."""

    mean: float  # over folds, of the mean over seeds
    std: float  # over folds, of the mean over seeds; divisor n
    std_ddof1: float  # the same with divisor n - 1
    std_seeds: float  # over seeds, of the mean over folds; divisor n
    pooled: float  # over seeds, of the score of all folds' samples together
    ci95: Interval  # of `pooled`, by bootstrap over groups
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what was done to get numbers that are defined


def summarise(cells: Mapping[Cell, Score], pooled: Mapping[int, Score], resampled: NDArray[np.float64]) -> Summary:
    """The numbers of one metric.

    Args:
        cells: the score of each fold and seed.
        pooled: the score of each seed, over the samples of all its folds.
        resampled: the pooled score in each bootstrap resample, averaged over seeds, (R,); empty for a single group.

    Returns:
        The summary. A dead output's correlation counts as 0 in means unless every output is dead; any other
        undefined score makes the mean undefined.
    """
    reasons: dict[str, str] = {}
    notes: list[str] = []
    named = {f"fold {fold}, seed {seed}": score for (fold, seed), score in cells.items()}
    values, undefined = with_dead_as_zero(named, notes)
    folds = _means([fold for fold, _ in cells], values)
    seeds = _means([seed for _, seed in cells], values)
    mean = float(np.mean(folds))
    if np.isnan(mean):
        reasons["mean"] = undefined
    spread = {
        "std": _std(folds, "one fold", 0),
        "std_ddof1": _std(folds, "one fold", 1),
        "std_seeds": _std(seeds, "one seed", 0),
    }
    reasons |= {name: score.reason or undefined for name, score in spread.items() if np.isnan(score.value)}

    totals, undefined = with_dead_as_zero({f"seed {seed}": score for seed, score in pooled.items()}, [])
    notes += dict.fromkeys(score.note for score in pooled.values() if score.note)
    total = float(np.mean(totals))
    ci95 = NO_INTERVAL
    if np.isnan(total):
        reasons["pooled"] = reasons["ci95"] = undefined
    else:
        ci95, undefined = interval(resampled, notes)
        if undefined:
            reasons["ci95"] = undefined
    std, std_ddof1, std_seeds = (score.value for score in spread.values())
    return Summary(mean, std, std_ddof1, std_seeds, total, ci95, reasons, notes)


def interval(resampled: NDArray[np.float64], notes: list[str]) -> tuple[Interval, str]:
    """The 2.5 and 97.5 percentiles of the resamples that are defined, or why there are none; adds to `notes`."""
    if not len(resampled):
        return NO_INTERVAL, "a bootstrap needs at least two groups"
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return NO_INTERVAL, "undefined in every resample"
    if len(defined) < len(resampled):
        notes.append(f"undefined in {len(resampled) - len(defined)} of {len(resampled)} resamples, which are left out")
    low, high = np.percentile(defined, [2.5, 97.5])
    return (float(low), float(high)), ""


def signed_rank(a: Sequence[float], b: Sequence[float]) -> Score:
    """Two-sided p-value of Wilcoxon's signed-rank test over the folds' scores of two results, fold by fold."""
    if len(a) < FEWEST_FOLDS:
        return Score(np.nan, f"{len(a)} fold{'s' * (len(a) != 1)}; Wilcoxon's test is made from {FEWEST_FOLDS} on")
    difference = fold_differences(a, b)
    if np.isnan(difference).any():
        return Score(np.nan, "a fold's score is undefined")
    if not difference.any():
        return Score(np.nan, "no fold differs")
    from scipy.stats import wilcoxon  # which takes longer to import than most evaluations take

    return Score(float(wilcoxon(difference).pvalue))


def fold_differences(a: Sequence[float], b: Sequence[float]) -> NDArray[np.float64]:
    """Each fold's score of `a` less that of `b`; those that differ in nothing but rounding are equal."""
    return np.round(np.asarray(a, np.float64) - np.asarray(b, np.float64), 12)


def smallest_p(folds: int) -> float:
    """The least that Wilcoxon's two-sided p can be over so many folds that differ: all of them in one direction.

    >>> smallest_p(8)
    0.0078125
    """
    return float(min(1.0, 2.0 ** (1 - folds)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for making all these tests together; NaN, a test not made, stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    made = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    corrected = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(made):
        largest = max(largest, min(1.0, p * (len(made) - rank)))
        corrected[i] = largest
    return corrected


def with_dead_as_zero(scores: Mapping[str, Score], notes: list[str]) -> tuple[list[float], str]:
    """The values, a dead output's as 0 unless all are dead, and the reason why one of them is NaN; adds to `notes`."""
    dead = [name for name, score in scores.items() if score.reason == DEAD_OUTPUT]
    if len(dead) == len(scores):
        return [float("nan")] * len(scores), DEAD_OUTPUT
    if dead:
        notes.append(f"{DEAD_OUTPUT} in {', '.join(dead)}, which counts as 0 in the means")
    values = [0.0 if score.reason == DEAD_OUTPUT else score.value for score in scores.values()]
    undefined = [f"{name}: {score.reason}" for name, score in scores.items() if score.reason and name not in dead]
    return values, next(iter(undefined), "")


def _means(keys: Sequence[int], values: Sequence[float]) -> list[float]:
    """The mean of the values of each key, in the order of the keys."""
    return [float(np.mean([v for k, v in zip(keys, values, strict=True) if k == key])) for key in sorted(set(keys))]


def _std(values: Sequence[float], single: str, ddof: int) -> Score:
    return Score(float(np.std(values, ddof=ddof))) if len(values) > 1 else Score(np.nan, single)
