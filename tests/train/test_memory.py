"""Streams that memory has no room for: read as they are needed, and every number is that of streams in memory."""

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

from emocache.cache import Cache, EmocacheError, Item, LocalCopy
from emocache.cache.sealed import DamagedError
from emocache.cli import app
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
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
    "enrolled": (*GRU, "features.normalise=per_speaker", "features.enrolment=2"),
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


def call(toy: "Toy", runs: str, *more: str) -> Any:
    """`emocache train` of a recurrent head over two streams of different rates, three folds."""
    common = ["--corpus", "toys", "--cache", str(toy.root), "--runs", str(toy.folder / runs), "--allow-incomplete"]
    changes = [*GRU, 'streams=["toy", "slow"]', "features.grid_hz=15", "training.epochs=2"]
    sets = [part for change in changes for part in ("--set", change)]
    return CliRunner().invoke(app, ["train", toy.experiment(), *common, *sets, *more])


def predictions(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): pq.read_table(path) for path in sorted(folder.rglob("predictions.parquet"))}


def test_processes_read_what_finds_no_room_from_the_cache(toy: "Toy") -> None:
    """The same runs, under the same hash of the setting, whatever the room and the number of processes."""
    more_streams(toy)
    found = []
    for runs, more in (("held", ()), ("here", ("--memory", "1e-6")), ("there", ("--memory", "1e-6", "--jobs", "2"))):
        done = call(toy, runs, *more)
        assert done.exit_code == 0, done.output
        found.append(predictions(toy.folder / runs))
        hidden = [path.name for path in (toy.folder / runs).iterdir() if path.name.startswith(".f")]
        assert not hidden  # no file of frames is left
    assert len(found[0]) == 3 and found[0].keys() == found[1].keys() == found[2].keys()
    for name, table in found[0].items():
        assert table.equals(found[1][name]) and table.equals(found[2][name])


def test_damage_is_found_in_frames_that_stay_in_the_cache(toy: "Toy") -> None:
    more_streams(toy)
    flip(toy.root, 1)
    done = call(toy, "runs", "--memory", "1e-6")
    assert done.exit_code == 1 and "its bytes in" in done.output and not list((toy.folder / "runs").rglob("run.json"))
    dataset = load_dataset(Cache(toy.root), ["toys"], toy.settings(), memory=Memory(0))
    with pytest.raises(DamagedError):  # though no head has looked at it yet
        dict(dataset.features)


def test_the_dry_run_tells_what_stays_in_the_cache(toy: "Toy") -> None:
    more_streams(toy)
    assert "memory: 0 MB of frames\n" in call(toy, "runs", "--dry-run").output
    told = call(toy, "runs", "--dry-run", "--memory", "1e-6").output
    assert re.search(r"memory: 0 MB of frames, more than --memory 1e-06: read from the cache in every epoch", told)
    assert not (toy.folder / "runs").exists()


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf"])
def test_room_is_a_positive_number(toy: "Toy", given: str) -> None:
    done = call(toy, "runs", "--memory", given)
    assert done.exit_code == 2 and "is no number of GB above 0" in " ".join(done.output.split())


@pytest.mark.parametrize(("given", "told"), [
    (["--local-copy-limit", "0", "--local-copy", "copy"], "0 is no number of GB above 0"),
    (["--local-copy-limit", "5"], "goes with --local-copy DIR"),
    (["--local-copy", "copy"], "is a folder, which needs no local copy; leave it away"),
])  # fmt: skip
def test_local_copies_that_make_no_sense(toy: "Toy", given: list[str], told: str) -> None:
    done = call(toy, "runs", *given)
    assert done.exit_code in (1, 2) and told in " ".join(done.output.replace("\u2502", " ").split())
    assert not Path("copy").exists()


@pytest.mark.parametrize("copied", [False, True])
def test_streams_of_a_remote_cache_are_fetched_or_copied(
    toy: "Toy", copied: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, corpus = Cache("memory://"), toy.corpus()
    cache.put_manifest(Cache(toy.cache(corpus).objects.url).manifest("toys"))
    toy.commit(cache, "toys", "toy", corpus.frames)
    cache.local_copy = LocalCopy(tmp_path / "copy") if copied else None
    held = load_dataset(cache, ["toys"], toy.settings(), memory=Memory(1 << 30))
    stored = load_dataset(cache, ["toys"], toy.settings(), memory=Memory(1000))
    rows = np.random.default_rng(0).permutation(len(held.examples))
    for _ in range(2):
        each = stored.features["toy"].each(rows)
        assert all(np.array_equal(clip, held.features["toy"].of(row)) for row, clip in zip(rows, each, strict=True))
    told = capsys.readouterr().err
    assert told.count("--memory 1e-06, are fetched from memory:") == (not copied)
    assert told.count("--local-copy DIR keeps them on a disk here") == (not copied)


def test_frames_take_the_room_that_there_is(tmp_path: Path) -> None:
    memory = Memory(1000, tmp_path / "runs")
    blocks = [np.full((n, 2), n, np.float64) for n in (3, 0, 4)]
    whole = np.concatenate(blocks)
    first = memory.stack(iter(blocks), 100, 2, np.float32)  # 800 bytes at most
    second = memory.stack(iter(blocks), 100, 2, np.float32)
    assert not isinstance(first, np.memmap) and isinstance(second, np.memmap)
    assert np.array_equal(first, whole) and np.array_equal(second, whole) and second.dtype == np.float32
    view = first[2:]
    del first
    assert isinstance(memory.stack(iter(blocks), 100, 2, np.float32), np.memmap)  # the view needs it all
    del view
    assert not isinstance(memory.stack(iter(blocks), 100, 2, np.float32), np.memmap)
    assert memory.stack([], 1000, 2, np.float32).shape == (0, 2)
    assert not list(tmp_path.iterdir())  # files have no names
    assert memory.shared(4).limit == 250


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> Any:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("emocache.train.data.memory.tempfile.TemporaryFile", no_room)
    with pytest.raises(EmocacheError, match=r"cannot be written there \(No space.*give more --memory than 0\.001"):
        Memory(10**6, tmp_path).stack([np.zeros((2, 2))], 10**6, 2, np.float32)


@pytest.mark.parametrize("size", [1, 5, 12, 1000])
def test_blocks_are_those_of_frames_in_memory(toy: "Toy", size: int) -> None:
    more_streams(toy)
    held, stored = (dataset.features["slow"] for dataset in both_ways(toy, toy.settings("streams=slow")))
    found = [list(one.in_blocks(size)) for one in (held, stored)]
    assert [len(block) for block in found[0]] == [len(block) for block in found[1]]
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_an_utterance_without_frames_has_none(toy: "Toy") -> None:
    corpus = toy.corpus(speakers=1, clips=2)
    stream = toy.cache(corpus).stream("toys", "toy")
    stored = StoredFrames([None, (stream, stream.ids[0])])
    assert stored.of(0).shape == (0, 8) and np.array_equal(stored.of(1), corpus.frames[stream.ids[0]])
    assert stored.lengths.tolist() == [0, len(corpus.frames[stream.ids[0]])]


def test_batches_are_read_ahead_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    memory, read = Memory(10**9), []

    def reads(rows: Any) -> int:
        read.append(int(rows[0]))
        return int(rows[0]) ** 2

    batches = [np.array([n]) for n in range(9)]
    assert [(int(rows[0]), found) for rows, found in read_ahead(batches, reads, memory)] == [
        (n, n * n) for n in range(9)
    ]
    assert read == list(range(9))
    started = read_ahead(batches, reads, memory)
    next(started)
    started.close()  # as by a stop in the middle of an epoch
    assert len(read) <= 9 + 4
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(batches, lambda rows: 1 // int(rows[0]), memory))
    memory.tell_waits(0.5, 0.9)
    memory.tell_waits(0.1, 2.0)
    assert not capsys.readouterr().err
    memory.tell_waits(0.5, 2.0)
    memory.tell_waits(0.5, 2.0)
    told = capsys.readouterr().err
    assert told.startswith("warning: disk-bound: 25% of an epoch goes into waiting") and told.count("\n") == 1


def test_prediction_reads_what_finds_no_room_from_the_cache(toy: "Toy") -> None:
    from emocache.train.apply.unlabelled import Unlabelled, read_unlabelled

    cache = more_streams(toy)
    settings = toy.settings('streams=["toy", "slow"]', *GRU, "features.grid_hz=15", 'modalities="any"')
    streams = {name: cache.stream("toys", name) for name in ("toy", "slow")}
    clips = [Unlabelled(id_, {name: (s, id_) for name, s in streams.items() if id_ in s}) for id_ in streams["toy"].ids]
    made = [read_unlabelled(clips, settings, memory) for memory in (None, Memory(0, toy.folder))]
    assert [one.features["slow"].stored is None for one in made] == [True, False]
    inputs = [prepare(one, settings, range(len(clips))).inputs["frames"].features for one in made]
    assert np.array_equal(inputs[0].frames, inputs[1].frames) and np.array_equal(inputs[0].offsets, inputs[1].offsets)
    assert inputs[1].on_disk and not inputs[0].on_disk
