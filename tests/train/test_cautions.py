"""What is warned of: each thing once, where it holds and nowhere else."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from emocache.cache import Cache
from emocache.train.config.loading import load_experiment
from emocache.train.config.sections import Protocol
from emocache.train.data.dataset import Dataset
from emocache.train.data.example import Example, Stamps
from emocache.train.fit.cautions import Warned, of_epochs, of_features, of_groups, of_parts, of_search, warned
from emocache.train.fit.train_fold import train_fold
from emocache.train.inputs.transforms import prepare
from emocache.train.protocols.folds import Fold, make_folds
from emocache.train.records.metrics import FEWEST_GROUPS, balanced_accuracy
from emocache.train.records.run_record import Caution
from emocache.train.run.crew import Crew
from emocache.train.run.experiment_plan import make_plan
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.run_folders import read_record

if TYPE_CHECKING:
    from .conftest import Toy

CLASSES = ("angry", "happy", "sad")


def dataset_of(references: Sequence[Any], absent: Sequence[int] = ()) -> Dataset:
    examples = [Example("toys", f"{row:03}", f"S{row}", None, None, None, r) for row, r in enumerate(references)]
    present = ~np.isin(np.arange(len(examples)), absent)
    return Dataset(examples, CLASSES, {}, present)


def fold_of(*sizes: int) -> Fold:
    return Fold(*np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:2]))


def kinds(found: Sequence[Caution]) -> list[str]:
    return [caution.kind for caution in found]


def test_a_fold_with_every_class_everywhere_is_not_warned_of(toy: "Toy") -> None:
    assert of_parts(dataset_of([0, 1, 2] * 3), toy.settings(), fold_of(3, 3, 3), 3) == []


def test_what_the_parts_lack_of_the_classes(toy: "Toy") -> None:
    settings = toy.settings()
    found = of_parts(dataset_of([0, 1, 0, 1, 1, 1, 0, 2]), settings, fold_of(4, 2, 2), 3)
    assert kinds(found) == ["class never trained", "one class in validation", "class not tested"]
    assert found[0].text.startswith("class 'sad' is tested but never trained, so that its recall is 0; use ")
    assert found[1].text.startswith("the validation part has class 'happy' only, from which nothing can be ")
    assert found[2].text == (
        "class 'happy' is not in the test part, and balanced_accuracy (UA) is over the other classes; even a constant"
        " guess then scores high there, and in the mean over folds; read the pooled score, use fewer folds, or"
        " random_folds with protocol.stratify"
    )
    (single,) = of_parts(dataset_of([0, 1, 2, 0, 1, 2, 0, 2]), settings, fold_of(3, 3, 2), 1)
    assert single.text.endswith("over the other classes; test on utterances that have it, or leave it out with labels")
    assert kinds(of_parts(dataset_of([2, 2, 0, 1, 2, 0, 1, 2]), settings, fold_of(2, 3, 3), 3)) == [
        "class never trained", "class never trained", "one class in training"
    ]  # fmt: skip


def test_only_what_has_features_trains_and_a_refit_trains_on_validation_as_well(toy: "Toy") -> None:
    references = [0, 1, 2, 0, 1, 2, 0, 1, 2]
    lacking = dataset_of(references, absent=[2])
    assert kinds(of_parts(lacking, toy.settings(), fold_of(3, 3, 3), 3)) == ["class never trained"]
    assert of_parts(lacking, toy.settings("selection.refit=true"), fold_of(3, 3, 3), 3) == []
    untested = dataset_of(references, absent=[8])  # scored as the prior, or left out
    assert of_parts(untested, toy.settings(), fold_of(3, 3, 3), 3) == []
    assert kinds(of_parts(untested, toy.settings("missing=intersect"), fold_of(3, 3, 3), 3)) == ["class not tested"]


def test_one_of_505_shows_why_the_mean_over_folds_is_not_to_be_read(toy: "Toy") -> None:
    references = np.zeros(505, np.int64)
    references[0] = 1
    folds = np.array_split(np.arange(505), 10)
    majority = [balanced_accuracy(references[rows], np.zeros(len(rows), np.int64)).value for rows in folds]
    assert np.mean(majority) == pytest.approx(0.95)
    assert balanced_accuracy(references, np.zeros(505, np.int64)).value == 0.5
    dataset = replace(dataset_of(references.tolist()), classes=("common", "rare"))
    told = [of_parts(dataset, toy.settings(), Fold(folds[k - 2], folds[k - 1], folds[k]), 10) for k in range(10)]
    assert [kinds(one).count("class not tested") for one in told] == [0, *([1] * 9)]


def test_values_that_are_all_the_same(toy: "Toy") -> None:
    settings = toy.settings("task=regression", 'targets=["valence", "arousal"]')
    values = np.array([[1, 5], [1, 6], [2, 5], [3, 5], [1, 1], [2, 2]], np.float64)
    found = of_parts(dataset_of(list(values)), settings, fold_of(3, 1, 2), 3)
    assert kinds(found) == ["constant validation"] * 2
    assert found[0].text == (
        "valence is 3 in all of the validation part, from which nothing can be learned or chosen; use fewer folds, or"
        " another protocol.validation"
    )
    assert found[1].text.startswith("arousal is 5 ")
    assert kinds(of_parts(dataset_of(list(values)), settings, fold_of(2, 2, 2), 3)) == [
        "constant training", "constant validation"
    ]  # fmt: skip
    values[:2, 1] = np.nan  # unknown: targets apart
    assert kinds(of_parts(dataset_of(list(values)), settings, fold_of(2, 2, 2), 3))[0] == "constant training"
    tracks = [Stamps(np.arange(2.0), np.array([[0.0, k], [1.0, k]])) for k in (3, 3, 4, 5, 6)]
    framed = toy.frame_settings('targets=["valence", "arousal"]')
    (one,) = of_parts(dataset_of(tracks), framed, fold_of(2, 2, 1), 3)
    assert one.kind == "constant training" and one.text.startswith("arousal is 3 ")


@pytest.mark.parametrize("count", [19, 20])
def test_too_few_groups(count: int) -> None:
    examples = [Example("toys", f"{s}-{c}", f"S{s}", None, None, None, c) for s in range(count) for c in range(2)]
    found = of_groups(examples, make_folds(examples, Protocol()), Protocol())
    assert kinds(found) == (["fewer than 20 groups"] if count < 20 else []) and FEWEST_GROUPS == 20
    if count == 20:
        twins = [replace(e, recordings=("r",)) if e.id in ("0-0", "1-0") else e for e in examples]
        (one,) = of_groups(twins, make_folds(twins, Protocol()), Protocol())
        assert one.text.startswith("intervals are drawn from 19 groups ")


def test_features_from_which_nothing_can_be_learned(toy: "Toy") -> None:
    corpus = toy.corpus(speakers=3)
    cache = toy.cache(corpus)
    flat = {i: np.full((len(f), 4), 0.25, np.float32) for i, f in corpus.frames.items()}
    toy.commit(cache, "toys", "flat", flat)
    noise = {i: f + np.float32(1e-6) * corpus.frames[i][:, :4] for i, f in flat.items()}
    toy.commit(cache, "toys", "rounded", noise)
    late = {i: f + (i.startswith("spk3")) for i, f in flat.items()}
    toy.commit(cache, "toys", "late", late)
    some = {i: np.concatenate([f, corpus.frames[i]], axis=1) for i, f in flat.items()}
    toy.commit(cache, "toys", "some", some)

    def told(*changes: str, rows: int = 12) -> list[str]:
        settings = toy.settings(*changes)
        dataset, _ = toy.load(settings, cache)
        fitted = np.arange(rows)
        return [
            c.text.partition(" are the same")[0]
            for c in of_features(prepare(dataset, settings, fitted), fitted, settings)
        ]

    assert told() == told("streams=some") == told("features.normalise=none") == told("head.kind=recurrent") == []
    assert told("streams=flat") == told("streams=flat", "head.kind=transformer") == ["stream 'flat': all 4 channels"]
    assert told("streams=rounded") == ["stream 'rounded': all 4 channels"]
    assert told('streams=["toy", "flat"]') == ["stream 'flat': all 4 channels"]
    assert told("streams=late") == ["stream 'late': all 4 channels"] and told("streams=late", rows=18) == []
    assert told("features.normalise=per_utterance") == ["stream 'toy': all 8 channels"]  # of one pooled frame
    assert told("features.normalise=per_utterance", "head.kind=recurrent") == []
    assert told('streams=["toy", "flat"]', "features.pca=2") == []


@pytest.mark.parametrize(
    ("values", "chosen", "told"),
    [
        ("[1e-3, 1e-2, 1e-1]", 0.1, "largest"),
        ("[1e-3, 1e-2, 1e-1]", 0.001, "smallest"),
        ("[1e-1, 1e-2, 1e-3]", 0.001, "smallest"),
        ("[1e-3, 1e-2, 1e-1]", 0.01, None),
        ("[1e-3, 1e-2]", 0.001, None),  # of two values each is at an end
        ("[0, 0.1, 0.2]", 0.0, None),  # nothing is below
        ("[0, 0.1, 0.2]", 0.2, "largest"),
    ],
)
def test_a_choice_at_the_edge_of_what_was_tried(toy: "Toy", values: str, chosen: float, told: str | None) -> None:
    settings = toy.settings(f"search.training.weight_decay={values}", 'search.streams=[["toy"], ["a"], ["b"]]')
    found = of_search(settings, {"training.weight_decay": chosen, "streams": ["b"]})
    assert kinds(found) == ([] if told is None else ["search at its edge"])
    assert told is None or f"training.weight_decay = {chosen:g} is the {told} value tried" in found[0].text
    layers = toy.settings("search.features.average_frames=[1, 2, 4]")
    assert of_search(layers, {"features.average_frames": 1}) == []
    assert kinds(of_search(layers, {"features.average_frames": 4})) == ["search at its edge"]


@pytest.mark.parametrize(
    ("changes", "best", "trained", "kind"),
    [
        ((), 1, 11, "best epoch first"),
        ((), 15, 15, "best epoch last"),
        ((), 7, 15, None),
        ((), 3, 13, None),  # stopped early
        (("training.epochs=1",), 1, 1, None),  # nothing was to be chosen
        (("selection.epoch=last",), 15, 15, None),
        (("training.optimiser=lbfgs",), 15, 15, None),  # has converged
        (("training.optimiser=lbfgs",), 1, 4, None),
        (("training.schedule=cosine",), 15, 15, None),  # is meant to end there
        (("training.schedule=cosine",), 1, 11, "best epoch first"),
    ],
)
def test_the_best_epoch_at_an_end(
    toy: "Toy", changes: tuple[str, ...], best: int, trained: int, kind: str | None
) -> None:
    scores = [-abs(epoch - best) / 10 for epoch in range(1, trained + 1)]
    assert kinds(of_epochs(toy.settings(*changes), best, scores)) == ([] if kind is None else [kind])


def test_a_last_epoch_that_was_chosen_for_its_loss_alone_is_well(toy: "Toy") -> None:
    """Accuracies of a few clips are often equal; of equals the smallest loss is best, which may fall for ever."""
    assert of_epochs(toy.settings(), 15, [0.5, *([1.0] * 14)]) == []
    assert kinds(of_epochs(toy.settings(), 1, [0.0] * 11)) == ["best epoch first"]  # a dead head


def test_each_thing_is_told_once_with_where_it_holds() -> None:
    few, rare = Caution("few", "few groups"), Caution("class not tested", "class 'x'")
    found = {fold: [few, *([rare] if fold % 2 else [])] for fold in range(40)}
    lines = list(warned(found, "fold"))
    assert lines == [
        "warning: few (all 40 folds): few groups",
        "warning: class not tested (20 of 40 folds: 1, 3, 5, 7, 9, 11, ...): class 'x'",
    ]
    assert all(isinstance(line, Warned) for line in lines)
    assert list(warned({(0, 0): [rare], (0, 1): []}, "run")) == ["warning: class not tested (1 of 2 runs): class 'x'"]
    assert list(warned({0: [few]}, "fold")) == ["warning: few (the only fold): few groups"]


def request(toy: "Toy", cache: Cache) -> Request:
    return Request(cache, ["toys"], toy.folder / "runs")


def test_runs_hold_what_was_told(toy: "Toy") -> None:
    corpus = toy.corpus()
    corpus.rows = [row for row in corpus.rows if row.labels["emotion"] != "sad" or row.speaker in ("S1", "S3")]
    corpus.frames = {row.id: corpus.frames[row.id] for row in corpus.rows}
    plan = request(toy, toy.cache(corpus)).plan(
        load_experiment(toy.experiment(), ["training.epochs=2", "selection.metric=loss", "seeds=[0, 1]"])
    )
    lines = [line for line in carry_out(plan, Crew(1), False) if isinstance(line, Warned)]
    heads = [line.partition("): ")[0] for line in lines]
    assert heads == [
        "warning: fewer than 20 groups (all 3 folds",
        "warning: class never trained (1 of 3 folds: 0",
        "warning: class not tested (1 of 3 folds: 2",
        "warning: best epoch last (all 6 runs",
    ]
    found = {run: kinds(read_record(plan.folder(*run)).warnings) for run in plan.all_runs()}
    assert found[1, 0] == ["fewer than 20 groups", "best epoch last"]
    assert found[2, 1] == ["fewer than 20 groups", "class not tested", "best epoch last"]
    dry = [line for line in carry_out(plan, Crew(1), True) if isinstance(line, Warned)]
    assert dry == lines[:3]
    path = plan.folder(0, 0) / "run.json"  # one that was stored before there were warnings
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "warnings"}))
    assert (
        "best epoch last (5 of 6 runs)"
        in [line for line in carry_out(plan, Crew(1), False) if isinstance(line, Warned)][-1]
    )


def test_nothing_is_told_of_what_is_well(toy: "Toy") -> None:
    cache = toy.cache(toy.corpus(speakers=24, clips=3))
    settings = toy.settings(
        "training.epochs=40", "training.patience=2", "protocol.folds=4", "training.learning_rate=0.05"
    )
    plan = make_plan(cache, ["toys"], toy.folder / "runs", "small", settings)
    assert plan.cautions(0) == []
    assert train_fold(plan.dataset, settings, plan.folds[0], 0, torch.device("cpu")).record.warnings == ()
