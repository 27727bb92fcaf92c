"""The paired difference of two results on the utterances both were tested on."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..cache import EmocacheError
from .metrics import DEAD_OUTPUT, Score
from .predictions import Predictions, read_predictions
from .resampling import draw
from .results import Cell, Result
from .scoring import Evaluation, pool_folds, resample, scores_of
from .statistics import FEWEST_GROUPS, NO_INTERVAL, Interval, holm, interval, signed_rank, with_dead_as_zero


@dataclass(frozen=True)
class Difference:
    """One metric of `a` minus the same of `b`; NaN where undefined, with its reason."""

    difference: float  # of the pooled scores on the common utterances, seeds averaged
    ci95: Interval  # by bootstrap over groups, both results on the same draws
    wilcoxon: float  # p-value over folds
    wilcoxon_holm: float  # corrected for all tests that were made together
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Two results on the same corpora, paired."""

    a: Result
    b: Result
    utterances: int  # tested in every seed of both
    groups: int
    unit: str
    metrics: dict[str, Difference]

    @property
    def approximate(self) -> bool:
        """Whether the intervals rest on too few groups to be more than approximate."""
        return self.groups < FEWEST_GROUPS


def compare(evaluations: Sequence[Evaluation], a: str, b: str) -> list[Comparison]:
    """Compare experiment `a` with experiment `b` wherever both have results.

    Results are paired by corpora and streams; where no streams are in common, by corpora. Holm's correction counts
    every test of the call.

    Args:
        evaluations: what there is to compare.
        a: an experiment, or `experiment@setting` with the first digits of the setting.
        b: likewise.

    Raises:
        EmocacheError: no such experiment, several settings to choose from, no common corpora, no common utterances,
            or references that disagree.
    """
    results = [evaluation.result for evaluation in evaluations]
    pairs = _pairs(a, select(results, a), b, select(results, b))
    return _corrected([_paired(first, second) for first, second in pairs])


def select(results: Sequence[Result], name: str) -> list[Result]:
    """The results that `experiment` or `experiment@setting` names; EmocacheError if there are none."""
    experiment, _, setting = name.partition("@")
    found = [r for r in results if r.first.experiment == experiment and r.first.setting.startswith(setting)]
    if not found:
        known = ", ".join(sorted({r.first.experiment for r in results}))
        raise EmocacheError(f"no result {name!r} among these runs; there are {known}")
    return found


def _pairs(a: str, firsts: Sequence[Result], b: str, seconds: Sequence[Result]) -> list[tuple[Result, Result]]:
    for key in (lambda r: (r.corpus, tuple(r.streams)), lambda r: (r.corpus,)):
        left, right = _by(key, firsts), _by(key, seconds)
        if shared := [place for place in left if place in right]:
            pairs = [(_only(a, left[place]), _only(b, right[place])) for place in shared]
            if any(first is second for first, second in pairs):
                raise EmocacheError(f"{a} and {b} are the same result; name two")
            return pairs
    raise EmocacheError(f"{a} and {b} have no results on the same corpus to compare")


_Key = tuple[object, ...]


def _by(key: Callable[[Result], _Key], results: Sequence[Result]) -> dict[_Key, list[Result]]:
    found: dict[_Key, list[Result]] = {}
    for result in results:
        found.setdefault(key(result), []).append(result)
    return found


def _only(name: str, results: Sequence[Result]) -> Result:
    if len(results) > 1:
        choice = ", ".join(f"{r.first.experiment}@{r.first.setting[:6]} ({r.difference})" for r in results)
        raise EmocacheError(f"{name} has {len(results)} settings on {results[0].corpus}; name one of {choice}")
    return results[0]


def _paired(a: Result, b: Result) -> Comparison:
    if (a.first.task, a.first.targets) != (b.first.task, b.first.targets):
        raise EmocacheError(f"{a.first.experiment} and {b.first.experiment} differ in task or targets")
    classes = list(dict.fromkeys([*a.classes, *b.classes]))
    grids = [{cell: read_predictions(run, classes) for cell, run in sorted(r.runs.items())} for r in (a, b)]
    seeds = [pool_folds(grid) for grid in grids]
    parts = [part for by_seed in seeds for part in by_seed.values()]
    common = functools.reduce(np.intersect1d, [part.utterances for part in parts])
    if not len(common):
        raise EmocacheError(f"{a.first.experiment} and {b.first.experiment} have no test utterance in common")
    kept = [[part.keep(np.isin(part.utterances, common)) for part in by_seed.values()] for by_seed in seeds]
    _check_paired(a, kept[0][0], b, kept[1][0])
    coarsest = _coarsest(a, kept[0][0], b, kept[1][0])
    kept = [[_regrouped(part, coarsest) for part in parts] for parts in kept]
    names = np.unique(coarsest.groups)
    metrics = _differences(kept, grids, names)
    return Comparison(a, b, len(common), len(names), coarsest.unit, metrics)


def _differences(
    kept: Sequence[Sequence[Predictions]],
    grids: Sequence[Mapping[Cell, Predictions]],
    names: NDArray[np.str_],
) -> dict[str, Difference]:
    scores = [[scores_of(part) for part in parts] for parts in kept]
    weights = draw(len(names))
    resampled = [resample(parts, names, weights) for parts in kept]
    folds = _fold_scores(grids)
    differences = {}
    for name in (metric for metric in scores[0][0] if metric in scores[1][0]):  # one may lack a second target
        sides = [[part[name] for part in side] for side in scores]
        size = min(len(side[name]) for side in resampled) if len(names) > 1 else 0
        found = _difference(sides, resampled[0][name][:size] - resampled[1][name][:size])
        test = signed_rank(*folds[name]) if folds else Score(np.nan, "the folds are not the same")
        told = {"wilcoxon": test.reason, "wilcoxon_holm": test.reason} if test.reason else {}
        differences[name] = replace(found, wilcoxon=test.value, reasons=found.reasons | told)
    return differences


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


def _fold_scores(grids: Sequence[Mapping[Cell, Predictions]]) -> dict[str, list[list[float]]]:
    """Each metric's scores by fold, seeds averaged, of both results; empty if their folds test other utterances."""
    tested = [{fold: frozenset(part.utterances) for (fold, _), part in grid.items()} for grid in grids]
    if tested[0] != tested[1]:
        return {}
    collected: dict[str, list[list[float]]] = {}
    for side, grid in enumerate(grids):
        for fold in sorted(tested[0]):
            seeds = [scores_of(part) for cell, part in grid.items() if cell[0] == fold]
            for name in seeds[0]:
                mean = np.mean([0.0 if s[name].reason == DEAD_OUTPUT else s[name].value for s in seeds])
                collected.setdefault(name, [[], []])[side].append(float(mean))
    return collected


def _check_paired(a: Result, first: Predictions, b: Result, second: Predictions) -> None:
    """The same utterances must have the same references, or a difference would mean nothing."""
    names = f"{a.first.experiment} and {b.first.experiment}"
    for target in a.targets:
        (ids, mine), (other_ids, theirs) = (_mean_reference(part, target) for part in (first, second))
        if not np.array_equal(ids, other_ids) or not np.allclose(mine, theirs, rtol=0, atol=1e-9):
            raise EmocacheError(
                f"{names} have other references for the same utterances; compare experiments with the same labels"
            )


def _coarsest(a: Result, first: Predictions, b: Result, second: Predictions) -> Predictions:
    """The side with fewer groups, whose groups are drawn for both; those of the other must lie within them."""
    fewest, other = sorted((first, second), key=lambda part: len(np.unique(part.groups)))
    by_fewest = _regrouped(other, fewest).groups
    if first.unit == second.unit and not np.array_equal(by_fewest, other.groups):
        raise EmocacheError(f"{a.first.experiment} and {b.first.experiment} have other {first.unit}s for the same"
                            " utterances; train both on one manifest")  # fmt: skip
    if len(set(zip(by_fewest, other.groups, strict=True))) > len(np.unique(other.groups)):
        raise EmocacheError(
            f"{a.first.experiment} draws {first.unit}s and {b.first.experiment} {second.unit}s, which do not lie within"
            " each other; train both with the same protocol.resample"
        )
    return fewest


def _regrouped(part: Predictions, by: Predictions) -> Predictions:
    """The same with the groups that `by` has for its utterances."""
    order = np.argsort(by.utterances, kind="stable")
    at = order[np.searchsorted(by.utterances, part.utterances, sorter=order)]
    return replace(part, groups=by.groups[at])


def _mean_reference(part: Predictions, target: str) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    samples = part.samples[target]
    ids, place = np.unique(part.utterances[samples.row], return_inverse=True)
    return ids, np.bincount(place, samples.reference) / np.bincount(place)


def _corrected(comparisons: list[Comparison]) -> list[Comparison]:
    places = [(comparison, name) for comparison in comparisons for name in comparison.metrics]
    corrected = holm([comparison.metrics[name].wilcoxon for comparison, name in places])
    for (comparison, name), p in zip(places, corrected, strict=True):
        comparison.metrics[name] = replace(comparison.metrics[name], wilcoxon_holm=p)
    return comparisons
