"""The memory that frames may take: what finds no room lies in files that are mapped, with the same numbers."""

import os
import sys
import tempfile
import weakref
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from ...cache.telling import warn

_SHARE = 0.9  # of the machine's memory
_WAITS = 0.13  # of an epoch's time: one that waits for more takes over 1.15 times as long as from memory


class Memory:
    """Room for the frames of datasets, and for what is made of them.

    Args:
        limit: bytes; None: nine tenths of what the machine has.
        folder: for files of what finds no room, whose name is gone at once, so that nobody need remove them; where it
            does not exist yet, in the nearest folder above it. None: the system's for temporary files.

    Attributes:
        read: {what decides the frames of a stream: its features}, as long as one of the datasets holds them.
    """

    def __init__(self, limit: int | None = None, folder: Path | None = None) -> None:
        self.limit = _machine() if limit is None else limit
        self.folder = folder
        self.read: MutableMapping[bytes, Any] = weakref.WeakValueDictionary()
        self._held = 0
        self._told = self._told_fetched = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.limit, self.folder)

    @property
    def free(self) -> int:
        """Bytes that nothing holds."""
        return self.limit - self._held

    def shared(self, processes: int) -> "Memory":
        """Return the share of each of several processes."""
        return Memory(self.limit // processes, self.folder)

    def hold(self, array: npt.NDArray[Any]) -> None:
        """Count an array as long as it, or a view of it, lives."""
        self._held += array.nbytes
        weakref.finalize(array, self._free, array.nbytes).atexit = False

    def _free(self, size: int) -> None:
        self._held -= size

    def stack(self, blocks: Iterable[npt.NDArray[Any]], rows: int, dim: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Put blocks of frames one below the other.

        Args:
            blocks: (n, dim) each; taken one at a time.
            rows: of all of them, at most.
            dim: their width.
            dtype: of the result.

        Returns:
            All rows: in memory, or where `rows` find no room an `np.memmap` of a file.

        Raises:
            EmocacheError: the file cannot be written.
        """
        dtype = np.dtype(dtype)
        if rows * dim * dtype.itemsize > self.free:
            return self._in_file(blocks, dim, dtype)
        whole = np.empty((rows, dim), dtype)
        self.hold(whole)
        filled = 0
        for block in blocks:
            whole[filled : filled + len(block)] = block
            filled += len(block)
        return whole[:filled]

    def _in_file(self, blocks: Iterable[npt.NDArray[Any]], dim: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        folder = self.folder and next(one for one in (self.folder, *self.folder.absolute().parents) if one.is_dir())
        filled = 0
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for block in blocks:
                    file.write(np.ascontiguousarray(block, dtype).tobytes())
                    filled += len(block)
                file.flush()
                # Copy-on-write: writable as torch wants it, and no page of it is this process's own.
                return np.memmap(file, dtype, "c", shape=(filled, dim)) if filled else np.empty((0, dim), dtype)
        except OSError as error:
            raise EmocacheError(
                f"{folder or tempfile.gettempdir()}: the frames that memory has no room for cannot be written there"
                f" ({error.strerror or error}); free some room, or give more --memory than {self.limit / 1e9:g}"
            ) from error

    def tell_fetched(self, url: str, size: int) -> None:
        """Warn, once, that so many bytes of frames are fetched in every epoch."""
        if self._told_fetched:
            return
        self._told_fetched = True
        warn(f"warning: {size / 1e9:.2g} GB of frames, more than --memory {self.limit / 1e9:g}, are fetched from {url}"
             " in every epoch; --local-copy DIR keeps them on a disk here")  # fmt: skip

    def tell_waits(self, waited: float, seconds: float) -> None:
        """Warn, once, where an epoch of some seconds has waited for frames for a good part of them."""
        if self._told or self._told_fetched or seconds < 1 or waited < _WAITS * seconds:
            return
        self._told = True
        warn(f"warning: disk-bound: {waited / seconds:.0%} of an epoch goes into waiting for frames, which the disk"
             f" gives each time; give more --memory than {self.limit / 1e9:g} if the machine has it, train on a"
             " projected stream (emocache extract ... --pca N), or put the cache on a faster disk")  # fmt: skip


def _machine() -> int:
    try:
        return int(_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows does not tell this way
        return sys.maxsize
