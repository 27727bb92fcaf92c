"""A compaction changes nothing that is served, whoever reads, writes or collects garbage meanwhile."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import Cache, EmocacheError, InputFailure, Stream, StreamWriter, compact, plan_tasks
from emocache.cache.commit import COMPACTED, Record
from emocache.cache.compact import Compaction
from emocache.cache.gc import collect
from emocache.cache.plan import Load
from emocache.cache.verify import verify

from .conftest import CORPUS, IDS, fill, item, manifest, plain_recipe, recipe, row, snapshot, table_recipe
from .test_gc import Turns, check, new_cache, schedules, seen_by

EMPTY = InputFailure("empty", "0 samples")


def compacted(cache: Cache) -> int:
    """Compact every stream; gives the records that are left."""
    plans = [Compaction(cache, info) for info in cache.streams(CORPUS)]
    for plan in plans:
        plan.run()
    return sum(plan.records - plan.joined + len(plan.groups) for plan in plans)


def standing_records(writer: StreamWriter) -> list[Record]:
    names = writer.objects.names("commits")
    return [Record.from_bytes(writer.objects.get(f"commits/{name}"), name) for name in names]


def served(stream: Stream) -> Any:
    """All that a stream of either kind serves."""
    table = stream.recipe["kind"] == "table"
    return ({i: stream.row(i) for i in stream.ids}, stream.failures) if table else snapshot(stream)


@pytest.mark.parametrize("kind", ["table", "zarr", "hdf5", "plain"])
def test_small_shards_become_one(cache: Cache, kind: str) -> None:
    cache.put_manifest(manifest())
    made_from = {"table": table_recipe(), "plain": plain_recipe()}.get(kind, recipe())
    writer = cache.create_stream(CORPUS, "toy", made_from, backend="hdf5" if kind == "hdf5" else "zarr")
    made = {i: row(i) if kind == "table" else item(i, made_from) for i in IDS[:-1]}
    fill(writer, made, {IDS[-1]: EMPTY}, units=4)
    before = cache.stream(CORPUS, "toy")
    shards = writer.objects.names("shards")
    told = served(before)
    assert len(shards) > 2 and compacted(cache) == 1 and served(cache.stream(CORPUS, "toy")) == told
    assert collect(cache) == ([], 0)  # what is superseded stays for readers that have it open
    assert served(before) == told and served(cache.stream(CORPUS, "toy")) == told
    assert len(collect(cache, 0.0)[0]) >= 2 * len(shards)
    assert served(cache.stream(CORPUS, "toy")) == told
    assert len(writer.objects.names("commits")) == len(writer.objects.names("shards")) == 1
    assert list(verify(cache, full=True)) == []
    assert compacted(cache) == 1 and len(writer.objects.names("commits")) == 1  # nothing left to do
    assert fill(writer, made) == [] and cache.stream(CORPUS, "toy").failures == before.failures


def test_a_unit_goes_on_after_its_records_were_compacted_and_collected(cache: Cache) -> None:
    """The records that gc has taken leave their names to nobody."""
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    [task] = plan_tasks([writer], {i: Load(1.0, 1) for i in IDS})
    unit = task.units["toy"]
    for number, i in enumerate(IDS):
        if number in (2, 4):
            writer.finish()
            compacted(cache)
            collect(cache, 0.0)
        if number == 3:
            writer = cache.create_stream(CORPUS, "toy", recipe())
        assert writer.commit(unit, {i: item(i, recipe())}).items == (i,)
        assert cache.stream(CORPUS, "toy").ids == sorted(IDS[: number + 1])
    assert {r.attempt for r in standing_records(writer) if not r.name.startswith(COMPACTED)} == {4, 5}
    check(cache, IDS)


def test_stale_items_stay_in_shards_of_their_own(cache: Cache) -> None:
    writer = None
    for version in (0, 1, 2):
        cache.put_manifest(manifest(versions=dict.fromkeys(IDS, version)))
        writer = cache.create_stream(CORPUS, "toy", recipe())
        fill(writer, {i: item(i, recipe(), version) for i in IDS}, units=3)
    assert writer is not None and compacted(cache) == 3
    collect(cache, 0.0)
    for version in (1, 0, 2):
        cache.put_manifest(manifest(versions=dict.fromkeys(IDS, version)))
        stream = cache.stream(CORPUS, "toy")
        assert stream.stale == 2 * len(IDS)
        assert all((stream.read(i) == item(i, recipe(), version).frames.astype("float16")).all() for i in IDS)
    assert list(verify(cache, full=True)) == []


def test_large_shards_are_left_alone_and_groups_have_a_limit(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "MOST_ITEMS", 2)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    fill(writer, {i: item(i, recipe()) for i in IDS}, units=6)
    assert compacted(cache) == 3 and all(len(r.items) == 2 for r in standing_records(writer) if r.supersedes)
    monkeypatch.setattr(compact, "MOST_BYTES", 1)
    assert compacted(cache) == 3


@pytest.mark.parametrize("kind", ["table", "zarr", "hdf5"])
def test_what_is_damaged_is_named_and_not_carried_on(tmp_path: Path, kind: str) -> None:
    cache, writer = new_cache(tmp_path, kind)
    made = {i: row(i) if kind == "table" else item(i, recipe()) for i in IDS}
    fill(writer, made, units=3)
    record = standing_records(writer)[0]
    entry = record.items[0]
    path = tmp_path / writer.objects.url / (record.arrays["frames"].object if record.arrays else str(record.shard))
    data = bytearray(path.read_bytes())
    at = record.arrays["frames"].byte_offset + 10 * entry.row if record.arrays else 40
    data[at] ^= 1
    path.write_bytes(data)
    before = writer.objects.names("commits")
    with pytest.raises(EmocacheError, match="cache verify --full"):
        compacted(cache)
    assert writer.objects.names("commits") == before


def test_a_damaged_record_stops_it(tmp_path: Path) -> None:
    cache, writer = new_cache(tmp_path, "zarr")
    fill(writer, {i: item(i, recipe()) for i in IDS}, units=3)
    name = writer.objects.names("commits")[0]
    writer.objects.replace(f"commits/{name}", writer.objects.get(f"commits/{name}")[:-5])
    with pytest.raises(EmocacheError, match=f"{name}: damaged.*Nothing of this stream was compacted"):
        compacted(cache)


def test_killed_before_its_record_it_leaves_garbage_only(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    fill(writer, {i: item(i, recipe()) for i in IDS}, units=3)
    shards = set(writer.objects.names("shards"))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compact, "create_record", killed)
        compacted(cache)
    [left] = set(writer.objects.names("shards")) - shards
    assert [path.rpartition("/")[2] for path in collect(cache, 0.0)[0]] == [left]
    check(cache, IDS)


def race(root: Path | str, kind: str, choose: Callable[[list[int]], int], *, writes: bool) -> None:
    """A compaction beside a gc to which all is old, and a writer that goes on with a unit."""
    cache, writer = new_cache(root, kind)
    made = {i: row(i) if kind == "table" else item(i, recipe()) for i in IDS}
    [task] = plan_tasks([writer], {i: Load(1.0, 1) for i in IDS})
    unit = task.units[writer.name]
    for i in IDS[:3]:
        writer.commit(unit, {i: made[i]})
    turns = Turns()
    other, gc = seen_by(cache, turns, gc=False), seen_by(cache, turns)
    (info,) = cache.streams(CORPUS)
    writing = seen_by(cache, turns, gc=False).create_stream(CORPUS, info.name, info.recipe, backend=info.backend)
    actors: list[Callable[[], Any]] = [lambda: Compaction(other, info).run(), lambda: collect(gc, 0.0)]
    if writes:
        actors.append(lambda: writing.commit(unit, {i: made[i] for i in IDS[2:5]}))
    turns.run(actors, choose)
    check(cache, IDS[: 5 if writes else 3])


def test_every_interleaving_of_a_compaction_and_a_gc() -> None:
    every = list(schedules(lambda choose: race("memory://", "table", choose, writes=False)))
    assert len(every) == len(set(every)) > 20


@pytest.mark.parametrize("kind", ["table", "zarr", "hdf5"])
def test_drawn_orders_of_a_compaction_a_gc_and_a_writer(kind: str) -> None:
    draw = random.Random(0)
    for _ in range({"table": 60, "zarr": 8, "hdf5": 15}[kind]):
        race("memory://", kind, draw.choice, writes=True)
