"""Parquet from bytes in memory."""

import io

import pyarrow as pa
import pyarrow.parquet as pq


def read(data: bytes) -> pa.Table:
    """The table of a Parquet file, page checksums verified.

    Everything is read in the calling thread: a thread of Arrow that lets go of a Python object while the interpreter
    ends aborts the process (apache/arrow#33975, #34314), and `pq.read_table` leaves such threads behind.

    Raises:
        pyarrow.ArrowException, OSError: the bytes are damaged or no Parquet file.
    """
    return pq.ParquetFile(io.BytesIO(data), pre_buffer=False, page_checksum_verification=True).read(use_threads=False)
