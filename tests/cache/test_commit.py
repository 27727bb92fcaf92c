"""Commits when several writers compete and when the store misbehaves: nothing lost, nothing twice."""

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import obstore
import pytest

from emocache.cache import Cache, DamagedError, EmocacheError, InputFailure, Item, Load, plan, plan_tasks
from emocache.cache import index as index_
from emocache.cache.commit import FailureEntry, ItemEntry, Record
from emocache.cache.copy import copy
from emocache.cache.objects import Objects, Stored
from emocache.cache.remote import RemoteObjects

from .conftest import CORPUS, IDS, assert_serves, fill, item, manifest, recipe, row, save_marked, snapshot, table_recipe

UNIT = "0123456789abcdef"


def records(objects: Objects) -> dict[str, dict[str, Any]]:
    """{name: record} of a stream's intact records, read without the package's help."""
    return {name: json.loads(objects.get(f"commits/{name}")) for name in objects.names("commits")}


def committed(objects: Objects) -> list[str]:
    """The item keys of all records, each as often as it was committed."""
    return sorted(entry[1] for record in records(objects).values() for entry in record["items"])


def test_a_second_commit_of_the_same_adds_nothing(cache: Cache, backend: str) -> None:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    items = {i: item(i, recipe()) for i in IDS[:3]}
    failures = {IDS[3]: InputFailure("empty", "0 samples")}
    first = writer.commit(UNIT, items, failures)
    assert first.items == tuple(sorted(items)) and first.failures == (IDS[3],) and first.bytes > 0
    second = writer.commit(UNIT, items, failures)
    assert second.items == second.failures == () and second.bytes == 0
    assert list(records(writer.objects)) == [f"{UNIT}.0.json"]
    # Part of it is new: only that is committed.
    more = writer.commit(UNIT, {i: item(i, recipe()) for i in IDS[2:5]})
    assert more.items == tuple(sorted(IDS[3:5]))
    assert len(committed(writer.objects)) == len(set(committed(writer.objects))) == 5
    assert_serves(cache.stream(CORPUS, "toy"), {i: item(i, recipe()) for i in IDS[:5]})
    assert not cache.stream(CORPUS, "toy").failures


def test_a_failure_that_comes_too_late_needs_no_shard(cache: Cache) -> None:
    """The record of a writer whose items another one has committed refers to no shard, so that gc takes it."""
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    writer.commit(UNIT, {"a": item("a", recipe())})
    late = writer.commit(UNIT, {"a": item("a", recipe())}, {"@h": InputFailure("empty", "0 samples")})
    assert late.items == () and late.failures == ("@h",) and late.bytes == 0
    second = records(writer.objects)[f"{UNIT}.1.json"]
    assert second["shard"] is None and second["objects"] == second["arrays"] == {}


def test_retrying_failures(cache: Cache) -> None:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    failures = {i: InputFailure("undecodable", "codec") for i in IDS[:3]}
    good = {i: item(i, recipe()) for i in IDS[3:]}
    assert sorted(fill(writer, good, failures)) == sorted(IDS)
    assert fill(writer, {i: item(i, recipe()) for i in IDS}) == []
    mended = {IDS[0]: item(IDS[0], recipe())}
    other = {IDS[1]: InputFailure("empty", "0 samples"), IDS[2]: failures[IDS[2]]}
    assert sorted(fill(writer, mended, other, retry_failed=True)) == sorted(IDS[:3])
    stream = cache.stream(CORPUS, "toy")
    assert_serves(stream, {**good, **mended})
    # The last attempt tells why; what it tells again is not committed again.
    assert stream.failures == {IDS[1]: ("empty", "0 samples"), IDS[2]: ("undecodable", "codec")}
    second = next(record for name, record in records(writer.objects).items() if ".1.json" in name)
    assert [entry[0] for entry in second["items"] + second["failures"]] == [IDS[0], IDS[1]]


def test_writers_that_compete_for_a_unit(tmp_path: Path) -> None:
    """Six writers commit overlapping parts of two units at the same moment."""
    Cache(tmp_path).put_manifest(manifest())
    parts = list(itertools.combinations(IDS[:4], 2))
    gate = threading.Barrier(len(parts))
    told: list[str] = []

    def work(part: tuple[str, ...]) -> None:
        writer = Cache(tmp_path).create_stream(CORPUS, "toy", recipe(), backend="hdf5")
        gate.wait()
        for unit in (UNIT, UNIT[::-1]):
            ids = part if unit == UNIT else IDS[4:]
            told.extend(writer.commit(unit, {i: item(i, recipe()) for i in ids}).items)
        writer.finish()

    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer = Cache(tmp_path).create_stream(CORPUS, "toy", recipe())
    assert len(committed(writer.objects)) == len(set(committed(writer.objects))) == len(IDS)
    assert sorted(told) == sorted(IDS)
    assert_serves(Cache(tmp_path).stream(CORPUS, "toy"), {i: item(i, recipe()) for i in IDS})


@pytest.mark.parametrize("moment", range(6))
def test_a_commit_that_comes_in_between_is_not_overlooked(tmp_path: Path, moment: int) -> None:
    """Another writer commits the same unit right after this one's n-th look at the records."""
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    ours, theirs = (cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5") for _ in range(2))
    looks = itertools.count()
    look = ours.objects.names

    def names(folder: str, prefix: str = "") -> list[str]:
        found = look(folder, prefix)
        if next(looks) == moment:
            theirs.commit(UNIT, {i: item(i, recipe()) for i in IDS[:2]}, {IDS[4]: InputFailure("empty", "")})
        return found

    ours.objects.names = names  # type: ignore[method-assign]
    ours.commit(UNIT, {i: item(i, recipe()) for i in IDS[1:4]}, {IDS[4]: InputFailure("empty", "")})
    assert moment > 0 or len(records(theirs.objects)) == 2
    assert len(committed(theirs.objects)) == len(set(committed(theirs.objects)))
    assert sum(len(record["failures"]) for record in records(theirs.objects).values()) == 1


@pytest.mark.parametrize("moment", range(8))
def test_a_plan_that_comes_in_between_is_not_overlooked(tmp_path: Path, moment: int) -> None:
    """Another worker, with other ideas of how to cut, plans right after this one's n-th look."""
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    ours, theirs = (cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5") for _ in range(2))
    loads = {i: Load(1.0, len(i)) for i in IDS}
    looks = itertools.count()
    look = ours.objects.names

    def names(folder: str, prefix: str = "") -> list[str]:
        found = look(folder, prefix)
        if next(looks) == moment:
            plan_tasks([theirs], loads, min_units=2)
        return found

    ours.objects.names = names  # type: ignore[method-assign]
    tasks = plan_tasks([ours], loads, min_units=3)
    assert theirs.objects.names("plans") == ["000001.json"]
    assert plan_tasks([theirs], loads, min_units=2) == tasks
    assert sorted(i for task in tasks for i in task.ids) == sorted(IDS)


@pytest.mark.parametrize("moment", range(4))
def test_a_plan_of_many_units_is_several_documents(
    tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker, with other ideas of how to cut, plans right before this one's n-th document."""
    monkeypatch.setattr(plan, "_UNITS_OF_A_PLAN", 1)
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    ours, theirs = (cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5") for _ in range(2))
    loads = {i: Load(1.0, len(i)) for i in IDS}
    creates = itertools.count()
    create = ours.objects.create

    def beside(path: str, data: bytes) -> bool:
        if next(creates) == moment:
            plan_tasks([theirs], loads, min_units=2)
        return create(path, data)

    ours.objects.create = beside  # type: ignore[method-assign]
    tasks = plan_tasks([ours], loads, min_units=3)
    assert len(ours.objects.names("plans")) == len(tasks) > 1
    assert plan_tasks([theirs], loads, min_units=2) == tasks
    assert sorted(i for task in tasks for i in task.ids) == sorted(IDS)


@pytest.mark.parametrize("root", ["local", "memory://"])
def test_a_commit_reads_the_records_of_its_own_unit_only(
    tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does an object store list those of others: what a commit costs does not grow with the stream."""
    cache = Cache(tmp_path if root == "local" else root)
    ids = [f"{n:03d}" for n in range(120)]
    cache.put_manifest(manifest(ids))
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5")
    for number, i in enumerate(ids[:-2]):
        writer.commit(f"{number:016x}", {}, {i: InputFailure("empty", "")})
    unit = f"{60:016x}"
    read: list[str] = []
    listed: list[str] = []
    get = writer.objects.get
    list_: Any = obstore.list
    list_with_delimiter: Any = obstore.list_with_delimiter

    def reading(path: str) -> bytes:
        read.append(path)
        return get(path)

    def listing(*arguments: Any, **options: Any) -> Any:
        for batch in list_(*arguments, **{**options, "chunk_size": 1}):
            listed.extend(str(found["path"]).rpartition("/")[2] for found in batch)
            yield batch

    def listing_all(*arguments: Any, **options: Any) -> Any:
        found = list_with_delimiter(*arguments, **options)
        listed.extend(str(one["path"]).rpartition("/")[2] for one in found["objects"])
        return found

    def names(folder: str, prefix: str = "") -> list[str]:
        found = look(folder, prefix)
        listed.extend(found)
        return found

    look = writer.objects.names
    for name, double in {"get": reading, "names": names}.items():
        monkeypatch.setattr(writer.objects, name, double)
    monkeypatch.setattr(obstore, "list", listing)
    monkeypatch.setattr(obstore, "list_with_delimiter", listing_all)
    for attempt, i in enumerate(ids[-2:], 1):
        assert writer.still_missing(unit, ids) == [j for j in ids if j != ids[60] and j not in ids[118 : 117 + attempt]]
        assert writer.commit(unit, {}, {i: InputFailure("empty", "")}).failures == (i,)
    assert {path for path in read if path.startswith("commits/")} <= {f"commits/{unit}.{n}.json" for n in range(3)}
    assert set(listed) <= {*(f"{unit}.{n}.json" for n in range(3)), f"{61:016x}.0.json"}


def naive(every: dict[str, Record]) -> tuple[dict[str, tuple[str, int]], dict[str, tuple[str, str]]]:
    """({key: (record, row)}, {key: failure}): success beats failure, then the smallest record name; the last attempt
    tells why something failed."""
    gone = {name for record in every.values() for name in record.supersedes}
    items: dict[str, tuple[str, int]] = {}
    for name in sorted(set(every) - gone):
        for entry in every[name].items:
            items.setdefault(entry.key, (name, entry.row))
    failures: dict[str, tuple[str, str]] = {}
    for name in sorted(set(every) - gone, key=lambda name: (-every[name].attempt, name)):
        for failure in every[name].failures:
            if failure.key not in items:
                failures.setdefault(failure.key, (failure.reason, failure.detail))
    return items, failures


@pytest.mark.parametrize("seed", range(12))
def test_the_index_says_what_the_records_say(objects: Objects, seed: int) -> None:
    """Whatever order the records come in, and wherever the index was saved on the way."""
    random = np.random.default_rng(seed)
    keys = {i: f"{number:064x}" for number, i in enumerate("uvwxyz")}
    every: dict[str, Record] = {}
    pairs = [(f"{unit:x}", attempt) for unit in (3, 10, 11) for attempt in (0, 1, 2, 10)]
    for unit, attempt in random.permutation(np.array(pairs, object))[: random.integers(1, len(pairs))]:
        chosen = [i for i in keys if random.random() < 0.4]
        failed = [i for i in keys if random.random() < 0.3]
        gone = [name for name in every if random.random() < 0.1]
        rows = random.permutation(100)
        record = Record(
            unit, int(attempt), "token", "now", "shards/x",
            items=tuple(ItemEntry(i, keys[i], int(row), 1, 0) for i, row in zip(chosen, rows, strict=False)),
            failures=tuple(FailureEntry(i, keys[i], "empty", f"{unit}.{attempt}") for i in failed),
            supersedes=tuple(gone),
        )  # fmt: skip
        every[record.name] = record
        assert objects.create(f"commits/{record.name}", record.to_bytes())
        if random.random() < 0.4:
            save_marked(objects, index_.load(objects), "m", keys)
        found = index_.load(objects)
        rows_found = found.items.select(["key", "record", "row"]).to_pylist()
        items, failures = naive(every)
        assert {r["key"].hex(): (found.records[r["record"]], r["row"]) for r in rows_found} == items
        assert {f.key: (f.reason, f.detail) for f in found.failures} == failures
        assert found.items.column("id").to_pylist() == sorted(found.items.column("id").to_pylist())
    for name in list(every)[::2]:  # as gc does after a compaction
        objects.delete(f"commits/{name}")
        del every[name]
    items, failures = naive(every)
    found = index_.load(objects)
    assert {k.hex() for k in found.items.column("key").to_pylist()} == set(items)
    assert {f.key: (f.reason, f.detail) for f in found.failures} == failures


Fault = Callable[[str, str], str | None]


class Faulty(RemoteObjects):
    """A store in memory that does to chosen calls what object stores do on bad days."""

    fault: Fault = staticmethod(lambda call, path: None)

    def below(self, folder: str) -> "Faulty":
        """The same store and the same troubles, seen from a folder."""
        found = Faulty(f"{self.url}/{folder}", self.store, self._path(folder))
        found.fault = self.fault
        return found

    def create(self, path: str, data: bytes) -> bool:
        """A create that may lie."""
        what = self.fault("create", path)
        if what == "answer lost":
            super().create(path, data)
        if what in ("answer lost", "error", "full"):
            raise OSError(f"{path}: {what}")
        return False if what == "conflict" else super().create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        """A put that may fail, also after it was done."""
        what = self.fault("replace", path)
        if what in (None, "answer lost"):
            super().replace(path, data)
        if what is not None:
            raise OSError(f"{path}: {what}")

    def put_shard(self, name: str, files: Any, meanwhile: Any = None) -> dict[str, Stored]:
        """A shard of which only a part may arrive."""
        what = self.fault("put_shard", name)
        if what in ("error", "full"):
            super().put_shard(name, dict(list(files.items())[: len(files) // 2]))
            raise OSError(f"{name}: {what}")
        return super().put_shard(name, files, meanwhile)

    def get(self, path: str) -> bytes:
        """A get that may fail."""
        if self.fault("get", path):
            raise OSError(f"{path}: error")
        return super().get(path)


def faulty_cache() -> tuple[Cache, Faulty]:
    cache = Cache("memory://")
    assert isinstance(cache.objects, RemoteObjects)
    store = Faulty("memory:", cache.objects.store)
    cache.objects = store
    return cache, store


def extract(cache: Cache, items: dict[str, Item]) -> None:
    """All that one run does, from the manifest to the index."""
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5")
    fill(writer, items, {IDS[0]: InputFailure("empty", "0 samples")}, units=3)


@pytest.mark.parametrize("what", ["answer lost", "conflict", "error", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_answers_wrongly(what: str, seed: int) -> None:
    items = {i: item(i, recipe()) for i in IDS[1:]}
    reference, _ = faulty_cache()
    extract(reference, items)
    cache, store = faulty_cache()
    random = np.random.default_rng(seed)

    def fault(call: str, path: str) -> str | None:
        if random.random() > 0.25 or (call == "get" and what != "mixed"):
            return None
        return str(random.choice(["answer lost", "conflict", "error"])) if what == "mixed" else what

    store.fault = fault
    for _ in range(15):
        try:
            extract(cache, items)
        except (EmocacheError, OSError) as error:
            assert "\n" not in str(error)
    store.fault = lambda call, path: None
    extract(cache, items)
    objects = cache.create_stream(CORPUS, "toy", recipe()).objects
    assert len(committed(objects)) == len(set(committed(objects))) == len(items)
    assert sum(len(record["failures"]) for record in records(objects).values()) == 1
    assert snapshot(cache.stream(CORPUS, "toy")) == snapshot(reference.stream(CORPUS, "toy"))


@pytest.mark.parametrize("call", ["put_shard", "create"])
def test_a_full_store(call: str) -> None:
    cache, _ = faulty_cache()
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    writer.commit(UNIT, {IDS[0]: item(IDS[0], recipe())})
    writer.objects.fault = lambda asked, path: "full" if asked == call else None  # type: ignore[attr-defined]
    with pytest.raises(EmocacheError, match=r"full\).*what was committed is safe.*run the same command again"):
        writer.commit(UNIT, {IDS[1]: item(IDS[1], recipe())})
    assert_serves(cache.stream(CORPUS, "toy"), {IDS[0]: item(IDS[0], recipe())})
    writer.objects.fault = lambda asked, path: None  # type: ignore[attr-defined]
    writer.commit(UNIT, {IDS[1]: item(IDS[1], recipe())})
    assert_serves(cache.stream(CORPUS, "toy"), {i: item(i, recipe()) for i in IDS[:2]})


def test_a_store_that_says_taken_and_holds_nothing() -> None:
    cache, store = faulty_cache()
    cache.put_manifest(manifest())
    store.fault = lambda call, path: "conflict" if call == "create" else None
    with pytest.raises(EmocacheError, match=r"does not take recipe.json \(it says the name is taken, and has nothing"):
        cache.create_stream(CORPUS, "toy", recipe())


def test_a_shard_that_reads_back_differently_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, _ = faulty_cache()
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5")
    monkeypatch.setattr("emocache.cache.shard_hdf5.read_rows", lambda objects, shard, rows: np.zeros((3, 5)))
    with pytest.raises(EmocacheError, match="row 0 reads back differently from what was written; check the disk"):
        writer.commit(UNIT, {"a": item("a", recipe())})
    assert not records(writer.objects)


def test_a_shard_older_than_half_the_grace_period_is_not_committed(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    clock = iter([0.0, 13 * 3600.0])
    monkeypatch.setattr("emocache.cache.writer.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(EmocacheError, match="writing a shard took over 43200 s"):
        writer.commit(UNIT, {"a": item("a", recipe())})
    assert not records(writer.objects)


def test_a_row_that_parquet_changes_is_refused(cache: Cache) -> None:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "words", table_recipe())
    with pytest.raises(EmocacheError, match=r"the row of '@h' does not survive Parquet; a row's values"):
        writer.commit(UNIT, {"@h": {"n": 1}, "a": {"n": 1.5}})
    with pytest.raises(ValueError, match="may not have a column 'id'"):
        writer.commit(UNIT, {"a": {"id": "b"}})
    writer.commit(UNIT, {i: row(i) for i in IDS})
    assert cache.stream(CORPUS, "words").row("@h") == row("@h")


@pytest.mark.parametrize("path", ["../../x", "shards/../../x", "/etc/passwd", "commits/x", "shards/other", "shards//x"])
def test_a_record_leads_nowhere_else(cache: Cache, tmp_path: Path, path: str) -> None:
    """Whoever sealed it: nothing outside the stream's shards is read, copied or written for a record's sake."""
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    writer.commit(UNIT, {"a": item("a", recipe())})
    record = Record.from_bytes(writer.objects.get(f"commits/{UNIT}.0.json"), "")
    moved = {path: next(iter(record.objects.values()))}
    arrays = {"frames": record.arrays["frames"]._replace(object=path)}
    for bad in (replace(record, objects=moved), replace(record, arrays=arrays),
                replace(record, shard=path if path != "shards/other" else "shards/x", objects=moved)):  # fmt: skip
        writer.objects.replace(f"commits/{UNIT}.0.json", bad.to_bytes())
        with pytest.raises(DamagedError, match="names an object that is not of its shard"):
            Record.from_bytes(bad.to_bytes(), "it")
        with pytest.raises(DamagedError):
            copy(cache, Cache(tmp_path / "target"), cache.streams(CORPUS))
        assert cache.stream(CORPUS, "toy").missing == sorted(IDS)


def test_damage_does_not_stop_a_run(cache: Cache) -> None:
    """A damaged recipe is written again, a damaged plan is made again, what a damaged record told is encoded again."""
    items = {i: item(i, recipe()) for i in IDS}
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    fill(writer, items)
    for path in ("recipe.json", "plans/000001.json", *(f"commits/{name}" for name in writer.objects.names("commits"))):
        data = bytearray(writer.objects.get(path))
        data[len(data) // 2] ^= 1
        writer.objects.replace(path, bytes(data))
    writer.objects.delete("index.arrow")
    writer = cache.create_stream(CORPUS, "toy", recipe())
    assert sorted(fill(writer, items)) == sorted(IDS)
    stream = cache.stream(CORPUS, "toy")
    assert_serves(stream, items)
    assert len(stream.damaged) == 1
