"""Commit records: the small documents whose existence makes a shard part of a stream."""

import contextlib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .objects import Objects, Stored, create_once
from .sealed import DamagedError, seal, unseal

GRACE_SECONDS = 24 * 3600.0
"""Age below which gc leaves an object alone that no record refers to: its writer may still be about to commit it.

A courtesy, which saves that writer the work of writing it again; safety does not depend on it, see `tombstones`."""

COMPACTED = "c0c0c0c0"
"""The first digits of the unit of a record that compaction has made, by which a listing finds those."""

_NAME = re.compile(r"(?P<unit>[0-9a-f]+)\.(?P<attempt>\d+)\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_ROWS = 2**31 - 1  # of an item; what the index can hold


class ItemEntry(NamedTuple):
    """The place of one utterance in a shard."""

    id: str
    key: str  # item key
    row: int  # first row
    length: int  # rows
    crc32c: int  # over its frames, times and aux arrays (sorted by name), in this order


class FailureEntry(NamedTuple):
    """An utterance that cannot be encoded, and why."""

    id: str
    key: str
    reason: str
    detail: str


class Located(NamedTuple):
    """A C-contiguous array inside an object."""

    object: str  # path below the stream's folder
    byte_offset: int
    dtype: str  # little-endian NumPy type string
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """All that one attempt at one unit has committed.

    Attributes:
        unit: key of the unit; attempt: 0, 1, ... within it.
        token: unique to the writer's call, so that a writer recognises its own record.
        shard: path of the shard below the stream's folder; None if every utterance failed.
        objects: {path below the stream's folder: (size, sha256)}.
        arrays: {"frames", "times", "aux/<name>": Located}; empty for table shards.
        supersedes: names of records that this one replaces.
    """

    unit: str
    attempt: int
    token: str
    created: str
    shard: str | None = None
    objects: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    arrays: Mapping[str, Located] = field(default_factory=dict)
    items: tuple[ItemEntry, ...] = ()
    failures: tuple[FailureEntry, ...] = ()
    supersedes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """File name of the record."""
        return f"{self.unit}.{self.attempt}.json"

    @property
    def sizes(self) -> dict[str, int]:
        """{path of each object of the shard: bytes}."""
        return {path: size for path, (size, _) in self.objects.items()}

    def bare(self) -> "Record":
        """The record without its items, whose names and keys take nearly all of its memory."""
        return replace(self, items=())

    def with_shard(
        self,
        shard: str,
        stored: Mapping[str, Stored],
        arrays: Mapping[str, Located],
        items: tuple[ItemEntry, ...],
    ) -> "Record":
        """The record with a shard, as `Objects.put_shard` has stored it."""
        objects = {path: (one.size, one.sha256) for path, one in stored.items()}
        return replace(self, shard=shard, objects=objects, arrays=arrays, items=items)

    def moved(self, shard: str) -> "Record":
        """The record of the same bytes under another shard name."""
        start = len(str(self.shard))
        objects = {f"{shard}{path[start:]}": stored for path, stored in self.objects.items()}
        arrays = {name: at._replace(object=f"{shard}{at.object[start:]}") for name, at in self.arrays.items()}
        return replace(self, shard=shard, objects=objects, arrays=arrays)

    def to_bytes(self) -> bytes:
        """Sealed JSON."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return seal(document)

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> "Record":
        """Read a record.

        It is checked whoever has sealed it, so that readers may follow it.

        Args:
            data: what `Record.to_bytes` gave.
            what: what errors call it.

        Returns:
            the record, which fits together and stays inside the stream's folder and the objects it names.

        Raises:
            DamagedError: the bytes are not those that were written, or no record of emocache's.
        """
        document: dict[str, Any] = unseal(data, what)
        try:
            document["objects"] = {path: (size, sha256) for path, (size, sha256) in document["objects"].items()}
            document["arrays"] = {n: Located(o, b, d, tuple(s)) for n, (o, b, d, s) in document["arrays"].items()}
            document["items"] = tuple(ItemEntry(*entry) for entry in document["items"])
            document["failures"] = tuple(FailureEntry(*entry) for entry in document["failures"])
            document["supersedes"] = tuple(document["supersedes"])
            record = cls(**document)
            fault = _fault(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fault = f"does not hold what a record holds ({type(error).__name__}: {error})"
        if fault:
            raise DamagedError(f"{what}: {fault}; delete it, it is no record of emocache's")
        return record


def standing(records: Iterable[Record]) -> list[Record]:
    """The records that no other one supersedes."""
    every = list(records)
    gone = {name for record in every for name in record.supersedes}
    return [record for record in every if record.name not in gone]


def compacted(objects: Objects, known: dict[str, Record] | None = None) -> set[str]:
    """Names of records that compactions have superseded, which no other record may be given once gc has taken them.

    To be asked for after what there is was listed: a name that gc has freed by then is among these.

    Args:
        objects: the stream's folder.
        known: compactions that were read before, by name; those that are new are added.
    """
    known = {} if known is None else known
    for name in objects.names("commits", COMPACTED):
        if parse_name(name) and name not in known:
            with contextlib.suppress(DamagedError, FileNotFoundError):
                known[name] = Record.from_bytes(objects.get(f"commits/{name}"), name).bare()
    return {name for record in known.values() for name in record.supersedes}


def create_record(objects: Objects, record: Record, covered: Collection[str] = ()) -> Record:
    """Create a record under its own name if that is free, else as a later attempt; returns it as created.

    A name that the index covers, or that a compaction has superseded, is not free, even if its record was deleted.
    """
    covered = {*covered, *compacted(objects)}
    while record.name in covered or not create_once(objects, f"commits/{record.name}", record.to_bytes()):
        record = replace(record, attempt=record.attempt + 1)
    return record


def _fault(record: Record) -> str | None:
    """Return what in a record cannot be; None if it fits together. Bounds come before anything is read or allocated."""
    arrays = record.arrays.values()
    if not all(_inside(path, record.shard) for path in (*record.objects, *(located.object for located in arrays))):
        return "names an object that is not of its shard"
    if parse_name(record.name) is None or not all(map(parse_name, record.supersedes)):
        return f"names a record {record.name!r}, or one it supersedes, that cannot be"
    for path, (size, sha256) in record.objects.items():
        if type(size) is not int or size < 0 or not _SHA256.fullmatch(sha256):
            return f"tells no size and sha256 of {path}"
    for name, located in record.arrays.items():
        if not is_possible(located) or located.byte_offset + size_of(located) > record.objects[located.object][0]:
            return f"places array {name!r} where its object has no such bytes"
    if len({located.shape[0] for located in arrays}) > 1:
        return "has arrays of different lengths"
    told = [(entry.id, entry.key) for entry in record.items] + [(entry.id, entry.key) for entry in record.failures]
    for utterance, key in told:
        if not (isinstance(utterance, str) and utterance and _SHA256.fullmatch(key)):
            return f"tells an utterance {utterance!r} with no item key"
    return _misplaced(record)


def _misplaced(record: Record) -> str | None:
    """Return what is wrong with the rows of a record's items."""
    if record.items and record.shard is None:
        return "has items and no shard"
    numbers = [(entry.row, entry.length, entry.crc32c) for entry in record.items]
    if any(type(number) is not int for entry in numbers for number in entry):
        return "has items whose rows are not numbers"
    rows = min((located.shape[0] for located in record.arrays.values()), default=_MOST_ROWS)
    for entry in record.items:
        inside = 0 <= entry.row <= rows - entry.length and (1 <= entry.length <= _MOST_ROWS)
        if not inside or not 0 <= entry.crc32c < 2**32 or (not record.arrays and entry.length > 1):
            return f"places utterance {entry.id!r} in rows that are not there"
    ordered = sorted(record.items, key=lambda entry: entry.row)
    for before, after in pairwise(ordered):
        if before.row + before.length > after.row:
            return f"gives utterances {before.id!r} and {after.id!r} the same rows"
    return None


def is_possible(located: Located) -> bool:
    """Tell whether this can be where an array lies: a plain little-endian type, whole numbers, one row or more."""
    whole = [located.byte_offset, *located.shape]
    if not isinstance(located.object, str) or not isinstance(located.dtype, str) or not located.shape:
        return False
    if any(type(number) is not int for number in whole) or min(located.shape) < 1 or located.byte_offset < 0:
        return False
    return re.fullmatch(r"<[fiu][248]|\|[biu]1", located.dtype) is not None


def size_of(located: Located) -> int:
    """Bytes of an array."""
    return np.dtype(located.dtype).itemsize * math.prod(located.shape)


def contradiction(arrays: Mapping[str, Located], recipe: Mapping[str, Any]) -> str | None:
    """Say how the arrays of a record contradict the stream's recipe; None if they are what it declares."""
    expected: dict[str, tuple[str, tuple[int, ...]]] = {}
    if recipe["kind"] == "frames":
        expected["frames"] = (np.dtype(recipe["dtype"]).name, (recipe["dim"],))
        if recipe["times"] is None:
            expected["times"] = ("float64", (2,))
        expected |= {f"aux/{n}": (np.dtype(aux["dtype"]).name, tuple(aux["shape"])) for n, aux in recipe["aux"].items()}
    found = {name: (np.dtype(one.dtype).name, one.shape[1:]) for name, one in arrays.items()}
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if not names:
        return None
    first = names[0]
    return f"array {first!r} is {_told(found.get(first))}, the recipe says {_told(expected.get(first))}"


def _told(array: tuple[str, tuple[int, ...]] | None) -> str:
    return "absent" if array is None else f"{array[0]} of shape ({', '.join(['T', *map(str, array[1])])})"


def _inside(path: str, shard: str | None) -> bool:
    """A path is only followed below `shards/`, whoever has sealed the record."""
    parts = path.split("/")
    below = parts[0] == "shards" and len(parts) > 1 and not {"", ".", ".."} & set(parts) and "\\" not in path
    return below and shard is not None and (path == shard or path.startswith(f"{shard}/"))


def parse_name(name: str) -> tuple[str, int] | None:
    """(unit, attempt) of a record's file name; None if it is not one."""
    match = _NAME.fullmatch(name)
    return (match["unit"], int(match["attempt"])) if match else None
