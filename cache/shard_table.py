"""Shards of table streams: a Parquet file with one row per utterance."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from . import parquet
from .objects import Buffer
from .recipe import canonical_json
from .sealed import DamagedError

SUFFIX = ".parquet"
Row = Mapping[str, Any]
# Values lie there as they are: a damaged byte then mostly takes one row with it, where a compressed page takes all.
_PLAIN: Any = {"compression": "none", "use_dictionary": False, "write_statistics": False, "store_schema": False,
               "write_page_checksum": True}  # fmt: skip


def build(ids: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Buffer]]:
    """Build the one file of a shard: the rows' columns after a column `id`.

    Args:
        ids: of the utterances.
        rows: {column: JSON value} of each.

    Returns:
        {"": the bytes of the one file}.

    Raises:
        ValueError: a column called `id`, or one whose values Parquet cannot hold together (a bug in the encoder).
    """
    names = dict.fromkeys(name for row in rows for name in row)
    if "id" in names:
        raise ValueError("a row may not have a column 'id'; that is the utterance's")
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(ids, pa.string()), **columns}), sink, **_PLAIN)
    return {"": [sink.getbuffer()]}


def read(data: bytes, what: str) -> list[dict[str, Any]]:
    """The rows of `named_rows` without their ids."""
    return [row for _, row in named_rows(data, what)]


def named_rows(data: bytes, what: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, row) in stored order, rows without null values. Raises DamagedError for bytes that are not such a file."""
    try:
        return _named(parquet.read(data).to_pylist())
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        why = " ".join(str(error).split())
        raise DamagedError(f"{what}: unreadable Parquet ({why}); run `emocache cache verify --full`") from error


def surviving_rows(data: bytes) -> list[tuple[str, dict[str, Any]] | None]:
    """Read like `named_rows`, whatever the checksums of the pages say.

    In a damaged file most rows are often still right.

    Args:
        data: the bytes of the file.

    Returns:
        (id, row) in stored order; None for a row of which nothing can be made.

    Raises:
        pyarrow.ArrowException, OSError, KeyError, ValueError: nothing can be made of the bytes.
    """
    table = parquet.read_damaged(data)
    table.validate(full=False)
    rows: list[tuple[str, dict[str, Any]] | None] = []
    for number in range(len(table)):
        try:
            rows += _named(table.slice(number, 1).to_pylist())
        except (UnicodeDecodeError, KeyError):
            rows.append(None)
    return rows


def _named(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(row.pop("id"), _without_nulls(row)) for row in rows]


def checksum(row: Row) -> int:
    """crc32c of the row's canonical JSON, without its null values: Parquet gives every row every column."""
    return crc32c.crc32c(canonical_json(_without_nulls(row)))


def has_checksum(row: Row, crc32c: int) -> bool:
    """Tell whether a row, whatever a damaged file has made of it, is the one with this checksum."""
    try:
        return checksum(row) == crc32c
    except (TypeError, ValueError):  # bytes, or a number that is not finite, of which there is no JSON
        return False


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(v) for v in value]
    return value
