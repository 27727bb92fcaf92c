"""A folder of files that several processes share as copies of what lies far away, and its limit.

    DIR/lock                 held while room is made
    DIR/ab/abcd....copy      a copy: named by a hash, whole, locked (shared) as long as a process maps it
    DIR/ab/abcd....part      one that is being made, locked (exclusively) by its maker

The locks are those of flock, which the system takes back from a process however it ends. So a part that nobody has
locked is what a kill has left, and a copy that nobody has locked may go. A map keeps the lock of the file it maps.
"""

import contextlib
import errno
import mmap
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .errors import EmocacheError

_NAME = re.compile(r"[0-9a-f]{64}\.(copy|part)")
_SPARE = 1 << 30  # bytes of a disk that are left to others where no limit was given


class FolderError(Exception):
    """The folder could not be written or read: `cause` says why. What it holds copies of is no part of that."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


class _File(NamedTuple):
    used: float  # when it was mapped last, in seconds
    size: int
    path: str


class Copies:
    """The folder.

    Args:
        folder: made where there is none.
        limit: bytes that copies may take; None: all that the disk has but a GiB.

    Raises:
        EmocacheError: the folder cannot be written, or has no locks.
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        self.folder, self.limit = Path(folder).absolute(), limit
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                _, parts = self._files()
                for part in parts:
                    _remove_unlocked(part.path)
        except (OSError, ImportError) as error:
            why = getattr(error, "strerror", None) or error
            raise EmocacheError(
                f"the local copy {self.folder} cannot be written or locked ({why}); give a folder on a disk of this"
                " machine"
            ) from error

    def map(self, key: str, least: int) -> mmap.mmap | None:
        """Map a copy, which is then not removed as long as the map lives.

        Args:
            key: sha256 (hex) of what it is a copy of.
            least: bytes that it must have.

        Returns:
            the map; None where there is no copy, or a shorter one, which is removed.

        Raises:
            FolderError: the file cannot be read, or removed.
        """
        with _here():
            try:
                with self._path(key).open("rb") as file:
                    if os.fstat(file.fileno()).st_size >= max(1, least):
                        return _mapped(file.fileno())
            except FileNotFoundError:
                return None
        self.drop(key)
        return None

    def drop(self, key: str) -> None:
        """Remove a copy that is not what it should be. Raises FolderError."""
        with _here():
            self._path(key).unlink(missing_ok=True)

    def make(self, key: str, size: int, parts: Iterable[bytes], in_use: Collection[str] = ()) -> mmap.mmap | None:
        """Make a copy unless another process or thread makes it meanwhile, and map it.

        Args:
            key: sha256 (hex) of what it is a copy of.
            size: in bytes.
            parts: its bytes, taken if they are needed; what raises while they are taken leaves no copy.
            in_use: keys of copies that must not go to make room.

        Returns:
            the map; None where there is no room: those that are in use by this or another process stay.

        Raises:
            FolderError: the file cannot be written.
        """
        path = self._path(key)
        part = path.with_suffix(".part")
        with self._own(part) as descriptor:
            made = False
            try:
                found = self.map(key, size)
                if found is not None or not self._make_room(descriptor, size, in_use):
                    return found
                for data in parts:
                    with _here():
                        _write(descriptor, data)
                with _here():
                    part.rename(path)
                    made = True
                    return _mapped(descriptor)
            finally:
                if not made:  # after that its name is another's
                    with _here():
                        part.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.copy"

    @contextmanager
    def _own(self, part: Path) -> Iterator[int]:
        """A file descriptor of this part, which is locked and still has its name."""
        descriptor = None
        while descriptor is None:
            with _here():
                part.parent.mkdir(exist_ok=True)
                descriptor = _locked_at(part)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_room(self, descriptor: int, size: int, in_use: Collection[str]) -> bool:
        """Give a file its size if the limit allows it once copies that nobody uses are gone, the longest unused first.

        The size of a part counts from then on, so that processes which make room at the same time keep the limit.
        """
        if self.limit is not None and size > self.limit:
            return False  # nothing need go
        with _here(), self._locked():
            os.ftruncate(descriptor, 0)  # a kill may have left something
            copies, parts = self._files()
            taken = sum(copy.size for copy in copies)
            taken += sum(part.size for part in parts if not _remove_unlocked(part.path))
            room = shutil.disk_usage(self.folder).free - _SPARE if self.limit is None else self.limit - taken
            for copy in sorted(copies):
                if room >= size:
                    break
                if Path(copy.path).stem not in in_use and _remove_unlocked(copy.path):
                    room += copy.size
            if room < size:
                return False
            os.ftruncate(descriptor, size)
            return True

    def _files(self) -> tuple[list[_File], list[_File]]:
        """Copies and parts; nothing else that lies in the folder is ever touched."""
        found: dict[str, list[_File]] = {"copy": [], "part": []}
        for folder in os.scandir(self.folder):
            if re.fullmatch(r"[0-9a-f]{2}", folder.name) and folder.is_dir(follow_symlinks=False):
                for file in os.scandir(folder):
                    if name := _NAME.fullmatch(file.name):
                        with contextlib.suppress(FileNotFoundError):
                            told = file.stat(follow_symlinks=False)
                            found[name[1]].append(_File(told.st_mtime, told.st_size, file.path))
        return found["copy"], found["part"]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("ab") as file:
            _lock(file.fileno(), "LOCK_EX")
            yield


@contextmanager
def _here() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderError(error) from error


def _lock(descriptor: int, *how: str) -> None:
    import fcntl  # not on every system

    fcntl.flock(descriptor, sum(getattr(fcntl, one) for one in how))


def _mapped(descriptor: int) -> mmap.mmap:
    """Map a file, which counts as used now; the map has the lock, since it keeps a duplicate of the descriptor."""
    _lock(descriptor, "LOCK_SH")
    with contextlib.suppress(OSError):  # a file of another user's
        os.utime(descriptor)
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


def _locked_at(path: Path) -> int | None:
    """A descriptor of a file, made and locked; None where it lost its name to another meanwhile."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor, "LOCK_EX")  # waits for whoever makes the same copy
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove_unlocked(path: str) -> bool:
    """Remove a file that nobody has locked; False if somebody has."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        _lock(descriptor, "LOCK_EX", "LOCK_NB")
        Path(path).unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    finally:
        os.close(descriptor)
    return True


def is_full(error: OSError) -> bool:
    """Tell whether a disk, or what a user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
