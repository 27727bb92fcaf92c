"""Stored heads answer as they did when they were trained."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from emocache.cache import Cache
from emocache.train.apply.opening_runs import open_models
from emocache.train.apply.unlabelled import Unlabelled, read_unlabelled
from emocache.train.data.example import Stamps, on_stamps
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.run_folders import read_run

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
SHORT = ("training.epochs=2", "seeds=[0]")
KINDS = {
    "probe": ("head.kind=probe",),
    "mean_std": ("head.kind=probe", "head.pooling=mean_std", "features.normalise=train", "features.pca=3"),
    "bigru": ("head.kind=recurrent", "head.hidden=4"),
    "cmvn": ("head.kind=recurrent", "head.hidden=4", "features.normalise=per_utterance"),
    "numbers": ("head.kind=probe", "task=regression", 'targets=["intensity"]'),
    "apart": ("head.kind=probe", "task=frame_regression", 'targets=["valence"]', "targets_apart=true"),
    "searched": ("head.kind=recurrent", "search.head.hidden=[2,4]"),
    "unmasked": ("head.kind=recurrent", "head.hidden=4", "masking=none"),
    "cats": ("head.kind=cats", "head.width=8", "head.heads=2", "task=frame_regression", 'targets=["valence"]'),
}  # fmt: skip


def train(toy: "Toy", changes: tuple[str, ...], cache: Cache | None = None, name: str = "small") -> Path:
    """Train an experiment; returns the folder of its setting."""
    request = Request(cache or toy.cache(), ["toys"], toy.folder / "runs", [*changes, *SHORT])
    plan = request.plan(request.experiment(toy.experiment(name=name)))
    list(carry_out(plan, 1, False))
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
            dataset = read_unlabelled(unlabelled(cache, own, streams), model.parts[0].settings)
            answers += model.answers(dataset, CPU)
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
    cache = toy.cache()
    folder = train(toy, KINDS[kind], cache)
    for exact in (True, False):
        assert_same_as_stored(cache, folder, exact)
