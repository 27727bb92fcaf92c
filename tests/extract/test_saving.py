"""What a kill costs: an open unit is committed as far as it has come once the oldest of it is a minute old.

The clock is the encoder's: every pass through it takes as long as the test says.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.cache import Cache, InputFailure, Item, Load, StreamWriter, Utterance, plan_tasks
from emocache.cache.recipe import stream_name
from emocache.cache.stored_form import to_storage
from emocache.extract.encoders.encoder import Clip, LayerItems, Layers
from emocache.extract.pipeline import encoding_loop, under_way
from emocache.extract.pipeline.batching import Budget

from .light import CORPUS, LightEncoder, decode, extract, manifest, snapshot

ROOT = Path(__file__).parents[2]
IDS = [f"clip{n}" for n in range(8)] + ["empty", "loud"]


@dataclass(eq=False)
class Slow(LightEncoder):
    """Every pass takes some seconds of a clock of its own."""

    seconds: float = 0.0
    now: float = 0.0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        with self.lock:
            self.now += self.seconds
        return super().encode(clips, layers)


def records(root: Path) -> dict[str, list[list[str]]]:
    """{stream: the utterances of each record of it, in the order of their attempts}."""
    found: dict[str, list[list[str]]] = {}
    paths = sorted(root.glob(f"{CORPUS}/*/commits/*.json"), key=lambda path: int(path.name.split(".")[1]))
    for path in paths:
        record = json.loads(path.read_bytes())
        ids = [entry[0] for entry in record["items"] + record["failures"]]
        found.setdefault(path.parent.parent.name.partition("@")[0], []).append(ids)
    return found


def assert_as_undisturbed(root: Path, names: Sequence[str], encoders: Sequence[LightEncoder], **options: Any) -> None:
    """The streams say what an undisturbed run says, and their records say nothing twice."""
    extract(root / "undisturbed", manifest(IDS), encoders, **options)
    for name in names:
        one, other = (snapshot(Cache(folder).stream(CORPUS, name)) for folder in (root, root / "undisturbed"))
        assert one == other and not one["missing"]
    for ids in records(root).values():
        assert sorted(itertools.chain(*ids)) == sorted(IDS)


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [(0.0, [10]), (5.0, [10]), (7.0, [9, 1]), (25.0, [3, 3, 3, 1]), (60.0, [2] * 5), (300.0, [1] * 10)],
)
def test_an_open_unit_is_committed_every_minute(tmp_path: Path, seconds: float, sizes: list[int]) -> None:
    """After the batch in which the oldest result has come to be over 60 s old; a fast machine writes one shard."""
    encoder = Slow(seconds=seconds)
    outcome = extract(tmp_path, manifest(IDS), [encoder], units=1, budget=1.0, clock=encoder.clock)
    assert [len(ids) for ids in records(tmp_path)["light"]] == sizes
    assert (outcome.encoded, outcome.committed, outcome.failed, outcome.unresolved) == (10, 8, 2, {})
    shards = [path for path in tmp_path.glob(f"{CORPUS}/*/shards/*") if not path.name.startswith(".")]
    assert len(shards) == sum(bool(set(ids) - {"empty", "loud"}) for ids in records(tmp_path)["light"])
    assert_as_undisturbed(tmp_path, ["light"], [LightEncoder()])


@pytest.mark.parametrize(("passes", "writers"), [(1, 1), (2, 1), (1, 3), (2, 4)])
@pytest.mark.parametrize("seconds", [7.0, 13.0, 100.0])
def test_several_streams_passes_and_failures(tmp_path: Path, passes: int, writers: int, seconds: float) -> None:
    """Three streams of two encoders in one task, of which one lacks less than the others."""
    of = manifest(IDS)
    extract(tmp_path, of, [LightEncoder("other")], limit=4, units=1)
    slow, other = Slow(seconds=seconds), LightEncoder("other")
    extract(
        tmp_path, of, [slow, other], (None, 1), units=1, budget=2.0, passes=passes, threads=writers, clock=slow.clock
    )  # fmt: skip
    assert max(map(len, records(tmp_path).values())) > 1
    assert set(slow.calls.values()) == {1} and set(other.calls.values()) == {1}
    names = ["light", "light.L1", "other", "other.L1"]
    assert_as_undisturbed(tmp_path, names, [LightEncoder(), LightEncoder("other")], layers=(None, 1))


@pytest.mark.parametrize("writers", [1, 3])
def test_parts_of_a_unit_are_committed_in_order_and_streams_side_by_side(
    tmp_path: Path, writers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every first part waits until as many threads are in a commit as there are writers, or streams."""
    together = threading.Barrier(min(writers, 2))
    begun: dict[str, list[list[str]]] = {}
    real = StreamWriter.commit

    def commit(self: StreamWriter, unit: str, items: Any, failures: Any = None) -> Any:
        first = self.name not in begun
        begun.setdefault(self.name, []).append(sorted([*items, *failures]))
        if first:
            together.wait(60)
        return real(self, unit, items, failures)

    monkeypatch.setattr(StreamWriter, "commit", commit)
    slow = Slow(seconds=100.0)
    options: Any = {"units": 1, "budget": 1.0, "threads": writers, "clock": slow.clock}
    outcome = extract(tmp_path, manifest(IDS), [slow], (None, 1), **options)
    assert outcome.committed == 16 and [len(one) for one in begun["light"]] == [1] * 10
    found = {name: [sorted(ids) for ids in parts] for name, parts in records(tmp_path).items()}
    assert found == begun


def test_frames_are_cast_as_the_writer_casts_them() -> None:
    """By torch, to the same bytes; those that do not fit are left, with what the writer says of them."""
    import torch  # noqa: F401

    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    every = every[np.isfinite(every)]
    near = np.nextafter(every, np.float32(np.inf)), np.nextafter(every, np.float32(-np.inf))
    values = np.concatenate([every, *near, (every[:-1] + every[1:]) / 2])
    values = np.resize(values[np.abs(values) <= 65_504], (1 << 17, 3))
    recipe = recipe_of(LightEncoder()) | {"times": {"rate": 1.0}, "aux": {}}
    (half, usual) = (to_storage(item, recipe) for item in (under_way._halved(Item(values)), Item(values)))
    assert half.frames.tobytes() == usual.frames.tobytes()
    assert under_way._halved(Item(values)).frames.dtype == np.float16
    for bad in (70_000.0, np.nan, np.inf):
        item = Item(np.array([[1.0, bad, 0.0]], np.float32))
        assert under_way._halved(item) is item
    fixed = values[:3].copy()
    fixed.flags.writeable = False
    assert under_way._halved(Item(fixed)).frames is fixed


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.extract.light import LightEncoder, extract, manifest
from tests.extract.test_saving import IDS, Slow
root, seconds, passes, writers, committed = Path(sys.argv[1]), *map(int, sys.argv[2:])
class Killed(Slow):
    def encode(self, clips, layers):
        if len(self.passes) == 7:
            while min(len(list(stream.glob("commits/*.json"))) for stream in root.glob("*/light*")) < committed:
                os.sched_yield()  # the writers have their own pace
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(clips, layers)
encoder = Killed(seconds=seconds)
extract(root, manifest(IDS), [encoder], (None, 1), units=1, budget=1.0, passes=passes, threads=writers,
        clock=encoder.clock)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL and sched_yield")
@pytest.mark.parametrize("writers", [1, 3])
@pytest.mark.parametrize(("seconds", "passes", "attempts", "stored"), [(25, 1, 2, 6), (25, 2, 2, 3), (100, 1, 7, 7)])
def test_a_kill_costs_a_minute_or_the_batch_under_way(
    tmp_path: Path, seconds: int, passes: int, attempts: int, stored: int, writers: int
) -> None:
    """Killed in the eighth batch, of one utterance; going on then encodes what was not stored, and nothing twice."""
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(seconds), str(passes), str(writers), str(attempts)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    child = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert child.returncode == -signal.SIGKILL
    there = [{i for ids in attempts_ for i in ids} for attempts_ in records(tmp_path).values()]
    assert len(there) == 2 and min(map(len, there)) >= stored and (passes > 1 or max(map(len, there)) == stored)
    rest = LightEncoder()
    extract(tmp_path, manifest(IDS), [rest], (None, 1), units=1)
    assert set(rest.calls) == set(IDS) - (there[0] & there[1])
    assert_as_undisturbed(tmp_path, ["light", "light.L1"], [LightEncoder()], layers=(None, 1))


@pytest.mark.parametrize("passes", [1, 2])
def test_whatever_ends_a_run_what_is_finished_is_committed(tmp_path: Path, passes: int) -> None:
    """Such as the reader of a pipe that is gone."""

    class Ends(Exception):
        pass

    cache, encoder = Cache(tmp_path), LightEncoder()
    cache.put_manifest(manifest(IDS))
    target = encoding_loop.Target(encoder, None, cache.create_stream(CORPUS, "light", recipe_of(encoder)))
    tasks = plan_tasks([target.writer], {i: Load(1.0, 1) for i in IDS})
    seen: list[int] = []

    def tell(encoded: int, stored: int) -> None:
        seen.append(encoded)
        if len(seen) == 4:
            raise Ends

    wanted = {utterance.id: utterance for utterance in manifest(IDS)}
    with pytest.raises(Ends):
        encoding_loop.run(tasks, [target], wanted, decode, budget=Budget(1.0), passes=passes, tell=tell)
    (ids,) = records(tmp_path)["light"]
    assert 4 <= len(ids) <= 3 + passes


def recipe_of(encoder: LightEncoder, layer: int | None = None) -> Any:
    return {**encoder.recipe(layer), "dtype": "float16"}


@dataclass
class Told:
    """What a run has told: the sums after each time."""

    encoded: int = 0
    stored: int = 0

    def __post_init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def __call__(self, encoded: int, stored: int) -> None:
        self.encoded, self.stored = self.encoded + encoded, self.stored + stored
        self.steps.append((self.encoded, self.stored))


@pytest.mark.parametrize("passes", [1, 2])
def test_progress_counts_what_every_stream_of_a_task_has_stored(tmp_path: Path, passes: int) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest(IDS))
    slow, other = Slow(seconds=30.0), LightEncoder("other")
    targets = [
        encoding_loop.Target(encoder, layer, cache.create_stream(
            CORPUS, stream_name(encoder.name, layer), recipe_of(encoder, layer)
        ))
        for encoder in (slow, other) for layer in (None, 1)
    ]  # fmt: skip
    tasks = plan_tasks([target.writer for target in targets], {i: Load(1.0, 1) for i in IDS}, min_units=2)
    wanted, told = {utterance.id: utterance for utterance in manifest(IDS)}, Told()

    def tell(encoded: int, stored: int) -> None:
        told(encoded, stored)
        served = [set(itertools.chain(*ids)) for ids in records(tmp_path).values()]
        assert told.stored <= len(set.intersection(*served) if len(served) == 4 else ())

    outcome = encoding_loop.run(
        tasks, targets, wanted, decode, budget=Budget(1.0), passes=passes, tell=tell, clock=slow.clock
    )
    assert (told.encoded, told.stored) == (10, 10) and outcome.committed == 32 and outcome.failed == 8
    assert all(stored <= encoded for encoded, stored in told.steps)
    assert len({stored for _, stored in told.steps}) > 3


def test_progress_leaves_out_what_is_unresolved_and_counts_what_others_stored(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest(IDS))
    encoder = LightEncoder()
    target = encoding_loop.Target(encoder, None, cache.create_stream(CORPUS, "light", recipe_of(encoder)))
    tasks = plan_tasks([target.writer], {i: Load(1.0, 1) for i in IDS}, min_units=2)
    first = encoder.encode([decode(next(u for u in manifest(IDS) if u.id == "clip1"))], [None])[0]
    assert isinstance(first, dict) and first[None] is not None
    (task,) = (task for task in tasks if "clip1" in task.ids)
    target.writer.commit(task.units["light"], {"clip1": first[None]})

    def decoder(utterance: Utterance) -> Clip:
        if utterance.id == "clip3":
            raise OSError("bad disk")
        return decode(utterance)

    wanted, told = {utterance.id: utterance for utterance in manifest(IDS)}, Told()
    outcome = encoding_loop.run(tasks, [target], wanted, decoder, budget=Budget(9.0), tell=told)
    assert (told.encoded, told.stored) == (10, 9) and list(outcome.unresolved) == ["clip3"]
