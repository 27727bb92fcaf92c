"""The first thing that is told of results: the best system of each corpus and target, beside chance."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...train.records.metrics import METRICS, metric_name, metrics_of
from ..scoring.sanity import DIAGNOSTIC
from ..scoring.scored import Evaluation
from ..scoring.statistics import Summary
from .cells import counted, number, result_name

Published = Callable[[Evaluation, str, str], str]
"""(result, metric, target) -> the number that a paper published of it, with where; "" where none is comparable."""


@dataclass(frozen=True)
class Headline:
    """The best result among those of the same test utterances and target.

    Attributes:
        best: the result. among: how many there are. target: "" of a classification, and of all targets together.
        metric: the primary one. summary: of that metric.
        chance: the best number that needs no model, NaN where none is defined. guess: its name.
        published: see `Published`.
    """

    best: Evaluation
    among: int
    target: str
    metric: str
    summary: Summary
    chance: float
    guess: str
    published: str

    def lines(self) -> list[str]:
        """Tell it in words."""
        best, low, high = self.best, *self.summary.ci95
        place = ", ".join(filter(None, [best.result.corpus, self.target or ", ".join(best.result.first.targets)]))
        which = f"best of {self.among} systems is " if self.among > 1 else ""
        interval = "" if math.isnan(low) else f", 95 % interval {number(low)} to {number(high)}"
        score = f"  {METRICS[self.metric].title} {number(self.summary.pooled)}{interval}"
        score += f" over {counted(best.groups, best.unit)}"
        by_chance = f"by chance {number(self.chance)} ({self.guess}){self._verdict()}; " if self.guess else ""
        return [
            f"{place}: {which}{result_name(best.result, marks=True)}",
            f"{score}; {by_chance}published: {self.published or 'no comparable number'}",
        ]

    def _verdict(self) -> str:
        low, high = self.summary.ci95
        better = high < self.chance if METRICS[self.metric].smaller_is_better else low > self.chance
        return "" if math.isnan(low) or better else ", which the interval does not exclude"


def blocks(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Divide results: scores stand below one another only where test utterances and targets are the same."""
    found: dict[tuple[object, ...], list[Evaluation]] = {}
    for evaluation in evaluations:
        record = evaluation.result.first
        key = (evaluation.result.corpus, record.split_sha256, record.task, record.targets)
        found.setdefault(key, []).append(evaluation)
    return list(found.values())


def primary(block: Sequence[Evaluation]) -> list[tuple[str, str]]:
    """Return the first metric of the results' task, with each target that it is of."""
    record = block[0].result.first
    names = list(metrics_of(record.task))
    # A distribution has one number for all its targets.
    targets = [""] if record.task == "distribution" else block[0].result.targets
    return [(names[0], target) for target in targets]


def headlines(evaluations: Sequence[Evaluation], published: Published = lambda *_: "") -> list[Headline]:
    """Find the best result of each block and target; one that is no sound prediction only where there is no other.

    Args:
        evaluations: the results.
        published: finds the published number of a result.

    Returns:
        The headlines, in the order of the blocks; none of a target that nothing has a score of.
    """
    found = []
    for block in blocks(evaluations):
        for metric, target in primary(block):
            name = metric_name(metric, target)
            scored = [e for e in block if name in e.metrics and not math.isnan(e.metrics[name].pooled)]
            if scored:
                sound = [e for e in scored if is_sound(e)] or scored
                best = sound[np.argmin([rank(metric, e.metrics[name].pooled) for e in sound])]
                chance, guess = _chance(best, metric, name)
                told = published(best, metric, target)
                found.append(Headline(best, len(scored), target, metric, best.metrics[name], chance, guess, told))
    return found


def rank(metric: str, value: float) -> float:
    """Return what sorts values of a metric, the best first; what is undefined comes last."""
    if math.isnan(value):
        return math.inf
    return value if METRICS[metric].smaller_is_better else -value


def is_sound(evaluation: Evaluation) -> bool:
    """Tell whether a result may be called the best: a prediction, of all runs, that saw nothing of the test part."""
    result = evaluation.result
    return not (result.first.marks or result.transductive or result.incomplete or result.missing_runs)


def _chance(evaluation: Evaluation, metric: str, name: str) -> tuple[float, str]:
    guesses = {
        guess: metrics[name].pooled
        for guess, metrics in evaluation.sanity.items()
        if guess not in DIAGNOSTIC and name in metrics and not math.isnan(metrics[name].pooled)
    }
    if not guesses:
        return math.nan, ""
    best = min(guesses, key=lambda guess: rank(metric, guesses[guess]))
    return guesses[best], best
