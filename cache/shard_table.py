"""Shards of table streams: a Parquet file with one row per utterance."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from . import parquet
from .errors import EmocacheError
from .objects import Buffer
from .recipe import canonical_json

SUFFIX = ".parquet"
Row = Mapping[str, Any]


def build(ids: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Buffer]]:
    """The one file of a shard: the rows' columns after a column `id`. Values are JSON values.

    Raises:
        ValueError: a column called `id`, or one whose values Parquet cannot hold together (a bug in the encoder).
    """
    names = dict.fromkeys(name for row in rows for name in row)
    if "id" in names:
        raise ValueError("a row may not have a column 'id'; that is the utterance's")
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(ids, pa.string()), **columns}), sink, write_page_checksum=True)
    return {"": [sink.getbuffer()]}


def read(data: bytes, what: str) -> list[dict[str, Any]]:
    """Rows in stored order, without `id` and null values. Raises EmocacheError for bytes that are not such a file."""
    try:
        rows = parquet.read(data).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise EmocacheError(f"{what}: unreadable Parquet ({error}); run `emocache cache verify --full`") from error
    for row in rows:
        row.pop("id")
    return [_without_nulls(row) for row in rows]


def checksum(row: Row) -> int:
    """crc32c of the row's canonical JSON, without its null values: Parquet gives every row every column."""
    return int(google_crc32c.value(canonical_json(_without_nulls(row))))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(v) for v in value]
    return value
