"""The definitions of the summary's numbers, on grids small enough to do by hand."""

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from emocache.evaluate.scoring.statistics import Summary, holm, interval, signed_rank, summarise
from emocache.train.records.metrics import DEAD_OUTPUT, Score

GRID = {(0, 0): Score(0.2), (0, 1): Score(0.4), (1, 0): Score(0.6), (1, 1): Score(0.6)}
POOLED = {0: Score(0.5), 1: Score(0.7)}
RESAMPLED = np.linspace(0, 1, 1001)


def test_mean_and_std_are_over_folds_of_the_mean_over_seeds() -> None:
    summary = summarise(GRID, POOLED, RESAMPLED)
    assert summary.mean == pytest.approx((0.3 + 0.6) / 2)
    assert summary.std == pytest.approx(0.15)
    assert summary.std_ddof1 == pytest.approx(0.15 * math.sqrt(2))
    assert summary.std_seeds == pytest.approx(np.std([(0.2 + 0.6) / 2, (0.4 + 0.6) / 2]))
    assert summary.pooled == pytest.approx(0.6)
    assert summary.ci95 == pytest.approx((0.025, 0.975))
    assert summary.reasons == {} and summary.notes == []


def test_one_fold_and_one_seed_have_no_spread() -> None:
    summary = summarise({(3, 7): Score(0.5)}, {7: Score(0.5)}, np.empty(0))
    assert (summary.mean, summary.pooled) == (0.5, 0.5)
    assert all(map(math.isnan, (summary.std, summary.std_ddof1, summary.std_seeds, *summary.ci95)))
    assert summary.reasons == {
        "std": "one fold",
        "std_ddof1": "one fold",
        "std_seeds": "one seed",
        "ci95": "a bootstrap needs at least two groups",
    }


def test_a_seed_that_lacks_a_fold_leaves_that_fold_to_the_others() -> None:
    grid = {cell: score for cell, score in GRID.items() if cell != (0, 1)}
    assert summarise(grid, POOLED, RESAMPLED).mean == pytest.approx((0.2 + 0.6) / 2)


def test_a_dead_output_counts_as_0_and_is_told() -> None:
    summary = summarise(GRID | {(1, 1): Score(math.nan, DEAD_OUTPUT)}, POOLED, RESAMPLED)
    assert summary.mean == pytest.approx((0.3 + 0.3) / 2)
    assert summary.notes == [f"{DEAD_OUTPUT} in fold 1, seed 1, which counts as 0 in the means"]
    assert summary.reasons == {}


def undefined(summary: Summary) -> set[str]:
    """Names of the numbers that are NaN."""
    numbers = {name: getattr(summary, name) for name in ("mean", "std", "std_ddof1", "std_seeds", "pooled")}
    return {name for name, value in (numbers | {"ci95": summary.ci95[0]}).items() if math.isnan(value)}


def test_only_dead_outputs_are_undefined() -> None:
    dead = Score(math.nan, DEAD_OUTPUT)
    summary = summarise(dict.fromkeys(GRID, dead), dict.fromkeys(POOLED, dead), np.zeros(5))
    assert undefined(summary) == {"mean", "std", "std_ddof1", "std_seeds", "pooled", "ci95"} == set(summary.reasons)
    assert set(summary.reasons.values()) == {DEAD_OUTPUT}


def test_another_undefined_score_is_never_left_out_silently() -> None:
    summary = summarise(GRID | {(1, 0): Score(math.nan, "the reference is constant")}, POOLED, RESAMPLED)
    assert undefined(summary) == {"mean", "std", "std_ddof1", "std_seeds"} == set(summary.reasons)
    assert summary.reasons["mean"] == "fold 1, seed 0: the reference is constant"


def test_undefined_resamples_are_left_out_and_told() -> None:
    notes: list[str] = []
    ends, reason = interval(np.array([math.nan, 1.0, 1.0]), notes)
    assert ends == (1.0, 1.0) and reason == ""
    assert notes == ["undefined in 1 of 3 resamples, which are left out"]
    assert interval(np.array([math.nan]), notes)[1] == "undefined in every resample"


def test_wilcoxon_needs_eight_folds() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 8)).tolist()
    assert signed_rank(a, b).value == pytest.approx(wilcoxon(a, b).pvalue)
    assert signed_rank(a[:7], b[:7]).reason == "7 folds; Wilcoxon's test is made from 8 on"
    assert signed_rank(a, a).reason == "no fold differs"
    assert signed_rank([math.nan, *a[1:]], b).reason == "a fold's score is undefined"


def test_holm_is_step_down_and_monotone() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(holm([0.5, math.nan])[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
