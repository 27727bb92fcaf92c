"""All that is committed to a stream, as one sorted table; a copy of it saves reading every record.

The copy (`index.arrow`) is derived and never the truth: it lists the records it covers, its checksum is checked, and
anything odd about it makes the reader go back to the records.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .commit import Located, Record, is_possible, parse_name
from .objects import Objects
from .sealed import DamagedError
from .stream_keys import StreamKeys, flat_keys

FILE = "index.arrow"
_MAGIC = b"emocache index 1 "
_ANY = np.iinfo(np.int64).max  # rows of a table, which no array tells
_BLOCK = 1 << 16  # rows that are looked at together
_SCHEMA = pa.schema([
    ("id", pa.string()), ("key", pa.binary(32)), ("record", pa.int32()), ("row", pa.int64()), ("length", pa.int32()),
    ("crc32c", pa.uint32()), ("current", pa.bool_()),
])  # fmt: skip


class Failure(NamedTuple):
    """A committed failure, and the name of the record that tells it."""

    record: str
    id: str
    key: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Index:
    """The contents of all records of a stream, one row per item key.

    Attributes:
        items: columns id, key (32 bytes), record (position in `records`), row, length, crc32c, current; sorted by id.
        records: names of the records covered; arrays: where each one's arrays lie.
        failures: one per item key that no record commits an item for, the one of the latest attempt.
        manifest: sha256 of the manifest that `current` was worked out for, where it is not null; "" if it was not.
        damaged: names of records whose bytes are not intact; what they committed counts as missing.
    """

    items: pa.Table
    records: tuple[str, ...]
    arrays: tuple[Mapping[str, Located], ...]
    failures: tuple[Failure, ...]
    manifest: str = ""
    damaged: tuple[str, ...] = ()


def _nothing() -> Index:
    return Index(_SCHEMA.empty_table(), (), (), ())


def load(objects: Objects) -> Index:
    """The index of a stream: its stored copy, brought up to date with the records it does not cover."""
    names = {name for name in objects.names("commits") if parse_name(name)}
    known = _stored(objects)
    if known is None or not names.issuperset(known.records):
        known = _nothing()
    records = _read(objects, names.difference(known.records))
    if any(record.supersedes for record in records.values() if record):
        # What the superseded records had hidden is not in the stored copy.
        known, records = _nothing(), _read(objects, names)
    damaged = tuple(name for name, record in records.items() if record is None)
    found = [record for record in records.values() if record is not None]
    return _merge(known, found, damaged) if records else known


def is_current(objects: Objects, index: Index, manifest_sha256: str) -> bool:
    """Tell whether the stored copy says already what this index says of this manifest."""
    stored = _stored(objects)
    return stored is not None and stored.manifest == manifest_sha256 and stored.records == index.records


def fault(objects: Objects, keys: StreamKeys) -> str | None:
    """Return what is wrong with the stored copy, going by the records it covers; None if right, absent, or outdated."""
    if FILE not in objects.names(""):
        return None
    stored = _stored(objects)
    if stored is None:
        return "damaged: checksum differs"
    records = _read(objects, stored.records) if set(stored.records) <= set(objects.names("commits")) else {}
    if len(records) < len(stored.records) or None in records.values():
        return None  # of a record that is gone or damaged, which is told as such
    told = _merge(_nothing(), [record for record in records.values() if record is not None], ())
    if stored.manifest == keys.manifest.sha256:
        told = mark_current(told, keys)
    else:
        told, stored = (_with_current(one, np.zeros(len(one.items), bool), "") for one in (told, stored))
    return None if _told(stored) == _told(told) else "wrong: it says other things than the records"


def _told(index: Index) -> tuple[Any, ...]:
    """All that an index says, whatever the order in which it has read the records."""
    columns = index.items.to_pydict()
    columns["record"] = [index.records[number] for number in columns["record"]]
    return columns, dict(zip(index.records, index.arrays, strict=True)), index.failures


def rebuilt(objects: Objects) -> Index:
    """The index of a stream from its records alone."""
    records = _read(objects, filter(parse_name, objects.names("commits")))
    damaged = tuple(name for name, record in records.items() if record is None)
    return _merge(_nothing(), [record for record in records.values() if record is not None], damaged)


def covered(objects: Objects) -> tuple[str, ...]:
    """Names of the records that the stored copy covers, whether they are there or not."""
    stored = _stored(objects)
    return stored.records if stored else ()


def save(objects: Objects, index: Index) -> None:
    """Store an index, in which `mark_current` has said of every item if it is current."""
    head = json.dumps({
        "records": index.records, "arrays": index.arrays, "failures": index.failures, "manifest": index.manifest,
    })  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_table(index.items.replace_schema_metadata(None))
    payload = len(head).to_bytes(8, "little") + head.encode() + sink.getvalue().to_pybytes()
    objects.replace(FILE, _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def mark_current(index: Index, keys: StreamKeys) -> Index:
    """The index with its column `current` = the item key is that of the manifest's utterance.

    Keys are hashed of those utterances only of which the index does not say it yet.
    """
    items = index.items
    current = np.zeros(len(items), bool)
    unknown = np.ones(len(items), bool)
    if index.manifest == keys.manifest.sha256:
        unknown = np.asarray(items.column("current").is_null())
        current = np.asarray(items.column("current").fill_null(False))
    if not unknown.any():
        return index
    asked = items.filter(pa.array(unknown))
    current[unknown] = keys.are(asked.column("id"), flat_keys(asked.column("key")))
    return _with_current(index, current, keys.manifest.sha256)


def _with_current(index: Index, current: npt.NDArray[np.bool_], manifest_sha256: str) -> Index:
    items = index.items.set_column(_SCHEMA.get_field_index("current"), "current", pa.array(current, pa.bool_()))
    return replace(index, items=items, manifest=manifest_sha256)


def _stored(objects: Objects) -> Index | None:
    try:
        data = objects.get(FILE)
    except OSError:
        return None
    start = len(_MAGIC) + 65
    payload = memoryview(data)[start:]
    if data[:start] != _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n":
        return None
    try:
        index = _unpacked(payload)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException):
        return None
    return index if _fits_together(index) else None


def _unpacked(payload: memoryview) -> Index:
    size = int.from_bytes(payload[:8], "little")
    head = json.loads(bytes(payload[8 : 8 + size]))
    with pa.ipc.open_file(pa.BufferReader(pa.py_buffer(payload[8 + size :]))) as reader:
        items = reader.read_all()
    arrays = tuple({n: Located(o, b, d, tuple(s)) for n, (o, b, d, s) in a.items()} for a in head["arrays"])
    failures = tuple(Failure(*entry) for entry in head["failures"])
    return Index(items, tuple(head["records"]), arrays, failures, head["manifest"])


def _fits_together(index: Index) -> bool:
    """Tell whether a stored copy, whoever made it, can be followed: every item in a record, in rows that are there."""
    items = index.items
    if not items.schema.equals(_SCHEMA) or any(column.null_count for column in items.columns):
        return False
    if len(index.arrays) != len(index.records) or not all(map(is_possible, _all_located(index))):
        return False
    rows = [min((located.shape[0] for located in one.values()), default=_ANY) for one in index.arrays]
    ends, told = np.array(rows, np.int64), np.zeros(len(rows), np.int64)
    for batch in items.select(["record", "row", "length"]).to_batches(_BLOCK):
        record, row, length = (column.to_numpy() for column in batch.columns)
        if len(batch) and not (record.min() >= 0 and record.max() < len(rows)):
            return False
        if not ((row >= 0) & (length >= 1) & (row <= ends[record] - length)).all():
            return False
        np.add.at(told, record, length)  # rows of each record, which no two items share
    return bool((told <= ends).all())


def _all_located(index: Index) -> Iterable[Located]:
    return (located for arrays in index.arrays for located in arrays.values())


def _read(objects: Objects, names: Iterable[str]) -> dict[str, Record | None]:
    """{name: record, or None if it is damaged}, sorted by name."""

    def read(name: str) -> Record | None:
        try:
            record = Record.from_bytes(objects.get(f"commits/{name}"), name)
        except DamagedError:
            return None
        return record if record.name == name else None

    ordered = sorted(names)
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(ordered, pool.map(read, ordered), strict=True))


def _merge(known: Index, new: Sequence[Record], damaged: tuple[str, ...]) -> Index:
    gone = {name for record in new for name in record.supersedes}
    names = [*known.records, *(record.name for record in new)]
    arrays = [*known.arrays, *(record.arrays for record in new)]
    tables = [known.items]
    for number, record in enumerate(new, start=len(known.records)):
        if record.items:
            ids, keys, rows, lengths, crcs = zip(*record.items, strict=True)
            unknown, hashes = [None] * len(ids), [bytes.fromhex(key) for key in keys]
            columns = [ids, hashes, [number] * len(ids), rows, lengths, crcs, unknown]
            tables.append(pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], _SCHEMA))
    items = pa.concat_tables(tables)
    # After the new records are in: one of them may itself be superseded by another that came at the same time.
    if gone:
        kept = np.array([name not in gone for name in names])
        items = items.filter(pa.array(kept[items.column("record").to_numpy()]))
    items = _one_per_key(items, names)
    told = [*known.failures, *(Failure(record.name, *entry) for record in new for entry in record.failures)]
    failures = _open_failures([failure for failure in told if failure.record not in gone], items)
    return Index(items, tuple(names), tuple(arrays), failures, known.manifest, damaged)


def _one_per_key(items: pa.Table, names: Sequence[str]) -> pa.Table:
    """Sorted by id and key; of several items with one key the one in the smallest record name stays."""
    if not len(items):
        return items
    rank = np.empty(len(names), np.int32)
    rank[np.argsort(np.array(names))] = np.arange(len(names))
    ranked = items.append_column("rank", pa.array(rank[items.column("record").to_numpy()]))
    ranked = ranked.sort_by([("id", "ascending"), ("key", "ascending"), ("rank", "ascending")]).combine_chunks()
    flat = flat_keys(ranked.column("key"))
    first = np.ones(len(flat), bool)
    first[1:] = flat[1:] != flat[:-1]
    return ranked.drop_columns(["rank"]).filter(pa.array(first))


def _open_failures(failures: Iterable[Failure], items: pa.Table) -> tuple[Failure, ...]:
    """The last word on every key that has no item, whatever order the records were read in: success beats failure."""
    last: dict[str, Failure] = {}
    for failure in sorted(failures, key=_latest_first):
        last.setdefault(failure.key, failure)
    if not last:
        return ()
    asked = pa.array([bytes.fromhex(key) for key in last], pa.binary(32))
    done = pc.is_in(asked, value_set=items.column("key")).to_pylist()
    return tuple(sorted((f for f, there in zip(last.values(), done, strict=True) if not there), key=lambda f: f.key))


def _latest_first(failure: Failure) -> tuple[int, str]:
    _, attempt = parse_name(failure.record) or ("", 0)
    return -attempt, failure.record
