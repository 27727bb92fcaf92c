"""Validation scores against their definitions elsewhere."""

import math
import warnings

import audmetric
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from emocache.train.selection import Score, score

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_metrics_are_those_of_sklearn(classes: int) -> None:
    y, p = RANDOM.integers(0, classes, 40), RANDOM.integers(0, classes + 1, 40)
    assert score("accuracy", y, p, 0).metric == pytest.approx(accuracy_score(y, p))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predictions that no reference has
        assert score("balanced_accuracy", y, p, 0).metric == pytest.approx(balanced_accuracy_score(y, p))
    assert score("macro_f1", y, p, 0).metric == pytest.approx(f1_score(y, p, average="macro", zero_division=0))


def test_regression_metrics_are_those_of_audmetric() -> None:
    y, p = RANDOM.normal(size=(30, 2)), RANDOM.normal(size=(30, 2))
    ccc = np.mean([audmetric.concordance_cc(y[:, k], p[:, k]) for k in range(2)])
    assert score("ccc", y, p, 0).metric == pytest.approx(ccc, rel=1e-6)
    rmse = np.mean([math.sqrt(np.mean((y[:, k] - p[:, k]) ** 2)) for k in range(2)])
    found = score("rmse", y, p, 0)
    assert found.metric == pytest.approx(-rmse) and found.value("rmse") == pytest.approx(rmse)
    assert score("ccc", np.ones((3, 1)), np.ones((3, 1)), 0).metric == 0


def test_equal_metrics_are_told_apart_by_the_loss() -> None:
    assert Score(0.5, -1.0) < Score(0.5, -0.9) < Score(0.6, -2.0)
    assert score("loss", np.zeros(1), np.zeros(1), 0.7).value("loss") == 0.7
