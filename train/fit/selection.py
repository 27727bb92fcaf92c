"""Scores that choose epochs and settings on validation. Results are computed by the evaluate stage, not here."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..records.metrics import METRICS
from ..records.samples import Samples


class Score(NamedTuple):
    """Larger is better; the negative loss decides between equal metrics, which are frequent in small parts."""

    metric: float
    negative_loss: float

    def value(self, metric: str) -> float:
        """The metric as people read it."""
        return -self.metric if _smaller_is_better(metric) else self.metric


def score(metric: str, references: npt.NDArray[np.generic], predictions: npt.NDArray[np.generic], loss: float) -> Score:
    """Compute the declared metric, turned so that larger is better.

    Args:
        metric: "loss", or one of `metrics.METRICS` that chooses; "rmse" and "loss" are negated.
        references: (n,) classes, or (n, K) values pooled over the part; metrics are averaged over K, each of the rows
            whose reference is known, which is no NaN.
        predictions: of the same shape.
        loss: of the whole part.

    Returns:
        The score; an undefined correlation counts as 0.
    """
    if metric == "loss":
        return Score(-loss, -loss)
    if references.ndim == 1:
        return Score(_value(metric, references, predictions), -loss)
    columns = zip(references.T.astype(np.float64), predictions.T.astype(np.float64), strict=True)
    known = [(y[there], p[there]) for y, p in columns if (there := ~np.isnan(y)).any()]
    return Score(float(np.mean([_value(metric, y, p) for y, p in known])), -loss)


def _value(metric: str, references: npt.NDArray[np.generic], predictions: npt.NDArray[np.generic]) -> float:
    told = METRICS[metric]
    value = told.score(Samples(references, predictions, np.arange(len(references)), told.kinds[0])).value
    if told.smaller_is_better:
        return -value
    # A dead output has no correlation, and must be the worst of useful scores.
    return 0.0 if np.isnan(value) else value


def _smaller_is_better(metric: str) -> bool:
    return metric == "loss" or METRICS[metric].smaller_is_better
