"""The fast bootstrap against a loop that writes the drawn samples one after another."""

from dataclasses import replace

import numpy as np
import pytest

from emocache.evaluate.scoring.scored import resample
from emocache.evaluate.scoring.stored_predictions import Predictions
from emocache.train.records import group_sums
from emocache.train.records.group_sums import draw
from emocache.train.records.metrics import METRICS, metrics_of
from emocache.train.records.samples import Kind, Samples

GROUPS = 6
CLASSES = 4


def predictions(task: Kind, seed: int, offset: float = 0.0) -> Predictions:
    """40 utterances of 6 speakers; per-frame ones have 0 to 8 frames each."""
    generator = np.random.default_rng(seed)
    group = generator.integers(0, GROUPS, 40)
    row = np.arange(40) if task != "frame_regression" else np.repeat(np.arange(40), generator.integers(0, 9, 40))
    if task == "classification":
        reference, prediction = generator.integers(0, CLASSES, (2, 40))
    elif task == "auxiliary":
        reference, prediction = np.array(["f", "m"])[generator.integers(0, 2, (2, 40))]
    elif task == "distribution":
        votes = generator.integers(0, 3, (40, CLASSES)) + np.eye(CLASSES)[0]  # some of them tied
        reference, prediction = votes / votes.sum(axis=1, keepdims=True), generator.dirichlet(np.ones(CLASSES), 40)
    else:
        reference = np.round(generator.normal(size=len(row)) + group[row], 1) + offset
        prediction = np.round(0.5 * reference + generator.normal(size=len(row)), 1)
    utterances = np.array([f"demo/{i}" for i in range(40)])
    groups = np.array([f"demo/s{g}" for g in group])
    return Predictions(utterances, groups, "speaker", {"x": Samples(reference, prediction, row, task)})


def drawn(samples: Samples, group_of_row: list[int], weights: list[int]) -> Samples:
    """The samples of the drawn groups, with new clips for every time a group was drawn."""
    clips = [r for g, times in enumerate(weights) for _ in range(times) for r, h in enumerate(group_of_row) if h == g]
    inside = [np.flatnonzero(samples.row == clip) for clip in clips]
    index = np.concatenate([*inside, np.empty(0, np.int64)]).astype(np.int64)
    row = np.repeat(np.arange(len(clips)), [len(i) for i in inside])
    return Samples(samples.reference[index], samples.prediction[index], row, samples.kind)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("task", ["classification", "regression", "frame_regression", "distribution", "auxiliary"])
def test_every_metric_equals_that_of_the_drawn_samples(task: Kind, offset: float) -> None:
    seeds = [predictions(task, seed, offset) for seed in (0, 1)]
    weights = draw(GROUPS, 30, seed=3)
    names = np.unique(seeds[0].groups)
    fast = resample(seeds, names, weights)
    assert set(fast) >= {f"{name}.x" for name in metrics_of(task)}
    for r, weight in enumerate(weights):
        for name in metrics_of(task):
            values = []
            for p in seeds:
                group = np.searchsorted(names, p.groups).tolist()
                values.append(METRICS[name].score(drawn(p.samples["x"], group, weight.tolist())).value)
            assert fast[f"{name}.x"][r] == pytest.approx(np.mean(values), rel=1e-6, nan_ok=True), (name, r)


def test_blocks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    p = predictions("frame_regression", 0)
    names = np.unique(p.groups)
    whole_draw = draw(GROUPS, 50)
    whole = resample([p], names, whole_draw)
    monkeypatch.setattr(group_sums, "_BLOCK", 64)
    blockwise = resample([p], names, whole_draw)
    for name, values in whole.items():
        assert np.allclose(values, blockwise[name], rtol=1e-12), name
    assert (draw(GROUPS, 50).sum(axis=1) == GROUPS).all()


def test_draws_are_with_replacement_and_repeatable() -> None:
    weights = draw(10, 500)
    assert weights.shape == (500, 10)
    assert (weights.sum(axis=1) == 10).all()
    assert np.array_equal(weights, draw(10, 500)) and not np.array_equal(weights, draw(10, 500, seed=1))
    assert np.allclose(weights.mean(axis=0), 1, atol=0.2)
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 10) ** 10, abs=0.03)


def test_spearman_of_many_samples_takes_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_sums, "_RANK_BUDGET", 10)
    monkeypatch.setattr(group_sums, "FEWEST_RESAMPLES", 7)
    p = predictions("regression", 0)
    found = resample([p], np.unique(p.groups), draw(GROUPS, 20))
    assert len(found["spearman.x"]) == 7 and len(found["pearson.x"]) == 20


def test_dead_outputs_count_as_0_in_resamples() -> None:
    p = predictions("regression", 0)
    dead = p.map(lambda _, s: replace(s, prediction=np.full_like(s.prediction, 1 / 3)))
    found = resample([dead], np.unique(p.groups), draw(GROUPS, 20))
    for name in ("ccc", "pearson", "spearman"):
        assert (found[f"{name}.x"] == 0).all(), name


@pytest.mark.parametrize("task", ["classification", "regression", "frame_regression", "distribution", "auxiliary"])
def test_a_metric_without_sums_is_scored_anew_in_every_resample(task: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added up is only faster; fewer resamples are taken."""
    p = predictions(task, 0)
    dead = p.map(lambda _, s: replace(s, prediction=s.prediction[:1].repeat(len(s.row), axis=0)))
    names, weights = np.unique(p.groups), draw(GROUPS, 25)
    for own in (p, dead):
        fast = resample([own], names, weights)
        with monkeypatch.context() as patch:
            for name, metric in METRICS.items():
                patch.setitem(METRICS, name, replace(metric, sums=None))
            anew = resample([own], names, weights)
            patch.setattr(group_sums, "ANEW_RESAMPLES", 7)
            few = resample([own], names, weights)
        for name in fast:
            assert anew[name] == pytest.approx(fast[name], rel=1e-6, abs=1e-9, nan_ok=True), name
            assert few[name] == pytest.approx(anew[name][:7], nan_ok=True)


def test_no_samples_are_undefined_in_every_resample() -> None:
    tasks: tuple[Kind, ...] = ("classification", "regression", "frame_regression", "distribution", "auxiliary")
    for task in tasks:
        p = predictions(task, 0)
        empty = p.map(lambda _, s: s.take(np.zeros(len(s.row), bool)))
        for name, values in resample([empty], np.unique(p.groups), draw(GROUPS, 3)).items():
            assert np.isnan(values).all() and len(values) == 3, name
