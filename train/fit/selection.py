"""Scores that choose epochs and settings on validation. Results are computed by the evaluate stage, not here."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

_SMALLER_IS_BETTER = ("loss", "rmse")


class Score(NamedTuple):
    """Larger is better; the negative loss decides between equal metrics, which are frequent in small parts."""

    metric: float
    negative_loss: float

    def value(self, metric: str) -> float:
        """The metric as people read it."""
        return -self.metric if metric in _SMALLER_IS_BETTER else self.metric


def score(metric: str, references: npt.NDArray[np.generic], predictions: npt.NDArray[np.generic], loss: float) -> Score:
    """Compute the declared metric, turned so that larger is better.

    Args:
        metric: see `settings.Selection`. "rmse" and "loss" are negated.
        references: (n,) classes, or (n, K) values pooled over the part; metrics are averaged over K, each of the rows
            whose reference is known, which is no NaN.
        predictions: of the same shape.
        loss: of the whole part.

    Returns:
        The score; an undefined correlation counts as 0.
    """
    if metric == "loss":
        return Score(-loss, -loss)
    if metric in _OF_VALUES:
        columns = zip(references.T, predictions.T, strict=True)
        known = [(y[there], p[there]) for y, p in columns if (there := ~np.isnan(y)).any()]
        return Score(float(np.mean([_OF_VALUES[metric](y, p) for y, p in known])), -loss)
    if metric == "accuracy":
        return Score(float(np.mean(references == predictions)), -loss)
    balanced = metric == "balanced_accuracy"
    classes = np.unique(references if balanced else np.concatenate([references, predictions]))
    per_class = [(_recall if balanced else _f1)(references == c, predictions == c) for c in classes]
    weights = [np.mean(references == c) for c in classes] if metric == "weighted_f1" else None
    return Score(float(np.average(per_class, weights=weights)), -loss)


def _recall(true: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_]) -> float:
    return float((true & found).sum() / true.sum())


def _f1(true: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_]) -> float:
    return float(2 * (true & found).sum() / (true.sum() + found.sum()))


def concordance(y: npt.NDArray[np.generic], p: npt.NDArray[np.generic]) -> float:
    """Concordance correlation coefficient of (n,) references and predictions, divisor n (Lin 1989); 0 if undefined."""
    y, p = y.astype(np.float64), p.astype(np.float64)
    spread = y.var() + p.var() + (y.mean() - p.mean()) ** 2
    return float(2 * np.mean((y - y.mean()) * (p - p.mean())) / spread) if spread > 0 else 0.0


def rank_correlation(y: npt.NDArray[np.generic], p: npt.NDArray[np.generic]) -> float:
    """Spearman's correlation of (n,) references and predictions, ties with average ranks; 0 if undefined."""
    if np.all(y == y[0]) or np.all(p == p[0]):
        return 0.0
    return float(spearmanr(y, p).statistic)


def _negative_rmse(y: npt.NDArray[np.generic], p: npt.NDArray[np.generic]) -> float:
    return -float(np.sqrt(np.mean((y.astype(np.float64) - p.astype(np.float64)) ** 2)))


_OF_VALUES = {"ccc": concordance, "spearman": rank_correlation, "rmse": _negative_rmse}
