"""Guesses that a table's numbers are to be read against: they need no model."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...train.records.run_record import RunRecord
from ...train.records.samples import Kind, Samples
from .stored_predictions import Predictions

Rule = Callable[[str, Samples, RunRecord, Sequence[str]], Samples]
"""(target, samples, record, classes) -> the samples with the guess as prediction."""

DIAGNOSTIC = ("persistence",)
"""Guesses that see true labels of the test part, and so are no predictions."""


def guess(rule: Rule, predictions: Predictions, record: RunRecord, classes: Sequence[str]) -> Predictions:
    """A run's test part with a rule's guesses instead of the head's predictions."""
    return predictions.map(lambda target, samples: rule(target, samples, record, classes))


def _majority(_: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """The most frequent class of the fold's training part; of equals the first."""
    most = max(classes, key=lambda name: record.prior.get(name, 0.0))
    return replace(samples, prediction=np.full_like(samples.reference, classes.index(most)))


def _uniform(_: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """Every class once for every utterance: the expected confusion matrix of a uniform guess, times a constant."""
    every = len(classes)
    guesses = np.tile(np.arange(every), len(samples.reference))
    rows = np.repeat(samples.row, every)
    return replace(samples, reference=np.repeat(samples.reference, every), prediction=guesses, row=rows)


def _even_shares(_: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """The same share for every class of a distribution."""
    return replace(samples, prediction=np.full_like(samples.reference, 1 / len(record.targets)))


def _training_mean(target: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """The mean of the fold's training part: of the target, or of all shares of a distribution."""
    mean = record.prior[target] if target else [record.prior[name] for name in record.targets]
    return replace(samples, prediction=np.broadcast_to(mean, samples.reference.shape))


def _persistence(target: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """The clip's previous label; of the first the fold's training mean."""
    previous = np.roll(samples.reference, 1)
    first = np.diff(samples.row, prepend=-1) != 0
    return replace(samples, prediction=np.where(first, record.prior[target], previous))


SANITY: dict[Kind, dict[str, Rule]] = {
    "classification": {"majority": _majority, "uniform": _uniform},
    "regression": {"training_mean": _training_mean},
    "frame_regression": {"training_mean": _training_mean, "persistence": _persistence},
    "distribution": {"training_mean": _training_mean, "uniform": _even_shares},
}
"""The guesses of each task, by the name of their row."""
