"""Stored heads answer as they did when they were trained."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from emocache.cache import Cache, EmocacheError
from emocache.train.apply.answers import Answer, average, side_by_side
from emocache.train.apply.onnx_export import export_onnx
from emocache.train.apply.opening_runs import open_models
from emocache.train.apply.unlabelled import Unlabelled, read_unlabelled
from emocache.train.data.example import Stamps, on_stamps
from emocache.train.run.crew import Crew
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.run_folders import read_run

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
SHORT = ("training.epochs=2", "seeds=[0]")
KINDS = {
    "probe": ("head.kind=probe",),
    "mean_std": ("head.kind=probe", "head.pooling=mean_std", "features.normalise=train", "features.pca=3"),
    "two streams": ("head.kind=probe", "head.pooling=mean_std_delta", 'streams=["toy", "twin"]'),
    "bigru": ("head.kind=recurrent", "head.hidden=4"),
    "cmvn": ("head.kind=recurrent", "head.hidden=4", "features.normalise=per_utterance"),
    "numbers": ("head.kind=probe", "task=regression", 'targets=["intensity"]'),
    "apart": ("head.kind=probe", "task=frame_regression", 'targets=["valence"]', "targets_apart=true"),
    "searched": ("head.kind=recurrent", "search.head.hidden=[2,4]"),
    "nested": ("head.kind=recurrent", "search.head.hidden=[2,4]", "protocol.validation=nested",
               "protocol.validation_folds=2"),
    "averaged": ("head.kind=probe", "search.head.pooling=['mean','mean_std']", "search.features.pca=[2,3]",
                 "selection.average=3"),
    "averaged numbers": ("head.kind=probe", "task=regression", 'targets=["intensity"]', "selection.average=2",
                         "search.training.learning_rate=[0.1,0.01,0.001]"),
    "unmasked": ("head.kind=recurrent", "head.hidden=4", "masking=none"),
    "cats": ("head.kind=cats", "head.width=8", "head.heads=2", "task=frame_regression", 'targets=["valence"]'),
}  # fmt: skip


def train(toy: "Toy", changes: tuple[str, ...], cache: Cache | None = None, name: str = "small") -> Path:
    """Train an experiment; returns the folder of its setting."""
    request = Request(cache or toy.cache(), ["toys"], toy.folder / "runs", [*changes, *SHORT])
    plan = request.plan(request.experiment(toy.experiment(name=name)))
    list(carry_out(plan, Crew(1), False))
    return plan.folder(0, 0).parent


def unlabelled(cache: Cache, ids: list[str], streams: list[str]) -> list[Unlabelled]:
    """Utterances of the corpus without their labels."""
    return [
        Unlabelled(i, {name: (s, i) for name in streams if i in (s := cache.stream("toys", name))}) for i in ids
    ]  # fmt: skip


def assert_same_as_stored(cache: Cache, folder: Path, exact: bool) -> None:
    """Every test prediction of every fold comes out again: all at once to the bit, alone within 1e-5."""
    for run in sorted(folder.glob("fold*")):
        record, table = read_run(run)
        rows = [row for row in table.to_pylist() if row["part"] == "test" and not row["missing"]]
        (model,) = open_models(run).models
        streams = sorted({stream.name for stream in record.streams})
        ids = [row["id"] for row in rows]
        batches = [ids] if exact else [[i] for i in ids]
        answers = []
        for own in batches:
            answers += model.answers(partial(read_unlabelled, unlabelled(cache, own, streams)), CPU)
        for row, answer in zip(rows, answers, strict=True):
            assert answer is not None
            if record.task == "classification":
                wanted = np.array([row[f"prob.{name}"] for name in record.classes or ()])
                found = answer.values
            else:
                wanted = np.stack([np.atleast_1d(row[f"prediction.{name}"]) for name in record.targets], axis=1)
                found = answer.values[None] if answer.times is None else on_stamps(
                    answer.values, answer.times, Stamps(np.array(row["times"]), wanted), 0.0
                )  # fmt: skip
            np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=0 if exact else 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_head_gives_its_test_predictions_again(toy: "Toy", kind: str) -> None:
    corpus = toy.corpus()
    cache = toy.cache(corpus)
    toy.commit(cache, "toys", "twin", {i: frames * 2 - 1 for i, frames in corpus.frames.items()})
    folder = train(toy, KINDS[kind], cache)
    for exact in (True, False):
        assert_same_as_stored(cache, folder, exact)


@pytest.mark.parametrize(
    "changes",
    [("selection.average=2",), ("task=regression", 'targets=["intensity","other"]', "targets_apart=true")],
    ids=["mean", "apart"],
)
def test_heads_of_one_run_may_read_different_streams(toy: "Toy", changes: tuple[str, ...]) -> None:
    corpus = toy.corpus()
    corpus.rows = [
        replace(row, labels={**row.labels, "other": float(number % 5)}) for number, row in enumerate(corpus.rows)
    ]
    cache = toy.cache(corpus)
    toy.streams(cache, corpus)
    folder = train(
        toy, ("search.streams=[['toy'],['picture']]", "search.features.average_frames=[1,2]", *changes), cache
    )
    assert_same_as_stored(cache, folder, True)


def test_answers_over_time_are_averaged_at_the_times_of_the_first() -> None:
    coarse = Answer(("v",), np.array([[0.0], [2.0]]), np.array([0.0, 1.0]))
    fine = Answer(("v",), np.array([[1.0], [3.0], [1.0]]), np.array([0.0, 0.5, 1.0]))
    found, both = average([fine, coarse]), side_by_side([coarse, fine])
    assert found is not None and both is not None and average([fine, None]) is None
    assert found.values.tolist() == [[0.5], [2.0], [1.5]] and found.times is fine.times
    assert both.values.tolist() == [[0.0, 1.0], [2.0, 1.0]]


def recurrent(cell: str, *changes: str) -> tuple[str, ...]:
    """A small recurrent head."""
    return ("head.kind=recurrent", f"head.cell={cell}", "head.hidden=4", *changes)


@pytest.mark.parametrize(
    "changes",
    [recurrent("gru", "head.layers=2"), recurrent("lstm", "head.pooling=last"),
     recurrent("rnn", "head.pooling=attention"),
     recurrent("lstm", "head.bidirectional=false", "task=frame_regression", 'targets=["valence"]'),
     ("head.kind=transformer", "head.width=8", "head.heads=2", "head.layers=1"),
     recurrent("gru", "head.pooling=attentive_statistics"), ("head.kind=probe", "head.pooling=mean_std_delta")],
    ids=["gru", "lstm", "rnn", "frames", "transformer", "attentive", "delta"],
)  # fmt: skip
def test_a_stored_head_is_a_graph_for_clips_of_any_length(toy: "Toy", changes: tuple[str, ...], tmp_path: Path) -> None:
    """Within 1e-4 of the stored test predictions, by onnxruntime, from the frames alone."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs the extra 'onnx'")
    pytest.importorskip("onnxscript", reason="ONNX needs the extra 'onnx'")
    cache = toy.cache()
    run = train(toy, changes, cache) / "fold0-seed0"
    (model,) = open_models(run).models
    stream = cache.stream("toys", "toy")
    export_onnx(model, stream.recipe, None, tmp_path / "head.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "head.onnx"))
    rows = [row for row in read_run(run)[1].to_pylist() if row["part"] == "test" and not row["missing"]]
    ids = [row["id"] for row in rows]
    answers = model.answers(partial(read_unlabelled, unlabelled(cache, ids, ["toy"])), CPU)
    assert len({len(stream.read(i)) for i in ids}) > 1
    for i, answer in zip(ids, answers, strict=True):
        (found,) = session.run(None, {"frames": np.asarray(stream.read(i), np.float32)})
        assert answer is not None
        np.testing.assert_allclose(found, answer.values, rtol=0, atol=1e-4)
    (alone,) = session.run(None, {"frames": np.ones((1, 8), np.float32)})
    assert np.isfinite(alone).all()


def test_a_fusion_is_told_and_not_its_missing_sources(toy: "Toy") -> None:
    folder = train(toy, KINDS["probe"])
    path = folder / "fold0-seed0" / "run.json"
    members = [{"experiment": one, "setting": "0" * 12} for one in ("a", "b")]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"members": members}))
    shutil.rmtree(folder / "sources")
    with pytest.raises(EmocacheError, match=r"is a fusion, .* predict with its members: a, b"):
        open_models(folder)
