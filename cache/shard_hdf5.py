"""Shards as HDF5 files of contiguous datasets, so that each array can be mapped through its byte offset."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from .commit import Located
from .objects import Buffer, Objects

Parts = Sequence[npt.NDArray[Any]]
SUFFIX = ".h5"


def build(
    name: str, ids: Sequence[str], arrays: Mapping[str, Parts]
) -> tuple[dict[str, list[Buffer]], dict[str, Located]]:
    """The one file of a shard and where each array lies in it; see `shard_zarr.build`.

    The file is made in memory: an HDF5 file that is being written does not survive a kill, a finished one does.
    """
    image = io.BytesIO()
    located: dict[str, Located] = {}
    with h5py.File(image, "w") as file:
        file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype())
        for array, parts in arrays.items():
            rows = sum(len(part) for part in parts)
            shape = (rows, *parts[0].shape[1:])
            dataset = file.create_dataset(array, shape, parts[0].dtype)
            row = 0
            for part in parts:
                dataset[row : row + len(part)] = part
                row += len(part)
            located[array] = Located(name, dataset.id.get_offset(), parts[0].dtype.str, shape)
    return {"": [image.getbuffer()]}, located


def read_rows(objects: Objects, shard: str, rows: Sequence[int]) -> npt.NDArray[Any]:
    """Rows of `frames` as stock h5py reads them, (len(rows), D)."""
    source: Any = objects.local(shard) or io.BytesIO(objects.get(shard))
    with h5py.File(source, "r") as file:
        frames = file["frames"]
        return np.stack([frames[row] for row in rows])
