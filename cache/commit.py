"""Commit records: the small documents whose existence makes a shard part of a stream."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .objects import Objects, create_once
from .sealed import DamagedError, seal, unseal

GRACE_SECONDS = 24 * 3600.0
"""Age below which gc leaves an object alone that no record refers to: its writer may still be about to commit it.

A courtesy, which saves that writer the work of writing it again; safety does not depend on it, see `tombstones`."""

_NAME = re.compile(r"(?P<unit>[0-9a-f]+)\.(?P<attempt>\d+)\.json")


class ItemEntry(NamedTuple):
    """Where one utterance lies in a shard."""

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
    """What one attempt at one unit has committed.

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
        """Read a record; raises DamagedError, also for one that leads out of the stream's folder."""
        document: dict[str, Any] = unseal(data, what)
        document["objects"] = {path: (size, sha256) for path, (size, sha256) in document["objects"].items()}
        document["arrays"] = {n: Located(o, b, d, tuple(s)) for n, (o, b, d, s) in document["arrays"].items()}
        document["items"] = tuple(ItemEntry(*entry) for entry in document["items"])
        document["failures"] = tuple(FailureEntry(*entry) for entry in document["failures"])
        document["supersedes"] = tuple(document["supersedes"])
        record = cls(**document)
        arrays = [located.object for located in record.arrays.values()]
        if not all(_inside(path, record.shard) for path in (*record.objects, *arrays)):
            raise DamagedError(
                f"{what}: names an object that is not of its shard; delete it, it is no record of emocache's"
            )
        return record


def standing(records: Iterable[Record]) -> list[Record]:
    """The records that no other one supersedes."""
    every = list(records)
    gone = {name for record in every for name in record.supersedes}
    return [record for record in every if record.name not in gone]


def create_record(objects: Objects, record: Record) -> Record:
    """Create a record under its own name if that is free, else as a later attempt; returns it as created."""
    while not create_once(objects, f"commits/{record.name}", record.to_bytes()):
        record = replace(record, attempt=record.attempt + 1)
    return record


def _inside(path: str, shard: str | None) -> bool:
    """A path is only followed below `shards/`, whoever has sealed the record."""
    parts = path.split("/")
    below = parts[0] == "shards" and len(parts) > 1 and not {"", ".", ".."} & set(parts) and "\\" not in path
    return below and shard is not None and (path == shard or path.startswith(f"{shard}/"))


def parse_name(name: str) -> tuple[str, int] | None:
    """(unit, attempt) of a record's file name; None if it is not one."""
    match = _NAME.fullmatch(name)
    return (match["unit"], int(match["attempt"])) if match else None
