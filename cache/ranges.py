"""Requests for the arrays of items in a remote store: what one of them fetches, and what is kept of it."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .commit import Located
from .errors import EmocacheError
from .objects import Objects
from .sealed import DamagedError

_KEPT_BYTES = 64 << 20  # of frames that were fetched, for whoever asks for times first
_RUN_BYTES, _GAP_BYTES = 4 << 20, 64 << 10  # of one request, and of what is fetched in vain between two items

Array = npt.NDArray[Any]


class Fetched:
    """Arrays of items that came from a remote store: frames up to a size, the small arrays beside them for good."""

    def __init__(self) -> None:
        self._frames: OrderedDict[int, Array] = OrderedDict()
        self._others: dict[int, dict[str, Array]] = {}
        self._bytes = 0

    def get(self, at: int) -> Mapping[str, Array]:
        """Return what is kept of an item."""
        frames = {"frames": self._frames[at]} if at in self._frames else {}
        return {**frames, **self._others.get(at, {})}

    def put(self, at: int, arrays: Mapping[str, Array], with_frames: bool = True) -> None:
        """Keep an item, with its frames or without; the frames of the oldest ones make room."""
        self.forget(at)
        # Copies: a view would hold all that came by the same request.
        self._others[at] = {name: array.copy() for name, array in arrays.items() if name != "frames"}
        if not with_frames:
            return
        self._frames[at] = arrays["frames"]
        self._bytes += arrays["frames"].nbytes
        while self._bytes > _KEPT_BYTES:
            self._bytes -= self._frames.popitem(last=False)[1].nbytes

    def has_frames(self, at: int) -> bool:
        """Tell whether the frames of an item are kept."""
        return at in self._frames

    def forget(self, at: int) -> None:
        """Keep nothing of an item."""
        self._others.pop(at, None)
        if at in self._frames:
            self._bytes -= self._frames.pop(at).nbytes


def in_order(arrays: Mapping[str, Located]) -> list[str]:
    """Names of an item's arrays in the order of its checksum: frames, times, then aux arrays by name."""
    return sorted(arrays, key=lambda name: (name.startswith("aux/"), name))


def row_bytes(located: Located) -> int:
    """Bytes of one row of an array."""
    return np.dtype(located.dtype).itemsize * math.prod(located.shape[1:])


def end_of(located: Located) -> int:
    """Bytes of its object that an array needs."""
    return located.byte_offset + located.shape[0] * row_bytes(located)


def fetch(objects: Objects, located: Located, row: int, length: int) -> Array:
    """Rows of an array by a range request. Raises EmocacheError, DamagedError: it is gone, or too short."""
    size = row_bytes(located)
    path = f"{objects.url}/{located.object}"
    try:
        data = objects.get_range(located.object, located.byte_offset + row * size, length * size)
    except FileNotFoundError as error:
        raise EmocacheError(f"{path} is gone; `emocache cache verify` tells what to do") from error
    if len(data) != length * size:
        raise DamagedError(f"{path} is shorter than its record says; run `emocache cache verify --full`")
    return np.frombuffer(data, located.dtype).reshape(length, *located.shape[1:])


def runs(
    at: Iterable[int], record: Array, row: Array, length: Array, row_size: Callable[[int], int]
) -> Iterator[list[int]]:
    """Cut items into runs of neighbours, each of which one request fetches.

    Args:
        at: positions of items, whose order is kept.
        record, row, length: of every item: the number of its record, its first row, its rows.
        row_size: bytes of a row of a record, over all arrays.

    Yields:
        positions of items of one record, at most 4 MiB from the first to the last, or one item; no item begins before
        the first, and at most 64 KiB that nobody wants lie between one and the next.
    """
    run: list[int] = []
    number = first = end = size = 0
    for one in at:
        begin, stop = int(row[one]), int(row[one]) + int(length[one])
        near = number == record[one] and first <= begin and (begin - end) * size <= _GAP_BYTES
        if run and not (near and (max(end, stop) - first) * size <= _RUN_BYTES):
            yield run
            run = []
        if not run:
            number, first, end = int(record[one]), begin, begin
            size = row_size(number)
        run.append(one)
        end = max(end, stop)
    if run:
        yield run
