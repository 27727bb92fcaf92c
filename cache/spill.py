"""Arrays too large for memory: they lie in temporary files without a name, and are gone over in blocks.

Such a file is where `tempfile` puts it, in `$TMPDIR` if that is set. Nothing is left of it when the last array on it is
gone, however the process ends. Its pages are the system's to keep or to write out; `release` takes them out of the
process, so that an array of any length costs a block of memory.

Nothing here changes a number: an array of up to `LARGE` bytes is an ordinary one and is one block.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LARGE = 64 << 20
"""Bytes that an array may have in memory."""
BLOCK = 16 << 20
"""Bytes of a block of a larger one."""


class Tape:
    """Rows that come one block after the other, in memory as long as they are few.

    >>> tape = Tape()
    >>> tape.append(np.zeros((2, 3)))
    >>> tape.append(np.ones((1, 3)))
    >>> tape.whole().shape
    (3, 3)
    """

    def __init__(self) -> None:
        self._held: list[Array] = []  # in memory; once there is a file, one empty block that tells dtype and shape
        self._bytes = 0
        self._file: Any = None

    def append(self, rows: Array) -> None:
        """Take rows, (n, ...), of the same dtype and shape behind the first axis as those before.

        Raises:
            OSError: there is no room for them.
        """
        if self._held and not len(rows):
            return
        self._held.append(rows)
        self._bytes += rows.nbytes
        if self._bytes > LARGE:
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="emocache-", buffering=0)  # noqa: SIM115 - closed by `whole`
                for block in self._held:
                    view = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
                    while len(view):
                        view = view[self._file.write(view) :]
            except OSError as error:
                raise no_room(error, self._bytes) from error
            self._held = [rows[:0]]

    def whole(self) -> Array:
        """Return all rows, at least one block of them, as one array; nothing is appended afterwards."""
        if self._file is None:
            return self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
        with self._file as file:
            return _mapped(file, self._held[0].dtype, self._held[0].shape[1:])


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return an array to be filled, whose room is set aside at once.

    Args:
        shape: of the array.
        dtype: of the array.

    Returns:
        The array; what is filled may be given back by `release`.

    Raises:
        OSError: there is no room for it.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGE:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="emocache-", buffering=0) as file:
            # Without it a full disk would be found by a write to the map, which kills the process.
            os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
            return _mapped(file, np.dtype(dtype), shape[1:])
    except OSError as error:
        raise no_room(error, size) from error


def blocks(array: Array) -> Iterator[Array]:
    """Go over an array in views of consecutive rows; what has been passed is given back.

    Args:
        array: any.

    Yields:
        The array itself if it is not large, else about `BLOCK` bytes of it, a power of two of rows.
    """
    if array.nbytes <= LARGE:
        yield array
        return
    count = 1 << max(0, (BLOCK * len(array) // array.nbytes).bit_length() - 1)
    for first in range(0, len(array), count):
        yield array[first : first + count]
        # All of it so far: another thread may have come after this one, and brought pages back.
        release(array[: first + count])


def buffers(arrays: Iterable[Array]) -> Iterator[memoryview]:
    """Go over the bytes of C-contiguous arrays, of a large one in `blocks`."""
    return (block.data for array in arrays for block in blocks(array))


def by_blocks(function: Callable[[Array], Array], array: Array) -> Array:
    """Apply a function whose rows do not depend on each other: what it gives for an array, block by block.

    Args:
        function: (n, ...) to (n, ...).
        array: of at least one row, or not large.

    Returns:
        Its value.

    Raises:
        OSError: there is no room for it.
    """
    if array.nbytes <= LARGE:
        return function(array)
    tape = Tape()
    for block in blocks(array):
        tape.append(function(block))
    return tape.whole()


def release(array: Array) -> None:
    """Take the pages of a map out of the process; they come back when they are read again. Other arrays stay."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        if isinstance(base, np.memmap):  # which may be private, and then forgets what was written
            return
        base = base.base
    mapping = base.obj if isinstance(base, memoryview) else base
    if array.size and isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        origin = np.frombuffer(mapping, np.uint8).ctypes.data
        low, high = (bound - origin for bound in np.lib.array_utils.byte_bounds(array))
        low -= low % mmap.PAGESIZE
        mapping.madvise(mmap.MADV_DONTNEED, low, high - low)


def no_room(error: OSError, size: int) -> OSError:
    """Return the error that says what there was no room for, and the remedy."""
    return OSError(
        error.errno,
        f"{error.strerror or error}: {size / 1e6:.0f} MB of a long recording found no room in {tempfile.gettempdir()};"
        " free some, or name a folder with more by TMPDIR",
    )


def _mapped(file: Any, dtype: np.dtype[Any], tail: tuple[int, ...]) -> Array:
    """Map a file that others cannot see; it outlives the file's descriptor."""
    return np.frombuffer(mmap.mmap(file.fileno(), 0), dtype).reshape(-1, *tail)
