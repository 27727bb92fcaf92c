"""The arrays of a stream's items: views of memory maps where the cache is local, range requests where it is not."""

import math
import mmap
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .commit import Located
from .errors import EmocacheError
from .objects import Objects
from .sealed import DamagedError

_OPEN_MAPS = 128
_KEPT_BYTES = 64 << 20  # of frames that were fetched, for whoever asks for times first

Array = npt.NDArray[Any]
Compare = Callable[[int, Mapping[str, Array]], None]


class ItemArrays:
    """Rows of arrays, item by item, each item compared with its checksum before anything of it is given to anybody.

    Args:
        objects: the stream's folder.
        arrays: where the arrays of each record lie.
        record: of every item, as a position in `arrays`.
        row: at which it begins.
        length: its rows.
        compare: called with an item and all of its arrays, in the order of its checksum; raises DamagedError.
    """

    def __init__(
        self,
        objects: Objects,
        arrays: Sequence[Mapping[str, Located]],
        record: Array,
        row: Array,
        length: Array,
        compare: Compare,
    ) -> None:
        self._objects, self._arrays, self._compare = objects, arrays, compare
        self._record, self._row, self._length = record, row, length
        self._local = objects.local("") is not None
        self._checked = bytearray(len(record))  # 1: all bytes of the item have been compared, once
        self._maps: OrderedDict[tuple[int, str], Array] = OrderedDict()
        self._fetched = _Fetched()

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which maps the files itself; what was compared need not be compared there again."""
        return {**self.__dict__, "_maps": OrderedDict(), "_fetched": _Fetched()}

    def read(self, at: int, array: str) -> Array:
        """Read the rows of one array of the item at this position, read-only.

        Args:
            at: position of the item.
            array: "frames", "times" or "aux/" and a name.

        Returns:
            the array of the item, one row a frame; a view of the file where the cache is local.

        Raises:
            DamagedError: its bytes are not those that were committed.
            EmocacheError: its shard is gone.
        """
        if not self._local:
            return self._fetch(at, array)
        if not self._checked[at]:
            located = self._arrays[int(self._record[at])]
            self._compare(at, {name: self._mapped(at, name) for name in in_order(located)})
            self._checked[at] = 1
        return self._mapped(at, array)

    def forget(self, at: int) -> None:
        """Compare the item once more when it is read again."""
        self._checked[at] = 0
        self._fetched.forget(at)

    def _mapped(self, at: int, array: str) -> Array:
        number, row = int(self._record[at]), int(self._row[at])
        mapped = self._maps.get((number, array))
        if mapped is None:
            mapped = self._maps[(number, array)] = self._map(self._arrays[number][array])
            if len(self._maps) > _OPEN_MAPS:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end((number, array))
        return mapped[row : row + int(self._length[at])]

    def _map(self, located: Located) -> Array:
        path = self._objects.local(located.object)
        try:
            with path.open("rb") as file:  # type: ignore[union-attr]
                mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            flat = np.frombuffer(mapping, located.dtype, math.prod(located.shape), located.byte_offset)
        except FileNotFoundError as error:
            raise EmocacheError(f"{path} is gone; `emocache cache verify` tells what to do") from error
        except ValueError as error:
            raise DamagedError(f"{path} is shorter than its record says; run `emocache cache verify --full`") from error
        return flat.reshape(located.shape)

    def _fetch(self, at: int, array: str) -> Array:
        """One request for each array of the item; what was not asked for is kept for whoever asks next."""
        kept = self._fetched.get(at)
        if array not in kept:
            located, row, length = self._arrays[int(self._record[at])], int(self._row[at]), int(self._length[at])
            kept = {name: fetch(self._objects, located[name], row, length) for name in in_order(located)}
            self._compare(at, kept)
            self._fetched.put(at, kept)
        return kept[array]


class _Fetched:
    """Arrays of items that came from a remote store: frames up to a size, the small arrays beside them for good."""

    def __init__(self) -> None:
        self._frames: OrderedDict[int, Array] = OrderedDict()
        self._others: dict[int, dict[str, Array]] = {}
        self._bytes = 0

    def get(self, at: int) -> Mapping[str, Array]:
        """Return what is kept of an item."""
        frames = {"frames": self._frames[at]} if at in self._frames else {}
        return {**frames, **self._others.get(at, {})}

    def put(self, at: int, arrays: Mapping[str, Array]) -> None:
        """Keep an item; the frames of the oldest ones make room."""
        self.forget(at)
        self._frames[at] = arrays["frames"]
        self._others[at] = {name: array for name, array in arrays.items() if name != "frames"}
        self._bytes += arrays["frames"].nbytes
        while self._bytes > _KEPT_BYTES:
            self._bytes -= self._frames.popitem(last=False)[1].nbytes

    def forget(self, at: int) -> None:
        """Keep nothing of an item."""
        self._others.pop(at, None)
        if at in self._frames:
            self._bytes -= self._frames.pop(at).nbytes


def in_order(arrays: Mapping[str, Located]) -> list[str]:
    """Names of an item's arrays in the order of its checksum: frames, times, then aux arrays by name."""
    return sorted(arrays, key=lambda name: (name.startswith("aux/"), name))


def fetch(objects: Objects, located: Located, row: int, length: int) -> Array:
    """Rows of an array by a range request. Raises EmocacheError, DamagedError: it is gone, or too short."""
    dtype, tail = np.dtype(located.dtype), located.shape[1:]
    size = dtype.itemsize * math.prod(tail)
    path = f"{objects.url}/{located.object}"
    try:
        data = objects.get_range(located.object, located.byte_offset + row * size, length * size)
    except FileNotFoundError as error:
        raise EmocacheError(f"{path} is gone; `emocache cache verify` tells what to do") from error
    if len(data) != length * size:
        raise DamagedError(f"{path} is shorter than its record says; run `emocache cache verify --full`")
    return np.frombuffer(data, dtype).reshape(length, *tail)
