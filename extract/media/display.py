"""The way a file asks for its pictures to be shown: mirrored, turned by quarters, with pixels that are not square."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import InputFailure

MAX_PIXELS = 4096 * 4096
"""Of one picture."""
_NEARLY = Fraction(1, 100)  # pixels this near to squares are taken as such: scaling rounds, and tells by how much


@dataclass(frozen=True, slots=True)
class Display:
    """The way pixels go: x' = a x + c y and y' = b x + d y, y pointing down. Only the signs and the axes count."""

    a: int = 1
    b: int = 0
    c: int = 0
    d: int = 1

    @property
    def mirrored(self) -> bool:
        """True where left and right change places, whatever turn goes with it."""
        return self.a * self.d - self.b * self.c < 0

    def applied_to(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) as it is to be shown; angles between quarter turns go to the nearest."""
        if abs(self.a) + abs(self.d) >= abs(self.b) + abs(self.c):
            across, down = self.a, self.d
        else:
            image = image.swapaxes(0, 1)
            across, down = self.c, self.b
        return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def display_matrix(picture: Any) -> Display:
    """The way that a decoded picture itself asks to be shown."""
    return next((Display(*_corner(bytes(data))) for data in _matrices(picture.side_data)), Display())


def _matrices(side_data: Iterable[Any]) -> Iterable[Any]:
    return (data for data in side_data if data.type.name == "DISPLAYMATRIX" and len(bytes(data)) == 36)


def _corner(matrix: bytes) -> tuple[int, int, int, int]:
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    return a, b, c, d


def pixel_shape(track: Any) -> Fraction:
    """Width by height of a track's pixels: the container's word before the codec's; 1 without either, or near it."""
    shape = Fraction(track.sample_aspect_ratio or 1)
    return shape if shape > 0 and abs(shape - 1) > _NEARLY else Fraction(1)


def square_width(width: int, height: int, shape: Fraction) -> int:
    """Compute the width that makes the pixels square.

    Args:
        width: pixels.
        height: pixels.
        shape: width of a pixel by its height.

    Returns:
        Pixels.

    Raises:
        InputFailure: the picture would be too large.
    """
    wide = max(round(width * shape), 1)
    if wide * height > max(MAX_PIXELS, width * height):
        raise InputFailure("undecodable", f"pixels of {shape} make a picture of {wide} x {height}; at most 4096 x 4096")
    return wide
