"""Objects as files, written so that neither a kill nor a power cut leaves half of one."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from .objects import Buffer, Listed, Stored

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EINVAL, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_SYNCS = 8  # threads that wait for the disk beside the one that writes a shard
_BEHIND = 128 << 20  # bytes; no shard but that of a long recording has as many
_NO_FOLDER_SYNC = {errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class LocalObjects:
    """Objects as files below a folder, written durably.

    Every write goes to a temporary name first, is fsynced, takes its final name by rename or link, and the folder is
    fsynced: after a crash at any point the final name holds everything or does not exist.
    """

    def __init__(self, root: Path, durable: set[Path] | None = None) -> None:
        self.root = root
        self.url = str(root)
        self._durable: set[Path] = set() if durable is None else durable  # folders whose entry has been fsynced

    def below(self, folder: str) -> "LocalObjects":
        """The same store, seen from a folder."""
        return LocalObjects(self.root / folder, self._durable)

    def get(self, path: str) -> bytes:
        """The whole file."""
        return (self.root / path).read_bytes()

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Part of the file."""
        with (self.root / path).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def size(self, path: str) -> int:
        """Bytes of the file."""
        return (self.root / path).stat().st_size

    def names(self, folder: str, prefix: str = "") -> list[str]:
        """Names in the folder, without temporary ones."""
        try:
            names = os.listdir(self.root / folder)
            return sorted(name for name in names if name.startswith(prefix) and not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def list(self, folder: str) -> Iterator[Listed]:
        """Every file and every empty folder below the folder, temporary ones included, so that gc finds them."""
        top = str(self.root / folder)
        for here, folders, files in os.walk(top):
            for path in [f"{here}{os.sep}{name}" for name in files] if files or folders or here == top else [here]:
                with contextlib.suppress(FileNotFoundError):
                    stat = os.stat(path)
                    when = datetime.fromtimestamp(stat.st_mtime, UTC)
                    below = folder + path[len(top) :].replace(os.sep, "/")
                    yield Listed(below.lstrip("/"), stat.st_size, when)

    def put_shard(
        self, name: str, files: Mapping[str, Iterable[Buffer]], meanwhile: Callable[[str], None] | None = None
    ) -> dict[str, Stored]:
        """Write, fsync, rename into place, fsync the folder."""
        final = self.root / name
        temporary = self._temporary(final)
        try:
            # Hashing and every fsync go on beside the writing; fsyncs asked for together wait for the disk once.
            with ThreadPoolExecutor(1) as hasher, ThreadPoolExecutor(_SYNCS) as syncer:
                hashed, synced = {}, []
                for below, parts in files.items():
                    path = temporary / below if below else temporary
                    path.parent.mkdir(parents=True, exist_ok=True)
                    hashed[f"{name}/{below}" if below else name], done = _write(path, parts, hasher, syncer)
                    synced.append(done)
                synced += [syncer.submit(_fsync_folder, Path(folder)) for folder, _, _ in os.walk(temporary)]
                if meanwhile is not None:
                    meanwhile(temporary.relative_to(self.root).as_posix())
                for done in synced:
                    done.result()
                stored = {path: future.result() for path, future in hashed.items()}
            os.rename(temporary, final)
        except BaseException:
            _discard(temporary)
            raise
        _fsync_folder(final.parent)
        return stored

    def create(self, path: str, data: bytes) -> bool:
        """Link a finished file to its final name; the link fails if the name is taken."""
        final = self.root / path
        temporary = self._temporary(final)
        try:
            _write_document(temporary, data)
            if not _take_name(temporary, final):
                return False
        finally:
            _discard(temporary)
        _fsync_folder(final.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Rename a finished file over the old one."""
        final = self.root / path
        for left in (2, 1, 0):
            temporary = self._temporary(final)
            try:
                _write_document(temporary, data)
                os.replace(temporary, final)
                break
            except BaseException as error:
                _discard(temporary)
                if not (left and isinstance(error, FileNotFoundError)):  # a gc has taken it for garbage
                    raise
        _fsync_folder(final.parent)

    def delete(self, path: str) -> None:
        """Remove a file or a folder."""
        doomed = self.root / path
        with contextlib.suppress(FileNotFoundError):
            if doomed.is_dir() and not doomed.is_symlink():
                if doomed.parent != self.root:  # above all else, nobody would look for what a kill leaves
                    # Out of the way at once: a reader sees it whole or not at all, and a writer that is about to give
                    # it its final name cannot do so any more.
                    aside = doomed.with_name(f".{doomed.name}.{secrets.token_hex(6)}.tmp")
                    os.rename(doomed, aside)
                    doomed = aside
                shutil.rmtree(doomed)
            else:
                doomed.unlink()
            _fsync_folder(doomed.parent)

    def local(self, path: str) -> Path | None:
        """The file itself."""
        return self.root / path

    def _temporary(self, final: Path) -> Path:
        """A free name beside the final one, in a folder that is there and will be after a power cut."""
        folders = [final.parent, *final.parent.parents]
        absent = {folder for folder in folders if not folder.exists()}
        final.parent.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            # One that is there may have been made a moment ago by a process that has not come to its fsync yet.
            if folder in absent or folder not in self._durable:
                _fsync_folder(folder.parent)
                self._durable.add(folder)
        return final.parent / f".{final.name}.{secrets.token_hex(6)}.tmp"


def _write_document(path: Path, data: bytes) -> None:
    """Write a small file and fsync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write_all(descriptor, memoryview(data), path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(
    path: Path, parts: Iterable[Buffer], hasher: Executor, syncer: Executor
) -> "tuple[Future[Stored], Future[None]]":
    """Write parts to a file.

    Another thread hashes each part as soon as it is written, and is never far behind; others fsync the file at the end.
    """
    digest, size = hashlib.sha256(), 0
    hashing: deque[tuple[int, Future[None]]] = deque()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            size += len(view)
            hashing.append((size, hasher.submit(digest.update, view)))
            _write_all(descriptor, view, path)
            while size - hashing[0][0] > _BEHIND:  # what waits to be hashed is in memory
                hashing.popleft()[1].result()
    except BaseException:
        os.close(descriptor)
        raise
    return hasher.submit(lambda: Stored(size, digest.hexdigest())), syncer.submit(_finish, descriptor, path)


def _finish(descriptor: int, path: Path) -> None:
    """Fsync a file that was written, and close it."""
    try:
        os.fsync(descriptor)
    except OSError as error:  # which knows the descriptor only
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, view: memoryview, path: Path) -> None:
    try:
        while len(view):
            view = view[os.write(descriptor, view) :]
    except OSError as error:  # which knows the descriptor only
        error.filename = str(path)
        raise


def _take_name(temporary: Path, final: Path) -> bool:
    """Give a finished file a name of its own, unless that is taken."""
    try:
        os.link(temporary, final)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    # A file system without links (exFAT, some network mounts): an empty file takes the name, the finished one replaces
    # it. A crash in between leaves the empty file, which counts as absent everywhere and falls to gc.
    try:
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return False
    try:
        os.replace(temporary, final)
    except BaseException:
        _discard(final)
        raise
    return True


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders; its renames are journalled
        return
    try:
        _fsync(folder)
    except OSError as error:  # some network file systems cannot sync a folder, and not every ancestor may be opened
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """Remove what a failed write has left; what cannot be removed falls to gc."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
