"""crc32c (Castagnoli) of arrays, without copying them."""

from collections.abc import Iterable
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from .spill import blocks


def crc32c(parts: Iterable[npt.NDArray[Any]]) -> int:
    """Over the bytes of C-contiguous arrays, one after the other."""
    crc = 0
    for part in parts:
        for block in blocks(part):
            # The extension takes an array as it is where it refuses a memoryview, which can be released under it.
            crc = google_crc32c.extend(crc, block.reshape(-1).view(np.uint8))
    return int(crc)
