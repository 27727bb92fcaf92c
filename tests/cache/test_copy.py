"""Copying: resumable wherever it was interrupted, refuses damaged sources, merges, and the copy needs no source."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from emocache.cache import Cache, EmocacheError, InputFailure
from emocache.cache.commit import Record
from emocache.cache.copy import Copied, copy
from emocache.cache.gc import collect
from emocache.cache.local import LocalObjects
from emocache.cache.remote import RemoteObjects
from emocache.cache.verify import verify
from emocache.extract.pipeline.projecting import project

from .conftest import CORPUS, IDS, assert_serves, fill, item, manifest, recipe, row, snapshot, table_recipe

FAULT = {IDS[4]: InputFailure("empty", "0 samples")}


def make(root: Path, ids: list[str], failures: dict[str, InputFailure], backend: str = "zarr") -> Cache:
    cache = Cache(root)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    fill(writer, {i: item(i, recipe(), frames=4) for i in ids}, failures, units=3)
    fill(cache.create_stream(CORPUS, "words", table_recipe()), {i: row(i) for i in ids})
    return cache


def all_of(cache: Cache) -> list[Any]:
    return [info for corpus in cache.corpora() for info in cache.streams(corpus)]


def contents(cache: Cache) -> dict[str, Any]:
    """All that a cache serves."""
    streams = {info.name: cache.open_info(info) for info in all_of(cache)}
    served = {name: snapshot(stream) for name, stream in streams.items() if stream.recipe["kind"] == "frames"}
    words = streams["words"]
    return {**served, "words": {i: words.row(i) for i in words.ids}, "ids": cache.manifest(CORPUS).ids}


@contextmanager
def stopped_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> Iterator[Callable[[], int]]:
    """Every store fails for good after this many writes; gives how many were made."""
    made = itertools.count()
    last = [0]

    def wrap(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            last[0] = next(made)
            if last[0] >= calls:
                raise ConnectionError("unplugged")
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for kind in (LocalObjects, RemoteObjects):
            for name in ("put_shard", "create", "replace", "delete"):
                patch.setattr(kind, name, wrap(getattr(kind, name)))
        yield lambda: last[0]


def test_the_copy_serves_the_same_when_the_source_is_gone(tmp_path: Path, cache: Cache, backend: str) -> None:
    source = make(tmp_path / "a", IDS[:4], FAULT, backend)
    project(source, CORPUS, "toy", 2, "speaker=a|b|d", dtype="float32", backend="zarr", environment={})
    expected = contents(source)
    told: list[str] = []
    done = copy(source, cache, all_of(source), told.append)
    assert done.streams == len(told) == 3 and done.items == 4 + 4 + 4 and done.bytes > 0
    shutil.rmtree(tmp_path / "a")
    assert contents(cache) == expected
    assert list(verify(cache, full=True)) == []


def test_a_second_copy_copies_nothing(tmp_path: Path, cache: Cache) -> None:
    source = make(tmp_path / "a", IDS[:4], FAULT)
    copy(source, cache, all_of(source))
    before = {found.path: found.modified for found in cache.objects.list("") if found.path.endswith("json")}
    assert copy(source, cache, all_of(source)) == Copied(2, 0, 0)
    assert {found.path: found.modified for found in cache.objects.list("") if found.path.endswith("json")} == before


def test_an_interrupted_copy_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before each of its writes in turn; what it has copied by then is not copied again."""
    source = make(tmp_path / "a", IDS[:4], FAULT, "hdf5")
    expected = contents(source)
    total = copy(source, Cache("memory://"), all_of(source)).bytes
    finished = False
    for calls in itertools.count():
        target = Cache("memory://") if calls % 2 else Cache(tmp_path / f"b{calls}")
        with stopped_after(monkeypatch, calls):
            try:
                copy(source, target, all_of(source))
                finished = True
            except (EmocacheError, OSError) as error:
                assert "unplugged" in str(error)
        there = sum(found.size for found in target.objects.list("") if "/shards/" in found.path)
        if target.corpora():
            assert contents(target) == expected  # the manifest comes last, so all is there
        rest = copy(source, target, all_of(source))
        assert rest.bytes == total - there
        assert contents(target) == expected
        assert list(verify(target, full=True)) == []
        if finished:
            break
    assert calls > 10


def test_a_copy_killed_in_the_middle_of_a_remote_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a shard of many objects, only the first has arrived."""
    source = make(tmp_path / "a", IDS[:4], {})
    target = Cache("memory://")
    real = RemoteObjects.replace
    puts = itertools.count()

    def replace(self: RemoteObjects, path: str, data: bytes) -> None:
        if "shards" in path and next(puts) > 3:
            raise OSError("unplugged")
        real(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteObjects, "replace", replace)
        with pytest.raises(OSError, match="unplugged"):
            copy(source, target, all_of(source))
    copy(source, target, all_of(source))
    assert contents(target) == contents(source)


@pytest.mark.parametrize("what", ["commits/*.json", "recipe.json", "shards/*/frames/c/0/0", "shards/*/zarr.json"])
def test_a_damaged_source_is_refused(tmp_path: Path, what: str) -> None:
    source = make(tmp_path / "a", IDS, {})
    target = Cache(tmp_path / "b")
    path = sorted((tmp_path / "a").glob(f"{CORPUS}/toy@*/{what}"))[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 2
    path.write_bytes(data)
    with pytest.raises(EmocacheError, match=rf"{path.relative_to(tmp_path)}: damaged"):
        copy(source, target, all_of(source))
    assert not [problem for problem in verify(target, full=True) if "damaged" in problem.reason]
    assert target.corpora() == []  # nothing looks complete
    data[len(data) // 2] ^= 2
    path.write_bytes(data)
    copy(source, target, all_of(source))
    assert contents(target) == contents(source)


def test_merging_two_machines(tmp_path: Path, backend: str) -> None:
    """Each extracted a part, one of them what the other one failed at; they overlap."""
    first = make(tmp_path / "a", IDS[:3], FAULT, backend)
    second = make(tmp_path / "b", IDS[2:5], {IDS[5]: InputFailure("no_audio", "silence")}, "hdf5")
    together = make(tmp_path / "c", IDS[:5], {IDS[5]: InputFailure("no_audio", "silence")})
    for order in ((first, second), (second, first)):
        target = Cache("memory://")
        assert [copy(source, target, all_of(source)).items for source in order] in ([6, 4], [6, 4])
        assert contents(target) == contents(together)
        assert list(verify(target, full=True)) == []
        assert [copy(source, target, all_of(source)).items for source in order] == [0, 0]
    # Into a cache that has some already, and both ways.
    copy(first, second, all_of(first))
    copy(second, first, all_of(second))
    assert contents(first) == contents(second) == contents(together)
    # What was merged in is not extracted again.
    writer = first.create_stream(CORPUS, "toy", recipe())
    assert fill(writer, {i: item(i, recipe(), frames=4) for i in IDS}) == []


def test_merging_attempts_of_one_unit(tmp_path: Path) -> None:
    """Records of one name that say different things are both kept."""
    caches = []
    for name, good in (("a", 0), ("b", 1)):
        cache = Cache(tmp_path / name)
        cache.put_manifest(manifest())
        writer = cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5")
        writer.commit("0" * 16, {i: item(i, recipe()) for i in IDS[good::2]},
                      {i: InputFailure("empty", f"{name} says so") for i in IDS[1 - good :: 2]})  # fmt: skip
        caches.append(cache)
    copy(caches[0], caches[1], all_of(caches[0]))
    objects = caches[1].create_stream(CORPUS, "toy", recipe()).objects
    assert objects.names("commits") == [f"{'0' * 16}.0.json", f"{'0' * 16}.1.json"]
    stream = caches[1].stream(CORPUS, "toy")
    assert_serves(stream, {i: item(i, recipe()) for i in IDS})
    assert not stream.failures
    assert collect(caches[1], 0.0)[0] == []


def test_another_manifest_in_the_target_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "a", IDS[:2], {})
    target = Cache(tmp_path / "b")
    target.put_manifest(manifest(versions={"a": 1}))
    with pytest.raises(EmocacheError, match=r"corpus 'toy' has another manifest in .*/b; items current there would"):
        copy(source, target, all_of(source))


def test_stale_items_travel_and_become_current_again(tmp_path: Path) -> None:
    source = make(tmp_path / "a", IDS, {})
    source.put_manifest(manifest(versions={"a": 1}))
    target = Cache(tmp_path / "b")
    copy(source, target, all_of(source))
    assert target.stream(CORPUS, "toy").stale == 1
    for cache in (source, target):
        cache.put_manifest(manifest())
    assert contents(target) == contents(source)
    assert target.stream(CORPUS, "toy").stale == 0


def test_a_copy_brings_back_what_the_target_lost(tmp_path: Path) -> None:
    source, target = make(tmp_path / "a", IDS, {}), Cache(tmp_path / "b")
    copy(source, target, all_of(source))
    shards = sorted((tmp_path / "b").glob(f"{CORPUS}/toy@*/shards/*"))
    shutil.rmtree(shards[0])
    (shards[1] / "zarr.json").unlink()
    record = sorted((tmp_path / "b").glob(f"{CORPUS}/toy@*/commits/*"))[-1]
    record.write_bytes(record.read_bytes()[:-9])
    copy(source, target, all_of(source))
    assert contents(target) == contents(source)
    assert [problem.object for problem in verify(target, full=True)] == [f"commits/{record.name}"]


def test_an_interrupted_copy_takes_no_name_that_the_index_still_covers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both caches have the same units in other shards; one lost a record, as `verify` says to delete it."""
    source, target = (make(tmp_path / name, IDS, {}) for name in "ab")
    info = next(info for info in all_of(target) if info.name == "toy")
    objects = target.objects.below(info.folder)
    name = objects.names("commits")[0]
    record = Record.from_bytes(objects.get(f"commits/{name}"), name)
    objects.delete(f"commits/{name}")
    objects.delete(str(record.shard))
    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr("emocache.cache.copy.save", Mock(side_effect=ConnectionError))
        copy(source, target, [info])
    assert contents(target) == contents(source)  # not what the index said of the record that is gone
    assert not list(verify(target, full=True))
