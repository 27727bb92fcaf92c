"""Objects of a remote cache that are copied here whole when anything of them is first read.

Nothing is trusted: a copy gets its name when its bytes have the sha256 of the record, it is as long as the arrays in it
need when it is mapped, and each item of it is compared with its checksum when it is read first.
"""

import gc
import hashlib
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

from .ahead import ahead
from .commit import Record
from .copy_folder import Copies, FolderError, is_full
from .errors import EmocacheError
from .objects import Objects
from .sealed import DamagedError
from .telling import warn

_PART = 4 << 20  # bytes of a request
_REQUESTS = 8  # at the same time for one object
_OBJECTS = 4  # that are copied at the same time


class LocalCopy:
    """A folder of copies, with what a process that reads from it must know.

    Args:
        folder: shared by any number of processes; made where there is none.
        limit: bytes; None: all that the disk has but a GiB. The copies that were used longest ago make room, but none
            that is in use: what then finds no room is read from the store each time.

    Attributes:
        full: the disk was, so that nothing more is fetched by this process.
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        self.folder, self.limit = Path(folder).absolute(), limit
        self.full = False
        self._streams: WeakSet[CopiedObjects] = WeakSet()
        self._lock = Lock()
        self._told: set[str] = set()

    def __reduce__(self) -> tuple[type["LocalCopy"], tuple[Path, int | None]]:
        return LocalCopy, (self.folder, self.limit)

    @cached_property
    def copies(self) -> Copies:
        """The folder, which is made when it is first asked for. Raises EmocacheError: it cannot be written."""
        return Copies(self.folder, self.limit)

    def of(self, objects: Objects, records: Sequence[str]) -> "CopiedObjects":
        """The copies of a stream's objects: its folder, and the names of its records."""
        stream = CopiedObjects(self, objects, records)
        with self._lock:
            self._streams.add(stream)
        return stream

    @property
    def in_use(self) -> set[str]:
        """Keys of all that the streams of this process have read."""
        with self._lock:
            return {key for stream in self._streams for key in list(stream.used)}

    def tell_no_room(self, url: str, error: OSError | None = None) -> None:
        """Warn, once for each cause, that reading goes on from the store."""
        if self.full:
            return
        if error is None:
            what = "disk" if self.limit is None else f"limit of {self.limit / 1e9:g} GB"
            full = f"its {what} has no more room"
        elif is_full(error):
            full, self.full = "its disk is full", True
        else:
            full = error.strerror or str(error)
        if full not in self._told:
            self._told.add(full)
            warn(f"warning: the local copy {self.folder} takes no more ({full}); what it lacks is read from {url} each"
                 " time")  # fmt: skip


class CopiedObjects:
    """The copies of one stream's objects.

    Args:
        shared: where they are.
        objects: the stream's folder in the store.
        records: names of its records.

    Attributes:
        used: keys of what was read.
    """

    def __init__(self, shared: LocalCopy, objects: Objects, records: Sequence[str]) -> None:
        self._shared, self._objects, self._records = shared, objects, records
        self.used: set[str] = set()
        self._without: set[str] = set()  # keys of objects that found no room

    def __reduce__(self) -> tuple[Any, ...]:
        return self._shared.of, (self._objects, self._records)

    def map(self, number: int, path: str, least: int) -> mmap.mmap | None:
        """Map the copy of an object, which is fetched if there is none.

        Args:
            number: of the record.
            path: of the object below the stream's folder.
            least: bytes that the record's arrays need of it.

        Returns:
            the map; None where the object finds no room.

        Raises:
            DamagedError: its bytes in the store are not those of the record.
            EmocacheError: it, or its record, is gone.
            OSError: the store cannot be reached.
        """
        key = self._key(path)
        if key in self._without:
            return None
        self.used.add(key)
        copies, error = self._shared.copies, None
        try:
            found = copies.map(key, least)
            if found is None and not self._shared.full:
                size, sha256 = self._stored(number, path)
                make = partial(copies.make, key, size, _parts(self._objects, path, size, sha256))
                found = make(self._shared.in_use)
                if found is None and not self._without:
                    gc.collect()  # streams that are done with may still hold maps
                    found = make(self._shared.in_use)
        except FolderError as failed:
            found, error = None, failed.cause
        if found is None:
            self._without.add(key)
            self.used.discard(key)
            self._shared.tell_no_room(self._objects.url, error)
        return found

    def holds(self, path: str) -> bool:
        """Tell whether an object was copied, or found here, by this process."""
        return self._key(path) in self.used

    def lacks(self, path: str) -> bool:
        """Tell whether an object may be fetched: it was not asked for yet."""
        return (key := self._key(path)) not in self.used and key not in self._without

    def drop(self, paths: Iterable[str]) -> None:
        """Remove the copies of some objects, so that they are fetched anew."""
        for path in paths:
            try:
                self._shared.copies.drop(self._key(path))
            except FolderError as failed:
                self._without.add(self._key(path))
                self._shared.tell_no_room(self._objects.url, failed.cause)

    def fetch(self, wanted: Mapping[str, tuple[int, int]]) -> None:
        """Fetch objects that are not there, several at the same time: {path: number of the record, bytes needed}."""
        # The maps are let go at once: what this process has used it does not remove.
        for _ in ahead(lambda one: self.map(one[1][0], one[0], one[1][1]) and None, wanted.items(), _OBJECTS):
            pass

    def _key(self, path: str) -> str:
        return hashlib.sha256(f"{self._objects.url}/{path}".encode()).hexdigest()

    def _stored(self, number: int, path: str) -> tuple[int, str]:
        """Size and sha256 (hex) of an object, by its record."""
        what = f"{self._objects.url}/commits/{self._records[number]}"
        try:
            record = Record.from_bytes(self._objects.get(f"commits/{self._records[number]}"), what)
        except FileNotFoundError as error:
            raise EmocacheError(f"{what} is gone; run the same command again") from error
        if path not in record.objects:
            raise DamagedError(f"{what} does not name {path}; run the same command again")
        return record.objects[path]


def _parts(objects: Objects, path: str, size: int, sha256: str) -> Iterator[bytes]:
    """The bytes of an object, by several requests at the same time; the last ones are followed by a look at the sha256.

    Raises:
        DamagedError: they are not those of the record.
        EmocacheError: the object is gone.
        OSError: the store cannot be reached.
    """
    found, digest = f"{objects.url}/{path}", hashlib.sha256()
    starts = range(0, size, _PART)
    try:
        if (there := objects.size(path)) != size:
            raise DamagedError(f"{found} has {there} bytes, its record says {size}; run `emocache cache verify`")
        for part in ahead(lambda start: objects.get_range(path, start, min(_PART, size - start)), starts, _REQUESTS):
            digest.update(part)
            yield part
    except FileNotFoundError as error:
        raise EmocacheError(f"{found} is gone; `emocache cache verify` tells what to do") from error
    if digest.hexdigest() != sha256:
        raise DamagedError(f"{found}: its bytes are not those of its record; run `emocache cache verify --full`")
