"""Shards as Zarr v3 groups whose arrays lie flat in one object each.

An array is written with the sharding codec, without compression, in inner chunks of full width. Their concatenation in
order is then the flat array itself, followed by padding to a whole chunk and by the codec's index (zarr specification
v3, "sharding_indexed": offset and size of each chunk as little-endian uint64, then a crc32c). So any Zarr reader opens
it, a local reader maps it, and a remote one asks for ranges.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt

from .commit import Located
from .objects import Buffer, Objects
from .remote import RemoteObjects
from .spill import buffers

Parts = Sequence[npt.NDArray[Any]]
SUFFIX = ".zarr"
_CHUNK_BYTES = 1 << 20


def build(
    name: str, ids: Sequence[str], arrays: Mapping[str, Parts]
) -> tuple[dict[str, Iterable[Buffer]], dict[str, Located]]:
    """The files of a shard and where each array lies in them.

    Args:
        name: path of the shard below the stream's folder.
        ids: utterance ids, stored as the group's attribute `ids`.
        arrays: {name: parts}, each the concatenation of its parts on axis 0; parts are C-contiguous, little-endian.

    Returns:
        ({path below the shard: buffers, to be gone over once}, {array: Located}); no array is copied.
    """
    files: dict[str, Iterable[Buffer]] = {}
    located: dict[str, Located] = {}
    shapes: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for array, parts in arrays.items():
        rows = sum(len(part) for part in parts)
        tail, dtype = parts[0].shape[1:], parts[0].dtype
        row_bytes = int(dtype.itemsize * np.prod(tail, dtype=np.int64))
        chunk = min(rows, max(1, _CHUNK_BYTES // row_bytes))
        path = "/".join([array, "c", *"0" * (1 + len(tail))])
        files[path] = chain(buffers(parts), _padding_and_index(rows, chunk, row_bytes))
        located[array] = Located(f"{name}/{path}", 0, dtype.str, (rows, *tail))
        shapes[array] = (dtype.str, (rows, *tail), chunk)
    files.update({path: [data] for path, data in _metadata(ids, shapes).items()})
    return files, located


def read_rows(objects: Objects, shard: str, rows: Sequence[int]) -> npt.NDArray[Any]:
    """Rows of `frames` as stock zarr-python reads them, (len(rows), D)."""
    import zarr
    from zarr.storage import LocalStore, ObjectStore

    if isinstance(objects, RemoteObjects):
        store: Any = ObjectStore(objects.store, read_only=True)
        path = f"{objects.prefix}/{shard}/frames".lstrip("/")
    else:
        store, path = LocalStore(objects.local(shard) or shard, read_only=True), "frames"
    frames: Any = zarr.open_array(store, path=path, mode="r")
    return np.asarray(frames.oindex[list(rows)])


def told(shard: str, data: Mapping[str, bytes]) -> tuple[list[str], npt.NDArray[Any], dict[str, Located]]:
    """Read from a shard what it says of itself.

    Args:
        shard: its path.
        data: {path: bytes} of its objects.

    Returns:
        ids; offsets, (N + 1,) rows at which the items begin; {array: where it lies}.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not such a shard.
    """
    ids = [str(one) for one in json.loads(data[f"{shard}/zarr.json"])["attributes"]["ids"]]
    arrays = {}
    for path in data:
        array = path.removeprefix(f"{shard}/").removesuffix("/zarr.json")
        document = json.loads(data[path]) if path.endswith("/zarr.json") else {}
        if document.get("node_type") == "array":
            shape = tuple(document["shape"])
            held = "/".join([shard, array, "c", *"0" * len(shape)])
            arrays[array] = Located(held, 0, np.dtype(document["data_type"]).newbyteorder("<").str, shape)
    offsets = np.frombuffer(data[arrays.pop("offsets").object], "<i8", len(ids) + 1)
    return ids, offsets, arrays


def _padding_and_index(rows: int, chunk: int, row_bytes: int) -> list[Buffer]:
    count = -(-rows // chunk)
    size = chunk * row_bytes
    index = b"".join(struct.pack("<QQ", i * size, size) for i in range(count))
    return [bytes((count * chunk - rows) * row_bytes), index + struct.pack("<I", crc32c.crc32c(index))]


def _metadata(ids: Sequence[str], shapes: Mapping[str, tuple[str, tuple[int, ...], int]]) -> dict[str, bytes]:
    """The zarr.json documents, as zarr-python itself writes them."""
    import zarr
    from zarr.storage import MemoryStore

    store = MemoryStore()
    group = zarr.create_group(store, attributes={"ids": list(ids)})
    for array, (dtype, shape, chunk) in shapes.items():
        whole = -(-shape[0] // chunk) * chunk
        group.create_array(
            array, shape=shape, dtype=dtype, chunks=(chunk, *shape[1:]), shards=(whole, *shape[1:]),
            compressors=None, filters=None, fill_value=0, config={"write_empty_chunks": True},
        )  # fmt: skip
    return {path: value.to_bytes() for path, value in store._store_dict.items()}
