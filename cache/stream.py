"""Reading a stream: memory maps of local shards, range requests to remote ones, nothing copied that need not be.

The first read of anything of an item compares all of its bytes with the checksum that was committed, so that what a run
says it has read is what it has read. A view of a map costs no more after that.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import index as index_
from . import shard_table
from .commit import contradiction
from .crc import crc32c
from .errors import EmocacheError
from .ids import Ids
from .items import ItemArrays
from .local_copy import LocalCopy
from .manifest import Manifest
from .objects import Objects
from .open_tables import OpenTables
from .recipe import Recipe
from .sealed import DamagedError
from .stream_keys import StreamKeys


class Stream:
    """The committed items of one stream that are current under the corpus's manifest. Made by `Cache.stream`.

    Args:
        objects: the folder of the stream.
        corpus: its name.
        name: of the stream.
        document: what its `recipe.json` says.
        manifest: the current one of the corpus.
        local_copy: of what is read of a remote cache.

    Attributes:
        corpus, name, fingerprint, recipe, backend: what the stream is; `environment`: what made it.
        ids: sorted ids of the utterances served.
        failures: {id: (reason, detail)} of the utterances that cannot be encoded.
        stale: how many committed items are not served because the manifest has moved on.
    """

    def __init__(
        self,
        objects: Objects,
        corpus: str,
        name: str,
        document: dict[str, Any],
        manifest: Manifest,
        local_copy: LocalCopy | None = None,
    ) -> None:
        self.objects = objects
        self.corpus = corpus
        self.name = name
        self.manifest = manifest
        self.fingerprint: str = document["fingerprint"]
        self.recipe: Recipe = document["recipe"]
        self.backend: str = document["backend"]
        self.environment: dict[str, Any] = document["environment"]
        self._keys = StreamKeys(manifest, self.fingerprint, self.recipe["inputs"])
        # The index says what is current under one manifest; under another it is worked out anew, in memory only.
        found = index_.mark_current(index_.load(objects), self._keys)
        self.damaged = found.damaged
        current = np.asarray(found.items.column("current"))
        items = found.items.drop_columns(["key", "current"])
        items = items if current.all() else items.filter(pa.array(current))
        self.stale = len(current) - len(items)
        self.ids = Ids(items.column("id"))
        self._record, self._row, self._length = (np.asarray(items.column(n)) for n in ("record", "row", "length"))
        self._crc32c = np.asarray(items.column("crc32c"))
        self._arrays = found.arrays
        self._shards = found.records
        self._failures = found.failures
        copies = None if local_copy is None else local_copy.of(objects, found.records)
        self._items = ItemArrays(objects, found.arrays, self._record, self._row, self._length, self._compare, copies)
        self._tables = OpenTables(objects, found.records)
        self._checked_rows = bytearray(len(self.ids))  # 1: the row has been compared with its checksum
        self._fitting: set[int] = set()  # records whose arrays are what the recipe declares

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Stream({self.corpus!r}, '{self.name}@{self.fingerprint[:12]}', {len(self)} utterances)"

    @property
    def dim(self) -> int:
        """Numbers per frame."""
        return int(self._of_frames("dim"))

    @property
    def rate(self) -> float | None:
        """Frames per second; None where every frame has a time of its own."""
        times = self._of_frames("times")
        return times and float(times["rate"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""
        return np.dtype(str(self._of_frames("dtype")))

    @cached_property
    def failures(self) -> dict[str, tuple[str, str]]:
        """{id: (reason, detail)} of current utterances whose failure is committed."""
        if not self._failures:
            return {}
        keys = self._keys.of([failure.id for failure in self._failures])
        return {f.id: (f.reason, f.detail) for f in self._failures if keys.get(f.id) == f.key}

    @cached_property
    def missing(self) -> Ids:
        """Ids of the manifest that are neither served nor failed."""
        return self.manifest.ids.without(self.ids, self.failures)

    @cached_property
    def frames(self) -> int:
        """Number of frames served."""
        return int(self._length.sum(dtype=np.int64))

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self.ids

    def read(self, utterance_id: str) -> npt.NDArray[Any]:
        """Read the frames of one utterance.

        Args:
            utterance_id: the utterance.

        Returns:
            (T, D) in the storage dtype; a read-only view of the mapped file where the cache is local.

        Raises:
            EmocacheError: the stream does not serve this id, or is a table; the message says why.
            DamagedError: its bytes are not those that were committed.
        """
        self._of_frames("dtype")
        return self._items.read(self._position(utterance_id), "frames")

    def read_many(self, ids: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Read the frames of several utterances, in the order asked for.

        Returns:
            frames: (sum of T, D) in the storage dtype; offsets: (len(ids) + 1,) int64, where each begins.

        Args:
            ids: of the utterances.

        Raises:
            EmocacheError, DamagedError: see `read`.
        """
        dim, dtype = self.dim, self.dtype
        at = self._positions(ids)
        offsets = np.zeros(len(at) + 1, np.int64)
        np.cumsum(self._length[at], out=offsets[1:])
        order = self._disk_order(at)
        # The last item of each shard first: no memory is taken on the word of a record whose shard is shorter.
        last = order[np.flatnonzero(np.diff(self._record[at][order], append=-1))]
        for _ in self._items.each(at[last].tolist()):
            pass
        frames = np.empty((offsets[-1], dim), dtype)
        for k, found in zip(order, self._items.each(at[order].tolist()), strict=True):
            frames[offsets[k] : offsets[k + 1]] = found
        return frames, offsets

    def each(self, ids: Sequence[str]) -> Iterator[npt.NDArray[Any]]:
        """Yield the frames of some utterances in turn, see `read`; those of a remote cache are requested ahead."""
        self._of_frames("dtype")
        return self._items.each(self._positions(ids).tolist())

    def array(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """All frames, in the order of `ids`; see `read_many`."""
        return self.read_many(self.ids)

    def stored_order(self, ids: Sequence[str]) -> list[str]:
        """The same ids, in the order in which their frames lie on disk."""
        return [ids[k] for k in self._disk_order(self._positions(ids))]

    def _disk_order(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # One shard after the other: neighbours in a shard are neighbours on disk.
        return np.lexsort((self._row[at], self._record[at]))

    def lengths(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Number of frames of each utterance, (len(ids),) int64."""
        return self._length[self._positions(ids)].astype(np.int64)

    def times(self, utterance_id: str) -> npt.NDArray[np.float64]:
        """Start and end of every frame in seconds from the utterance's start, (T, 2) float64."""
        at = self._position(utterance_id)
        regular = self._of_frames("times")
        if regular is None:
            return self._items.read(at, "times")
        start = regular["first_start"] + np.arange(self._length[at]) / regular["rate"]
        return np.stack([start, start + regular["width"]], axis=1)

    def aux(self, utterance_id: str) -> dict[str, npt.NDArray[Any]]:
        """The auxiliary arrays the recipe declares, each (T, ...)."""
        at = self._position(utterance_id)
        return {name: self._items.read(at, f"aux/{name}") for name in self._of_frames("aux")}

    def row(self, utterance_id: str) -> dict[str, Any]:
        """The row of one utterance in a table stream, without its null values."""
        at = self._position(utterance_id)
        number, row = int(self._record[at]), int(self._row[at])
        rows = self._tables.rows(number, f"{self.corpus}/{self.name}: utterance {utterance_id!r}")
        if not self._checked_rows[at]:
            told = row < len(rows) and rows[row][0] == utterance_id
            if not told or not shard_table.has_checksum(rows[row][1], int(self._crc32c[at])):
                raise DamagedError(self._damage(utterance_id, f"commits/{self._shards[number]}"))
            self._checked_rows[at] = 1
        return rows[row][1]

    def crc32c(self, utterance_id: str) -> int:
        """The committed checksum of one utterance."""
        return int(self._crc32c[self._position(utterance_id)])

    def digest(self, ids: Sequence[str]) -> str:
        """sha256 (hex) over (id, crc32c) of the utterances, whatever their order: what who reads them has read.

        Nothing is read for it: the checksums are the committed ones, and no read gives bytes that have others.
        """
        lines = sorted(f"{utterance}\t{self.crc32c(utterance):08x}\n" for utterance in set(ids))
        return sha256("".join(lines).encode()).hexdigest()

    def check(self, utterance_id: str) -> bool:
        """Tell whether the stored bytes of one utterance still have their committed checksum."""
        at = self._position(utterance_id)
        self._checked_rows[at] = 0
        self._items.forget(at)
        try:
            self.row(utterance_id) if self.recipe["kind"] == "table" else self._items.read(at, "frames")
        except DamagedError:
            return False
        return True

    def _of_frames(self, key: str) -> Any:
        """Look a key up in the recipe of a stream of frames; raises EmocacheError for a table."""
        if self.recipe["kind"] == "table":
            raise EmocacheError(f"{self.corpus}/{self.name} is a table and has no frames; read it with row(id)")
        return self.recipe[key]

    def _position(self, utterance_id: str) -> int:
        at = self.ids.position(utterance_id)
        if at is None:
            raise EmocacheError(self._why_absent(utterance_id))
        return at

    def _positions(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        return np.arange(len(ids)) if ids is self.ids else np.fromiter(map(self._position, ids), np.int64, len(ids))

    def _why_absent(self, utterance_id: str) -> str:
        where = f"{self.corpus}/{self.name}: utterance {utterance_id!r}"
        if utterance_id in self.failures:
            return f"{where} could not be encoded ({': '.join(self.failures[utterance_id])})"
        if utterance_id in self.manifest:
            return f"{where} is not extracted yet; run `emocache extract {self.corpus}` again"
        return f"{where} is not in the corpus's manifest"

    def _compare(self, at: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Called with all of an item's arrays before any of them is given to anybody."""
        number = int(self._record[at])
        if number not in self._fitting and (wrong := contradiction(self._arrays[number], self.recipe)):
            path = f"{self.objects.url}/commits/{self._shards[number]}"
            raise DamagedError(f"{path}: {wrong}; delete it and run `emocache extract {self.corpus}` again")
        self._fitting.add(number)
        if crc32c(arrays.values()) != self._crc32c[at]:
            raise DamagedError(self._damage(self.ids[at], self._arrays[number]["frames"].object))

    def _damage(self, utterance_id: str, path: str) -> str:
        root = self.objects.url.removesuffix(f"/{self.corpus}/{self.name}@{self.fingerprint[:12]}")
        return (
            f"{self.corpus}/{self.name}: utterance {utterance_id!r}: its bytes in {self.objects.url}/{path} are not"
            f" those that were committed; `emocache cache verify --full {root}` tells what is damaged and what to do"
        )
