"""The paired difference of two results on the utterances both were tested on."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ....cache import EmocacheError
from ....cache.hints import did_you_mean
from ....train.records.metrics import FEWEST_GROUPS, base_name, metrics_of
from ..result_groups import Result
from ..scored import Evaluation, names_of, pool_folds
from ..stored_predictions import Predictions, read_predictions
from ..stored_runs import Run
from .differences import Difference, corrected, differences

Reader = Callable[[Run, Sequence[str]], Predictions]
"""(run, classes) -> its predictions."""

ALL = "all"
"""Asks for every metric."""


@dataclass(frozen=True)
class Comparison:
    """Two results on the same corpora, paired."""

    a: Result
    b: Result
    utterances: int  # tested in every seed of both
    groups: int
    unit: str
    metrics: dict[str, Difference]
    left_out: dict[str, str]  # metrics that were asked for in which there is nothing to compare, and why

    @property
    def approximate(self) -> bool:
        """True where the intervals rest on too few groups to be more than approximate."""
        return self.groups < FEWEST_GROUPS


def compare(evaluations: Sequence[Evaluation], a: str, b: str, metrics: Sequence[str] = ()) -> list[Comparison]:
    """Compare experiment `a` with experiment `b` wherever both have results.

    Results are paired by corpora and streams; where no streams are in common, by corpora. Holm's correction counts
    every test of the call.

    Args:
        evaluations: what there is to compare.
        a: an experiment, or `experiment@setting` with the first digits of the setting.
        b: likewise.
        metrics: what is compared: `metric`, of every target, `metric.target`, or "all". If none are given it is the
            primary one: the metric that both chose their epochs by, else the first of their task.

    Returns:
        A comparison for each pair of results.

    Raises:
        EmocacheError: no such experiment or metric, several settings to choose from, no common corpora, no common
            utterances, or references that disagree.
    """
    results = [evaluation.result for evaluation in evaluations]
    pairs = _pairs(a, select(results, a), b, select(results, b))
    made = [paired(first, second, metrics) for first, second in pairs]
    numbers = corrected([comparison.metrics for comparison in made])
    return [replace(comparison, metrics=own) for comparison, own in zip(made, numbers, strict=True)]


def select(results: Sequence[Result], name: str) -> list[Result]:
    """The results that `experiment` or `experiment@setting` names; EmocacheError if there are none."""
    experiment, _, setting = name.partition("@")
    found = [r for r in results if r.first.experiment == experiment and r.first.setting.startswith(setting)]
    if not found:
        known = sorted({r.first.experiment for r in results})
        hint = did_you_mean(experiment, known)
        raise EmocacheError(f"--compare {name!r}: no such result among these runs; {hint}there are {', '.join(known)}")
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


def paired(a: Result, b: Result, asked: Sequence[str], read: Reader = read_predictions) -> Comparison:
    """Pair two results on the utterances that both tested; Holm's correction is left to the caller.

    Args:
        a: a result. b: another one of the same corpora.
        asked: the metrics, see `compare`.
        read: reads a run's predictions; one that remembers them saves time where a result is paired often.

    Returns:
        The comparison.

    Raises:
        EmocacheError: see `compare`.
    """
    if (a.first.task, a.first.targets) != (b.first.task, b.first.targets):
        raise EmocacheError(f"{a.first.experiment} and {b.first.experiment} differ in task or targets")
    classes = list(dict.fromkeys([*a.classes, *b.classes]))
    grids = [{cell: read(run, classes) for cell, run in sorted(r.runs.items())} for r in (a, b)]
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
    theirs = names_of(kept[1][0])
    both = [name for name in names_of(kept[0][0]) if name in theirs]  # one may lack a second target
    metrics, left_out = differences(kept, grids, names, _chosen(a, b, asked, both))
    return Comparison(a, b, len(common), len(names), coarsest.unit, metrics, left_out)


def _chosen(a: Result, b: Result, asked: Sequence[str], common: Sequence[str]) -> list[str]:
    """Those of the metrics that both have which are asked for, in the order of tables."""
    bases = list(map(base_name, common))
    if not asked:
        declared = {result.first.selection.metric for result in (a, b)}
        primary = declared.pop() if len(declared) == 1 else ""
        asked = [primary if primary in bases else next(iter(metrics_of(a.first.task)))]
    if unknown := [name for name in asked if name not in (ALL, *common, *bases)]:
        known = list(dict.fromkeys([*bases, *common, ALL]))
        raise EmocacheError(f"--metric {unknown[0]!r}: {a.first.experiment} and {b.first.experiment} have no such"
                            f" metric in common; {did_you_mean(unknown[0], known)}they have {', '.join(known)}"
                            )  # fmt: skip
    return [name for name in common if {ALL, name, base_name(name)} & set(asked)]


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
