"""Where the bytes are: a folder or an object store, with the few operations a crash-safe cache needs.

Both kinds promise the same: a payload or document is visible whole or not at all, and `create` has one winner. The
local kind adds durability: what a call has returned for survives a power cut.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from .errors import EmocacheError

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored: size in bytes and sha256 (hex) of one object."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One object found by `Objects.list`."""

    path: str
    size: int
    modified: datetime


class Objects(Protocol):
    """The operations every kind of store offers. Paths are relative, with '/'."""

    url: str

    def below(self, folder: str) -> "Objects":
        """The same store, seen from a folder."""

    def get(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """`length` bytes from byte `start`. Raises FileNotFoundError."""

    def names(self, folder: str) -> list[str]:
        """Sorted names directly below a folder; an absent folder has none."""

    def list(self, folder: str) -> Iterator[Listed]:
        """Every object below a folder, at any depth."""

    def put_shard(self, name: str, files: Mapping[str, Iterable[Buffer]]) -> dict[str, Stored]:
        """Write a shard that nobody refers to yet: {path below `name`, "" for `name` itself: parts}."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a document if the path is free; False if it was taken. Exactly one of several callers wins."""

    def replace(self, path: str, data: bytes) -> None:
        """Write a document over whatever is there, atomically."""

    def delete(self, path: str) -> None:
        """Remove an object, or a folder with all it holds; absent is fine."""

    def local(self, path: str) -> Path | None:
        """The file behind an object, where there is one that can be memory-mapped."""


def open_objects(root: str | Path) -> Objects:
    """A store from a folder or a URL (`s3://bucket/prefix`, `memory://` for tests).

    Raises:
        EmocacheError: the URL's scheme is unknown or the store cannot be reached.
    """
    text = str(root)
    if "://" not in text:
        return LocalObjects(Path(text))
    if text.startswith("file://"):
        return LocalObjects(Path(text.removeprefix("file://")))
    from obstore.store import from_url

    from .remote import RemoteObjects

    try:
        return RemoteObjects(text, from_url(text))
    except Exception as error:
        raise EmocacheError(f"cache {text!r} cannot be opened: {error}; give a folder or an s3:// URL") from error


class LocalObjects:
    """Objects as files below a folder, written durably.

    Every write goes to a temporary name first, is fsynced, takes its final name by rename or link, and the folder is
    fsynced: after a crash at any point the final name holds everything or does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def below(self, folder: str) -> "LocalObjects":
        """The same store, seen from a folder."""
        return LocalObjects(self.root / folder)

    def get(self, path: str) -> bytes:
        """The whole file."""
        return (self.root / path).read_bytes()

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Part of the file."""
        with (self.root / path).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def names(self, folder: str) -> list[str]:
        """Names in the folder, without temporary ones."""
        try:
            return sorted(name for name in os.listdir(self.root / folder) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def list(self, folder: str) -> Iterator[Listed]:
        """Every file below the folder, temporary ones included, so that gc finds them."""
        for directory, _, files in os.walk(self.root / folder):
            for file in files:
                path = Path(directory, file)
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    when = datetime.fromtimestamp(stat.st_mtime, UTC)
                    yield Listed(path.relative_to(self.root).as_posix(), stat.st_size, when)

    def put_shard(self, name: str, files: Mapping[str, Iterable[Buffer]]) -> dict[str, Stored]:
        """Write, fsync, rename into place, fsync the folder."""
        final = self.root / name
        temporary = self._temporary(final)
        try:
            with ThreadPoolExecutor(1) as hasher:
                pending = {}
                for below, parts in files.items():
                    path = temporary / below if below else temporary
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pending[f"{name}/{below}" if below else name] = _write(path, parts, hasher)
                # After the last write: the first fsync then carries most of what the others would wait for.
                for below in files:
                    _fsync(temporary / below if below else temporary)
                for directory, _, _ in os.walk(temporary):
                    _fsync_folder(Path(directory))
                stored = {path: done.result() for path, done in pending.items()}
            os.rename(temporary, final)
        except BaseException:
            _remove(temporary)
            raise
        _fsync_folder(final.parent)
        return stored

    def create(self, path: str, data: bytes) -> bool:
        """Link a finished file to its final name; the link fails if the name is taken."""
        final = self.root / path
        temporary = self._temporary(final)
        try:
            _write_document(temporary, data)
            try:
                os.link(temporary, final)
            except FileExistsError:
                return False
            except OSError:
                # A file system without links (exFAT, some network mounts): claim the name, then fill it. A crash in
                # between leaves a record that fails its own checksum and counts as absent.
                try:
                    _write_document(final, data, os.O_EXCL)
                except FileExistsError:
                    return False
        finally:
            _remove(temporary)
        _fsync_folder(final.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Rename a finished file over the old one."""
        final = self.root / path
        temporary = self._temporary(final)
        try:
            _write_document(temporary, data)
            os.rename(temporary, final)
        except BaseException:
            _remove(temporary)
            raise
        _fsync_folder(final.parent)

    def delete(self, path: str) -> None:
        """Remove a file or a folder."""
        _remove(self.root / path)

    def local(self, path: str) -> Path | None:
        """The file itself."""
        return self.root / path

    def _temporary(self, final: Path) -> Path:
        missing = [folder for folder in (final.parent, *final.parent.parents) if not folder.exists()]
        final.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:  # a new folder's own entry must be durable too
            _fsync_folder(folder.parent)
        return final.parent / f".{final.name}.{secrets.token_hex(6)}.tmp"


def _write_document(path: Path, data: bytes, flags: int = 0) -> None:
    """Write a small file and fsync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
    try:
        _write_all(descriptor, memoryview(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, parts: Iterable[Buffer], hasher: Executor) -> "Future[Stored]":
    """Write parts to a file; another thread hashes each as soon as it is written."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            size += len(view)
            hasher.submit(digest.update, view)
            _write_all(descriptor, view)
    finally:
        os.close(descriptor)
    return hasher.submit(lambda: Stored(size, digest.hexdigest()))


def _write_all(descriptor: int, view: memoryview) -> None:
    while len(view):
        view = view[os.write(descriptor, view) :]


def _fsync_folder(folder: Path) -> None:
    if os.name != "nt":  # Windows cannot open folders; its renames are journalled
        _fsync(folder)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
