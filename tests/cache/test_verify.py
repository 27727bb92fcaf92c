"""Damage: any flipped bit is found and named, what is missing is told, and gc takes what nothing refers to."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.cache import Cache, EmocacheError, InputFailure
from emocache.cache.gc import collect, remove_corpus, remove_stream
from emocache.cache.verify import Problem, verify
from emocache.extract.pipeline.projecting import project

from .conftest import CORPUS, IDS, assert_serves, fill, item, manifest, recipe, row, snapshot, table_recipe

NAMES = ("toy", "flat", "words", "toy.pca2")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with every kind of object in it: two backends, a table, a PCA, failures, a second attempt."""
    root = tmp_path_factory.mktemp("full")
    cache = Cache(root)
    cache.put_manifest(manifest())
    cache.put_manifest(manifest(versions={IDS[0]: 1}))
    fault = {IDS[3]: InputFailure("undecodable", "codec"), IDS[4]: InputFailure("empty", "0 samples")}
    for name, backend in (("toy", "zarr"), ("flat", "hdf5")):
        made_from = recipe(encoder=name)
        writer = cache.create_stream(CORPUS, name, made_from, backend=backend)
        fill(writer, {i: item(i, made_from) for i in (*IDS[:3], IDS[5])}, fault, units=2)
        fill(writer, {IDS[3]: item(IDS[3], made_from)}, retry_failed=True)
    fill(cache.create_stream(CORPUS, "words", table_recipe()), {i: row(i) for i in IDS}, units=2)
    project(cache, CORPUS, "toy", 2, "all", dtype="float32", backend="zarr", environment={})
    assert list(verify(cache, full=True)) == []
    return root


@pytest.fixture
def store(full: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(full, tmp_path / "store"))


def objects_of(root: Path) -> list[Path]:
    """Every committed object: all but the derived indices."""
    return sorted(p for p in root.rglob("*") if p.is_file() and p.name != "index.arrow")


def flip(path: Path, position: int, bit: int) -> Callable[[], None]:
    """Flip one bit; returns what flips it back."""
    with path.open("r+b") as file:
        file.seek(position)
        before = file.read(1)
        file.seek(position)
        file.write(bytes([before[0] ^ (1 << bit)]))

    def restore() -> None:
        with path.open("r+b") as file:
            file.seek(position)
            file.write(before)

    return restore


@pytest.mark.slow
def test_one_flipped_bit_in_any_committed_object_is_found(store: Path) -> None:
    random = np.random.default_rng(0)
    cache = Cache(store)
    tried = 0
    for path in objects_of(store):
        size = path.stat().st_size
        for position in {0, size - 1, *random.integers(0, size, 4).tolist()}:
            restore = flip(path, int(position), int(random.integers(8)))
            found = list(verify(cache, full=True))
            assert found, f"{path.relative_to(store)}, byte {position} of {size}"
            names = {str(path.relative_to(store)).split("/", 2)[-1], path.name}
            assert all(problem.object in names or problem.stream == f"{CORPUS}/-" for problem in found)
            restore()
            tried += 1
    assert tried > 300
    assert list(verify(cache, full=True)) == []


@pytest.mark.parametrize("name", ["toy", "flat"])
@pytest.mark.parametrize("array", ["frames", "times", "aux/face", "aux/box"])
def test_damage_in_a_payload_names_the_utterance(store: Path, name: str, array: str) -> None:
    cache = Cache(store)
    stream = cache.stream(CORPUS, name)
    random = np.random.default_rng(1)
    folder = store / CORPUS / f"{name}@{stream.fingerprint[:12]}"
    for number, i in enumerate(stream.ids):
        at = stream._position(i)
        located = stream._arrays[stream._record[at]][array]
        row_bytes = int(np.dtype(located.dtype).itemsize * np.prod(located.shape[1:]))
        start = located.byte_offset + int(stream._row[at]) * row_bytes
        position = start + int(random.integers(int(stream._length[at]) * row_bytes))
        assert stream.check(i)
        restore = flip(folder / located.object, position, number % 8)
        [problem] = verify(cache, full=True)
        assert problem == Problem(
            f"{CORPUS}/{folder.name}", i, located.object, "damaged: checksum of the utterance differs; restore it, or"
            f" delete commits/{stream._shards[stream._record[at]]} and extract again",
        )  # fmt: skip
        assert not stream.check(i)
        assert str(problem).startswith(f"{CORPUS}/{name}@") and len(str(problem).splitlines()) == 1
        restore()


def test_a_flipped_bit_in_the_index_changes_nothing(store: Path) -> None:
    random = np.random.default_rng(2)
    cache = Cache(store)
    for name in ("toy", "flat"):
        before = snapshot(cache.stream(CORPUS, name))
        [index] = store.glob(f"{CORPUS}/{name}@*/index.arrow")
        size = index.stat().st_size
        for position in [0, 20, 90, size - 1, *random.integers(0, size, 40).tolist()]:
            restore = flip(index, int(position), int(random.integers(8)))
            assert snapshot(cache.stream(CORPUS, name)) == before
            restore()
        for cut in (0, 10, 81, size // 2, size - 1):
            index.write_bytes(index.read_bytes()[:cut])
            assert snapshot(cache.stream(CORPUS, name)) == before
        index.unlink()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize("name", ["toy", "flat", "words"])
@pytest.mark.parametrize("how", [False, True])
def test_a_missing_shard_is_incomplete(store: Path, name: str, how: bool) -> None:
    [*shards] = store.glob(f"{CORPUS}/{name}@*/shards/*")
    remove(shards[0])
    found = list(verify(Cache(store), full=how))
    lost = {problem.utterance for problem in found}
    assert lost and lost < set(IDS)
    assert all(p.reason.startswith("incomplete: the object is missing; restore it, or delete commits/") for p in found)
    # The remedy works: without its record the utterances are encoded again, and only they.
    record = found[0].reason.split("delete commits/")[1].split()[0]
    next(store.glob(f"{CORPUS}/{name}@*/commits/{record}")).unlink()
    made_from = table_recipe() if name == "words" else recipe(encoder=name)
    writer = Cache(store).create_stream(CORPUS, name, made_from)
    again: Any = {i: row(i) if name == "words" else item(i, made_from) for i in IDS if i != IDS[4]}
    assert set(fill(writer, again, retry_failed=True)) == lost - {IDS[4]}
    assert not list(verify(Cache(store), full=True))
    assert set(Cache(store).stream(CORPUS, name).ids) >= set(again)


def test_a_shard_cut_short_is_found_without_full(store: Path) -> None:
    for name, part in (("toy", "frames/c/0/0"), ("toy", "zarr.json"), ("flat", ""), ("words", "")):
        path = next(store.glob(f"{CORPUS}/{name}@*/shards/*")) / part
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        for how in (False, True):
            reasons = {problem.reason for problem in verify(Cache(store), full=how)}
            assert (
                len(reasons) == 1 and f"damaged: {len(whole) - 1} bytes, the record says {len(whole)}" in reasons.pop()
            )
        path.write_bytes(whole)
    # Damage in one object of a shard whose other object is gone is told as well.
    frames = next(store.glob(f"{CORPUS}/toy@*/shards/*")) / "frames/c/0/0"
    flip(frames, 0, 0)
    (frames.parents[3] / "times" / "c" / "0" / "0").unlink()
    assert {p.reason.split(";")[0] for p in verify(Cache(store), full=True)} == {
        "damaged: checksum of the utterance differs", "incomplete: the object is missing",
    }  # fmt: skip


def test_what_is_gone_beside_the_shards(store: Path) -> None:
    [manifest_json] = store.glob(f"{CORPUS}/manifest.json")
    manifest_json.unlink()
    [found] = verify(Cache(store))
    assert (found.stream, found.object) == (f"{CORPUS}/-", "manifest.json") and "no corpus" in found.reason
    next(store.glob(f"{CORPUS}/flat@*/recipe.json")).unlink()
    assert [p.object for p in verify(Cache(store))] == ["manifest.json", "recipe.json"]
    assert [p.object for p in verify(Cache(store), "other")] == ["manifest.json"]


def litter(root: Path, folder: Path) -> set[str]:
    """What killed writers leave; returns what gc must name."""
    for part in (".x.zarr.0a.tmp/frames/c", "orphan.zarr/frames/c", ".empty.zarr.0b.tmp/aux"):
        (folder / "shards" / part).mkdir(parents=True)
    (folder / "shards" / ".x.zarr.0a.tmp" / "frames" / "c" / "0").write_bytes(b"half")
    (folder / "shards" / "orphan.zarr" / "frames" / "c" / "0").write_bytes(b"lost")
    (folder / "shards" / "orphan.zarr" / "zarr.json").write_bytes(b"{}")
    (folder / "shards" / "lost.h5").write_bytes(b"h5")
    (folder / "commits" / f"{'f' * 16}.0.json").write_bytes(b"")  # claimed where there are no links
    (folder / "commits" / ".a.0.json.0c.tmp").write_bytes(b"{")
    (root / CORPUS / ".manifest.json.0d.tmp").write_bytes(b"{")
    (root / CORPUS / "manifests" / ".abc.parquet.0e.tmp").write_bytes(b"PAR1")
    below = {"shards/.x.zarr.0a.tmp", "shards/.empty.zarr.0b.tmp", "shards/orphan.zarr", "shards/lost.h5",
             f"commits/{'f' * 16}.0.json", "commits/.a.0.json.0c.tmp"}  # fmt: skip
    return {f"{CORPUS}/{folder.name}/{name}" for name in below} | {
        f"{CORPUS}/.manifest.json.0d.tmp", f"{CORPUS}/manifests/.abc.parquet.0e.tmp",
    }  # fmt: skip


def tree(root: Path) -> set[Path]:
    return set(root.rglob("*"))


def test_gc_takes_garbage_and_nothing_else(store: Path) -> None:
    cache = Cache(store)
    before = tree(store)
    served = {name: snapshot(cache.stream(CORPUS, name)) for name in ("toy", "flat", "toy.pca2")}
    assert collect(cache, 0.0) == ([], 0)
    expected = litter(store, next(store.glob(f"{CORPUS}/toy@*")))
    paths, size = collect(cache, 0.0, dry_run=True)
    assert set(paths) == expected and size >= 4 + 4 + 2 + 2 + 1 + 1 + 4 and tree(store) > before
    assert collect(cache, 3600.0) == ([], 0)
    assert collect(cache, 0.0)[0] == paths
    assert tree(store) == before
    assert {name: snapshot(cache.stream(CORPUS, name)) for name in served} == served


def test_gc_beside_a_working_writer(tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a shard and its record, gc sees a shard that nothing refers to, and leaves it alone for its age."""
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    real = writer.objects.create
    taken: list[str] = []

    def create(path: str, data: bytes) -> bool:
        assert len(list(tmp_path.glob(f"{CORPUS}/*/shards/*"))) == 1
        taken.extend(collect(cache)[0])
        return real(path, data)

    monkeypatch.setattr(writer.objects, "create", create)
    writer.commit("0" * 16, {i: item(i, recipe()) for i in IDS})
    assert not taken
    assert_serves(cache.stream(CORPUS, "toy"), {i: item(i, recipe()) for i in IDS})


def test_gc_spares_a_shard_of_which_one_object_is_young(store: Path) -> None:
    folder = next(store.glob(f"{CORPUS}/toy@*"))
    litter(store, folder)
    os.utime(folder / "shards" / "orphan.zarr" / "zarr.json", (0, 0))
    os.utime(folder / "shards" / "lost.h5", (0, 0))
    assert [Path(path).name for path in collect(Cache(store), 3600.0)[0]] == ["lost.h5"]


def test_gc_removes_nothing_of_a_stream_with_a_damaged_record(store: Path) -> None:
    folder = next(store.glob(f"{CORPUS}/toy@*"))
    litter(store, folder)
    before = tree(store)
    flip(next(folder.glob("commits/[0-9]*.json")), 40, 3)
    with pytest.raises(EmocacheError, match=r"commits/\w+\.\d\.json: damaged.*Nothing was removed"):
        collect(Cache(store), 0.0)
    assert tree(store) == before


def test_removing(store: Path) -> None:
    cache = Cache(store)
    remove_stream(cache, cache.streams(CORPUS, "toy")[0])
    assert [info.name for info in cache.streams(CORPUS)] == ["flat", "toy.pca2", "words"]
    assert not list(store.glob(f"{CORPUS}/toy@*"))
    remove_corpus(cache, CORPUS)
    assert cache.corpora() == [] and list(store.iterdir()) == []
    with pytest.raises(EmocacheError, match=r"does not exist|no corpus"):
        remove_corpus(cache, CORPUS)


@pytest.mark.parametrize("deleted", range(5))
def test_an_interrupted_removal_leaves_nothing_that_looks_whole(
    store: Path, deleted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extracting again after it gives what a fresh extraction gives."""
    cache = Cache(store)
    [info] = cache.streams(CORPUS, "flat")
    calls = iter(range(100))
    real = os.unlink

    def unlink(*args: Any, **kwargs: Any) -> None:
        if next(calls) == deleted:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            remove_stream(cache, info)
    made_from = recipe(encoder="flat")
    items = {i: item(i, made_from) for i in IDS}
    fill(cache.create_stream(CORPUS, "flat", made_from, backend="hdf5"), items, retry_failed=True)
    assert_serves(cache.stream(CORPUS, "flat"), items)
    collect(cache, 0.0)
    assert list(verify(cache, full=True)) == []
