"""What every kind of store promises: a name holds a whole object or nothing, and a name is created once."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emocache.cache import EmocacheError
from emocache.cache.objects import Objects, create_once
from emocache.cache.opening import open_objects
from emocache.cache.remote import RemoteObjects


def everything(objects: Objects) -> dict[str, bytes]:
    """{path: bytes} of all there is, temporary files included."""
    paths = [found.path for found in objects.list("")]
    return {path: objects.get(path) for path in paths if not (objects.local(path) or Path("/none")).is_dir()}


def test_get_and_ranges(objects: Objects) -> None:
    objects.replace("a/b@c/d", b"0123456789")
    assert objects.get("a/b@c/d") == b"0123456789"
    assert objects.get_range("a/b@c/d", 3, 4) == b"3456"
    assert objects.below("a").below("b@c").get("d") == b"0123456789"


@pytest.mark.parametrize("path", ["absent", "folder/absent", "folder"])
def test_what_is_absent_is_not_found(objects: Objects, path: str) -> None:
    objects.replace("folder/there", b"x")
    if path != "folder" or isinstance(objects, RemoteObjects):
        with pytest.raises(FileNotFoundError):
            objects.get(path)
        with pytest.raises(FileNotFoundError):
            objects.get_range(path, 0, 1)
    assert objects.names("absent") == objects.names("folder/there") == []
    assert list(objects.list("absent")) == []
    objects.delete("absent")


def test_names_and_list(objects: Objects) -> None:
    for path in ("b/2", "b/10", "b/c/1", "b.x/1", "a"):
        objects.replace(path, path.encode())
    assert objects.names("") == ["a", "b", "b.x"]
    assert objects.names("b") == ["10", "2", "c"]
    assert sorted((found.path, found.size) for found in objects.list("b")) == [("b/10", 4), ("b/2", 3), ("b/c/1", 5)]
    below = objects.below("b")
    assert below.names("") == ["10", "2", "c"] and sorted(f.path for f in below.list("")) == ["10", "2", "c/1"]


@pytest.mark.parametrize("prefix", ["a", "ab", "ab.", "ab.1", "ab.0.json", "ab/", "b", "c", "zz", ".", "é"])
def test_names_that_begin_with_a_prefix(objects: Objects, prefix: str) -> None:
    """Those that a listing of the whole folder has, be they before, among or behind the others."""
    names = ["a", "ab.0.json", "ab.1.json", "ab.10.json", "ab0", "ac.0.json", "b", "éa"]
    for name in names:
        objects.replace(f"top/commits/{name}", b"x")
    objects.replace("top/commits/abc/below", b"x")
    objects.replace("top/commits0/ab.2.json", b"x")
    expected = [name for name in sorted([*names, "abc"]) if name.startswith(prefix)]
    assert objects.names("top/commits", prefix) == objects.below("top/commits").names("", prefix) == expected
    assert objects.names("absent", prefix) == []


def test_replace(objects: Objects) -> None:
    objects.replace("a/b", b"long old bytes")
    objects.replace("a/b", b"new")
    assert everything(objects) == {"a/b": b"new"}


def test_delete(objects: Objects) -> None:
    for path in ("a/1", "a/b/2", "ab"):
        objects.replace(path, b"x")
    objects.delete("a")
    assert everything(objects) == {"ab": b"x"} and objects.names("") == ["ab"]
    objects.delete("ab")
    objects.delete("ab")
    assert everything(objects) == {}


def test_create_keeps_the_first(objects: Objects) -> None:
    assert objects.create("a/doc", b"first")
    assert not objects.create("a/doc", b"second")
    assert everything(objects) == {"a/doc": b"first"}


def test_create_has_one_winner(objects: Objects) -> None:
    gate, won = threading.Barrier(8), []

    def compete(number: int) -> None:
        gate.wait()
        if objects.create("doc", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and everything(objects) == {"doc": b"%d" % won[0]}


def test_put_shard_of_one_object_and_of_many(objects: Objects) -> None:
    stored = objects.put_shard("s/one.h5", {"": [b"ab", bytearray(b"c"), memoryview(b"def")]})
    assert stored["s/one.h5"].size == 6
    assert stored["s/one.h5"].sha256 == "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721"
    objects.put_shard("s/many.zarr", {"zarr.json": [b"{}"], "x/c/0": [b"1", b"2"], "x/empty": []})
    assert everything(objects) == {
        "s/one.h5": b"abcdef", "s/many.zarr/zarr.json": b"{}", "s/many.zarr/x/c/0": b"12", "s/many.zarr/x/empty": b"",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["x.h5", "x.zarr"])
def test_put_shard_leaves_nothing_when_it_fails(objects: Objects, name: str) -> None:
    def parts() -> Iterator[bytes]:
        yield b"a" * 100_000
        raise KeyboardInterrupt

    files = {"": parts()} if name == "x.h5" else {"b": parts()}
    with pytest.raises(KeyboardInterrupt):
        objects.put_shard(f"shards/{name}", files)
    assert everything(objects) == {} and objects.names("shards") == []


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "link", "replace"])
def test_a_failing_call_leaves_no_trace(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_objects(tmp_path / "store")
    for folder in ("s", "d", "r"):
        objects.replace(f"{folder}/keep", b"kept")
    before = everything(objects)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        for write in (
            lambda: objects.put_shard("s/x", {"a": [b"1"], "b/c": [b"2"]}),
            lambda: objects.create("d/y", b"3"),
            lambda: objects.replace("r/z", b"4"),
        ):
            try:
                write()
            except OSError as error:
                assert error.errno == errno.ENOSPC
                assert call != "write" or str(error.filename).startswith(str(tmp_path))
    after = everything(objects)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) <= {"s/x/a", "s/x/b/c", "d/y", "r/z"}
    assert not [name for _, folders, files in os.walk(tmp_path) for name in folders + files if name.endswith(".tmp")]
    assert after.get("d/y", b"3") == b"3" and after.get("r/z", b"4") == b"4"
    assert ("s/x/a" in after) == ("s/x/b/c" in after)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_create_without_links(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no links still gives each name one winner, and never half a document."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    objects = open_objects(tmp_path / "store")
    test_create_keeps_the_first(objects)
    objects.delete("a")
    test_create_has_one_winner(objects)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        objects.create("other", b"x" * 1000)
    assert "other" not in everything(objects)


def test_temporary_files_are_listed_for_gc_and_named_to_nobody(tmp_path: Path) -> None:
    objects = open_objects(tmp_path)
    (tmp_path / "shards" / ".x.zarr.00.tmp" / "frames").mkdir(parents=True)
    (tmp_path / ".doc.00.tmp").write_bytes(b"half")
    assert objects.names("") == ["shards"] and objects.names("shards") == []
    assert {found.path for found in objects.list("")} == {"shards/.x.zarr.00.tmp/frames", ".doc.00.tmp"}


def test_create_once_tells_mine_from_another(objects: Objects) -> None:
    assert create_once(objects, "a", b"mine")
    assert create_once(objects, "a", b"mine")
    assert not create_once(objects, "a", b"other")


def test_an_unknown_scheme_is_one_line() -> None:
    known = r"give a folder or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix"
    with pytest.raises(EmocacheError, match=rf"cache 'gopher://x' is of no kind that is known: {known}"):
        open_objects("gopher://x")
    with pytest.raises(EmocacheError, match=rf"cache 'gcs://x' .*: did you mean 'gs'\? {known}"):
        open_objects("gcs://x")


def test_file_urls_are_folders(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}/store")
    objects.replace("a", b"1")
    assert (tmp_path / "store" / "a").read_bytes() == b"1"


def test_errors_of_an_object_store_name_the_object() -> None:
    objects = open_objects("memory://").below("corpus")
    objects.replace("a", b"12")
    with pytest.raises(OSError, match=r"memory:/+corpus/a: .*[Rr]ange") as caught:
        objects.get_range("a", 7, 3)
    assert "\n" not in str(caught.value)
