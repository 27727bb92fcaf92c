"""Results that can be held against each other, the best first: what is printed and what is on the page follow it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ....train.records.metrics import METRICS, base_name, metric_name, metrics_of
from ..sanity import DIAGNOSTIC
from ..scored import Evaluation

NO_PREDICTION = "not a prediction"
"""In the mark of a head that was given true labels of the test part: it stands beside no other."""


@dataclass(frozen=True)
class Standing:
    """Results of the same corpora, task, targets and test utterances, by one metric.

    Attributes:
        metric: `metric` or `metric.target`. target: "" of a classification, and of all targets together.
        entries: those that may be called the best first, in each case by their score; what is undefined last.
    """

    metric: str
    target: str
    entries: list[Evaluation]

    @property
    def best(self) -> Evaluation:
        """The result that is told of first."""
        return self.entries[0]

    @property
    def higher(self) -> list[Evaluation]:
        """The results with a better score than the best, which may not be called so."""
        return [one for one in self.entries[1:] if rank(one, self.metric) < rank(self.best, self.metric)]


def blocks(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Divide results: scores stand below one another only where test utterances, targets and classes are the same."""
    found: dict[tuple[object, ...], list[Evaluation]] = {}
    for evaluation in evaluations:
        result = evaluation.result
        record = result.first
        key = (result.corpus, record.split_sha256, record.task, record.targets, frozenset(result.classes))
        found.setdefault(key, []).append(evaluation)
    return list(found.values())


def primary(block: Sequence[Evaluation]) -> list[tuple[str, str]]:
    """Return (metric, target) that results are told by: the metric that all chose their epochs by, else the first."""
    record = block[0].result.first
    known = list(metrics_of(record.task))
    declared = {evaluation.result.first.selection.metric for evaluation in block}
    metric = next((name for name in known if declared == {name}), known[0])
    # A distribution has one number for all its targets.
    targets = [""] if record.task == "distribution" else block[0].result.targets
    return [(metric, target) for target in targets]


def standings(evaluations: Sequence[Evaluation]) -> list[Standing]:
    """Order results.

    Args:
        evaluations: the results with their numbers.

    Returns:
        A standing for each block and target, in the order of the blocks. Results that are no predictions are in none,
        unless there is nothing else.
    """
    found = []
    for block in blocks(evaluations):
        own = [one for one in block if _predicts(one)] or block
        for metric, target in primary(own):
            name = metric_name(metric, target)
            scored = [one for one in own if name in one.metrics]
            order = sorted(scored, key=lambda one, name=name: _order(one, name))  # type: ignore[misc]
            if order:
                found.append(Standing(name, target, order))
    return found


def rank(evaluation: Evaluation, metric: str) -> float:
    """Return what sorts results by a metric, the best first; what is undefined comes last."""
    return rank_of(metric, evaluation.metrics[metric].pooled)


def rank_of(metric: str, value: float) -> float:
    """Return what sorts values of a metric, the best first; what is undefined comes last."""
    if math.isnan(value):
        return math.inf
    return value if METRICS[base_name(metric)].smaller_is_better else -value


def is_sound(evaluation: Evaluation) -> bool:
    """Tell whether a result may be called the best: a prediction, of all runs, that saw nothing of the test part."""
    result = evaluation.result
    return not (result.first.marks or result.transductive or result.incomplete or result.missing_runs)


def chance(evaluation: Evaluation, metric: str) -> tuple[str, float]:
    """Return the best guess that needs no model, and its score; ("", NaN) where none has the metric."""
    guesses = {
        name: metrics[metric].pooled
        for name, metrics in evaluation.sanity.items()
        if name not in DIAGNOSTIC and metric in metrics and not math.isnan(metrics[metric].pooled)
    }
    best = min(guesses, key=lambda name: rank_of(metric, guesses[name]), default="")
    return best, guesses.get(best, math.nan)


def _order(evaluation: Evaluation, metric: str) -> tuple[bool, bool, float, str]:
    value = rank(evaluation, metric)
    return math.isinf(value), not is_sound(evaluation), value, evaluation.result.first.experiment


def _predicts(evaluation: Evaluation) -> bool:
    return not any(NO_PREDICTION in mark for mark in evaluation.result.marks)
