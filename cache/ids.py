"""Sorted ids of utterances as one column: a million of them as Python's own would take 70 MB and a second."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_SAMPLED = 1 << 16  # ids that are kept as Python's, evenly spaced, so that a search begins among them
_BLOCK = 1 << 14  # ids that are made Python's at a time


class Ids(Sequence[str]):
    """A sorted sequence of ids that reads like a list of str. Equal to any sequence of the same ids.

    Args:
        column: of strings without nulls, sorted by code points, none twice; (N,).
    """

    def __init__(self, column: pa.ChunkedArray | pa.Array) -> None:
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        self.column: pa.StringArray = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
        self._step = max(1, -(-len(self.column) // _SAMPLED))
        self._sampled: list[str] | None = None

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return self.column.take(pa.array(range(len(self))[at], pa.int64())).to_pylist()  # type: ignore[no-any-return]
        return self.column[int(at)].as_py()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from self.column.slice(start, _BLOCK).to_pylist()

    def __contains__(self, utterance_id: object) -> bool:
        return isinstance(utterance_id, str) and self.position(utterance_id) is not None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Ids):
            return bool(self.column.equals(other.column))
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ids({self[:3]!r}{', ...' if len(self) > 3 else ''})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sampled": None}

    def position(self, utterance_id: str) -> int | None:
        """Return the place of an id; None if it has none."""
        if self._sampled is None:
            self._sampled = self.column.take(pa.array(range(0, len(self), self._step), pa.int64())).to_pylist()
        low = (bisect_right(self._sampled, utterance_id) - 1) * self._step
        if low < 0:
            return None
        if self._step == 1:
            return low if self._sampled[low] == utterance_id else None
        block = self.column.slice(low, self._step).to_pylist()
        return low + block.index(utterance_id) if utterance_id in block else None

    def positions(self, ids: Collection[str] | pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Places of many ids, (len(ids),) int64; -1 for those that have none."""
        if len(ids) * 256 < len(self):  # few: not worth a table of all
            asked = ids.to_pylist() if isinstance(ids, (pa.Array, pa.ChunkedArray)) else ids
            places = (self.position(utterance_id) for utterance_id in asked)
            return np.array([-1 if place is None else place for place in places], np.int64)
        asked = ids if isinstance(ids, (pa.Array, pa.ChunkedArray)) else _column(ids)
        found = pc.index_in(asked, value_set=self.column)
        return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)

    def at(self, rows: npt.NDArray[np.int64]) -> "Ids":
        """Return the ids at these places, which ascend."""
        return Ids(self.column.take(pa.array(rows, pa.int64())))

    def without(self, *others: "Iterable[str] | Ids") -> "Ids":
        """Return the ids that none of the others has."""
        kept = np.ones(len(self), bool)
        for other in others:
            places = self.positions(_column(other))
            kept[places[places >= 0]] = False
        return Ids(self.column.filter(pa.array(kept)))


def _column(ids: Iterable[str]) -> pa.Array:
    return ids.column if isinstance(ids, Ids) else pa.array(list(ids), pa.string())
