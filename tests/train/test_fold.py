"""One fold with one seed: what it may look at, what it chooses, that it learns."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from emocache.cache import EmocacheError
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset, Features
from emocache.train.data.example import Stamps
from emocache.train.fit.fold_result import FoldResult
from emocache.train.fit.train_fold import train_fold
from emocache.train.protocols.folds import Rows

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
SETTINGS = [
    ("head.kind=probe", "training.optimiser=lbfgs", "training.epochs=3", "search.training.weight_decay=[0.1, 0.01]"),
    ("head.kind=recurrent", "head.hidden=5", "head.dropout=0.2", "features.pca=4", "training.epochs=4"),
    (
        "head.kind=probe",
        "head.pooling=mean_std",
        "selection.refit=true",
        "training.epochs=4",
        "training.schedule=plateau",
    ),
]
each_setting = pytest.mark.parametrize("changes", SETTINGS, ids=("search", "pca", "refit"))


def same_weights(one: FoldResult, other: FoldResult) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def same(one: FoldResult, other: FoldResult) -> bool:
    """In the weights, and in what else was fitted."""
    fitted = all(np.array_equal(one.transforms[name], other.transforms[name]) for name in one.transforms)
    return same_weights(one, other) and fitted


def poisoned(dataset: Dataset, rows: Rows, value: float) -> Dataset:
    """The same with other features in some rows."""
    features = {}
    for name, one in dataset.features.items():
        frames = one.frames.copy()
        for row in rows:
            frames[one.offsets[row] : one.offsets[row + 1]] = value
        features[name] = Features(frames, one.offsets, one.times)
    return replace(dataset, features=features)


def relabelled(dataset: Dataset, rows: Rows) -> Dataset:
    """The same with other references in some rows."""
    examples = list(dataset.examples)
    for row in rows:
        old = examples[row].reference
        new = Stamps(old.times, -old.values) if isinstance(old, Stamps) else (old + 1) % 3
        examples[row] = replace(examples[row], reference=new)
    return replace(dataset, examples=examples)


@each_setting
def test_nothing_fitted_sees_the_test_part(toy: "Toy", changes: tuple[str, ...]) -> None:
    settings = toy.settings(*changes)
    dataset, folds = toy.load(settings)
    clean = train_fold(dataset, settings, folds[1], 0, CPU)
    for value in (1e30, float("nan")):
        assert same(clean, train_fold(poisoned(dataset, folds[1].test, value), settings, folds[1], 0, CPU))
    seen = train_fold(poisoned(dataset, folds[1].train[:1], 3.0), settings, folds[1], 0, CPU)
    assert not same_weights(clean, seen)


@each_setting
def test_selection_never_looks_at_test_labels(toy: "Toy", changes: tuple[str, ...]) -> None:
    settings = toy.settings(*changes)
    dataset, folds = toy.load(settings)
    clean = train_fold(dataset, settings, folds[1], 0, CPU)
    other = train_fold(relabelled(dataset, folds[1].test), settings, folds[1], 0, CPU)
    assert same(clean, other) and clean.record.selection == other.record.selection


def test_validation_takes_no_part_in_fitting_unless_refitted(toy: "Toy") -> None:
    settings = toy.settings("training.epochs=1")
    dataset, folds = toy.load(settings)
    valid = folds[0].valid
    clean = train_fold(dataset, settings, folds[0], 0, CPU)
    for other in (poisoned(dataset, valid, 50.0), relabelled(dataset, valid)):
        assert same(clean, train_fold(other, settings, folds[0], 0, CPU))
    refitting = toy.settings("training.epochs=1", "selection.refit=true")
    refitted = train_fold(dataset, refitting, folds[0], 0, CPU)
    # One epoch, so that other labels choose no other: what differs is what the refit saw.
    assert not same_weights(refitted, train_fold(relabelled(dataset, valid), refitting, folds[0], 0, CPU))


def test_the_search_takes_the_best_point_on_validation(toy: "Toy") -> None:
    settings = toy.settings("search.training.learning_rate=[1e-9, 0.05]", "selection.metric=loss")
    dataset, folds = toy.load(settings)
    selection = train_fold(dataset, settings, folds[0], 0, CPU).record.selection
    assert selection.chosen == {"training.learning_rate": 0.05} and len(selection.tried) == 2
    assert selection.value == min(point.value for point in selection.tried)
    single = toy.settings("training.learning_rate=0.05", "selection.metric=loss")
    assert same_weights(train_fold(dataset, single, folds[0], 0, CPU), train_fold(dataset, settings, folds[0], 0, CPU))


def test_refit_trains_for_the_chosen_epochs(toy: "Toy") -> None:
    settings = toy.settings("selection.refit=true", "training.patience=2", "training.schedule=cosine")
    dataset, folds = toy.load(settings)
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    search, refit = ([line for line in result.history if line["phase"] == phase] for phase in ("search", "refit"))
    assert len(refit) == result.record.selection.best_epoch
    assert len(refit) <= len(search)
    assert [line["learning_rate"] for line in refit] == [line["learning_rate"] for line in search[: len(refit)]]


def test_runs_are_repeated_exactly_and_differ_by_seed(toy: "Toy") -> None:
    settings = toy.settings("head.kind=transformer", "head.width=8", "head.heads=2", "training.epochs=3")
    dataset, folds = toy.load(settings)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = train_fold(dataset, settings, folds[0], 0, CPU)
    assert torch.equal(before, torch.get_rng_state())  # the caller's random state is the caller's
    torch.manual_seed(6)
    again, other = (train_fold(dataset, settings, folds[0], seed, CPU) for seed in (0, 1))
    assert same(one, again) and one.predictions.equals(again.predictions)
    assert not same_weights(one, other)


def accuracy(result: FoldResult) -> float:
    test = result.predictions.filter(pc.equal(result.predictions["part"], "test"))
    return float(pc.mean(pc.equal(test["reference"], test["prediction"]).cast("float64")).as_py())


@pytest.mark.parametrize("kind", ["probe", "recurrent", "transformer"])
def test_heads_learn_and_shuffled_labels_teach_nothing(toy: "Toy", kind: str) -> None:
    small = {"probe": (), "recurrent": ("head.hidden=8",), "transformer": ("head.width=8", "head.heads=2")}[kind]
    settings = toy.settings(f"head.kind={kind}", *small, "training.patience=5")
    dataset, folds = toy.load(settings, toy.cache(toy.corpus(speakers=6, clips=15)))
    assert accuracy(train_fold(dataset, settings, folds[0], 0, CPU)) > 0.9
    order = np.random.default_rng(0).permutation(len(dataset.examples))
    examples = [
        replace(e, reference=dataset.examples[at].reference) for e, at in zip(dataset.examples, order, strict=True)
    ]
    lost = [train_fold(replace(dataset, examples=examples), settings, fold, 0, CPU) for fold in folds]
    assert np.mean([accuracy(result) for result in lost]) < 1 / 3 + 3 * np.sqrt(2 / 9 / len(examples))


def test_frame_regression_scores_on_native_stamps(toy: "Toy") -> None:
    settings = toy.frame_settings("loss.kind=ccc", "training.epochs=30", "training.learning_rate=0.05")
    dataset, folds = toy.load(settings)
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    assert result.record.selection.metric == "ccc" and result.record.selection.value > 0.9
    row = result.predictions.filter(pc.equal(result.predictions["part"], "test")).to_pylist()[0]
    example = next(e for e in dataset.examples if e.id == row["id"])
    assert isinstance(example.reference, Stamps)
    assert row["times"] == example.reference.times.tolist()
    assert row["reference.valence"] == example.reference.values[:, 0].tolist()
    assert len(row["prediction.valence"]) == len(row["times"])


def test_regression_of_an_utterance_label(toy: "Toy") -> None:
    settings = toy.settings("task=regression", "targets=intensity", "training.epochs=40", "training.learning_rate=0.05")
    dataset, folds = toy.load(settings)
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    assert result.record.selection.value > 0.9
    training = [dataset.examples[row].reference for row in folds[0].train]
    assert result.record.prior == {"intensity": pytest.approx(float(np.mean(training)))}


def test_a_diverging_run_is_told(toy: "Toy") -> None:
    settings: Settings = toy.settings("task=regression", "targets=intensity", "training.learning_rate=1e30")
    dataset, folds = toy.load(settings)
    with pytest.raises(EmocacheError, match=r"the training loss is .* lower training\.learning_rate"):
        train_fold(dataset, settings, folds[0], 0, CPU)
