"""Probes in closed form, against scikit-learn's own estimators on the same vectors and folds."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import GroupKFold

from emocache.cache import EmocacheError
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.fit.closed_form import PENALTIES, ridge_left_out
from emocache.train.fit.fold_result import FoldResult
from emocache.train.fit.train_fold import train_fold
from emocache.train.protocols.folds import Fold, Rows

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
RIDGE = ("head.kind=probe", "head.pooling=mean_std", "training.optimiser=ridge")
NUMBERS = ("task=regression", "targets=['intensity', 'half']", "loss.kind=mse", "selection.metric=ccc", "labels={}")


def vectors(dataset: Dataset, rows: Rows, fitted: Rows) -> Any:
    """Mean and standard deviation of the frames, standardised over the fitted rows."""
    (features,) = dataset.features.values()
    frames = [features.frames[features.offsets[row] : features.offsets[row + 1]].astype(float) for row in range(36)]
    pooled = np.array([np.concatenate([one.mean(axis=0), one.std(axis=0)]) for one in frames])
    return ((pooled - pooled[fitted].mean(axis=0)) / pooled[fitted].std(axis=0))[rows]


def outputs(result: FoldResult, x: Any) -> Any:
    weights = {name: tensor.double().numpy() for name, tensor in result.weights.items()}
    return x @ weights["linear.weight"].T + weights["linear.bias"]


def naive_choice(make: Any, x: Any, y: Any, groups: Any, penalties: Any, numbers: Any = None) -> Any:
    """The penalty whose outputs for the groups left out are nearest to y; of classes `numbers`, where y is 1 and -1."""
    scores = {}
    for penalty in sorted(penalties, reverse=True):
        found = np.empty_like(y)
        for kept, out in GroupKFold(min(10, len(set(groups)))).split(x, groups=groups):
            fitted = make(penalty).fit(x[kept], y[kept] if numbers is None else numbers[kept])
            found[out] = fitted.predict(x[out]) if numbers is None else fitted.decision_function(x[out])
        scores[penalty] = -((y - found) ** 2).mean()
    return max(scores, key=scores.__getitem__)


def fold_of(dataset: Dataset, folds: list[Fold]) -> tuple[Rows, Any, Any]:
    train = folds[0].train
    return train, [dataset.examples[row].speaker for row in train], [dataset.examples[row].reference for row in train]


@pytest.mark.parametrize("optimiser", ["ridge", "lda"])
@pytest.mark.parametrize("dims", [8, 40], ids=["more utterances than channels", "fewer"])
def test_classes_are_those_of_scikit_learn(toy: "Toy", optimiser: str, dims: int) -> None:
    corpus = toy.corpus(separation=0.3)
    wide = np.random.default_rng(1).normal(size=(8, dims)).astype(np.float32)
    corpus.frames = {i: np.tanh(f @ wide) for i, f in corpus.frames.items()}
    settings = toy.settings(*RIDGE, f"training.optimiser={optimiser}", "selection.metric=loss")
    dataset, folds = toy.load(settings, toy.cache(corpus))
    train, groups, labels = fold_of(dataset, folds)
    x, y = vectors(dataset, train, train), np.array(labels)
    tested = vectors(dataset, folds[0].test, train)

    def make(penalty: float) -> Any:
        if optimiser == "lda":
            return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=penalty)
        return RidgeClassifier(alpha=penalty)

    result = train_fold(dataset, settings, folds[0], 0, CPU)
    penalty = naive_choice(make, x, np.eye(3)[y] * 2 - 1, groups, PENALTIES[optimiser], y)
    assert result.history[0]["penalty"] == penalty
    theirs = make(penalty).fit(x, y)
    ours = outputs(result, tested)
    assert (ours.argmax(axis=1) == theirs.predict(tested)).all()
    decided = theirs.decision_function(tested)
    np.testing.assert_allclose(ours / result.history[0]["scale"], decided, rtol=1e-4, atol=1e-4 * abs(decided).max())


def test_balanced_classes_weigh_the_same(toy: "Toy") -> None:
    settings = toy.settings(*RIDGE, "training.penalties=[10.0]", "loss.class_weights=balanced")
    dataset, folds = toy.load(settings)
    train = folds[0].train[np.arange(len(folds[0].train)) % 6 > 0]
    fold = Fold(train, folds[0].valid, folds[0].test)
    y = np.array([dataset.examples[row].reference for row in train])
    assert len(set(np.bincount(y))) > 1
    result = train_fold(dataset, settings, fold, 0, CPU)
    tested = vectors(dataset, fold.test, train)
    theirs = RidgeClassifier(alpha=10.0, class_weight="balanced").fit(vectors(dataset, train, train), y)
    ours = outputs(result, tested) / result.history[0]["scale"]
    np.testing.assert_allclose(ours, theirs.decision_function(tested), rtol=1e-4, atol=1e-4)


def test_numbers_are_those_of_scikit_learn(toy: "Toy") -> None:
    corpus = toy.corpus()
    corpus.rows = [replace(row, labels={**row.labels, "half": float(row.id[-1])}) for row in corpus.rows]
    assert len({row.labels["half"] for row in corpus.rows}) > 1
    settings = toy.settings(*RIDGE, *NUMBERS, "selection.metric=loss")
    dataset, folds = toy.load(settings, toy.cache(corpus))
    train, groups, labels = fold_of(dataset, folds)
    x, y = vectors(dataset, train, train), np.array(labels)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    penalty = naive_choice(lambda one: Ridge(alpha=one), x, y, groups, PENALTIES["ridge"])
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    assert result.history[0]["penalty"] == penalty and result.history[0]["scale"] == 1
    tested = vectors(dataset, folds[0].test, train)
    np.testing.assert_allclose(outputs(result, tested), Ridge(alpha=penalty).fit(x, y).predict(tested), atol=1e-5)


@pytest.mark.parametrize("shape", [(60, 60), (60, 20), (60, 59), (60, 5)])
def test_left_out_outputs_are_those_of_fits_to_the_rest(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    x, y, weights = random.normal(size=shape), random.normal(size=(60, 3)), random.uniform(0.5, 2, 60)
    parts = [np.flatnonzero(np.arange(60) % 7 == part) for part in range(7)]
    for penalty, found in ridge_left_out(x, y, weights, parts, [0.1, 10.0, 1e5]).items():
        for part in parts:
            rest = np.setdiff1d(np.arange(60), part)
            theirs = Ridge(alpha=penalty).fit(x[rest], y[rest], sample_weight=weights[rest])
            np.testing.assert_allclose(found[part], theirs.predict(x[part]), atol=1e-9)


def test_the_scale_makes_what_was_left_out_likely_and_changes_no_class(toy: "Toy") -> None:
    """A ridge's outputs lie between -1 and 1, whose softmax tells little."""
    settings = toy.settings(*RIDGE, "selection.metric=loss")
    dataset, folds = toy.load(settings)
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    (line,) = result.history
    assert line["scale"] > 2
    table = result.predictions.to_pylist()
    assert np.mean([max(value for name, value in row.items() if name.startswith("prob.")) for row in table]) > 0.6


def test_a_refit_chooses_its_penalty_anew(toy: "Toy") -> None:
    settings = toy.settings(*RIDGE, "selection.refit=true")
    dataset, folds = toy.load(settings)
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    assert [line["phase"] for line in result.history] == ["search", "refit"]
    assert all("penalty" in line for line in result.history)


def test_a_penalty_at_the_end_of_those_tried_is_told(toy: "Toy") -> None:
    settings = toy.settings(*RIDGE, "training.penalties=[1e7, 1e8, 1e9]", "selection.metric=loss")
    dataset, folds = toy.load(settings)
    warnings = train_fold(dataset, settings, folds[0], 0, CPU).record.warnings
    assert "1e+07 is the smallest of the penalties tried" in str(warnings)


def test_one_group_cannot_choose(toy: "Toy") -> None:
    settings = toy.settings(*RIDGE)
    dataset, folds = toy.load(settings)
    fold = Fold(folds[0].train[:6], folds[0].valid, folds[0].test)
    with pytest.raises(EmocacheError, match=r"has one speaker only; give training\.penalties a single value"):
        train_fold(dataset, settings, fold, 0, CPU)


def test_a_class_that_a_discriminant_analysis_has_not_seen(toy: "Toy") -> None:
    settings = toy.settings(*RIDGE, "training.optimiser=lda")
    dataset, folds = toy.load(settings)
    train = np.array([row for row in folds[0].train if dataset.examples[row].reference != 1])
    with pytest.raises(EmocacheError, match=r"one has none of '.+'; use 'ridge'"):
        train_fold(dataset, settings, Fold(train, folds[0].valid, folds[0].test), 0, CPU)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("head.kind=recurrent",), "fits a probe of whole utterances, not head 'recurrent'"),
        (("head.kind=recurrent", "training.optimiser=adamw", "training.penalties=[1.0]"), "has weight_decay"),
        (("training.optimiser=lda", "training.penalties=[2.0]"), "shrinkages, of 0 to 1, not 2"),
        (("training.penalties=[]",), "at least 1 item"),
        (("training.penalties=[0.0]",), "greater than 0"),
        (("augment.noise=0.1",), "needs the same batch in every step"),
        (("loss.label_smoothing=0.1",), "knows no loss.label_smoothing"),
        (("features.combine=weighted", "streams=['toy', 'slow']"), "cannot learn weights of layers"),
        ((*NUMBERS, "training.optimiser=lda"), "is for classification, not task 'regression'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(toy: "Toy", changes: tuple[str, ...], told: str) -> None:
    with pytest.raises(EmocacheError, match=told):
        _: Settings = toy.settings(*RIDGE, *changes)
