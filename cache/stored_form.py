"""Items in the form in which they are stored: checked against the recipe, cast, and with a checksum."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .crc import crc32c
from .errors import InputFailure
from .recipe import Recipe
from .spill import blocks, by_blocks

_MAX_FRAME_BYTES = 1 << 24
_NOT_FINITE = "the encoder's output holds NaN or infinity; try --precision float32"


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """The result of an encoder for one utterance.

    Attributes:
        frames: (T, D) floating point, T >= 1.
        times: (T, 2) float64, start and end of every frame in seconds from the utterance's start; None if the recipe
            says they are regular. A frame without a place in time, such as a special token, has NaN for both.
        aux: {name: (T, ...)}, exactly the arrays the recipe declares.
    """

    frames: npt.NDArray[Any]
    times: npt.NDArray[np.float64] | None = None
    aux: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def to_storage(item: Item, recipe: Recipe) -> Item:
    """Bring an item into the form in which it is stored; `check_values` looks at what it holds.

    Args:
        item: what the encoder gave.
        recipe: of the stream.

    Returns:
        the item as it is stored: little-endian, C-contiguous, in the recipe's dtypes.

    Raises:
        InputFailure: no frame.
        ValueError: shapes that contradict the recipe (a bug in the encoder).
    """
    frames = np.asarray(item.frames)
    if len(frames) == 0:
        raise InputFailure("no_frames", "the encoder gave no frame; is the clip long enough?")
    if frames.ndim != 2 or frames.shape[1] != recipe["dim"] or frames.shape[1] * 8 > _MAX_FRAME_BYTES:
        raise ValueError(f"frames of shape {frames.shape}, the recipe says (T, {recipe['dim']})")
    with np.errstate(over="ignore"):
        dtype = np.dtype(recipe["dtype"]).newbyteorder("<")
        whole = frames.dtype == dtype and frames.flags.c_contiguous
        cast = frames if whole else by_blocks(lambda block: np.ascontiguousarray(block, dtype), frames)
    if (item.times is None) != (recipe["times"] is not None) or set(item.aux) != set(recipe["aux"]):
        raise ValueError(f"times or aux arrays {sorted(item.aux)} are not those of the recipe")
    times = None
    if item.times is not None:
        times = np.ascontiguousarray(item.times, "<f8")
        if times.shape != (len(frames), 2) or not np.isfinite(times[~np.isnan(times).all(axis=1)]).all():
            raise ValueError(f"times of shape {times.shape} for {len(frames)} frames, or not finite")
    aux = {}
    for name, declared in sorted(recipe["aux"].items()):
        with np.errstate(over="ignore", invalid="ignore"):
            aux[name] = np.ascontiguousarray(item.aux[name], np.dtype(declared["dtype"]).newbyteorder("<"))
        if aux[name].shape != (len(frames), *declared["shape"]):
            raise ValueError(f"aux array {name!r} of shape {aux[name].shape} for {len(frames)} frames")
        if not np.allclose(aux[name], item.aux[name], rtol=1e-2, atol=1e-2, equal_nan=True):
            raise ValueError(f"aux array {name!r} holds values that {declared['dtype']} cannot")
    return Item(cast, times, aux)


def check_values(stored: Item, item: Item) -> None:
    """Compare an item's frames as they are stored with those that the encoder gave.

    Raises:
        InputFailure: a value is not finite, or overflows the storage dtype.
    """
    # The stored ones are tested first: they are the smaller, and almost always right.
    if all(_all_finite(block) for block in blocks(stored.frames)):
        return
    frames = np.asarray(item.frames)
    if not all(np.isfinite(block).all() for block in blocks(frames)):
        raise InputFailure("not_finite", _NOT_FINITE)
    top = max(float(np.abs(block).max()) for block in blocks(frames))
    dtype = stored.frames.dtype.name
    raise InputFailure("overflow", f"a value of {top:.6g} does not fit {dtype}; extract with --dtype float32")


def finite_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row of a table itself. Raises InputFailure where a number in it is not finite."""
    values: list[Any] = [row]
    while values:
        value = values.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise InputFailure("not_finite", _NOT_FINITE)
        if isinstance(value, Mapping):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value
    return row


def _all_finite(frames: npt.NDArray[Any]) -> bool:
    if frames.dtype.itemsize != 2:
        return bool(np.isfinite(frames).all())
    # NumPy tests float16 one by one. Read as integers, infinity and NaN are the largest positive values, and with the
    # sign bit the largest of all: two reductions, many times faster and without a temporary.
    return bool(frames.view(np.int16).max() < 0x7C00 and frames.view(np.uint16).max() < 0xFC00)


def checksum(item: Item) -> int:
    """Return the crc32c over the bytes of frames, times and aux arrays (sorted by name), in this order."""
    times = [] if item.times is None else [item.times]
    return crc32c([item.frames, *times, *(item.aux[name] for name in sorted(item.aux))])
