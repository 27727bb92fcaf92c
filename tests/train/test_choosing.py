"""Less noise in the choice: parts that validate in turn, means of the best settings, grids that widen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emocache.cache import EmocacheError
from emocache.evaluate.scoring.breakdowns.histories import curves
from emocache.evaluate.scoring.result_groups import group
from emocache.evaluate.scoring.stored_runs import discover
from emocache.train.apply.opening_runs import open_models
from emocache.train.config.search import WIDENINGS, beyond, search_points, wider
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.fit.fold_result import FoldResult
from emocache.train.fit.fold_run import FoldRun, Round
from emocache.train.fit.loop import Diverged
from emocache.train.fit.train_fold import train_fold
from emocache.train.protocols.folds import Fold, Rows, make_folds, split_sha256
from emocache.train.run.crew import Crew
from emocache.train.run.request import Request, carry_out, carry_out_final
from emocache.train.stored.run_folders import read_history, read_record, recorded

from .test_fold import poisoned, relabelled, same, same_weights

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
NESTED = ("protocol.validation=nested", "protocol.validation_folds=2")
LBFGS = ("head.kind=probe", "training.optimiser=lbfgs", "training.learning_rate=1.0", "training.epochs=4")
GRU = ("head.kind=recurrent", "head.hidden=4", "head.dropout=0.2", "training.epochs=4", "training.patience=2")
VALUES = ("task=regression", "targets=intensity", "training.epochs=6")


def of_part(result: FoldResult, part: str, columns: Sequence[str] = ()) -> npt.NDArray[np.float64]:
    """The numbers that were predicted of one part: probabilities, or the given columns."""
    table = result.predictions.filter(pc.equal(result.predictions["part"], part))
    names = columns or [name for name in table.column_names if name.startswith("prob.")]
    return np.stack([table[name].to_numpy() for name in names], axis=1)


def ids(result: FoldResult, part: str) -> list[str]:
    return result.predictions.filter(pc.equal(result.predictions["part"], part))["id"].to_pylist()  # type: ignore[no-any-return]


# Parts


@pytest.mark.parametrize(
    "changes",
    [("protocol.name=leave_one_out",), ("protocol.assignment=balanced",), ("protocol.validation_group=session",),
     ("protocol.name=random_folds", "protocol.stratify=true")],
    ids=["leave one out", "balanced", "sessions", "random"],
)  # fmt: skip
def test_every_part_of_training_validates_once_and_whole(toy: "Toy", changes: tuple[str, ...]) -> None:
    settings = toy.settings(*changes, *NESTED)
    dataset, folds = toy.load(settings)
    for fold in folds:
        assert len(fold.nested) == 2 and fold.rounds == fold.nested
        validated = np.concatenate([one.valid for one in fold.nested])
        assert sorted(validated) == fold.train.tolist() == fold.valid.tolist()
        for one in fold.nested:
            assert sorted([*one.train, *one.valid]) == fold.train.tolist() and not {*one.train} & {*one.valid}
            assert one.test.tolist() == fold.test.tolist() and not {*fold.train} & {*fold.test}
            held = [[dataset.examples[row].speaker for row in rows] for rows in (one.train, one.valid)]
            if settings.protocol.name != "random_folds":
                assert not {*held[0]} & {*held[1]}
            else:
                counts = Counter(dataset.examples[row].reference for row in one.valid)
                assert max(counts.values()) - min(counts.values()) <= 1
    order = np.random.default_rng(0).permutation(len(dataset.examples))
    again = make_folds([dataset.examples[row] for row in order], settings.protocol)
    for fold, other in zip(folds, again, strict=True):
        for one, shuffled in zip(fold.nested, other.nested, strict=True):
            assert one.valid.tolist() == sorted(order[shuffled.valid].tolist())
    if settings.protocol.validation_group is None:
        three = make_folds(dataset.examples, settings.protocol.model_copy(update={"validation_folds": 3}))
        assert split_sha256(dataset.examples, folds) != split_sha256(dataset.examples, three)


def test_too_few_groups_are_told_with_the_remedy(toy: "Toy") -> None:
    text = (
        "group_folds: 5 parts that validate in turn need as many speakers in a training part, and there are 4; set"
        " protocol.validation_folds to at most 4, or protocol.validation = 'fraction'"
    )
    with pytest.raises(EmocacheError) as error:
        toy.load(toy.settings("protocol.validation=nested"))
    assert text in str(error.value)


def test_what_is_at_its_default_is_not_recorded(toy: "Toy") -> None:
    """Or a run from before it, and one from after it, would differ by it in every table."""
    config = recorded(toy.settings())
    assert "validation_folds" not in config["protocol"] and not {"average", "widen"} & set(config["selection"])
    config = recorded(toy.settings(*NESTED, "selection.widen=true"))
    assert config["protocol"]["validation_folds"] == 2 and config["selection"]["widen"] is True


# In turn, by hand


def by_hand(dataset: Dataset, settings: Settings, fold: Fold) -> tuple[int, FoldResult]:
    """The number of the point that is best over all inner parts, and its head, trained by what is told in docs."""
    found = []
    for number, (_, point) in enumerate(search_points(settings)):
        hits, losses, epochs = [], [], []
        for inner in fold.nested:
            one = train_fold(dataset, point, Fold(inner.train, inner.valid, fold.test), 0, CPU)
            valid = one.predictions.filter(pc.equal(one.predictions["part"], "valid"))
            hits += [
                r == p for r, p in zip(valid["reference"].to_pylist(), valid["prediction"].to_pylist(), strict=True)
            ]
            epochs.append(one.record.selection.best_epoch or 0)
            losses += [one.history[epochs[-1] - 1]["valid_loss"]] * len(inner.valid)
        found.append((np.mean(hits), -np.mean(losses), -number, sorted(epochs)[(len(epochs) - 1) // 2]))
    best = max(found)
    _, point = list(search_points(settings))[-best[2]]
    # The last of so many epochs, whatever is validated: nobody chooses any more.
    training = point.training.model_copy(update={"epochs": best[3], "patience": 99})
    last = point.model_copy(update={"training": training, "selection": point.selection.model_copy(
        update={"epoch": "last"})})  # fmt: skip
    return -best[2], train_fold(dataset, last, Fold(fold.train, fold.test, fold.test), 0, CPU)


@pytest.mark.parametrize(
    "changes",
    [(*LBFGS, "search.training.weight_decay=[0.001,0.1,1.0]"), (*GRU, "search.training.learning_rate=[0.001,0.05]"),
     ("training.optimiser=ridge", "search.head.pooling=['mean','mean_std']")],
    ids=["lbfgs", "gru", "ridge"],
)  # fmt: skip
def test_nested_validation_is_the_loop_by_hand(toy: "Toy", changes: tuple[str, ...]) -> None:
    settings = toy.settings(*changes, *NESTED)
    dataset, folds = toy.load(settings, toy.cache(toy.corpus(separation=0.7)))
    result = train_fold(dataset, settings, folds[1], 0, CPU)
    number, expected = by_hand(dataset, settings, folds[1])
    selection = result.record.selection
    assert selection.chosen == list(search_points(settings))[number][0]
    assert selection.parts == 2 and selection.refit and len(selection.tried) == len(list(search_points(settings)))
    np.testing.assert_allclose(of_part(result, "test"), of_part(expected, "test"), rtol=0, atol=1e-6)
    # What validates is predicted by the head that has not seen it, each utterance once.
    assert len(ids(result, "valid")) == len(set(ids(result, "valid"))) == len(folds[1].train)
    phases = Counter((line["phase"], line.get("inner")) for line in result.history)
    assert phases["refit", None] == selection.best_epoch and {("search", 1), ("search", 2)} < set(phases)


def test_the_test_part_is_never_looked_at(toy: "Toy") -> None:
    changes = (*GRU, *NESTED, "search.training.learning_rate=[0.001,0.05,0.1]", "selection.average=2")
    settings = toy.settings(*changes, "selection.widen=true")
    dataset, folds = toy.load(settings)
    clean = train_fold(dataset, settings, folds[0], 0, CPU)
    for other in (poisoned(dataset, folds[0].test, float("nan")), relabelled(dataset, folds[0].test)):
        again = train_fold(other, settings, folds[0], 0, CPU)
        assert same(clean, again) and clean.record.selection == again.record.selection
    assert not same_weights(clean, train_fold(poisoned(dataset, folds[0].train[:1], 9.0), settings, folds[0], 0, CPU))


# Against scikit-learn


def pooled(dataset: Dataset, rows: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
    """The mean frame, the reference and the speaker of each of some rows."""
    features = dataset.features["toy"]
    means = [features.frames[features.offsets[row] : features.offsets[row + 1]].mean(axis=0) for row in rows]
    references = [np.ravel(np.asarray(dataset.examples[row].reference))[0] for row in rows]
    return np.stack(means), np.array(references), [dataset.examples[row].speaker or "" for row in rows]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_leave_speakers_out_chooses_as_scikit_learn_does(toy: "Toy", task: str) -> None:
    decays = [0.03, 0.3, 3.0, 30.0] if task == "regression" else [0.003, 0.03, 0.3, 3.0]
    kind = ("task=regression", "targets=intensity") if task == "regression" else ()
    settings = toy.settings(
        *kind, *LBFGS, "training.epochs=12", "training.patience=99", "selection.metric=loss", "selection.epoch=last",
        f"search.training.weight_decay={decays}", "protocol.validation=nested", "protocol.validation_folds=4",
    )  # fmt: skip
    dataset, folds = toy.load(settings, toy.cache(toy.corpus(separation=0.5)))
    if task == "regression":
        noise = np.random.default_rng(0).normal(size=len(dataset.examples))
        examples = [
            replace(e, reference=np.asarray(e.reference) + n) for e, n in zip(dataset.examples, noise, strict=True)
        ]
        dataset = replace(dataset, examples=examples)
    fold = folds[2]
    (x, y, speakers), (unseen, _, _) = pooled(dataset, fold.train), pooled(dataset, fold.test)

    def model(decay: float, count: int) -> Any:
        """The same objective: scikit-learn's are sums over `count` utterances."""
        linear = LogisticRegression(C=1 / (decay * count), tol=1e-9, max_iter=10_000)
        return make_pipeline(StandardScaler(), Ridge(decay * count / 2) if task == "regression" else linear)

    losses = []
    for decay in decays:
        how = {"groups": speakers, "cv": LeaveOneGroupOut()}
        if task == "classification":
            guessed = cross_val_predict(model(decay, 18), x, y, method="predict_proba", **how)
            losses.append(log_loss(y, guessed))
            continue
        # The head's loss is of standardised targets, and so each part's in the unit of its own training part.
        errors = (cross_val_predict(model(decay, 18), x, y, **how) - y) ** 2
        others = [y[np.array(speakers) != speaker].var() for speaker in speakers]
        losses.append(float(np.mean(errors / np.array(others))))
    result = train_fold(dataset, settings, fold, 0, CPU)
    tried = [one.value for one in result.record.selection.tried]
    np.testing.assert_allclose(tried, losses, rtol=2e-3)
    best = decays[int(np.argmin(losses))]
    assert result.record.selection.chosen == {"training.weight_decay": best} and best not in (decays[0], decays[-1])
    whole = model(best, 24).fit(x, y)
    if task == "classification":
        np.testing.assert_allclose(of_part(result, "test"), whole.predict_proba(unseen), atol=2e-3)
    else:
        found = of_part(result, "test", ["prediction.intensity"])[:, 0]
        np.testing.assert_allclose(found, whole.predict(unseen), atol=2e-3)


# The mean of the best


def alone(
    toy: "Toy", dataset: Dataset, fold: Fold, changes: Sequence[str], key: str, values: Sequence[Any]
) -> list[FoldResult]:
    """Each setting trained by itself, the best on validation first."""
    made = [train_fold(dataset, toy.settings(*changes, f"{key}={value}"), fold, 0, CPU) for value in values]
    loss = [min(line["valid_loss"] for line in one.history if "valid_loss" in line) for one in made]
    order = sorted(range(len(made)), key=lambda k: (-made[k].record.selection.value, loss[k]))
    return [made[k] for k in order]


@pytest.mark.parametrize(
    ("changes", "columns"),
    [((*GRU,), ()), ((*GRU, *NESTED), ()), ((*VALUES,), ("prediction.intensity",)),
     ((*VALUES, *NESTED, "selection.refit=true"), ("prediction.intensity",))],
    ids=["classes", "classes nested", "values", "values nested"],
)  # fmt: skip
def test_the_mean_of_the_best_settings_is_that_of_heads_trained_alone(
    toy: "Toy", changes: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    rates = [0.0001, 0.02, 0.05, 0.1]
    searched = (*changes, f"search.training.learning_rate={rates}")
    dataset, folds = toy.load(toy.settings(*searched), toy.cache(toy.corpus(separation=0.7)))
    best = alone(toy, dataset, folds[0], changes, "training.learning_rate", rates)
    mean = train_fold(dataset, toy.settings(*searched, "selection.average=3"), folds[0], 0, CPU)
    for part in ("valid", "test"):
        expected = np.mean([of_part(one, part, columns) for one in best[:3]], axis=0)
        np.testing.assert_allclose(of_part(mean, part, columns), expected, rtol=0, atol=1e-12)
    selection = mean.record.selection
    assert len(selection.averaged) == 3 and len(selection.tried) == 4
    assert [one.value for one in selection.averaged] == [one.record.selection.value for one in best[:3]]
    assert mean.record.parameters == sum(one.record.parameters for one in best[:3])
    assert {name.partition(".")[0] for name in mean.weights} == {"head-1", "head-2", "head-3"}
    for number, one in enumerate(best[:3], 1):
        assert all(torch.equal(mean.weights[f"head-{number}.{name}"], weight) for name, weight in one.weights.items())
    if not columns:
        table = mean.predictions
        names = [name.removeprefix("prob.") for name in table.column_names if name.startswith("prob.")]
        every = np.concatenate([of_part(mean, "valid"), of_part(mean, "test")])
        assert table["prediction"].to_pylist() == [names[k] for k in every.argmax(axis=1)]
        valid = table.filter(pc.equal(table["part"], "valid"))
        hits = np.mean(np.array(valid["prediction"].to_pylist()) == np.array(valid["reference"].to_pylist()))
        assert selection.value == pytest.approx(hits)
    first = train_fold(dataset, toy.settings(*searched, "selection.average=1"), folds[0], 0, CPU)
    assert same(first, best[0]) and not first.record.selection.averaged


def test_the_mean_over_time_at_the_label_stamps(toy: "Toy") -> None:
    changes = ("training.epochs=3", "search.features.average_frames=[1,2,3]")
    settings = toy.frame_settings(*changes, "selection.average=2")
    dataset, folds = toy.load(settings)
    mean = train_fold(dataset, settings, folds[0], 0, CPU)
    values = [one.settings["features.average_frames"] for one in mean.record.selection.averaged]
    each = [
        train_fold(
            dataset, toy.frame_settings("training.epochs=3", f"features.average_frames={value}"), folds[0], 0, CPU
        )
        for value in values
    ]
    assert mean.predictions.drop_columns(["prediction.valence", "present"]).equals(
        each[0].predictions.drop_columns(["prediction.valence", "present"])
    )
    tables = [one.predictions["prediction.valence"].to_pylist() for one in (mean, *each)]
    for found, one, other in zip(*tables, strict=True):
        np.testing.assert_allclose(found, np.mean([one, other], axis=0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("selection.average=3", "search.head.pooling=['mean','mean_std']"),
         r"small.toml .--set.: selection.average = 3 takes the mean of as many settings, and the search has 2; list"),
        (("selection.average=2",), r"selection.average = 2 takes the mean of as many settings, and the search has 1"),
        (("selection.average=2", "keep=['attention']"), r"keep stores what one head gives; selection.average trains"),
        (("selection.average=0",), r"selection.average: Input should be greater than or equal to 1"),
        (("protocol.validation_folds=1",), r"protocol.validation_folds: Input should be greater than or equal to 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_averaged_is_refused(toy: "Toy", changes: tuple[str, ...], told: str) -> None:
    with pytest.raises(EmocacheError, match=told):
        toy.settings(*changes)


# Grids that widen


@pytest.mark.parametrize(
    ("values", "chosen", "new"),
    [
        ((0.01, 0.1, 1.0), 1.0, 10.0), ((0.01, 0.1, 1.0), 0.01, 0.001), ((0.01, 0.1, 1.0), 0.1, None),
        ((1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1), 3e-1, 0.9), ((0.0, 0.1, 0.2), 0.2, 0.3), ((0.0, 0.1, 0.2), 0.0, None),
        ((0.0, 0.1, 0.3), 0.3, 0.9), ((1.0, 0.1, 0.01), 1.0, 10.0), ((0.1, 0.2, 0.3), 0.1, 0.0), ((1, 2, 3), 1, None),
        ((1, 2, 3), 3, 4), ((64, 128, 256), 64, 32), ((3, 5, 8), 8, 13), ((0.1, 1.0), 1.0, None),
        (("a", "b", "c"), "c", None), ((0.1, "none", 1.0), 1.0, None), ((False, True, 2), 2, None),
        ((-1, 0, 2), -1, -2),
    ],
)  # fmt: skip
def test_a_grid_goes_on_as_it_is(values: tuple[Any, ...], chosen: Any, new: Any) -> None:
    assert beyond(values, chosen) == new


def test_only_what_is_allowed_and_known_to_fit_is_tried_beyond(toy: "Toy") -> None:
    settings = toy.settings("search.features.pca=[2,3,4]", "search.augment.noise=[0.1,0.2,0.3]",
                            "search.loss.label_smoothing=[0.5,0.7,0.9]")  # fmt: skip
    chosen = {"features.pca": 4, "augment.noise": 0.3, "loss.label_smoothing": 0.9}
    wide = wider(settings, chosen)
    assert wide is not None and wide.search["augment.noise"] == (0.1, 0.2, 0.3, 0.4)
    # A smoothing of 1.1 is none, and the frames may not have five components.
    assert [wide.search[key] for key in ("features.pca", "loss.label_smoothing")] == [(2, 3, 4), (0.5, 0.7, 0.9)]
    assert wider(settings, {"features.pca": 4, "augment.noise": 0.2, "loss.label_smoothing": 0.9}) is None


def test_a_widened_search_is_that_of_the_whole_grid(toy: "Toy") -> None:
    common = ("training.epochs=3", "selection.metric=loss")
    settings = toy.settings(*common, "search.training.learning_rate=[1e-6,1e-5,1e-4]", "selection.widen=true")
    dataset, folds = toy.load(settings)
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    assert WIDENINGS == 3 and result.record.selection.grid == {
        "training.learning_rate": (1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1)
    }
    whole = toy.settings(*common, "search.training.learning_rate=[1e-6,1e-5,1e-4,0.001,0.01,0.1]")
    listed = train_fold(dataset, whole, folds[0], 0, CPU)
    assert same(result, listed) and result.predictions.equals(listed.predictions)
    assert result.record.selection.tried == listed.record.selection.tried and not listed.record.selection.grid
    assert result.record.warnings == listed.record.warnings  # an end that is still the best one is told
    narrow = train_fold(
        dataset, toy.settings(*common, "search.training.learning_rate=[1e-6,1e-5,1e-4]"), folds[0], 0, CPU
    )
    assert len(narrow.record.selection.tried) == 3
    assert "search at its edge" in [one.kind for one in narrow.record.warnings]


def test_what_diverges_beyond_a_grid_ends_its_widening(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    def validated(run: FoldRun, chosen: dict[str, Any], *args: Any, **told: Any) -> Round:
        if chosen["training.learning_rate"] > 5e-4:
            raise Diverged("the training loss is inf")
        return own(run, chosen, *args, **told)

    own = FoldRun.validated
    settings = toy.settings("training.epochs=2", "selection.metric=loss", "selection.widen=true",
                            "search.training.learning_rate=[1e-6,1e-5,1e-4]")  # fmt: skip
    dataset, folds = toy.load(settings)
    monkeypatch.setattr(FoldRun, "validated", validated)
    selection = train_fold(dataset, settings, folds[0], 0, CPU).record.selection
    assert selection.chosen == {"training.learning_rate": 1e-4} and len(selection.tried) == 3
    listed = toy.settings("search.training.learning_rate=[1e-6,1e-5,1e-3]")
    with pytest.raises(Diverged):
        train_fold(dataset, listed, folds[0], 0, CPU)


# Stored, told and applied


def test_stored_runs_tell_of_their_choice_and_a_final_run_follows_it(toy: "Toy") -> None:
    changes = (*LBFGS, *NESTED, "search.training.weight_decay=[0.001,0.01,0.1]", "selection.average=2",
               "selection.widen=true", "selection.metric=loss")  # fmt: skip
    request = Request(toy.cache(), ["toys"], toy.folder / "runs", changes)
    plan = request.plan(request.experiment(toy.experiment()))
    lines = list(carry_out(plan, Crew(1), False))
    assert (
        "search: 3 settings of training.weight_decay, and up to 3 times beyond a grid whose end is best tried in each"
        " fold and seed; validation chooses the 2 whose mean predicts"
    ) in lines
    assert (
        "nested: 2 parts of the training part validate in turn; then all of it trains, for the median of their epochs"
    ) in lines
    assert any("averaged with the 1 next best; beyond the grid: training.weight_decay 0.0001" in line for line in lines)
    records = [read_record(plan.folder(fold, 0)) for fold in range(3)]
    (result,) = group(discover([toy.folder / "runs"]))
    widest = max(len(record.selection.tried) for record in records)
    assert (result.trials, result.trainings) == (widest, 2 * widest)
    phases = {curve.phase for curve in curves(result)}
    assert {"head 1 part 1 search", "head 2 part 2 search", "head 2 refit"} <= phases

    (model,) = open_models(plan.folder(0, 0)).models
    assert [part.settings.training.weight_decay for part in model.parts] == [
        one.settings["training.weight_decay"] for one in records[0].selection.averaged
    ]
    assert "by the votes of 3 runs" in carry_out_final(plan)
    final = plan.folder(0, 0).parent / "final-seed0"
    averaged = read_record(final).selection.averaged
    counts = Counter(str(one.settings) for record in records for one in record.selection.averaged)
    assert sorted((counts[str(one.settings)] for one in averaged), reverse=True) == sorted(counts.values())[::-1][:2]
    assert Counter(line["head"] for line in read_history(final)) == {n: one.epoch for n, one in enumerate(averaged, 1)}
    assert len(open_models(plan.folder(0, 0).parent).models[0].parts) == 2


def test_targets_apart_are_chosen_and_averaged_each_by_itself(toy: "Toy") -> None:
    changes = ("task=regression", 'targets=["intensity","other"]', "targets_apart=true", "training.epochs=2", *NESTED)
    corpus = toy.corpus()
    lengths = [float(len(corpus.frames[row.id])) for row in corpus.rows]
    corpus.rows = [
        replace(row, labels={**row.labels, "other": length} if number % 3 else row.labels)
        for number, (row, length) in enumerate(zip(corpus.rows, lengths, strict=True))
    ]
    searched = (*changes, "search.training.learning_rate=[0.1,0.01,0.001]", "selection.average=2")
    request = Request(toy.cache(corpus), ["toys"], toy.folder / "runs", searched)
    plan = request.plan(request.experiment(toy.experiment()))
    list(carry_out(plan, Crew(1), False))
    record = read_record(plan.folder(0, 0))
    assert {target: len(one.averaged) for target, one in record.selection.by_target.items()} == {
        "intensity": 2,
        "other": 2,
    }
    (model,) = open_models(plan.folder(0, 0)).models
    assert [len(those) for those in model.heads] == [2, 2]
