"""Validation scores against their definitions elsewhere."""

import math
import warnings
from typing import get_args

import audmetric
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from emocache.evaluate.scoring.sanity import SANITY
from emocache.train.config.sections import Selection
from emocache.train.config.settings import LOSSES
from emocache.train.fit.selection import Score, score
from emocache.train.records.metrics import CHOOSING_METRICS, METRICS, metrics_of
from emocache.train.records.run_record import RunRecord
from emocache.train.records.samples import Kind, Samples

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_metrics_are_those_of_sklearn(classes: int) -> None:
    y, p = RANDOM.integers(0, classes, 40), RANDOM.integers(0, classes + 1, 40)
    assert score("accuracy", y, p, 0).metric == pytest.approx(accuracy_score(y, p))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predictions that no reference has
        assert score("balanced_accuracy", y, p, 0).metric == pytest.approx(balanced_accuracy_score(y, p))
    for average in ("macro", "weighted"):
        expected = f1_score(y, p, average=average, zero_division=0)
        assert score(f"{average}_f1", y, p, 0).metric == pytest.approx(expected)


def test_weighted_f1_of_constants_and_of_one_element() -> None:
    zeros, ones = np.zeros(4, np.int64), np.ones(4, np.int64)
    assert score("weighted_f1", zeros, zeros, 0).metric == 1
    assert score("weighted_f1", zeros, ones, 0).metric == 0
    # Class 0: precision 3/4, recall 1, F1 6/7, three of four references; class 1 is never found.
    assert score("weighted_f1", np.array([0, 0, 0, 1]), zeros, 0).metric == pytest.approx(3 / 4 * 6 / 7)
    assert score("weighted_f1", zeros[:1], zeros[:1], 0).metric == 1
    assert score("weighted_f1", zeros[:1], ones[:1], 0).metric == 0


def test_regression_metrics_are_those_of_audmetric() -> None:
    y, p = RANDOM.normal(size=(30, 2)), RANDOM.normal(size=(30, 2))
    ccc = np.mean([audmetric.concordance_cc(y[:, k], p[:, k]) for k in range(2)])
    assert score("ccc", y, p, 0).metric == pytest.approx(ccc, rel=1e-6)
    rmse = np.mean([math.sqrt(np.mean((y[:, k] - p[:, k]) ** 2)) for k in range(2)])
    found = score("rmse", y, p, 0)
    assert found.metric == pytest.approx(-rmse) and found.value("rmse") == pytest.approx(rmse)
    assert score("ccc", np.ones((3, 1)), np.ones((3, 1)), 0).metric == 0


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_rank_correlation_is_that_of_scipy_also_with_ties(levels: int) -> None:
    y, p = (RANDOM.integers(0, levels, (40, 3)) / levels for _ in range(2))
    expected = np.mean([spearmanr(y[:, k], p[:, k]).statistic for k in range(3)])
    assert score("spearman", y, p.astype(np.float32), 0).metric == pytest.approx(expected)


def test_rank_correlation_by_hand() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4: around their mean the products add up to 3, the squares to 4.5 and 5.
    tied = score("spearman", np.array([[0.1, 0.3, 0.3, 0.9]]).T, np.array([[2.0, 1.0, 3.0, 8.0]]).T, 0)
    assert tied.metric == pytest.approx(3 / math.sqrt(4.5 * 5))
    y = np.linspace(0, 1, 5)[:, None]
    assert score("spearman", y, np.exp(9 * y), 0).metric == pytest.approx(1)
    assert score("spearman", y, -y, 0).metric == pytest.approx(-1)


def test_rank_correlation_that_is_undefined_counts_as_zero() -> None:
    """Constant predictions are what a dead output gives, so they must be the worst of useful scores, not NaN."""
    y, constant = np.linspace(0, 1, 5)[:, None], np.full((5, 1), 0.2)
    for references, predictions in ((y, constant), (constant, y), (constant, constant), (y[:1], y[:1])):
        assert score("spearman", references, predictions, 0).metric == 0
    both = score("spearman", np.hstack([y, y]), np.hstack([y, constant]), 0.5)
    assert both.value("spearman") == pytest.approx(0.5) and both.negative_loss == -0.5


def test_equal_metrics_are_told_apart_by_the_loss() -> None:
    assert Score(0.5, -1.0) < Score(0.5, -0.9) < Score(0.6, -2.0)
    assert score("loss", np.zeros(1), np.zeros(1), 0.7).value("loss") == 0.7


@pytest.mark.parametrize("metric", [name for name in CHOOSING_METRICS if name != "loss"])
def test_what_chooses_on_validation_is_what_the_test_part_is_scored_by(metric: str) -> None:
    """Every metric that can be declared is evaluation's of the same name, with the same value."""
    told = METRICS[metric]
    assert ("classification" in told.kinds) == Selection(metric=metric).of_classes
    rows = np.arange(40)
    for seed in range(5):
        random = np.random.default_rng(seed)
        if "classification" in told.kinds:
            classes, guesses = random.integers(0, 3, 40), random.integers(0, 4, 40)
            expected = told.score(Samples(classes, guesses, rows, "classification")).value
            found = score(metric, classes, guesses, 0)
        else:
            y, p = random.normal(size=(40, 2)), random.normal(size=(40, 2))
            own = (told.score(Samples(y[:, k], p[:, k], rows, "regression")).value for k in range(2))
            expected = float(np.mean(list(own)))
            found = score(metric, y, p, 0)
        assert found.value(metric) == pytest.approx(expected, rel=1e-6)


def test_every_task_is_known_to_evaluation() -> None:
    assert set(LOSSES) == set(get_args(RunRecord.model_fields["task"].annotation)) == set(SANITY)
    assert all(metrics_of(kind) for kind in get_args(Kind))
