"""Power cuts: a model of what a disk keeps, fed with every system call of a run, and what must hold after each call.

The model is the strict one of POSIX: a file's bytes survive if the file was fsynced, its name if the folder was; what
was not may survive or not. So what is visible must be whole, what a visible record refers to must survive, and so must
what a commit has returned for: after every single call. That the checks see anything is proved by taking out the
fsyncs, the rename, the link and the record in turn.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import Cache, DamagedError, EmocacheError, InputFailure, StreamWriter, local
from emocache.cache.local import LocalObjects
from emocache.cache.sealed import unseal
from emocache.extract.pipeline.projecting import project

from .conftest import CORPUS, IDS, fill, item, manifest, recipe, row, table_recipe

_CALLS = ("open", "close", "write", "fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir")


@dataclass(eq=False)
class Node:
    """A file or a folder: how it is, and how it would be after a power cut."""

    folder: bool
    data: bytearray = field(default_factory=bytearray)
    entries: dict[str, "Node"] = field(default_factory=dict)
    kept_data: bytes | None = None
    kept_entries: dict[str, "Node"] = field(default_factory=dict)

    def walk(self, kept: bool, path: str = "") -> Iterator[tuple[str, "Node"]]:
        """Every file below, as it is or as it would be after a power cut."""
        for name, node in (self.kept_entries if kept else self.entries).items():
            below = f"{path}/{name}" if path else name
            if node.folder:
                yield from node.walk(kept, below)
            else:
                yield below, node


class Disk:
    """Follows the system calls below a folder, and collects what must not be."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = Node(True)
        self.files: dict[int, Node] = {}
        self.violations: set[str] = set()
        self.calls = 0
        self.fsync_does = {"file": True, "folder": True}
        self.lock = threading.RLock()

    def at(self, path: Any, dir_fd: int | None = None) -> tuple[Node, str] | None:
        """(parent, name) of a path; None outside the folder."""
        if dir_fd is not None:
            return (self.files[dir_fd], os.fspath(path)) if dir_fd in self.files else None
        try:
            parts = Path(path).relative_to(self.base).parts
        except ValueError:
            return None
        node = self.root
        for part in parts[:-1]:
            node = node.entries[part]
        return (node, parts[-1]) if parts else (Node(True, entries={"": self.root}), "")

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Follow the calls from now on."""
        real = {name: getattr(os, name) for name in _CALLS}

        def follow(name: str) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                # In one go: between a close and its record here, another thread's open may be given the same number.
                with self.lock:
                    result = real[name](*args, **kwargs)
                    getattr(self, name)(result, *args, **kwargs)
                    self.calls += 1
                    self.check()
                return result

            return call

        for name in _CALLS:
            monkeypatch.setattr(os, name, follow(name))

    def open(self, fd: int, path: Any, flags: int, mode: int = 0, *, dir_fd: int | None = None) -> None:
        if found := self.at(path, dir_fd):
            parent, name = found
            if flags & os.O_CREAT:
                parent.entries.setdefault(name, Node(False))
            self.files[fd] = parent.entries[name]

    def close(self, _: None, fd: int) -> None:
        self.files.pop(fd, None)

    def write(self, count: int, fd: int, data: Any) -> None:
        if fd in self.files:
            node = self.files[fd]
            node.data += bytes(memoryview(data).cast("B")[:count])
            for path, visible in self.root.walk(kept=False):
                if visible is node and not temporary(path):
                    self.violations.add("written under its final name")

    def fsync(self, _: None, fd: int) -> None:
        node = self.files.get(fd)
        if node is not None and node.folder and self.fsync_does["folder"]:
            node.kept_entries = dict(node.entries)
        if node is not None and not node.folder and self.fsync_does["file"]:
            node.kept_data = bytes(node.data)

    def rename(self, _: None, source: Any, target: Any) -> None:
        self.link(_, source, target)
        self.unlink(_, source)

    replace = rename

    def link(self, _: None, source: Any, target: Any, **__: Any) -> None:
        old, new = self.at(source), self.at(target)
        if old and new:
            new[0].entries[new[1]] = old[0].entries[old[1]]

    def unlink(self, _: None, path: Any, *, dir_fd: int | None = None) -> None:
        if found := self.at(path, dir_fd):
            found[0].entries.pop(found[1], None)

    rmdir = unlink

    def mkdir(self, _: None, path: Any, mode: int = 0, *, dir_fd: int | None = None) -> None:
        if found := self.at(path, dir_fd):
            found[0].entries[found[1]] = Node(True)

    def check(self) -> None:
        """What must hold now, because the power may fail now."""
        kept = dict(self.root.walk(kept=True))
        for path, node in [*self.root.walk(kept=False), *kept.items()]:
            if temporary(path) or not path.endswith(".json") or "/shards/" in path:
                continue
            for data in {bytes(node.data), node.kept_data if path in kept else None} - {None, b""}:
                try:
                    document = unseal(data or b"", path)
                except DamagedError:
                    self.violations.add("half a document is visible")
                    continue
                folder = path.rsplit("/", 2)[0] if "/commits/" in path else path.rpartition("/")[0]
                refers = {f"{folder}/{p}": sha256 for p, (_, sha256) in document.get("objects", {}).items()}
                if "manifest" in document:
                    refers[f"{folder}/{document['manifest']}"] = document["manifest_sha256"]
                matrix = document.get("recipe", {}).get("projection", {}).get("matrix_sha256")
                if matrix:
                    refers[f"{folder}/fitted/{matrix}.safetensors"] = matrix
                for target, sha256 in refers.items():
                    survives = kept[target].kept_data if target in kept else None
                    if survives is None or hashlib.sha256(survives).hexdigest() != sha256:
                        self.violations.add("what a document refers to may not survive")

    def acknowledge(self, writer: StreamWriter, ids: tuple[str, ...]) -> None:
        """A commit has returned: it must survive."""
        folder = Path(writer.objects.url).relative_to(self.base).as_posix()
        told = set()
        for path, node in self.root.walk(kept=True):
            if path.startswith(f"{folder}/commits/") and not temporary(path):
                record = json.loads(node.kept_data or b'{"items": [], "failures": []}')
                told |= {entry[0] for entry in record["items"] + record["failures"]}
        if not set(ids) <= told:
            self.violations.add("a commit that was acknowledged may not survive")


def temporary(path: str) -> bool:
    return any(part.startswith(".") and part.endswith(".tmp") for part in path.split("/"))


def run(root: Path, disk: Disk, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with everything in it: two manifests, frames, a table, failures, a retry, a PCA."""
    real = StreamWriter.commit

    def commit(self: StreamWriter, *args: Any) -> Any:
        done = real(self, *args)
        disk.acknowledge(self, (*done.items, *done.failures))
        return done

    monkeypatch.setattr(StreamWriter, "commit", commit)
    cache = Cache(root)
    cache.put_manifest(manifest(IDS[:-1]))
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    fill(writer, {i: item(i, recipe(), frames=4) for i in IDS[:4]}, {IDS[4]: InputFailure("empty", "-")}, units=2)
    fill(writer, {IDS[4]: item(IDS[4], recipe())}, retry_failed=True)
    fill(cache.create_stream(CORPUS, "words", table_recipe()), {i: row(i) for i in IDS})
    project(cache, CORPUS, "toy", 2, "speaker=a", dtype="float32", backend=backend, environment={})


def test_nothing_committed_is_lost_in_a_power_cut(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    disk.install(monkeypatch)
    run(tmp_path / "below" / "store", disk, backend, monkeypatch)
    assert disk.calls > 200
    assert not disk.violations
    # The model has followed: it holds what the disk holds.
    for path, node in disk.root.walk(kept=False):
        assert (tmp_path / path).read_bytes() == bytes(node.data)
    assert {p for p, _ in disk.root.walk(kept=False)} == {
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()
    }


def test_a_folder_another_process_has_just_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maker has not come to its fsync yet; whoever commits below it must not rely on that."""
    disk = Disk(tmp_path)
    disk.install(monkeypatch)
    cache = Cache(tmp_path / "store")
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    Path(writer.objects.url, "shards").mkdir()
    Path(writer.objects.url, "commits").mkdir()
    other = Cache(tmp_path / "store").create_stream(CORPUS, "toy", recipe())
    disk.acknowledge(other, other.commit("0" * 16, {"a": item("a", recipe())}).items)
    assert not disk.violations


def take_out(what: str, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove one of the things that safety rests on."""
    if what == "fsync":
        disk.fsync_does = {"file": False, "folder": False}
    elif what == "fsync of files":
        disk.fsync_does["file"] = False
    elif what == "fsync of folders":
        disk.fsync_does["folder"] = False
    elif what == "rename":
        make = LocalObjects._temporary

        def final(self: LocalObjects, path: Path) -> Path:
            make(self, path)
            return path

        monkeypatch.setattr(LocalObjects, "_temporary", final)
        monkeypatch.setattr(os, "rename", lambda source, target: None)
    elif what == "replace":

        def in_place(source: Path, target: Path) -> None:
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.write(fd, source.read_bytes())
            os.fsync(fd)
            os.close(fd)
            source.unlink()

        monkeypatch.setattr(os, "replace", in_place)
    elif what == "link":

        def taken(source: Path, target: Path) -> bool:
            local._write_document(target, source.read_bytes())
            return True

        monkeypatch.setattr(local, "_take_name", taken)
    elif what == "record":
        real = LocalObjects.create
        monkeypatch.setattr(
            LocalObjects, "create", lambda self, path, data: path.startswith("commits/") or real(self, path, data)
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "noticed"),
    [
        ("fsync", "what a document refers to may not survive"),
        ("fsync of files", "what a document refers to may not survive"),
        ("fsync of folders", "what a document refers to may not survive"),
        ("rename", "written under its final name"),
        ("replace", "written under its final name"),
        ("link", "written under its final name"),
        ("record", "a commit that was acknowledged may not survive"),
    ],
)
def test_the_checks_notice_what_is_taken_out(
    tmp_path: Path, what: str, noticed: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    disk.install(monkeypatch)
    take_out(what, disk, monkeypatch)
    try:
        run(tmp_path / "store", disk, backend, monkeypatch)
    except (EmocacheError, OSError):
        assert what in ("rename", "record")  # such a store does not even work
    assert noticed in disk.violations
