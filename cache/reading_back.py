"""Reading back what was just written, through the stock libraries, before a record tells of it."""

import secrets
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from . import shard_table
from .errors import EmocacheError
from .objects import Objects
from .stored_form import Item


def check_frames(
    objects: Objects, backend: ModuleType, shard: str, values: Sequence[Item], files: Sequence[str]
) -> None:
    """Compare the first, the last and one random row: the byte offsets of the record must be right.

    Args:
        objects: where the shard lies.
        backend: the module that reads it, such as `shard_zarr`.
        shard: its name.
        values: the items as they were stored, in order.
        files: the paths of its objects below it.

    Raises:
        EmocacheError: a row is another one.
        FileNotFoundError: an object is gone.
    """
    offsets = np.cumsum([0, *(len(item.frames) for item in values)])
    total = int(offsets[-1])
    rows = [0, total - 1, secrets.randbelow(total)]
    for row, read in zip(rows, backend.read_rows(objects, shard, rows), strict=True):
        item = int(np.searchsorted(offsets, row, side="right")) - 1
        if not np.array_equal(values[item].frames[row - int(offsets[item])], read):
            for below in files:  # where a gc has taken one, the stock library reads zeros; this raises
                objects.size(f"{shard}/{below}" if below else shard)
            raise EmocacheError(f"shard {objects.url}/{shard}: row {row} reads back differently from what was written;"
                                " check the disk, then run the same command again")  # fmt: skip


def check_table(objects: Objects, shard: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare every row, {utterance id: row}, with what Parquet has made of it; raises EmocacheError for another."""
    for (i, row), read in zip(rows.items(), shard_table.read(objects.get(shard), shard), strict=True):
        if shard_table.checksum(row) != shard_table.checksum(read):
            raise EmocacheError(f"{objects.url}: the row of {i!r} does not survive Parquet; a row's values must be JSON"
                                " values of the same type in every utterance")  # fmt: skip
