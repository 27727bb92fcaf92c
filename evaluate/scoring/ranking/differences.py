"""The numbers of a paired difference: per metric, with its interval and its test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ....train.records.group_sums import draw
from ....train.records.metrics import DEAD_OUTPUT, METRICS, NO_SAMPLES, Score, base_name, metric_name, metrics_of
from ....train.records.samples import Samples, Values
from ..result_groups import Cell
from ..scored import resample, scores_of
from ..statistics import (
    NO_INTERVAL,
    SMALL_P,
    Interval,
    fold_differences,
    holm,
    interval,
    signed_rank,
    smallest_p,
    with_dead_as_zero,
)
from ..stored_predictions import Predictions


@dataclass(frozen=True)
class Difference:
    """One metric of `a` minus the same of `b`; NaN where undefined, with its reason."""

    difference: float  # of the pooled scores on the common utterances, seeds averaged
    ci95: Interval  # by bootstrap over groups, both results on the same draws
    wilcoxon: float  # p-value over folds
    wilcoxon_holm: float  # corrected for all tests that were made together
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    folds: int = 0  # that differ; 0 where no test is made


def differences(
    kept: Sequence[Sequence[Predictions]],
    grids: Sequence[Mapping[Cell, Predictions]],
    groups: NDArray[np.str_],
    chosen: Sequence[str],
) -> tuple[dict[str, Difference], dict[str, str]]:
    """Compute the paired differences of two sides.

    Args:
        kept: each side's predictions of the common utterances, by seed, all with the same groups.
        grids: each side's predictions by fold and seed.
        groups: the groups' names, sorted.
        chosen: metrics that both sides have, by `metric` or `metric.target`.

    Returns:
        The differences, not corrected yet, and the metrics in which there is nothing to compare, with the reason.
    """
    scores = [[scores_of(part, chosen) for part in parts] for parts in kept]
    weights = draw(len(groups))
    resampled = [resample(parts, groups, weights, chosen) for parts in kept]
    folds, alike = _fold_scores(grids, chosen), _predicted_alike(kept)
    found: dict[str, Difference] = {}
    left_out: dict[str, str] = {}
    for name in chosen:
        sides = [[part[name] for part in side] for side in scores]
        size = min(len(side[name]) for side in resampled) if len(groups) > 1 else 0
        own = _difference(sides, resampled[0][name][:size] - resampled[1][name][:size])
        if not METRICS[base_name(name)].of_prediction:
            left_out[name] = "it tells of the references alone"
        elif name in alike:
            left_out[name] = "both predict the same"
        elif np.isnan(own.difference):
            left_out[name] = own.reasons["difference"]
        else:
            found[name] = _tested(own, folds.get(name))
    return found, left_out


def corrected(made: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """The differences of several comparisons with Holm's correction for all of their tests together.

    Where so many tests over so few folds cannot give a small p, whatever the scores, that is noted.
    """
    places = [(k, name) for k, own in enumerate(made) for name in own]
    p_values = holm([made[k][name].wilcoxon for k, name in places])
    tests = int(np.count_nonzero(~np.isnan(p_values)))
    out: list[dict[str, Difference]] = [{} for _ in made]
    for (k, name), p in zip(places, p_values, strict=True):
        own = made[k][name]
        least = smallest_p(own.folds)
        notes = list(own.notes)
        if own.folds and tests * least > SMALL_P:
            holms = f", nor Holm's of {tests} tests below {min(1.0, tests * least):.2g}" if tests > 1 else ""
            notes.append(f"{own.folds} folds differ, so Wilcoxon's p cannot be below {least:.2g}{holms}")
        out[k][name] = replace(own, wilcoxon_holm=p, notes=notes)
    return out


def _tested(found: Difference, folds: Sequence[Sequence[float]] | None) -> Difference:
    """With Wilcoxon's test over the folds' scores of both sides, or why there is none."""
    test = signed_rank(*folds) if folds else Score(np.nan, "the folds are not the same")
    if test.reason or not folds:
        return replace(found, reasons=found.reasons | dict.fromkeys(("wilcoxon", "wilcoxon_holm"), test.reason))
    return replace(found, wilcoxon=test.value, folds=int(np.count_nonzero(fold_differences(*folds))))


def _predicted_alike(kept: Sequence[Sequence[Predictions]]) -> set[str]:
    """The metrics of what both sides predict exactly alike, seed by seed."""
    if len(kept[0]) != len(kept[1]):
        return set()
    alike = []
    for sides in zip(*kept, strict=True):
        one, other = ({(target, own.kind): _in_order(part, own) for target, own in part.scored()} for part in sides)
        same = [key for key in one if key in other and np.array_equal(one[key], other[key])]
        alike.append({metric_name(metric, target) for target, kind in same for metric in metrics_of(kind)})
    return set.intersection(*alike)


def _in_order(part: Predictions, samples: Samples) -> Values:
    """The predictions in the order of the utterances' names."""
    return samples.prediction[np.argsort(part.utterances[samples.row], kind="stable")]


def _difference(sides: Sequence[Sequence[Score]], resampled: NDArray[np.float64]) -> Difference:
    """From both sides' scores of every seed, and the resampled differences; no test is made here."""
    notes: list[str] = []
    means = []
    for side in sides:
        values, reason = with_dead_as_zero({f"seed {i}": score for i, score in enumerate(side)}, notes)
        if reason:
            return Difference(np.nan, NO_INTERVAL, np.nan, np.nan, {"difference": reason, "ci95": reason}, notes)
        means.append(float(np.mean(values)))
    ci95, reason = interval(resampled, notes)
    return Difference(means[0] - means[1], ci95, np.nan, np.nan, {"ci95": reason} if reason else {}, notes)


def _fold_scores(grids: Sequence[Mapping[Cell, Predictions]], chosen: Sequence[str]) -> dict[str, list[list[float]]]:
    """The chosen metrics by fold, seeds averaged, of both results; empty if their folds test other utterances."""
    tested = [{fold: frozenset(part.utterances) for (fold, _), part in grid.items()} for grid in grids]
    if tested[0] != tested[1]:
        return {}
    collected: dict[str, list[list[float]]] = {}
    for side, grid in enumerate(grids):
        for fold in sorted(tested[0]):
            seeds = [scores_of(part, chosen) for cell, part in grid.items() if cell[0] == fold]
            for name in seeds[0]:
                if seeds[0][name].reason == NO_SAMPLES:
                    continue  # none of that target's folds, in the table of results either
                mean = np.mean([0.0 if s[name].reason == DEAD_OUTPUT else s[name].value for s in seeds])
                collected.setdefault(name, [[], []])[side].append(float(mean))
    return collected
