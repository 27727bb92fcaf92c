"""The comparison of what a shard says of itself (ids, rows, arrays, checksums) with what its record says of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from . import shard_hdf5, shard_table, shard_zarr
from .commit import ItemEntry, Located, Record, size_of
from .crc import crc32c
from .errors import EmocacheError
from .ranges import in_order

Data = Mapping[str, bytes]


class Damage(NamedTuple):
    """An utterance that a shard does not hold as its record says; "-" stands for all that depend on the object."""

    utterance: str
    object: str
    reason: str


def damages(record: Record, data: Data, changed: Collection[str]) -> Iterator[Damage]:
    """Everything in a shard that is not what its record says.

    Args:
        record: the record.
        data: {path: bytes} of the objects that are there in full length.
        changed: those whose sha256 is not the record's.
    """
    check = _of_arrays if record.arrays else _of_table
    hit = list(check(record, data, changed))
    yield from hit
    told = {damage.object for damage in hit}
    for path in sorted(changed):
        if path not in told:  # not in the bytes of an utterance, but all of them need the object
            reason = "damaged: checksum of the object differs, which it needs"
            yield from (Damage(entry.id, path, reason) for entry in record.items)
    if record.arrays and not changed and not hit and data.keys() >= record.objects.keys():
        yield from _told_otherwise(record, data)


def _of_arrays(record: Record, data: Data, changed: Collection[str]) -> Iterator[Damage]:
    """Utterances whose bytes do not have their checksum, with the objects that have changed, or else their frames."""
    located = [record.arrays[name] for name in in_order(record.arrays)]
    involved = {one.object for one in located}
    whole = involved <= data.keys()
    for entry in record.items:
        if whole and _intact(entry, located, data):
            continue
        wrong = sorted(involved & set(changed)) or ([located[0].object] if whole else [])
        yield from (Damage(entry.id, path, "damaged: checksum of the utterance differs") for path in wrong)


def _intact(entry: ItemEntry, located: Sequence[Located], data: Data) -> bool:
    parts = []
    for one in located:
        flat = np.frombuffer(data[one.object], np.uint8, size_of(one), one.byte_offset).reshape(one.shape[0], -1)
        parts.append(flat[entry.row : entry.row + entry.length])
    return crc32c(parts) == entry.crc32c


def _of_table(record: Record, data: Data, changed: Collection[str]) -> Iterator[Damage]:
    """Utterances whose rows are not those of their checksums; none where the file cannot be taken apart any more."""
    path = str(record.shard)
    if path not in data:
        return
    try:
        rows = shard_table.surviving_rows(data[path]) if path in changed else shard_table.named_rows(data[path], path)
    except (pa.ArrowException, OSError, KeyError, ValueError, EmocacheError) as error:
        if path not in changed:
            yield from (Damage(entry.id, path, f"wrong: unreadable ({one_line(error)})") for entry in record.items)
        return
    for entry in record.items:
        found = rows[entry.row] if entry.row < len(rows) else None
        if found is None or found[0] != entry.id or not shard_table.has_checksum(found[1], entry.crc32c):
            told = "damaged: checksum of the row differs" if path in changed else "wrong: the row is not the record's"
            yield Damage(entry.id, path, told)


def _told_otherwise(record: Record, data: Data) -> Iterator[Damage]:
    """Compare what an intact shard says of its ids, rows and arrays with what the record says."""
    shard = str(record.shard)
    kind = shard_hdf5 if shard.endswith(shard_hdf5.SUFFIX) else shard_zarr
    try:
        ids, offsets, arrays = kind.told(shard, data)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError) as error:
        yield Damage("-", shard, f"wrong: no shard that could be read ({one_line(error)})")
        return
    for name, located in record.arrays.items():
        if arrays.get(name) != located:
            yield Damage("-", shard, f"wrong: the shard has {name} as {arrays.get(name)}, the record as {located}")
    rows = {utterance: (int(a), int(b - a)) for utterance, (a, b) in zip(ids, pairwise(offsets), strict=True)}
    for entry in record.items:
        if (found := rows.get(entry.id)) != (entry.row, entry.length):
            told = f"at row {found[0]}, {found[1]} rows" if found else "not at all"
            where = f"at row {entry.row}, {entry.length} rows"
            yield Damage(entry.id, shard, f"wrong: the shard holds it {told}, the record says {where}")


def one_line(error: Exception) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())
