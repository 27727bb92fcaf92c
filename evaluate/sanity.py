"""What a table's numbers are to be read against: guesses that need no model, only the training part's labels."""

from collections.abc import Callable, Sequence

import numpy as np

from .predictions import Predictions, Samples
from .runs import RunRecord

Rule = Callable[[str, Samples, RunRecord, Sequence[str]], Samples]
"""(target, samples, record, classes) -> the samples with the guess as prediction."""


def guess(rule: Rule, predictions: Predictions, record: RunRecord, classes: Sequence[str]) -> Predictions:
    """A run's test part with a rule's guesses instead of the head's predictions."""
    return predictions.map(lambda target, samples: rule(target, samples, record, classes))


def _majority(_: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """The most frequent class of the fold's training part; of equals the first."""
    most = max(classes, key=lambda name: record.prior.get(name, 0.0))
    return Samples(samples.reference, np.full_like(samples.reference, classes.index(most)), samples.row)


def _uniform(_: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """Every class once for every utterance: the expected confusion matrix of a uniform guess, times a constant."""
    every = len(classes)
    guesses = np.tile(np.arange(every), len(samples.reference))
    return Samples(np.repeat(samples.reference, every), guesses, np.repeat(samples.row, every))


def _training_mean(target: str, samples: Samples, record: RunRecord, classes: Sequence[str]) -> Samples:
    """The mean of the fold's training part."""
    return Samples(samples.reference, np.full_like(samples.reference, record.prior[target]), samples.row)


SANITY: dict[str, dict[str, Rule]] = {
    "classification": {"majority": _majority, "uniform": _uniform},
    "regression": {"training_mean": _training_mean},
    "frame_regression": {"training_mean": _training_mean},
}
"""The guesses of each task, by the name of their row."""
