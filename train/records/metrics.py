"""The metrics, each one function of references and predictions, and the table with all that is known of each.

A metric that is undefined is NaN with a reason; it is never an exception and never silently zero.
docs/metrics.md has the definitions in words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from .confusion import Confusion, Floats
from .group_sums import Drawn
from .samples import Kind, Samples, Values

DEAD_OUTPUT = "dead_output: the prediction is constant"
CONSTANT_REFERENCE = "the reference is constant"
BOTH_CONSTANT = "reference and prediction are constant and equal"
NO_SAMPLES = "no test samples"
ALL_TIED = "the most voted class is tied in every utterance"
FEWEST_GROUPS = 20  # below, an interval is called approximate
_LARGEST = 1e150  # whose square is still a number


class Score(NamedTuple):
    """A metric's value; where it is NaN, why; and what was left out to get it."""

    value: float
    reason: str = ""
    note: str = ""


def accuracy(reference: Values, prediction: Values) -> Score:
    """Correct / n; the WA of the literature. Class numbers or names, (n,) each."""
    return _of_classes(lambda counts: counts.accuracy, reference, prediction)


def balanced_accuracy(reference: Values, prediction: Values) -> Score:
    """Mean recall of the classes present in the reference; the UA, UWA or UAR of the literature."""
    return _of_classes(lambda counts: counts.balanced_accuracy, reference, prediction)


def weighted_f1(reference: Values, prediction: Values) -> Score:
    """Mean over classes of F1, weighted by the classes' counts in the reference; WF1."""
    return _of_classes(lambda counts: counts.weighted_f1, reference, prediction)


def macro_f1(reference: Values, prediction: Values) -> Score:
    """Mean F1 of the classes present in reference or prediction; an F1 of 0/0 is 0; UWF1."""
    return _of_classes(lambda counts: counts.macro_f1, reference, prediction)


def rmse(reference: Values, prediction: Values) -> Score:
    """Root of the mean squared error. Values, (N,) float64 each."""
    return _of_values(lambda: np.sqrt(np.mean(np.square(reference - prediction))), reference, prediction)


def reference_std(reference: Values, prediction: Values) -> Score:
    """Standard deviation of the reference (divisor N): the RMSE of the best constant, to read an RMSE against."""
    return Score(float(np.std(reference))) if len(reference) else Score(np.nan, NO_SAMPLES)


def ccc(reference: Values, prediction: Values) -> Score:
    """Concordance correlation, 2 cov(y,p) / (var y + var p + (mean y - mean p)^2), divisor N (Lin, 1989).

    A constant prediction gives 0; NaN only where the denominator is 0.
    """
    if _usable(reference, prediction):
        dead, flat = _constant(prediction), _constant(reference)
        if dead and flat and reference[0] == prediction[0]:
            return Score(np.nan, BOTH_CONSTANT)
        if dead or flat:
            return Score(0.0)
    import audmetric

    return _of_values(lambda: audmetric.concordance_cc(reference, prediction), reference, prediction)


def pearson(reference: Values, prediction: Values) -> Score:
    """Pearson's correlation; NaN where either side is constant."""
    import audmetric

    return _correlation(audmetric.pearson_cc, reference, prediction)


def spearman(reference: Values, prediction: Values) -> Score:
    """Pearson's correlation of average ranks (ties averaged); NaN where either side is constant."""
    from scipy.stats import spearmanr  # which takes longer to import than all else here

    return _correlation(lambda y, p: spearmanr(y, p).statistic, reference, prediction)


def clip_cccs(samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The utterances that have samples, (n,) rows, and the CCC of each, (n,) float64, NaN where undefined."""
    rows, starts = np.unique(samples.row, return_index=True)
    pairs = zip(np.split(samples.reference, starts[1:]), np.split(samples.prediction, starts[1:]), strict=True)
    return rows, np.array([ccc(y, p).value for y, p in pairs][: len(rows)], np.float64)


def ccc_per_clip(samples: Samples) -> Score:
    """Mean over clips of the clip's CCC; clips whose CCC is undefined are left out."""
    if not _usable(samples.reference, samples.prediction):
        return _of_values(lambda: np.nan, samples.reference, samples.prediction)
    values = clip_cccs(samples)[1]
    defined = values[~np.isnan(values)]
    return Score(float(defined.mean())) if len(defined) else Score(np.nan, f"{BOTH_CONSTANT} in every clip")


def kl_divergence(reference: Values, prediction: Values) -> Score:
    """Mean over utterances of KL(reference || prediction) in nats, 0 ln 0 = 0. Shares, (N, K) float64 each."""
    score = _of_values(lambda: rel_entr(reference, prediction).sum(axis=1).mean(), reference, prediction)
    if np.isinf(score.value):
        wrong = np.count_nonzero(np.isinf(rel_entr(reference, prediction)).any(axis=1))
        return Score(
            np.nan, f"infinite in {wrong} of {len(reference)} utterances: a class with votes is predicted as 0"
        )
    return score


def most_voted_hits(samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The samples without a tie for the most voted class, (n,) their numbers, and whether it is predicted, (n,)."""
    votes = samples.reference
    clear = np.flatnonzero((votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1)
    return clear, votes[clear].argmax(axis=1) == samples.prediction[clear].argmax(axis=1)


def most_voted_accuracy(samples: Samples) -> Score:
    """Share of utterances whose most voted class has the largest predicted share; ties in the votes are left out."""
    score = _of_values(lambda: np.nan, samples.reference, samples.prediction)
    if score.reason:
        return score
    clear, hits = most_voted_hits(samples)
    tied = len(samples.reference) - len(clear)
    if not len(clear):
        return Score(np.nan, ALL_TIED)
    note = f"{tied} of {len(samples.reference)} utterances left out: their most voted class is tied" if tied else ""
    return Score(float(hits.mean()), note=note)


def _of_classes(value: Callable[[Confusion], Floats], reference: Values, prediction: Values) -> Score:
    if not len(reference):
        return Score(np.nan, NO_SAMPLES)
    return Score(float(value(Confusion.of(reference, prediction))[0]))


def _of_values(value: Callable[[], float], reference: Values, prediction: Values) -> Score:
    if not len(reference):
        return Score(np.nan, NO_SAMPLES)
    for name, values in (("prediction", prediction), ("reference", reference)):
        if wrong := len(np.unique(np.argwhere(~np.isfinite(values))[:, 0])):
            return Score(np.nan, f"the {name} is not finite in {wrong} of {len(values)} samples")
        if np.abs(values).max() > _LARGEST:
            return Score(np.nan, f"the {name} is too large to compute with")
    return Score(float(value()))


def _correlation(value: Callable[[Values, Values], float], reference: Values, prediction: Values) -> Score:
    if _usable(reference, prediction):
        if _constant(reference):
            return Score(np.nan, CONSTANT_REFERENCE)
        if _constant(prediction):
            return Score(np.nan, DEAD_OUTPUT)
    return _of_values(lambda: value(reference, prediction), reference, prediction)


def _usable(reference: Values, prediction: Values) -> bool:
    return bool(len(reference)) and bool(np.isfinite(reference).all() and np.isfinite(prediction).all())


def _constant(values: Values) -> bool:
    return bool(np.ptp(values) == 0)


@dataclass(frozen=True)
class Metric:
    """All that is known of a metric: tables, intervals and comparisons ask nobody else."""

    title: str  # the column's heading
    score: Callable[[Samples], Score]
    kinds: tuple[Kind, ...]  # of the samples it is for
    # The values in all resamples from what groups add up to; None: `score` of every resample, which takes longer.
    sums: Callable[[Drawn], Floats] | None = None
    of_prediction: bool = True  # False: it tells of the reference alone, so that two systems cannot differ in it
    smaller_is_better: bool = False
    chooses: bool = False  # an experiment may choose epochs and settings by it: `[selection] metric`

    def resampled(self, drawn: Drawn) -> Floats:
        """The metric in every resample, (R,) or fewer; a dead output counts as 0, as it does in means."""
        return drawn.anew(self._in_means) if self.sums is None else self.sums(drawn)

    def _in_means(self, samples: Samples) -> float:
        score = self.score(samples)
        return 0.0 if score.reason == DEAD_OUTPUT else score.value


def _plain(function: Callable[[Values, Values], Score]) -> Callable[[Samples], Score]:
    return lambda samples: function(samples.reference, samples.prediction)


def _clip_means(drawn: Drawn) -> Floats:
    rows, values = clip_cccs(drawn.samples)
    return drawn.mean(values, rows)


def _divergences(drawn: Drawn) -> Floats:
    return drawn.mean(rel_entr(drawn.samples.reference, drawn.samples.prediction).sum(axis=1), drawn.samples.row)


def _hit_means(drawn: Drawn) -> Floats:
    clear, hits = most_voted_hits(drawn.samples)
    return drawn.mean(hits.astype(np.float64), drawn.samples.row[clear])


_CLASSES: tuple[Kind, ...] = ("classification",)
_VALUES: tuple[Kind, ...] = ("regression", "frame_regression")
_SHARES: tuple[Kind, ...] = ("distribution",)
_SECOND: tuple[Kind, ...] = ("auxiliary",)

METRICS = {
    "accuracy": Metric("accuracy (WA)", _plain(accuracy), _CLASSES, lambda d: d.confusion.accuracy, chooses=True),
    "balanced_accuracy": Metric(
        "balanced_accuracy (UA)",
        _plain(balanced_accuracy),
        _CLASSES,
        lambda d: d.confusion.balanced_accuracy,
        chooses=True,
    ),
    "weighted_f1": Metric(
        "weighted_f1", _plain(weighted_f1), _CLASSES, lambda d: d.confusion.weighted_f1, chooses=True
    ),
    "macro_f1": Metric("macro_f1", _plain(macro_f1), _CLASSES, lambda d: d.confusion.macro_f1, chooses=True),
    "ccc": Metric("ccc", _plain(ccc), _VALUES, lambda d: d.moments.ccc, chooses=True),
    "ccc_per_clip": Metric("ccc_per_clip", ccc_per_clip, ("frame_regression",), _clip_means),
    "pearson": Metric("pearson", _plain(pearson), _VALUES, lambda d: d.moments.pearson),
    "spearman": Metric("spearman", _plain(spearman), _VALUES, Drawn.rank_correlation, chooses=True),
    "rmse": Metric("rmse", _plain(rmse), _VALUES, lambda d: d.moments.rmse, smaller_is_better=True, chooses=True),
    "reference_std": Metric(
        "reference_std", _plain(reference_std), _VALUES, lambda d: d.moments.reference_std, of_prediction=False
    ),
    "kl_divergence": Metric("kl_divergence", _plain(kl_divergence), _SHARES, _divergences, smaller_is_better=True),
    "most_voted_accuracy": Metric("most_voted_accuracy", most_voted_accuracy, _SHARES, _hit_means),
    "auxiliary_accuracy": Metric("auxiliary_accuracy", _plain(accuracy), _SECOND, lambda d: d.confusion.accuracy),
    "auxiliary_balanced_accuracy": Metric(
        "auxiliary_balanced_accuracy", _plain(balanced_accuracy), _SECOND, lambda d: d.confusion.balanced_accuracy
    ),
}
"""Every metric by its name in results.json; where targets have names the target follows, as in `ccc.valence`.

The first of its kind of samples is the primary one, which comparisons are about unless another is asked for.
"""

CHOOSING_METRICS = (*(name for name, metric in METRICS.items() if metric.chooses), "loss")
"""The names that `[selection] metric` may take; the loss is that of the experiment."""


def metrics_of(kind: Kind) -> dict[str, Metric]:
    """The metrics of a kind of samples, in the order of tables."""
    return {name: metric for name, metric in METRICS.items() if kind in metric.kinds}


def metric_name(metric: str, target: str) -> str:
    """`metric`, or `metric.target` where the target has a name."""
    return f"{metric}.{target}" if target else metric


def base_name(name: str) -> str:
    """The metric of a `metric.target`."""
    return name.partition(".")[0]
