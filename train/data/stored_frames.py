"""Frames that stay in the cache: each utterance is read when it is asked for, mostly as a view of a memory map."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import Stream

Place = tuple[Stream, str]
"""The stream that serves an utterance, and its id there."""


class StoredFrames:
    """The frames of U utterances, none of which is held.

    Args:
        places: of each utterance; None for one without frames. At least one has some.

    Attributes:
        dim: D. dtype: storage dtype. lengths: (U,) int64.
    """

    def __init__(self, places: Sequence[Place | None]) -> None:
        self._places = places
        ids: dict[int, list[str]] = {}
        streams: dict[int, Stream] = {}
        for stream, id_ in filter(None, places):
            streams[id(stream)] = stream
            ids.setdefault(id(stream), []).append(id_)
        self._groups = [(streams[number], those) for number, those in ids.items()]
        first = self._groups[0][0]
        self.dim, self.dtype = first.dim, first.dtype
        self.lengths = np.array([0 if one is None else one[0].lengths([one[1]])[0] for one in places], np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return int(self.lengths.sum()) * self.dim * self.dtype.itemsize

    def of(self, row: int | np.integer[Any]) -> npt.NDArray[Any]:
        """Return the (T, D) frames of one utterance, read-only."""
        place = self._places[int(row)]
        return np.empty((0, self.dim), self.dtype) if place is None else place[0].read(place[1])

    def each(self, rows: Iterable[int | np.integer[Any]]) -> Iterator[npt.NDArray[Any]]:
        """Yield the (T, D) frames of some utterances in turn, see `of`; those of a remote cache are requested ahead."""
        places = [self._places[int(row)] for row in rows]
        wanted: dict[int, list[str]] = {}
        for stream, id_ in filter(None, places):
            wanted.setdefault(id(stream), []).append(id_)
        coming = {id(stream): stream.each(wanted.get(id(stream), ())) for stream, _ in self._groups}
        for place in places:
            yield np.empty((0, self.dim), self.dtype) if place is None else next(coming[id(place[0])])

    def check(self) -> None:
        """Read everything once, in the order of the disk, so that all of it has been compared with its checksums.

        Raises:
            DamagedError: bytes that are not those that were committed.
        """
        for stream, ids in self._groups:
            for _ in stream.each(stream.stored_order(ids)):
                pass
