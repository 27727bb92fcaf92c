"""The arrays of a stream's items: views of maps of local shards and of local copies, else range requests."""

import math
import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .ahead import ahead
from .commit import Located
from .errors import EmocacheError
from .local_copy import CopiedObjects
from .objects import Objects
from .ranges import Array, Fetched, end_of, fetch, in_order, row_bytes, runs
from .sealed import DamagedError

_OPEN_MAPS = 128
_REQUESTS = 16  # at the same time

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
        copies: of a remote stream's objects; None: each read of it is a request.
    """

    def __init__(
        self,
        objects: Objects,
        arrays: Sequence[Mapping[str, Located]],
        record: Array,
        row: Array,
        length: Array,
        compare: Compare,
        copies: CopiedObjects | None = None,
    ) -> None:
        self._objects, self._arrays, self._compare = objects, arrays, compare
        self._record, self._row, self._length = record, row, length
        self._local = objects.local("") is not None
        self._copies = copies
        self._renewed: set[int] = set()  # records whose copies were found damaged once
        self._checked = bytearray(len(record))  # 1: all bytes of the item have been compared, once
        self._maps: OrderedDict[tuple[int, str], Array] = OrderedDict()
        self._fetched = Fetched()

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which maps the files itself; what was compared need not be compared there again."""
        return {**self.__dict__, "_maps": OrderedDict(), "_fetched": Fetched()}

    def read(self, at: int, array: str) -> Array:
        """Read the rows of one array of the item at this position, read-only.

        Args:
            at: position of the item.
            array: "frames", "times" or "aux/" and a name.

        Returns:
            the array of the item, one row a frame; a view of the file where the cache, or a copy of it, is local.

        Raises:
            DamagedError: its bytes are not those that were committed.
            EmocacheError: its shard is gone.
        """
        if not self._local and self._copies is None:
            return self._fetch(at, array)
        try:
            found = self._view(at, array)
        except DamagedError:
            if not self._renew(int(self._record[at])):
                raise
            found = self._view(at, array)
        return self._fetch(at, array) if found is None else found

    def each(self, at: Sequence[int]) -> Iterator[Array]:
        """Yield the frames of some items in turn, read-only.

        What must be requested is requested ahead, neighbours in a shard by one request; memory holds 64 MiB of it, or
        16 items where these are longer than 4 MiB.

        Args:
            at: positions of the items; best in the order of their shards.

        Raises:
            DamagedError, EmocacheError: see `read`.
        """
        if self._copies is not None and (lacking := self._lacking(at, self._copies)):
            self._copies.fetch(lacking)
        if self._local or all(self._is_here(one) for one in at):
            yield from (self.read(one, "frames") for one in at)
            return
        cut = runs(at, self._record, self._row, self._length, self._row_size)
        # What is here already is known in this thread only.
        wanted = ((run, not all(map(self._is_here, run))) for run in cut)
        for run, fetched in ahead(self._fetch_run, wanted, _REQUESTS):
            for one in run:
                if arrays := fetched.get(one):
                    self._compare(one, arrays)
                    self._fetched.put(one, arrays, with_frames=len(run) == 1)
                    yield arrays["frames"]
                else:
                    yield self.read(one, "frames")

    def forget(self, at: int) -> None:
        """Compare the item once more when it is read again."""
        self._checked[at] = 0
        self._fetched.forget(at)

    def _view(self, at: int, array: str) -> Array | None:
        """Rows of the map, compared; None where a copy found no room."""
        if not self._checked[at]:
            views = {name: self._mapped(at, name) for name in in_order(self._arrays[int(self._record[at])])}
            arrays = {name: view for name, view in views.items() if view is not None}
            if len(arrays) < len(views):
                return None
            self._compare(at, arrays)
            self._checked[at] = 1
        return self._mapped(at, array)

    def _mapped(self, at: int, array: str) -> Array | None:
        number, row = int(self._record[at]), int(self._row[at])
        mapped = self._maps.get((number, array))
        if mapped is None:
            mapped = self._map(number, self._arrays[number][array])
            if mapped is None:
                return None
            self._maps[(number, array)] = mapped
            if len(self._maps) > _OPEN_MAPS:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end((number, array))
        return mapped[row : row + int(self._length[at])]

    def _map(self, number: int, located: Located) -> Array | None:
        path: Any = self._objects.local(located.object)
        try:
            if path is None and self._copies is not None:
                path = f"{self._objects.url}/{located.object}"
                mapping = self._copies.map(number, located.object, end_of(located))
                if mapping is None:
                    return None
            else:
                with path.open("rb") as file:
                    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            flat = np.frombuffer(mapping, located.dtype, math.prod(located.shape), located.byte_offset)
        except FileNotFoundError as error:
            raise EmocacheError(f"{path} is gone; `emocache cache verify` tells what to do") from error
        except ValueError as error:
            raise DamagedError(f"{path} is shorter than its record says; run `emocache cache verify --full`") from error
        return flat.reshape(located.shape)

    def _renew(self, number: int) -> bool:
        """Remove the copies of a shard, so that they are fetched anew; once, since the store's may be no better."""
        if self._copies is None or number in self._renewed:
            return False
        self._renewed.add(number)
        for name, located in self._arrays[number].items():
            self._maps.pop((number, name), None)
            self._copies.drop([located.object])
        return True

    def _lacking(self, at: Iterable[int], copies: CopiedObjects) -> dict[str, tuple[int, int]]:
        """{object: (number of its record, bytes that the record's arrays need)} of items that were not read yet."""
        found: dict[str, tuple[int, int]] = {}
        for number in dict.fromkeys(int(self._record[one]) for one in at if not self._checked[one]):
            for located in self._arrays[number].values():
                if copies.lacks(located.object):
                    least = max(end_of(located), found.get(located.object, (0, 0))[1])
                    found[located.object] = number, least
        return found

    def _is_here(self, at: int) -> bool:
        if self._checked[at] or self._fetched.has_frames(at):
            return True
        located = self._arrays[int(self._record[at])].values()
        return self._copies is not None and all(self._copies.holds(one.object) for one in located)

    def _row_size(self, number: int) -> int:
        return sum(map(row_bytes, self._arrays[number].values()))

    def _fetch_run(self, wanted: tuple[list[int], bool]) -> tuple[list[int], dict[int, dict[str, Array]]]:
        """A run of neighbours, and if they are wanted all of their arrays, by one request for each; in any thread."""
        run, lacking = wanted
        if not lacking:
            return run, {}
        located = self._arrays[int(self._record[run[0]])]
        first = int(self._row[run[0]])
        rows = max(int(self._row[one]) + int(self._length[one]) for one in run) - first
        found = {name: fetch(self._objects, located[name], first, rows) for name in in_order(located)}
        return run, {
            one: {name: rows_of[start : start + int(self._length[one])] for name, rows_of in found.items()}
            for one in run
            for start in [int(self._row[one]) - first]
        }

    def _fetch(self, at: int, array: str) -> Array:
        """One request for each array of the item; what was not asked for is kept for whoever asks next."""
        kept = self._fetched.get(at)
        if array not in kept:
            located, row, length = self._arrays[int(self._record[at])], int(self._row[at]), int(self._length[at])
            kept = {name: fetch(self._objects, located[name], row, length) for name in in_order(located)}
            self._compare(at, kept)
            self._fetched.put(at, kept)
        return kept[array]
