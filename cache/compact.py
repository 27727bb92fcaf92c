"""Many small shards become few large ones, beside readers, writers and gc.

A compaction writes a new shard with the items of several records, and then one record that supersedes them all. What it
supersedes stays where it is until gc takes it, a grace period after the new record: readers that have opened the stream
go on. A writer never gives a record a name that a compaction has superseded, see `commit.compacted`.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import index as index_
from . import shard_table
from .commit import COMPACTED, FailureEntry, ItemEntry, Record, contradiction, create_record, parse_name, standing
from .crc import crc32c
from .errors import EmocacheError
from .items import ItemArrays
from .objects import Objects
from .ranges import in_order
from .reading_back import check_frames, check_table
from .sealed import DamagedError
from .store import Cache, StreamInfo
from .stored_form import Item
from .stream_keys import StreamKeys, flat_keys
from .tombstones import is_taken
from .writer import BACKENDS

MOST_BYTES, MOST_ITEMS = 64 << 20, 1 << 16
"""Of one shard. A record of so many items is read in under a second."""


@dataclass
class Group:
    """Records that become one.

    Attributes:
        records: without their items. ids: of their utterances, none twice. bytes: of their shards.
    """

    records: list[Record] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    bytes: int = 0

    def takes(self, size: int, ids: set[str]) -> bool:
        """Tell whether a record has room here, and none of its ids; a shard has an utterance once."""
        fits = self.bytes + size <= MOST_BYTES and len(self.ids) + len(ids) <= MOST_ITEMS
        return fits and self.ids.isdisjoint(ids)


class Compaction:
    """The compaction of one stream, planned.

    Args:
        cache: the cache.
        info: of the stream.

    Attributes:
        records: how many there are. groups: those that become one, two records or more each.

    Raises:
        EmocacheError: a damaged record.
    """

    def __init__(self, cache: Cache, info: StreamInfo) -> None:
        self.objects: Objects = cache.objects.below(info.folder)
        self.info = info
        self._keys = StreamKeys(cache.manifest(info.corpus), info.fingerprint, info.recipe["inputs"])
        self._index = index_.load(self.objects)
        self._number = {name: number for number, name in enumerate(self._index.records)}
        self._fitting: set[int] = set()  # records whose arrays are what the recipe declares
        items = self._index.items
        self._record, self._row, self._length, self._crc32c = (
            np.asarray(items.column(name)) for name in ("record", "row", "length", "crc32c")
        )
        self._arrays = ItemArrays(
            self.objects, self._index.arrays, self._record, self._row, self._length, self._compare
        )
        found = [self._read(name) for name in self.objects.names("commits") if parse_name(name)]
        kept = sorted(standing(found), key=lambda record: (record.created, record.name))
        self.records = len(kept)
        self.groups = [group for group in self._grouped(kept) if len(group.records) > 1]

    @property
    def joined(self) -> int:
        """Count the records that become part of a larger one."""
        return sum(len(group.records) for group in self.groups)

    def run(self, step: Callable[[], object] = lambda: None) -> None:
        """Write the new shards and records, and the index; `step` is called after each record that is superseded."""
        for group in self.groups:
            superseded = [name for record in group.records for name in (record.name, *record.supersedes)]
            while True:
                created = self._commit(group, tuple(dict.fromkeys(superseded)))
                if not is_taken(self.objects, created.shard, created.sizes):
                    break
                # A gc took the shard for garbage, its record came too late to tell. Once more, under another name.
                superseded += [created.name]
            for _ in group.records:
                step()
        if self.groups:
            index_.save(self.objects, index_.mark_current(index_.load(self.objects), self._keys))

    def _read(self, name: str) -> Record:
        path = f"{self.objects.url}/commits/{name}"
        try:
            return Record.from_bytes(self.objects.get(f"commits/{name}"), path).bare()
        except DamagedError as error:
            raise EmocacheError(f"{error}. Nothing of this stream was compacted") from error

    def _grouped(self, records: Sequence[Record]) -> list[Group]:
        """First fit, so that an id that several records have does not end a group."""
        ids = self._index.items.column("id")
        order = np.argsort(self._record, kind="stable")
        bounds = np.searchsorted(self._record[order], np.arange(len(self._index.records) + 1))
        groups: list[Group] = []
        for record in records:
            size, at = sum(record.sizes.values()), self._number.get(record.name)
            if size > MOST_BYTES // 2 or at is None:  # large already, or committed since the index was read
                continue
            own = set(ids.take(order[bounds[at] : bounds[at + 1]]).to_pylist())
            group = next((group for group in groups[-8:] if group.takes(size, own)), None)
            if group is None:
                groups.append(group := Group())
            group.records.append(record)
            group.ids |= own
            group.bytes += size
        return groups

    def _commit(self, group: Group, superseded: tuple[str, ...]) -> Record:
        numbers = [self._number[record.name] for record in group.records]
        at = np.flatnonzero(np.isin(self._record, numbers))
        record = Record(
            COMPACTED + secrets.token_hex(12), max((parse_name(name) or ("", 0))[1] for name in superseded),
            secrets.token_hex(8), datetime.now(UTC).isoformat(timespec="seconds"),
            failures=self._failures({record.name for record in group.records}), supersedes=superseded,
        )  # fmt: skip
        if len(at):
            put = self._put_table if self.info.recipe["kind"] == "table" else self._put_frames
            try:
                record = put(record, at)
            except OSError as error:
                raise EmocacheError(
                    f"{self.objects.url}: no shard can be written ({error}); nothing is lost: mend the cause, such as"
                    " a full disk, and run the same command again"
                ) from error
        return create_record(self.objects, record)

    def _failures(self, names: set[str]) -> tuple[FailureEntry, ...]:
        """Those of which these records have the last word."""
        return tuple(FailureEntry(*failure[1:]) for failure in self._index.failures if failure.record in names)

    def _entries(self, at: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> tuple[ItemEntry, ...]:
        items = self._index.items.take(at)
        ids, keys = items.column("id").to_pylist(), flat_keys(items.column("key"))
        told = zip(ids, keys, rows.tolist(), self._length[at].tolist(), self._crc32c[at].tolist(), strict=True)
        return tuple(ItemEntry(i, key.tobytes().hex(), row, length, crc) for i, key, row, length, crc in told)

    def _put_frames(self, record: Record, at: npt.NDArray[np.int64]) -> Record:
        backend: ModuleType = BACKENDS[self.info.backend]
        located = self._index.arrays[int(self._record[at[0]])]
        offsets = np.cumsum([0, *self._length[at]], dtype="<i8")
        arrays: dict[str, list[npt.NDArray[Any]]] = {"frames": [], "offsets": [offsets]}
        arrays |= {name: [] for name in in_order(located)[1:]}
        for one in at:
            for name in in_order(located):
                arrays[name].append(self._arrays.read(int(one), name))
        entries = self._entries(at, offsets[:-1])
        shard = f"shards/{secrets.token_hex(12)}{backend.SUFFIX}"
        # Joined first: of many small items, handing over each by itself would cost more than copying them.
        joined = {name: [np.concatenate(parts)] for name, parts in arrays.items()}
        files, places = backend.build(shard, [entry.id for entry in entries], joined)
        places.pop("offsets")
        values = [Item(frames) for frames in arrays["frames"]]
        put = self.objects.put_shard(
            shard, files, lambda name: check_frames(self.objects, backend, name, values, list(files))
        )
        return record.with_shard(shard, put, places, entries)

    def _put_table(self, record: Record, at: npt.NDArray[np.int64]) -> Record:
        entries = self._entries(at, np.arange(len(at)))
        held: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        rows: dict[str, Mapping[str, Any]] = {}
        for entry, one in zip(entries, at, strict=True):
            number, row = int(self._record[one]), int(self._row[one])
            if number not in held:
                held[number] = self._table(number)
            found = held[number][row] if row < len(held[number]) else ("", {})
            if found[0] != entry.id or not shard_table.has_checksum(found[1], entry.crc32c):
                raise DamagedError(self._damage(entry.id))
            rows[entry.id] = found[1]
        shard = f"shards/{secrets.token_hex(12)}{shard_table.SUFFIX}"
        files = shard_table.build(list(rows), list(rows.values()))
        put = self.objects.put_shard(shard, files, partial(check_table, self.objects, rows=rows))
        return record.with_shard(shard, put, {}, entries)

    def _table(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        name = self._index.records[number]
        shard = str(Record.from_bytes(self.objects.get(f"commits/{name}"), name).shard)
        return shard_table.named_rows(self.objects.get(shard), f"{self.objects.url}/{shard}")

    def _compare(self, at: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        number = int(self._record[at])
        fits = number in self._fitting or not contradiction(self._index.arrays[number], self.info.recipe)
        if not fits or crc32c(arrays.values()) != self._crc32c[at]:
            raise DamagedError(self._damage(self._index.items.column("id")[at].as_py()))
        self._fitting.add(number)

    def _damage(self, utterance_id: str) -> str:
        return (
            f"{self.info.folder}: utterance {utterance_id!r} is not as it was committed; `emocache cache verify --full`"
            " tells what is damaged and what to do"
        )
