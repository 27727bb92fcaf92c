"""gc beside writers: whatever their clocks say and however their steps interleave, no shard is lost.

First the protocol on a model, in every order of its steps; then the real code, stopped before each step that matters.
"""

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache as memoised
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import Cache, InputFailure, local
from emocache.cache.copy import copy
from emocache.cache.gc import collect
from emocache.cache.local import LocalObjects
from emocache.cache.objects import Objects
from emocache.cache.verify import verify
from emocache.cache.writer import StreamWriter

from .conftest import CORPUS, IDS, assert_serves, fill, item, manifest, recipe, row, table_recipe

UNIT = "0123456789abcdef"
GC_STEPS = ("list", "raise", "read", "delete", "lower")
HOOKS = ("put_shard", "create", "replace", "names", "size", "delete", "list")


def explore(looks: Sequence[str], gcs: int = 2) -> tuple[int, int]:
    """Interleavings of one writer and some gcs, and those of them in which the shard is gone and nobody notices."""
    writer = ("put", "record", *looks)

    @memoised
    def count(w: int, at: tuple[int, ...], here: bool, record: bool, tombs: tuple[bool, ...],
              listed: tuple[bool, ...], saw: tuple[bool, ...], noticed: bool) -> tuple[int, int]:  # fmt: skip
        if w == len(writer) and all(a == len(GC_STEPS) for a in at):
            return 1, int(not here and not noticed)
        ways = []
        if w < len(writer):
            step = writer[w]
            looked = (step == "tombstones" and any(tombs)) or (step == "objects" and not here)
            ways.append(count(w + 1, at, here or step == "put", record or step == "record", tombs, listed, saw,
                              noticed or looked))  # fmt: skip
        for g in range(gcs):
            if at[g] < len(GC_STEPS):
                step = GC_STEPS[at[g]]

                def mine(values: tuple[Any, ...], value: Any, g: int = g) -> tuple[Any, ...]:
                    return (*values[:g], value, *values[g + 1 :])

                now: list[Any] = [w, mine(at, at[g] + 1), here, record, tombs, listed, saw, noticed]
                if step == "list":
                    now[5] = mine(listed, here)
                elif not listed[g]:
                    pass
                elif step == "read":
                    now[6] = mine(saw, record)
                elif step == "delete":
                    now[2] = here and saw[g]
                else:
                    now[4] = mine(tombs, step == "raise")
                ways.append(count(*now))
        return sum(total for total, _ in ways), sum(lost for _, lost in ways)

    nothing = (False,) * gcs
    return count(0, (0,) * gcs, False, False, nothing, nothing, nothing, False)


def test_every_interleaving_of_the_protocol() -> None:
    assert explore(("tombstones", "objects")) == (252_252, 0)
    # The model sees what is wrong with less, and with the other order.
    for looks in ((), ("objects",), ("tombstones",), ("objects", "tombstones"), ("objects", "objects")):
        assert explore(looks)[1] > 0


class Turns:
    """Runs several threads one at a time: each stops before its steps, and a schedule says who goes on."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.now: int | None = None
        self.waiting: set[int] = set()
        self.ended: set[int] = set()
        self.errors: list[BaseException] = []
        self.actor: dict[int, int] = {}  # thread -> number

    def step(self) -> None:
        """Wait for my turn; called by the threads."""
        me = self.actor.get(threading.get_ident())
        if me is None:
            return
        with self.lock:
            self.now = None if self.now == me else self.now
            self.waiting.add(me)
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.now == me)
            self.waiting.discard(me)

    def run(self, actors: Sequence[Callable[[], Any]], choose: Callable[[list[int]], int]) -> None:
        """Run the actors to their ends; `choose` is given those that could go on, and says which does."""

        def work(number: int) -> None:
            self.actor[threading.get_ident()] = number
            self.step()
            try:
                actors[number]()
            except BaseException as error:
                self.errors.append(error)
            with self.lock:
                self.ended.add(number)
                self.now = None
                self.lock.notify_all()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(actors))]
        for thread in threads:
            thread.start()
        while True:
            with self.lock:
                self.lock.wait_for(lambda: self.now is None and len(self.waiting) + len(self.ended) == len(actors))
                if not self.waiting:
                    break
                self.now = choose(sorted(self.waiting))
                self.waiting.discard(self.now)
                self.lock.notify_all()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def matters(name: str, path: str, seen: set[str], gc: bool) -> bool:
    """Whether a call is one of the protocol's steps: what lies between two of them could as well be one."""
    if name == "size":  # the look at the objects is one step
        first = "size" not in seen
        seen.add("size")
        return first
    folder = path.split("/")[0]
    if (name, folder) == ("names", "commits"):  # a writer's look at its unit's records is none
        return gc
    return (name, folder) in {("create", "commits"), ("names", "gc"), ("create", "gc"), ("delete", "shards"),
                              ("delete", "gc")}  # fmt: skip


def stepped(objects: Objects, turns: Turns, *, gc: bool) -> Objects:
    """The same objects, which wait for their thread's turn before the calls that matter."""
    seen: set[str] = set()

    def wrap(name: str) -> Any:
        real = getattr(objects, name)

        def call(path: str, *args: Any, **kwargs: Any) -> Any:
            if matters(name, path, seen, gc):
                turns.step()
            return real(path, *args, **kwargs)

        return call

    for name in HOOKS:
        setattr(objects, name, wrap(name))
    real_below = objects.below
    objects.below = lambda folder: stepped(real_below(folder), turns, gc=gc)  # type: ignore[method-assign]
    return objects


def schedules(run: Callable[[Callable[[list[int]], int]], None]) -> Iterator[tuple[int, ...]]:
    """Run every schedule there is, depth first; yields each after it was run."""
    prefix: list[int] = []
    while True:
        taken: list[tuple[int, int]] = []  # position among those that could go on, and how many they were

        def choose(able: list[int], prefix: list[int] = prefix, taken: list[tuple[int, int]] = taken) -> int:
            position = prefix[len(taken)] if len(taken) < len(prefix) else 0
            taken.append((position, len(able)))
            return able[position]

        run(choose)
        yield tuple(position for position, _ in taken)
        while taken and taken[-1][0] == taken[-1][1] - 1:
            taken.pop()
        if not taken:
            return
        prefix = [*(position for position, _ in taken[:-1]), taken[-1][0] + 1]


def new_cache(root: Path | str, kind: str = "table") -> tuple[Cache, StreamWriter]:
    cache = Cache(root)
    cache.put_manifest(manifest())
    if kind == "table":
        return cache, cache.create_stream(CORPUS, "words", table_recipe())
    return cache, cache.create_stream(CORPUS, "toy", recipe(), backend=kind)


def check(cache: Cache, expected: Sequence[str], failed: Sequence[str] = ()) -> None:
    """All is served, nothing is damaged, and another gc leaves no litter and takes nothing that counts."""
    (info,) = cache.streams(CORPUS)
    assert cache.open_info(info).ids == sorted(expected)
    collect(cache, 0.0)
    stream = cache.open_info(info)
    assert stream.ids == sorted(expected) and sorted(stream.failures) == sorted(failed)
    if info.recipe["kind"] == "table":
        assert [stream.row(i) for i in stream.ids] == [row(i) for i in stream.ids]
    else:
        assert_serves(stream, {i: item(i, info.recipe) for i in expected})
    assert list(verify(cache, full=True)) == []
    objects = cache.objects.below(info.folder)
    assert objects.names("gc") == []
    assert len(objects.names("shards")) == len([name for name in objects.names("commits") if served(objects, name)])


def served(objects: Objects, name: str) -> bool:
    return b'"shard":null' not in objects.get(f"commits/{name}")


def seen_by(cache: Cache, turns: Turns, *, gc: bool = True) -> Cache:
    """The same cache, as somebody else has opened it, who waits for turns."""
    other = Cache("memory://")
    other.objects = stepped(cache.objects.below(""), turns, gc=gc)
    return other


def race(root: Path | str, gcs: int, choose: Callable[[list[int]], int], kind: str = "table") -> int:
    """One writer and some gcs to whom everything is old, in an order that `choose` decides; gives the records made."""
    cache, writer = new_cache(root, kind)
    turns = Turns()
    stepped(writer.objects, turns, gc=False)
    made = {i: row(i) if kind == "table" else item(i, recipe()) for i in IDS[:3]}
    failures = {IDS[3]: InputFailure("empty", "0 samples")}
    told: list[tuple[str, ...]] = []
    others = [seen_by(cache, turns) for _ in range(gcs)]
    turns.run([lambda: told.append(writer.commit(UNIT, made, failures).items), *(partial(collect, other, 0.0)
              for other in others)], choose)  # fmt: skip
    assert told == [tuple(sorted(made))]
    made_records = len(writer.objects.names("commits"))
    check(cache, IDS[:3], IDS[3:4])
    return made_records


def race_of_a_copy(source: Cache, choose: Callable[[list[int]], int]) -> None:
    """A copy that goes on with what an interrupted one has left, beside a gc to which that is old."""
    target, writer = new_cache("memory://", "hdf5")
    (info,) = source.streams(CORPUS)
    left = source.objects.names(f"{info.folder}/shards")[0]
    writer.objects.replace(f"shards/{left}", source.objects.get(f"{info.folder}/shards/{left}"))
    turns = Turns()
    copier, gc = seen_by(target, turns, gc=False), seen_by(target, turns)
    turns.run([lambda: copy(source, copier, [info]), lambda: collect(gc, 0.0)], choose)
    check(target, IDS[:3], IDS[3:4])


def test_every_interleaving_of_a_real_writer_and_a_real_gc() -> None:
    records: list[int] = []
    every = list(schedules(lambda choose: records.append(race("memory://", 1, choose))))
    assert len(every) == len(set(every)) > 70 and set(records) == {1, 2}  # some had to write twice


def test_drawn_interleavings_of_a_real_copy_and_a_real_gc(tmp_path: Path) -> None:
    source, writer = new_cache(tmp_path, "hdf5")
    fill(writer, {i: item(i, recipe()) for i in IDS[:3]}, {IDS[3]: InputFailure("empty", "0 samples")}, units=2)
    draw = random.Random(0)
    for _ in range(60):
        race_of_a_copy(source, draw.choice)


@pytest.mark.parametrize("kind", ["table", "zarr", "hdf5"])
def test_real_writers_and_two_real_gcs_in_drawn_orders(tmp_path: Path, kind: str) -> None:
    draw = random.Random(0)
    for number in range({"table": 60, "zarr": 12, "hdf5": 20}[kind]):
        race(tmp_path / str(number) if number % 2 else "memory://", 2, draw.choice, kind)
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)


STEPS = ("put_shard", "create", "names", "size")


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("step", STEPS)
def test_modification_times_set_back(tmp_path: Path, backend: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before each call of the writer all files get a date of 1970, and gc, which believes it, runs."""
    cache, writer = new_cache(tmp_path, backend)
    runs = []

    def gc(path: str) -> None:
        for file in tmp_path.rglob("*"):
            os.utime(file, (0, 0))
        runs.append(collect(cache)[0])

    beside(writer.objects, step, gc, monkeypatch)
    done = writer.commit(UNIT, {i: item(i, recipe()) for i in IDS[:3]})
    assert runs and done.items == tuple(sorted(IDS[:3]))
    monkeypatch.undo()
    check(cache, IDS[:3])


def beside(objects: Objects, step: str, work: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something done before the first three calls of one kind."""
    real = getattr(objects, step)
    left = iter(range(3))

    def call(path: str, *args: Any, **kwargs: Any) -> Any:
        if next(left, None) is not None:
            work(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(objects, step, call)


@pytest.mark.parametrize("moment", ["_finish", "rename", "link", "replace"])
def test_temporary_files_that_gc_takes_from_a_writer(
    tmp_path: Path, backend: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gc whose clock is ahead takes what is half written; the writer writes it again."""
    cache, writer = new_cache(tmp_path, backend)
    owner = os if moment != "_finish" else local
    real = getattr(owner, moment)
    left = iter(range(2))
    taken: list[str] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(left, None) is not None:
            taken.extend(collect(cache, -1.0)[0])
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, moment, call)
    writer.commit(UNIT, {i: item(i, recipe()) for i in IDS[:3]})
    writer.finish()
    monkeypatch.undo()
    assert any(path.endswith(".tmp") for path in taken)
    check(cache, IDS[:3])


def test_what_is_removed_is_gone_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is out of the way before its first file is removed: nobody can go on with half of it."""
    objects = LocalObjects(tmp_path)
    objects.put_shard("shards/a.zarr", {f"{n}/c": [b"x"] for n in range(3)})
    rmtree = shutil.rmtree

    def see(path: Path, *args: Any, **kwargs: Any) -> None:
        assert objects.names("shards") == [] and not (tmp_path / "shards/a.zarr").exists()
        rmtree(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", see)
    objects.delete("shards/a.zarr")
    assert list((tmp_path / "shards").iterdir()) == []


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed: apt-get install faketime")
@pytest.mark.parametrize("step", STEPS)
def test_a_gc_of_another_machine_whose_clock_is_ahead(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command itself, three days ahead, before a call of a writer."""
    cache, writer = new_cache(tmp_path, "hdf5")
    gc_itself = "from emocache.cli import main; main()"
    command = ["faketime", "-f", "+3d", sys.executable, "-c", gc_itself, "cache", "gc", str(tmp_path)]
    told: list[str] = []

    def gc(path: str) -> None:
        if not told:
            # Dates of files are left as they are: it is the process's clock that is ahead.
            environment = {**os.environ, "NO_FAKE_STAT": "1"}
            told.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    beside(writer.objects, step, gc, monkeypatch)
    writer.commit(UNIT, {i: item(i, recipe()) for i in IDS[:3]})
    assert len(told) == 1 and ("shards/" in told[0]) == (step in ("create", "names"))  # else there is none, or a record
    monkeypatch.undo()
    check(cache, IDS[:3])


def test_a_leftover_tombstone_costs_another_name_and_nothing_else(tmp_path: Path) -> None:
    """A gc died before it removed its tombstone; a copy meets it under the name that its shard has."""
    source, writer = new_cache(tmp_path, "hdf5")
    fill(writer, {i: item(i, recipe()) for i in IDS[:3]})
    (info,) = source.streams(CORPUS)
    (name,) = source.objects.names(f"{info.folder}/shards")
    target = Cache("memory://")
    target.objects.replace(f"{info.folder}/gc/{name}.0123456789abcdef", b"")
    copy(source, target, [info])
    assert_serves(target.stream(CORPUS, "toy"), {i: item(i, recipe()) for i in IDS[:3]})
    collect(target, 0.0)
    assert_serves(target.stream(CORPUS, "toy"), {i: item(i, recipe()) for i in IDS[:3]})
    assert name not in target.objects.names(f"{info.folder}/shards")
    assert list(verify(target, full=True)) == []
    assert copy(source, target, [info]).bytes == 0
