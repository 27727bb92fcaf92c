"""crc32c (Castagnoli) of arrays, without copying them."""

from collections.abc import Iterable
from typing import Any

import crc32c as library
import numpy.typing as npt

from .spill import blocks


def crc32c(parts: Iterable[npt.NDArray[Any]]) -> int:
    """Over the bytes of C-contiguous arrays, one after the other."""
    crc = 0
    for part in parts:
        for block in blocks(part):
            crc = library.crc32c(block.data, crc)  # outside Python's lock, so that other threads go on
    return crc
