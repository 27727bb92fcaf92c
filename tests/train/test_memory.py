"""Streams that memory has no room for: read as they are needed, with the numbers of streams in memory to the last bit."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from emocache.cache import Cache, EmocacheError, Item
from emocache.cache.sealed import DamagedError
from emocache.cli import app
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset, Features
from emocache.train.data.memory import Memory
from emocache.train.data.reading import load_dataset
from emocache.train.data.stored_frames import StoredFrames
from emocache.train.fit.fold_result import FoldResult
from emocache.train.fit.train_fold import train_fold
from emocache.train.inputs.gathering import read_ahead
from emocache.train.inputs.transforms import prepare
from emocache.train.protocols.folds import make_folds

from .test_heads import CASES
from .test_reading_checked import flip

if TYPE_CHECKING:
    from .conftest import Toy

GRU = ("head.kind=recurrent", "head.hidden=5", "head.dropout=0.2")
CHANGES: dict[str, tuple[str, ...]] = {
    "probe": (),
    "a probe after pca": ("features.pca=3",),
    "pca": (*GRU, "features.pca=4"),
    "pca of everything": (*GRU, "features.pca=4", "features.fit_scope=all", "features.normalise=none"),
    "per speaker": (*GRU, "features.normalise=per_speaker"),
    "per utterance": (*GRU, "features.normalise=per_utterance"),
    "over time": (*GRU, "features.normalise=l2_over_time"),
    "blocks of frames": (*GRU, "features.average_frames=3", "features.normalise=none"),
    "the first seconds": (*GRU, "features.crop_s=0.5"),
    "side by side": (*GRU, 'streams=["toy", "picture"]'),
    "side by side, in blocks": (*GRU, 'streams=["toy", "picture"]', "features.average_frames=2", "features.pca=5"),
    "a grid": (*GRU, 'streams=["toy", "slow"]', "features.grid_hz=15"),
    "a grid with holes": (*GRU, 'streams=["toy", "slow"]', "features.grid_hz=15", 'modalities="any"',
                          "features.normalise=per_utterance"),
    "by number": (*GRU, 'streams=["toy", "slow"]', "features.align=index", "features.normalise=per_speaker"),
    "layers": (*GRU, 'streams=["toy", "twin"]', "features.combine=weighted"),
    "a mask": (*GRU, "streams=seen", "features.where=face", "features.average_frames=2"),
    "float16 in HDF5": (*GRU, "streams=half", "training.batch_size=3"),
    "words": (*GRU, "streams=words", "features.words=true"),
    "numbered words": (*GRU, "streams=words", "features.words=true", "features.trainable_words=unk",
                       "features.normalise=none"),
    "a search and a refit": (*GRU, "search.features.average_frames=[1, 2]", "selection.refit=true"),
    "augmented": (*GRU, "augment.time_masks=1", "augment.noise=0.1", "augment.mixup=0.3"),
    "drawn": (*GRU, "training.sampling=balanced", "training.epoch_share=0.7"),
    "without masks": (*GRU, "masking=none"),
}  # fmt: skip
NAMED = {case.name: case for case in CASES}
OF_HEADS = [
    next(name for name in NAMED if start in name)
    for start in ("probe-mean_std", "gru-true", "gru-frames", "transformer-frames", "probe-intensity", "cats", "can",
                  "can-trained-words", "mha2", "xu-additive", "camulenet", "cnn", "mdre")
]  # fmt: skip


def more_streams(toy: "Toy") -> Cache:
    """Those of `Toy.streams`, of which "slow" lacks a third, and three more."""
    corpus = toy.corpus(speakers=6, clips=6)
    cache = toy.cache(corpus)
    toy.streams(cache, corpus, ["slow"])
    toy.commit(cache, "toys", "twin", {i: f * 2 - 1 for i, f in corpus.frames.items()})
    seen = {i: Item(f, aux={"face": np.arange(len(f)) % 3 < 2}) for i, f in corpus.frames.items()}
    face: dict[str, Any] = {"aux": {"face": {"dtype": "bool", "shape": []}}}
    cache.create_stream("toys", "seen", toy.recipe("seen", 8, **face)).commit("ab" * 8, seen)
    writer = cache.create_stream("toys", "half", toy.recipe("half", 8, dtype="float16"), backend="hdf5")
    ids = list(corpus.frames)
    for unit, those in {"aa" * 8: ids[::2], "bb" * 8: ids[1::2]}.items():
        writer.commit(unit, {i: Item(corpus.frames[i].astype(np.float16)) for i in those})
    return cache


def both_ways(toy: "Toy", settings: Settings) -> Iterator[Dataset]:
    """The dataset in memory, and with room for nothing."""
    yield load_dataset(Cache(toy.root), ["toys"], settings, allow_incomplete=True)
    yield load_dataset(Cache(toy.root), ["toys"], settings, allow_incomplete=True, memory=Memory(0, toy.folder))


def trained(dataset: Dataset, settings: Settings) -> FoldResult:
    return train_fold(dataset, settings, make_folds(dataset.examples, settings.protocol)[0], 0, torch.device("cpu"))


def assert_same(toy: "Toy", settings: Settings) -> None:
    """A fold's predictions, weights, transforms and losses are the same both ways, to the last bit."""
    held, stored = both_ways(toy, settings)
    one, other = trained(held, settings), trained(stored, settings)
    for name, features in stored.features.items():
        assert features.stored is not None and len(features.frames) == 0 < features.nbytes
        assert features.nbytes == held.features[name].nbytes and held.features[name].stored is None
    assert one.predictions.equals(other.predictions)
    assert {k: w.numpy().tobytes() for k, w in one.weights.items()} == {
        k: w.numpy().tobytes() for k, w in other.weights.items()
    }
    assert {k: t.tobytes() for k, t in one.transforms.items()} == {k: t.tobytes() for k, t in other.transforms.items()}
    lines = [[{**line, "seconds": 0} for line in result.history] for result in (one, other)]
    assert lines[0] == lines[1] and one.record.warnings == other.record.warnings


@pytest.mark.parametrize("name", CHANGES)
def test_a_fold_is_the_same_without_room_for_frames(toy: "Toy", name: str) -> None:
    more_streams(toy)
    assert_same(toy, toy.settings("training.epochs=2", *CHANGES[name]))


@pytest.mark.parametrize("name", OF_HEADS)
def test_a_head_is_the_same_without_room_for_frames(toy: "Toy", name: str) -> None:
    case = NAMED[name]
    settings = toy.case_settings(case, "training.epochs=2")
    toy.case_dataset(case, settings, 40)
    assert_same(toy, settings)
