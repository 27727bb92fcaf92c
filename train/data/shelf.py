"""Files of frames that several processes map, so that memory holds them once."""

import contextlib
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class Shelf:
    """A folder with a file for each array that was put there.

    Args:
        folder: exists, and goes with everything in it when its owner is done.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, Path] = {}
        self._count = 0

    def put(self, frames: npt.NDArray[Any], owner: object = None) -> Path:
        """Write an array, and return its file.

        Args:
            frames: do not change any more.
            owner: the file goes with it; None: with the array, which is written once, however often it is put there.

        Raises:
            OSError: the file cannot be written.
        """
        if owner is None and id(frames) in self._known:
            return self._known[id(frames)]
        path = self._folder / f"{self._count}.npy"
        self._count += 1
        np.save(path, frames)
        if owner is None:
            self._known[id(frames)] = path
            weakref.finalize(frames, self._known.pop, id(frames)).atexit = False
        weakref.finalize(frames if owner is None else owner, _remove, path).atexit = False
        return path


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a system that keeps files which somebody maps; the folder goes later
        path.unlink()


def mapped(path: Path) -> npt.NDArray[Any]:
    """Map a file copy-on-write: writable as torch wants it, and still one copy in memory.

    It is a plain array, since a map would be taken for frames that memory has no room for.
    """
    return np.asarray(np.load(path, mmap_mode="c"))
