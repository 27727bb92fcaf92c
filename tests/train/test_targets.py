"""The unit of the ratings changes no score: targets are standardised on the training part, predictions are native."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.preprocessing import StandardScaler

from emocache.cache import EmocacheError
from emocache.train.config.loading import load_settings
from emocache.train.config.search import search_points
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.data.example import Stamps
from emocache.train.fit.fold_result import FoldResult
from emocache.train.fit.loop import train_head
from emocache.train.fit.losses import make_loss
from emocache.train.fit.predict import predict, validation_score
from emocache.train.fit.train_fold import train_fold
from emocache.train.heads import Learned, Shape, build_head
from emocache.train.heads.probe import ProbeSettings
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.targets import fit_scale
from emocache.train.inputs.transforms import prepare
from emocache.train.protocols.folds import Fold
from emocache.train.run.crew import Crew
from emocache.train.run.experiment_plan import make_plan

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
Values = npt.NDArray[np.float64]
UNITS: list[tuple[float, float]] = [(1.0, 0.0), (100.0, 0.0), (0.005, 0.0), (1.0, 500.0)]  # times, plus
HEADS = {
    "probe": ("head.kind=probe",),
    "bigru": ("head.kind=recurrent", "head.hidden=6", "training.clip_norm=5.0", "training.weight_decay=0.01"),
    "transformer": ("head.kind=transformer", "head.width=8", "head.heads=2", "head.layers=1", "head.dropout=0.0"),
}
SHORT = ("training.epochs=12", "training.learning_rate=0.05")


def settings_of(toy: "Toy", task: str, *changes: str) -> Settings:
    if task == "frame_regression":
        return toy.frame_settings(*SHORT, *changes)
    return toy.settings("task=regression", "targets=intensity", *SHORT, *changes)


def relabelled(dataset: Dataset, rows: Sequence[int], change: Callable[[Values], Any]) -> Dataset:
    """The (K,) values, or the (S, K) ones at the stamps, of these rows changed."""
    examples = list(dataset.examples)
    for row in rows:
        old = examples[row].reference
        new = Stamps(old.times, change(old.values)) if isinstance(old, Stamps) else change(np.asarray(old))
        examples[row] = replace(examples[row], reference=new)
    return replace(dataset, examples=examples)


def everywhere(dataset: Dataset, change: Callable[[Values], Any]) -> Dataset:
    return relabelled(dataset, range(len(dataset.examples)), change)


def values_of(result: FoldResult, part: str, target: str) -> tuple[Values, Values]:
    """References and predictions of one part, all stamps in one vector."""
    rows = [row for row in result.predictions.to_pylist() if row["part"] == part]
    return tuple(np.hstack([row[f"{kind}.{target}"] for row in rows]) for kind in ("reference", "prediction"))  # type: ignore[return-value]


def ccc(y: Values, p: Values) -> float:
    """Lin 1989, by numpy's covariance matrix."""
    (vy, cov), (_, vp) = np.cov(y, p, bias=True)
    return float(2 * cov / (vy + vp + (y.mean() - p.mean()) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "mae", "ccc"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("task", ["regression", "frame_regression"])
def test_scores_do_not_depend_on_the_unit_of_the_ratings(toy: "Toy", task: str, head: str, loss: str) -> None:
    settings = settings_of(toy, task, f"loss.kind={loss}", *HEADS[head])
    dataset, folds = toy.load(settings, toy.cache(toy.corpus(clips=9)))
    scores = []
    for factor, offset in UNITS:
        rated = everywhere(dataset, lambda values: factor * values + offset)  # noqa: B023
        result = train_fold(rated, settings, folds[0], 0, CPU)
        y, p = values_of(result, "test", settings.targets[0])
        assert abs(y.mean() - offset) < 3 * factor  # scored in the unit of the corpus
        scores += [ccc(y, p), result.record.selection.value]
    assert min(scores) > 0.5
    assert np.ptp(scores[0::2]) < 0.02 and np.ptp(scores[1::2]) < 0.02


def by_hand(dataset: Dataset, settings: Settings, rows: Sequence[int]) -> tuple[Dataset, StandardScaler]:
    """All values standardised by scikit-learn, on those that training sees of these rows."""
    seen = []
    for row in rows:
        reference = dataset.examples[row].reference
        if isinstance(reference, Stamps):  # at the centres of its frames, which are all near a stamp
            count = len(dataset.features["toy"].of(row))
            at = (np.arange(count) + 0.5) / 20 + settings.label_delay_s
            at = at[np.abs(at[:, None] - reference.times).min(axis=1) <= reference.period + 1e-9]
            seen.append(np.stack([np.interp(at, reference.times, k) for k in reference.values.T], axis=1))
        else:
            seen.append(np.asarray(reference)[None])
    scaler = StandardScaler().fit(np.concatenate(seen))
    return everywhere(dataset, lambda values: scaler.transform(np.atleast_2d(values)).reshape(values.shape)), scaler


def trained_plainly(
    dataset: Dataset, settings: Settings, fold: Fold, epochs: int | None
) -> tuple[int, list[npt.NDArray[Any]]]:
    """The best epoch, and outputs for the test part, of a head that is given its targets as they are.

    Args:
        dataset, settings, fold: of the run. epochs: trains for so many on training and validation part.
    """
    plain = settings.model_copy(update={"targets_scale": None})
    rows = np.union1d(fold.train, fold.valid) if epochs else fold.train
    batches = Batches(dataset, plain, prepare(dataset, plain, rows), CPU)
    loss = make_loss(plain.loss, None)
    torch.manual_seed(0)
    head = build_head(plain.head, Shape(batches.dims, len(plain.targets), plain.per_frame), {})
    validate = partial(validation_score, batches=batches, loss=loss, rows=fold.valid)
    rates = [plain.training.learning_rate] * epochs if epochs else None
    found = train_head(head, batches, rows, plain, loss, 0, None if epochs else validate, rates)
    outputs = predict(found.head, batches, fold.test).outputs
    outputs = list(batches.targets.stamped.outputs_at(outputs, fold.test)) if plain.per_frame else outputs
    return found.epoch, outputs


@pytest.mark.parametrize("refit", ["false", "true"], ids=["once", "refit"])
@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("regression", ("training.optimiser=lbfgs", "training.weight_decay=0.1", "training.learning_rate=1.0")),
        ("regression", (*HEADS["transformer"], "loss.kind=mse_ccc", "augment.mixup=0.4")),
        ("regression", ('targets=["intensity", "position"]', "loss.kind=mse", *HEADS["bigru"])),
        ("frame_regression", ("label_delay_s=0.1", "loss.kind=mae", *HEADS["bigru"])),
        ("frame_regression", ("head.kind=cats", "head.width=8", "head.heads=2", "training.epochs=3")),
    ],
    ids=["lbfgs", "mixup", "two-targets", "delay", "cats"],
)
def test_it_is_what_standardising_by_hand_gives(toy: "Toy", task: str, more: tuple[str, ...], refit: str) -> None:
    settings = settings_of(toy, task, *more, f"selection.refit={refit}")
    assert settings.targets_scale == "train"
    corpus = toy.corpus()
    for row in corpus.rows:
        row.labels["position"] = 1e4 + 50 * float(corpus.frames[row.id][:, 1].mean())  # type: ignore[index]
    dataset, folds = toy.load(settings, toy.cache(corpus))
    fold = folds[0]
    found = train_fold(dataset, settings, fold, 0, CPU)
    scaled, scaler = by_hand(dataset, settings, fold.train.tolist())
    epoch, outputs = trained_plainly(scaled, settings, fold, None)
    assert found.record.selection.best_epoch == epoch
    if settings.selection.refit:
        scaled, scaler = by_hand(dataset, settings, np.union1d(fold.train, fold.valid).tolist())
        _, outputs = trained_plainly(scaled, settings, fold, epoch)
    native = [scaler.inverse_transform(np.atleast_2d(output).astype(np.float64)) for output in outputs]
    for k, target in enumerate(settings.targets):
        _, predicted = values_of(found, "test", target)
        expected = np.hstack([values[:, k] for values in native])
        assert np.allclose(predicted, expected, rtol=0, atol=1e-5 * scaler.scale_[k])
    assert found.transforms["targets.mean"] == pytest.approx(scaler.mean_, rel=1e-6)
    assert found.transforms["targets.std"] == pytest.approx(scaler.scale_, rel=1e-6)


@pytest.mark.parametrize("task", ["regression", "frame_regression"])
def test_the_scale_is_of_the_training_part_alone(toy: "Toy", task: str) -> None:
    settings = settings_of(toy, task, "training.epochs=1")
    dataset, folds = toy.load(settings)
    fold = folds[0]
    clean = train_fold(dataset, settings, fold, 0, CPU).transforms
    elsewhere = relabelled(dataset, [*fold.valid, *fold.test], lambda values: 9 * values + 70)
    same = train_fold(elsewhere, settings, fold, 0, CPU).transforms
    assert (same["targets.mean"], same["targets.std"]) == (clean["targets.mean"], clean["targets.std"])
    refitting = settings_of(toy, task, "training.epochs=1", "selection.refit=true")
    valid = relabelled(dataset, fold.valid.tolist(), lambda values: values + 70)
    assert train_fold(valid, refitting, fold, 0, CPU).transforms["targets.mean"] > clean["targets.mean"] + 20
    test = relabelled(dataset, fold.test.tolist(), lambda values: values + 70)
    both = [train_fold(each, refitting, fold, 0, CPU).transforms["targets.mean"] for each in (dataset, test)]
    assert both[0] == both[1]


def test_each_target_has_a_scale_of_its_own_and_of_its_own_head(toy: "Toy") -> None:
    corpus = toy.corpus()
    for row in corpus.rows:
        row.labels["position"] = 100.0 * float(corpus.frames[row.id][:, 1].mean())  # type: ignore[index]
    changes = ('targets=["intensity", "position"]', "training.epochs=2")
    settings = settings_of(toy, "regression", *changes)
    dataset, folds = toy.load(settings, toy.cache(corpus))
    joint = train_fold(dataset, settings, folds[0], 0, CPU)
    train = np.stack([np.asarray(dataset.examples[row].reference) for row in folds[0].train])
    assert joint.transforms["targets.mean"] == pytest.approx(train.mean(axis=0))
    assert joint.transforms["targets.std"] == pytest.approx(train.std(axis=0))
    apart = train_fold(dataset, settings_of(toy, "regression", *changes, "targets_apart=true"), folds[0], 0, CPU)
    for k, target in enumerate(settings.targets):
        assert apart.transforms[f"{target}.targets.std"] == pytest.approx(train.std(axis=0)[k : k + 1])


def test_scores_of_validation_are_in_the_unit_of_the_corpus_and_the_loss_is_not(toy: "Toy") -> None:
    settings = settings_of(toy, "regression", "selection.metric=rmse")
    dataset, folds = toy.load(settings)
    found = {}
    for factor in (1.0, 100.0):
        rated = everywhere(dataset, lambda values: factor * values)  # noqa: B023
        result = train_fold(rated, settings, folds[0], 0, CPU)
        y, p = values_of(result, "valid", "intensity")
        found[factor] = result.record.selection.value
        assert found[factor] == pytest.approx(math.sqrt(np.mean((y - p) ** 2)), rel=1e-4)
        (best,) = (line for line in result.history if line["epoch"] == result.record.selection.best_epoch)
        std = float(result.transforms["targets.std"][0])
        assert best["valid_loss"] == pytest.approx(np.mean((y - p) ** 2) / std**2, rel=1e-4)
    assert found[100.0] == pytest.approx(100 * found[1.0], rel=1e-3)


@pytest.mark.parametrize("scale", ["train", "none"])
def test_what_a_run_stores_gives_its_predictions_again(toy: "Toy", scale: str) -> None:
    """A probe by hand: pooled, normalised, weighed, and brought back to the unit of the corpus."""
    corpus = toy.corpus()
    for row in corpus.rows:
        row.labels["intensity"] = 500 + 20 * float(corpus.frames[row.id].mean())  # type: ignore[index]
    settings = settings_of(toy, "regression", f"targets_scale={scale}")
    plan = make_plan(toy.cache(corpus), ["toys"], toy.folder / "runs", "small", settings)
    list(Crew(1).train(plan, [(1, 0)]))
    folder = plan.folder(1, 0)
    weights, fitted = (load_file(folder / f"{name}.safetensors") for name in ("weights", "transforms"))
    mean, std = fitted.get("targets.mean", np.zeros(1)), fitted.get("targets.std", np.ones(1))
    assert ("targets.mean" in fitted) == (scale == "train")
    rows = pq.ParquetFile(folder / "predictions.parquet").read().to_pylist()
    pooled = np.stack([corpus.frames[row["id"]].mean(axis=0, dtype=np.float64) for row in rows])
    inputs = (pooled - fitted["frames.normalise.mean"]) / fitted["frames.normalise.std"]
    expected = (inputs @ weights["linear.weight"].T + weights["linear.bias"]) * std + mean
    assert [row["prediction.intensity"] for row in rows] == pytest.approx(expected[:, 0], rel=1e-6)
    assert json.loads((folder / "run.json").read_text())["config"]["targets_scale"] == scale


@pytest.mark.parametrize("task", ["regression", "frame_regression"])
def test_without_a_scale_the_bias_starts_at_the_mean(toy: "Toy", task: str) -> None:
    """Of a probe, which starts at zero otherwise."""
    settings = settings_of(toy, task, "targets_scale=none", "training.epochs=1", "training.learning_rate=1e-9")
    dataset, folds = toy.load(settings)
    rated = everywhere(dataset, lambda values: 2 * values + 500)
    result = train_fold(rated, settings, folds[0], 0, CPU)
    _, scaler = by_hand(rated, settings, folds[0].train.tolist())
    assert result.weights["linear.bias"].numpy() == pytest.approx(scaler.mean_, rel=1e-6)
    assert np.allclose(values_of(result, "test", settings.targets[0])[1], scaler.mean_, rtol=1e-6)
    assert "targets.mean" not in result.transforms


def test_behind_learned_layers_it_is_the_head_s_bias() -> None:
    module = build_head(ProbeSettings(), Shape({"frames": 3}, 2), {"frames": Learned(layers=2)})
    module.start_at(torch.tensor([4.0, 5.0]))
    assert module.state_dict()["head.linear.bias"].tolist() == [4.0, 5.0]


def test_a_constant_target_is_predicted(toy: "Toy") -> None:
    settings = settings_of(toy, "regression")
    dataset, folds = toy.load(settings)
    for constant in (0.0, 0.1, 4.0):
        rated = everywhere(dataset, lambda values: np.full_like(values, constant))  # noqa: B023
        result = train_fold(rated, settings, folds[0], 0, CPU)
        assert result.transforms["targets.std"].tolist() == [1.0]
        assert np.allclose(values_of(result, "test", "intensity")[1], constant, atol=1e-6)
    assert fit_scale(np.zeros((0, 2))).std.tolist() == [1.0, 1.0]


def test_what_is_not_known_is_the_mean_and_does_not_count(toy: "Toy") -> None:
    """Frames past the last label, and padding that a paper counts, are no values 500 below the others."""
    for masking in ("proper", "none"):
        settings = toy.frame_settings(f"masking={masking}")
        dataset, folds = toy.load(settings)
        short = everywhere(dataset, lambda values: values + 500)
        cut = [replace(e, reference=Stamps(e.reference.times[:2], e.reference.values[:2])) for e in short.examples]  # type: ignore[union-attr]
        batches = Batches(replace(short, examples=cut), settings, prepare(short, settings, folds[0].train), CPU)
        batch = batches.gather(folds[0].train)
        assert batch.targets[batch.target_mask].abs().max() < 5
        assert (batch.targets[~batch.target_mask] == 0).all() and not batch.target_mask.all()


BOUNDED = ("head.kind=emotion_share", "head.channels=[4, 4, 4]", "head.hidden=4", "head.feedforward=[4]")


def test_a_bounded_head_learns_targets_as_they_are(toy: "Toy") -> None:
    settings = settings_of(toy, "regression", *BOUNDED, "targets_scale=none")
    assert settings == settings_of(toy, "regression", *BOUNDED) and settings.targets_scale is None
    assert settings_of(toy, "regression", *BOUNDED, "head.output=linear").targets_scale == "train"
    dataset, folds = toy.load(settings)
    shares = everywhere(dataset, lambda values: 1 / (1 + np.exp(-values)))
    result = train_fold(shares, settings, folds[0], 0, CPU)
    assert not [name for name in result.transforms if name.startswith("targets.")]
    assert values_of(result, "test", "intensity")[1].min() >= 0


@pytest.mark.parametrize(
    ("task", "head", "between"),
    [
        ("regression", BOUNDED, "between 0 and 1"),
        ("regression", (*BOUNDED, "head.output=relu"), "between 0 and inf"),
        ("frame_regression", ("head.kind=cats", "head.output=tanh"), "between -1 and 1"),
    ],
    ids=["sigmoid", "relu", "tanh"],
)
def test_what_a_bounded_head_cannot_reach_is_refused(toy: "Toy", task: str, head: Sequence[str], between: str) -> None:
    with pytest.raises(EmocacheError, match=f"targets_scale.*{between}; leave it out, or choose a head.output"):
        settings_of(toy, task, *head, "targets_scale=train")
    settings = settings_of(toy, task, *head)
    dataset, folds = toy.load(settings)
    rated = everywhere(dataset, lambda values: values - 7)
    with pytest.raises(EmocacheError, match=r"target '\w+' goes from .* in the training part, .* only; choose a head"):
        train_fold(rated, settings, folds[0], 0, CPU)
    inside = relabelled(rated, folds[0].train.tolist(), lambda values: 1 / (1 + np.exp(-values)))
    train_fold(inside, settings, folds[0], 0, CPU)


@pytest.mark.parametrize("changes", [(), ("task=distribution", 'targets=["a", "b"]')], ids=["classes", "shares"])
def test_what_has_no_unit_has_no_scale(toy: "Toy", changes: tuple[str, ...]) -> None:
    assert toy.settings(*changes).targets_scale is None
    assert toy.settings(*changes, "targets_scale=none") == toy.settings(*changes)
    with pytest.raises(EmocacheError, match="targets_scale is the unit of numbers; leave it out for task"):
        toy.settings(*changes, "targets_scale=train")


def test_a_search_has_one_scale(toy: "Toy") -> None:
    common = ("task=regression", "targets=intensity", *BOUNDED)
    with pytest.raises(EmocacheError, match=r"search: head\.output would try heads with bounded outputs beside others"):
        toy.settings(*common, 'search.head.output=["sigmoid", "linear"]')
    same = toy.settings(*common, 'search.head.output=["sigmoid", "relu"]')
    assert {point.targets_scale for _, point in search_points(same)} == {None}


def test_the_papers_readings_take_values_as_they_are() -> None:
    assert load_settings("paper1/faithful-av-cats-arousal")[1].targets_scale == "none"
    assert load_settings("paper1/av-cats-arousal")[1].targets_scale == "train"
    assert load_settings("paper2/faithful-hubert-base-arch1")[1].targets_scale is None
    assert load_settings("paper2/transformer")[1].targets_scale == "train"
