"""Confusion matrices, and the metrics that follow from them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .samples import Values

Floats = NDArray[np.float64]


def confusion_counts(reference: Values, prediction: Values, classes: int) -> NDArray[np.int64]:
    """(classes, classes) int64: rows are the true class, columns the predicted one."""
    return np.bincount(reference * classes + prediction, minlength=classes * classes).reshape(classes, classes)


def row_normalised(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row of a confusion matrix as shares of the true class, (C, C) float64; NaN where the class is absent."""
    total = counts.sum(axis=1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, total, out=shares, where=total > 0)
    return shares


def ratio(numerator: Floats, denominator: NDArray[np.generic]) -> Floats:
    """Divide; NaN where the denominator is 0."""
    nan = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=nan, where=denominator != 0), np.float64)


@dataclass(frozen=True)
class Confusion:
    """The classification metrics of R confusion matrices, (R,) each; NaN where a matrix is empty."""

    counts: Floats  # (R, C, C), C the classes that occur

    @classmethod
    def of(cls, reference: Values, prediction: Values) -> "Confusion":
        """The one matrix of these classes, (N,) numbers or names each."""
        names, number = np.unique(np.concatenate([reference, prediction]), return_inverse=True)
        classes, n = len(names), len(reference)
        counts = np.bincount(number[:n] * classes + number[n:], minlength=classes * classes)
        return cls(counts.astype(np.float64).reshape(1, classes, classes))

    @cached_property
    def _support(self) -> Floats:
        return np.asarray(self.counts.sum(axis=-1))

    @cached_property
    def _either(self) -> Floats:
        return np.asarray(self._support + self.counts.sum(axis=-2))

    @cached_property
    def _correct(self) -> Floats:
        return np.asarray(np.diagonal(self.counts, axis1=-2, axis2=-1))

    @cached_property
    def _f1(self) -> Floats:
        return ratio(2 * self._correct, self._either)

    @property
    def accuracy(self) -> Floats:
        """Correct / all."""
        return ratio(self._correct.sum(axis=-1), self._support.sum(axis=-1))

    @property
    def balanced_accuracy(self) -> Floats:
        """Mean recall of the classes that are in the reference."""
        recall = ratio(self._correct, self._support)
        return ratio(np.nansum(recall, axis=-1), (self._support > 0).sum(axis=-1))

    @property
    def weighted_f1(self) -> Floats:
        """F1, weighted by the classes' counts in the reference."""
        return ratio(np.nansum(self._support * self._f1, axis=-1), self._support.sum(axis=-1))

    @property
    def macro_f1(self) -> Floats:
        """Mean F1 of the classes that are in the reference or the prediction."""
        return ratio(np.nansum(self._f1, axis=-1), (self._either > 0).sum(axis=-1))
