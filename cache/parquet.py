"""Parquet from bytes in memory; the only place that reads it, so that every read is done alike.

Everything is read in the calling thread: a thread of Arrow that lets go of a Python object while the interpreter ends
aborts the process (apache/arrow#33975, #34314), and `pq.read_table` leaves such threads behind.
"""

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def read(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, the checksums of its pages verified.

    Args:
        data: the bytes of the file.
        columns: those to read, which it must have; None for all.

    Returns:
        the table, its columns in the order asked for.

    Raises:
        pyarrow.ArrowException, OSError: the bytes are damaged or no Parquet file.
        KeyError: there is no such column.
    """
    table = _open(data).read(columns=None if columns is None else list(columns), use_threads=False)
    return table if columns is None else table.select(columns)


def read_damaged(data: bytes) -> pa.Table:
    """Read what can be read of a Parquet file whatever the checksums of its pages say; raises like `read`."""
    return _open(data, checked=False).read(use_threads=False)


def batches(data: bytes, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
    """Like `read`, at most so many rows at a time; what was given is not kept."""
    yield from _open(data).iter_batches(rows, columns=None if columns is None else list(columns), use_threads=False)


def row_count(data: bytes) -> int:
    """Rows of a Parquet file, by its foot; raises like `read`."""
    return int(_open(data).metadata.num_rows)


def column_names(data: bytes) -> list[str]:
    """The columns of a Parquet file; raises like `read`."""
    return list(_open(data).schema_arrow.names)


def _open(data: bytes, *, checked: bool = True) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(data), pre_buffer=False, page_checksum_verification=checked)
