"""Shards as HDF5 files of contiguous datasets, so that each array can be mapped through its byte offset."""

import io
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from .commit import Located
from .objects import Buffer, Objects
from .spill import buffers

Parts = Sequence[npt.NDArray[Any]]
SUFFIX = ".h5"


def build(
    name: str, ids: Sequence[str], arrays: Mapping[str, Parts]
) -> tuple[dict[str, Iterable[Buffer]], dict[str, Located]]:
    """The one file of a shard and where each array lies in it; see `shard_zarr.build`.

    The file is made aside, for an HDF5 file that is being written does not survive a kill: everything but `frames` is
    written by h5py, and the frames take the place that HDF5 has set aside for them, so that they are not copied. What
    is set aside is a hole in a temporary file, which takes no room.
    """
    import h5py

    located: dict[str, Located] = {}
    with tempfile.TemporaryFile() as image, h5py.File(image, "w") as file:
        file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype())
        for array, parts in arrays.items():
            if array == "frames":
                continue
            rows = sum(len(part) for part in parts)
            shape = (rows, *parts[0].shape[1:])
            dataset = file.create_dataset(array, shape, parts[0].dtype)
            row = 0
            for part in parts:
                dataset[row : row + len(part)] = part
                row += len(part)
            located[array] = Located(name, dataset.id.get_offset(), parts[0].dtype.str, shape)
        frames = arrays["frames"]
        shape = (sum(len(part) for part in frames), *frames[0].shape[1:])
        start = _set_aside(file, "frames", shape, frames[0].dtype)
        located["frames"] = Located(name, start, frames[0].dtype.str, shape)
        file.close()
        # What lies before the place set aside, the frames as they are in memory, and what lies after it.
        image.seek(0)
        head = image.read(start)
        image.seek(start + sum(part.nbytes for part in frames))
        tail = image.read()
    return {"": chain([head.ljust(start, b"\0")], buffers(frames), [tail])}, located


def _set_aside(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Make a contiguous dataset whose space is allocated and left as it is; returns the space's offset in the file."""
    import h5py

    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)  # equal items give equal bytes, whenever they are written
    type_, space = h5py.h5t.py_create(dtype, logical=True), h5py.h5s.create_simple(shape)
    return int(h5py.h5d.create(file.id, name.encode(), type_, space, properties).get_offset())


def read_rows(objects: Objects, shard: str, rows: Sequence[int]) -> npt.NDArray[Any]:
    """Rows of `frames` as stock h5py reads them, (len(rows), D)."""
    import h5py

    source: Any = objects.local(shard) or io.BytesIO(objects.get(shard))
    with h5py.File(source, "r") as file:
        frames = file["frames"]
        return np.stack([frames[row] for row in rows])


def told(shard: str, data: Mapping[str, bytes]) -> tuple[list[str], npt.NDArray[Any], dict[str, Located]]:
    """(ids, offsets, where each array lies) as the shard itself says; see `shard_zarr.told`."""
    import h5py

    with h5py.File(io.BytesIO(data[shard]), "r") as file:
        count = len(file["ids"])
        if count > len(data[shard]) // 8 or file["offsets"].shape != (count + 1,):
            raise ValueError(f"{count} ids, offsets of shape {file['offsets'].shape}")
        ids, offsets = file["ids"].asstr()[:].tolist(), file["offsets"][:]
        found: list[Any] = [file[name] for name in file if name not in ("ids", "offsets", "aux")]
        found += [file["aux"][name] for name in file.get("aux", ())]
        arrays = {one.name[1:]: Located(shard, one.id.get_offset(), one.dtype.str, one.shape) for one in found}
    return ids, offsets, arrays
