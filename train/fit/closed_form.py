"""Linear heads in closed form: ridge regression and linear discriminant analysis, by scikit-learn's solvers."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...cache import EmocacheError
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..heads import Head
from ..inputs.batches import Batches
from ..protocols.folds import Rows
from ..protocols.grouping import group_of
from .loop import Trained, Watch
from .losses import Loss
from .predict import predict, softmax
from .selection import Score, score

Floats = npt.NDArray[np.float64]
# What is chosen from where training.penalties says nothing: alpha of a ridge, shrinkage of a discriminant analysis.
PENALTIES = {
    "ridge": tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-2, 13)),
    "lda": (0.02, 0.1, 0.3, 0.6, 0.9),
}
_MOST_FOLDS = 10  # of leaving groups out


def penalties_of(settings: Settings) -> tuple[float, ...]:
    """The penalties of which groups left out choose."""
    return settings.training.penalties or PENALTIES[settings.training.optimiser]


def fit_closed_form(
    head: Head,
    batches: Batches,
    rows: Rows,
    dataset: Dataset,
    settings: Settings,
    loss: Loss,
    validate: Callable[[Head], Score] | None,
    watch: Watch = lambda _: None,
) -> Trained:
    """Fit a probe, in place, with the penalty that is best for groups that are left out of the fit.

    A ridge learns numbers, or +1 for an utterance's class and -1 for the others, as scikit-learn's RidgeClassifier
    does. Groups are left out in turn, at most ten times; the penalty is the one whose predictions of what was left out
    have the best `selection.metric`, of equals the smallest squared error. Of classes, those predictions also give the
    factor on all weights under whose softmax the labels are likeliest: the predicted classes stay as they are.

    Args:
        head: a probe, on the batches' device.
        batches: gathers the rows, one vector an utterance.
        rows: the training part.
        dataset: the rows' groups, by `protocol.group`, and the names of classes.
        settings: the whole experiment.
        loss: tells the training loss; nothing is fitted by it.
        validate: scores the head; None where nothing validates.
        watch: see `loop.Watch`.

    Returns:
        The head, and one line of history, with the `penalty`, what it scored on groups left out (`left_out_<metric>`),
        and the `scale` of the outputs.

    Raises:
        EmocacheError: several penalties, and fewer than two groups to choose from them by.
    """
    started = time.perf_counter()
    problem = _Problem.of(batches, rows, settings, dataset.classes)
    examples = [dataset.examples[row] for row in rows]
    groups = [group_of(example, settings.protocol.group) or example.key for example in examples]
    penalties = penalties_of(settings)
    metric = settings.selection.metric
    line: dict[str, float] = {"epoch": 1, "learning_rate": 0.0}
    penalty, scale = penalties[0], 1.0
    if len(set(groups)) > 1:
        left_out = problem.left_out(sorted(penalties, reverse=True), groups)
        scores = {one: problem.score(outputs, batches, metric) for one, outputs in left_out.items()}
        penalty = max(scores, key=scores.__getitem__)
        line[f"left_out_{metric}"] = scores[penalty].value(metric)
        if problem.classes:
            scale = _likeliest_scale(left_out[penalty], problem.labels)
    elif len(penalties) > 1:
        kind = settings.protocol.group
        raise EmocacheError(f"training.optimiser {settings.training.optimiser!r} chooses its penalty by leaving out one"
                            f" {kind} after the other, and the training part has one {kind} only; give"
                            " training.penalties a single value, or another protocol.group")  # fmt: skip
    weight, bias = problem.fit(penalty)
    layer = head.output_layer()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(scale * weight))
        layer.bias.copy_(torch.from_numpy(scale * bias))
    line |= {"train_loss": predict(head, batches, rows, loss).loss, "penalty": penalty, "scale": scale}
    found = Score(math.nan, math.nan)
    if validate is not None:
        found = validate(head)
        line |= {"valid_loss": -found.negative_loss, f"valid_{metric}": found.value(metric)}
    line["seconds"] = time.perf_counter() - started
    watch({"epochs": 1, **line})
    return Trained(head, 1, found, [line])


@dataclass(frozen=True, eq=False)
class _Problem:
    """The vectors of the training part, and their labels.

    Vectors are given by their coordinates in the space that they span, which changes no solution and makes it cheap
    where utterances are fewer than channels.

    Attributes:
        optimiser: "ridge" or "lda".
        vectors: (N, r) coordinates.
        basis: (r, D), orthonormal.
        labels: (N,) int64 classes, or (N, K) numbers.
        classes: their names; none where labels are numbers.
        balanced: every class weighs the same.
    """

    optimiser: str
    vectors: Floats
    basis: Floats
    labels: npt.NDArray[np.generic]
    classes: tuple[str, ...]
    balanced: bool

    @classmethod
    def of(cls, batches: Batches, rows: Rows, settings: Settings, classes: tuple[str, ...]) -> "_Problem":
        """Gather the training part."""
        vectors = batches.gather(rows).inputs[0].values[:, 0].double().cpu().numpy()
        basis = np.eye(vectors.shape[1])
        if len(vectors) < vectors.shape[1]:
            basis = np.linalg.svd(vectors, full_matrices=False)[2]
            vectors = vectors @ basis.T
        balanced = settings.loss.class_weights == "balanced"
        labels = batches.targets_of(rows)[0].numpy()
        return cls(settings.training.optimiser, vectors, basis, labels, classes, balanced)

    def fit(self, penalty: float) -> tuple[Floats, Floats]:
        """Fit weights (K, D) and biases (K,) to all of it."""
        if self.optimiser == "lda":
            weight, bias = self._discriminant(penalty, np.arange(len(self.vectors)))
        else:
            from sklearn.linear_model import Ridge

            fitted = Ridge(alpha=penalty).fit(self.vectors, self._numbers(), sample_weight=self._weights())
            weight, bias = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
        return weight @ self.basis, bias

    def left_out(self, penalties: Sequence[float], groups: Sequence[str]) -> dict[float, Floats]:
        """Compute, of each penalty, the outputs (N, K) of each row by a fit without the groups it is left out with."""
        from sklearn.model_selection import GroupKFold

        folds = GroupKFold(min(_MOST_FOLDS, len(set(groups)))).split(self.vectors, groups=np.asarray(groups))
        parts = [out for _, out in folds]
        if self.optimiser == "ridge":
            return ridge_left_out(self.vectors, self._numbers(), self._weights(), parts, penalties)
        outputs = {penalty: np.empty((len(self.vectors), len(self.classes))) for penalty in penalties}
        for penalty, found in outputs.items():
            for out in parts:
                weight, bias = self._discriminant(penalty, np.delete(np.arange(len(self.vectors)), out))
                found[out] = self.vectors[out] @ weight.T + bias
        return outputs

    def score(self, outputs: Floats, batches: Batches, metric: str) -> Score:
        """Score outputs (N, K); the mean squared error stands for the loss."""
        wanted = self._numbers()
        error = float(np.mean((outputs - wanted) ** 2))
        if self.classes:
            return score(metric, self.labels, outputs.argmax(axis=1), error)
        return score(metric, batches.native(wanted), batches.native(outputs), error)

    def _weights(self) -> Floats:
        """The weight of each row, 1 on average."""
        if not self.balanced:
            return np.ones(len(self.labels))
        counts = np.bincount(self.labels)
        weights: Floats = len(self.labels) / np.count_nonzero(counts) / counts[self.labels]
        return weights

    def _numbers(self) -> Floats:
        """The labels, or (N, K) of +1 for the class and -1 for the others: what a ridge learns."""
        if not self.classes:
            return self.labels.astype(np.float64)
        return np.where(self.labels[:, None] == np.arange(len(self.classes)), 1.0, -1.0)

    def _discriminant(self, shrinkage: float, rows: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        labels = self.labels[rows]
        absent = set(range(len(self.classes))) - set(labels.tolist())
        if absent:
            raise EmocacheError(f"training.optimiser 'lda' needs utterances of every class in each part that it is"
                                f" fitted to, and one has none of {self.classes[min(absent)]!r}; use 'ridge', or leave"
                                " the class out in [labels]")  # fmt: skip
        count = len(self.classes)
        fitted = LinearDiscriminantAnalysis(
            solver="lsqr",
            covariance_estimator=_Shrunk(shrinkage, self.basis.shape[1]),
            priors=np.full(count, 1 / count) if self.balanced else None,
        ).fit(self.vectors[rows], labels)
        if count == 2:  # one row, of the second class against the first
            return np.vstack([0 * fitted.coef_, fitted.coef_]), np.append(0.0, fitted.intercept_)
        return fitted.coef_, fitted.intercept_


def ridge_left_out(
    vectors: Floats, numbers: Floats, weights: Floats, parts: Sequence[Rows], penalties: Sequence[float]
) -> dict[float, Floats]:
    """Compute the outputs that ridges give the rows they are not fitted to, without fitting them.

    With H = Z (Z' Z + penalty)^-1 Z', where Z are the rows beside a constant 1, the residuals of a part are those of
    the fit to all rows times (I - H of the part)^-1, the block form of Allen's PRESS (1974).

    Args:
        vectors: (N, r).
        numbers: (N, K), what is learned.
        weights: (N,), positive.
        parts: rows that are left out together; all of them make up the N rows.
        penalties: alpha of scikit-learn's Ridge; the constant is not penalised.

    Returns:
        {penalty: (N, K) outputs}.
    """
    root = np.sqrt(weights)[:, None]
    centre, target = np.average(vectors, axis=0, weights=weights), np.average(numbers, axis=0, weights=weights)
    left, sizes, _ = np.linalg.svd(root * (vectors - centre), full_matrices=False)
    left = np.hstack([root / np.sqrt(weights.sum()), left])
    wanted = root * (numbers - target)
    found = {penalty: np.empty(numbers.shape) for penalty in penalties}
    for penalty, outputs in found.items():
        kept = np.append(1.0, sizes**2 / (sizes**2 + penalty))
        residuals = wanted - left @ (kept[:, None] * (left.T @ wanted))
        for part in parts:
            own, rest = left[part], residuals[part]
            if len(part) <= len(kept):
                rest = np.linalg.solve(np.eye(len(part)) - (kept * own) @ own.T, rest)
            else:  # the same by Woodbury's identity
                rest = rest + own @ np.linalg.solve(np.diag(1 / kept) - own.T @ own, own.T @ rest)
            outputs[part] = numbers[part] - rest / root[part]
    return found


class _Shrunk:
    """The covariance that scikit-learn's `shrinkage` gives in D dimensions, for vectors by their coordinates."""

    def __init__(self, shrinkage: float, dim: int) -> None:
        self.shrinkage, self.dim = shrinkage, dim

    def fit(self, vectors: Floats) -> "_Shrunk":
        """Set `covariance_` to (1 - s) C + s trace(C) / D I of the covariance C (divisor N) of vectors (N, r)."""
        covariance = np.cov(vectors, rowvar=False, bias=True)
        mean = np.trace(covariance) / self.dim
        self.covariance_ = (1 - self.shrinkage) * covariance + self.shrinkage * mean * np.eye(len(covariance))
        return self


def _likeliest_scale(outputs: Floats, labels: npt.NDArray[np.generic]) -> float:
    """Find the factor on outputs (N, K) under which their softmax gives classes (N,) the largest likelihood."""
    from scipy.optimize import minimize_scalar

    def surprise(exponent: float) -> float:
        found = softmax(np.exp(exponent) * outputs)[np.arange(len(labels)), labels]
        return -float(np.log(np.maximum(found, 1e-300)).mean())

    return float(np.exp(minimize_scalar(surprise, bounds=(-6, 6), method="bounded").x))
