"""Shards of table streams: a Parquet file with one row per utterance."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import EmocacheError
from .objects import Buffer
from .recipe import canonical_json

SUFFIX = ".parquet"
Row = Mapping[str, Any]


def build(ids: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Buffer]]:
    """The one file of a shard: the rows' columns after a column `id`. Values are JSON values."""
    table = pa.Table.from_pylist([{"id": i, **row} for i, row in zip(ids, rows, strict=True)])
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    return {"": [sink.getbuffer()]}


def read(data: bytes, what: str) -> list[dict[str, Any]]:
    """Rows in stored order, without `id`. Raises EmocacheError for bytes that are not such a file."""
    try:
        rows = pq.read_table(io.BytesIO(data), page_checksum_verification=True).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise EmocacheError(f"{what}: unreadable Parquet ({error}); run `emocache cache verify --full`") from error
    for row in rows:
        row.pop("id")
    return rows  # type: ignore[no-any-return]


def checksum(row: Row) -> int:
    """crc32c of the row's canonical JSON, without its null values: Parquet gives every row every column."""
    return int(google_crc32c.value(canonical_json(_without_nulls(row))))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(v) for v in value]
    return value
