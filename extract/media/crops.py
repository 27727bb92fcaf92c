"""Faces cut out of pictures: squares, and those that are kept of a clip while its pictures go by."""

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .detectors import Picture
from .tracks import Boxes

Cut = Callable[[Picture, Boxes], npt.NDArray[Any]]
"""Cuts a face out of a picture, by its box, as an encoder takes it; told from others by == and hash()."""

_WAITING = 128  # pictures kept until their boxes are certain


class Room:
    """Bytes that all clips under way may keep together; safe to use from several threads.

    Args:
        size: in bytes.
    """

    def __init__(self, size: float) -> None:
        self._left = size
        self._given: deque[int] = deque()
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """The bytes that nobody has taken."""
        with self._lock:
            return self._counted()

    def take(self, size: int) -> bool:
        """Take so many bytes; False where that is more than there are."""
        with self._lock:
            if size > self._counted():
                return False
            self._left -= size
        return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        # Without the lock: a finalizer calls this, in the middle of whatever its thread is at.
        self._given.append(size)

    def _counted(self) -> float:
        while self._given:
            self._left += self._given.popleft()
        return self._left


class Crops:
    """The crops of a clip, and the pictures whose boxes are not certain yet."""

    def __init__(self, cuts: Sequence[Cut], room: Room) -> None:
        self.kept: dict[Cut, list[npt.NDArray[Any]]] = {cut: [] for cut in cuts}
        self._room = room
        self._taken = 0
        self._waiting: deque[Picture] = deque()

    def wait(self, image: Picture) -> None:
        """Keep a picture until its box is known."""
        if self.kept:
            self._waiting.append(image)
            self._check(self._take(image.nbytes) and len(self._waiting) <= _WAITING)

    def cut(self, box: Boxes) -> None:
        """Cut the face out of the oldest picture."""
        if self.kept:
            image = self._waiting.popleft()
            made = {cut: cut(image, box) for cut in self.kept}
            self._give(image.nbytes)
            for cut, crop in made.items():
                self.kept[cut].append(crop)
            self._check(self._take(sum(crop.nbytes for crop in made.values())))

    def keep(self, owner: object) -> None:
        """Leave the room taken for as long as the owner is there."""
        weakref.finalize(owner, self._room.give, self._taken).atexit = False
        self._taken = 0

    def close(self) -> None:
        """Give back what no video keeps."""
        self._give(self._taken)

    def _check(self, fits: bool) -> None:
        if not fits:
            self.kept.clear()
            self._waiting.clear()
            self._give(self._taken)

    def _take(self, size: int) -> bool:
        taken = self._room.take(size)
        self._taken += size if taken else 0
        return taken

    def _give(self, size: int) -> None:
        self._room.give(size)
        self._taken -= size


@dataclass(frozen=True)
class Square:
    """Cuts faces out square, see `crop_face`.

    Attributes:
        margin: around the box on every side, as a fraction of its longer side.
        size: of the result, in pixels; None for as large as it is in the picture.
    """

    margin: float
    size: int | None = None

    def __call__(self, image: Picture, box: Boxes) -> Picture:
        """Cut out the face in a box."""
        size = self.size
        if size is None:
            left, top, right, bottom = (float(edge) for edge in box)
            side = max(right - left, bottom - top, 1.0) * (1 + 2 * self.margin)
            size = round(min(side, 2.0 * max(image.shape[:2])))
        return crop_face(image, box, size, self.margin)


def crop_face(image: Picture, box: Boxes, size: int, margin: float) -> Picture:
    """Cut out a square around a box and stretch it.

    The square has the box's centre and a side of its longer side times 1 + 2 margin. Where it leaves the picture, the
    border's pixels are repeated. Pillow's bilinear filter stretches it, which takes means where it shrinks.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) left, top, right, bottom in pixels.
        size: of the result, in pixels.
        margin: around the box on every side, as a fraction of its longer side.

    Returns:
        (size, size, 3) uint8.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = (float(edge) for edge in box)
    side = max(right - left, bottom - top, 1.0) * (1 + 2 * margin)
    side = min(side, 2.0 * max(width, height))  # of a broken box; bounds memory
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    (x0, x1), (y0, y1) = (math.floor(x), math.ceil(x + side)), (math.floor(y), math.ceil(y + side))
    patch = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    if not patch.size:
        rows, columns = np.clip(np.arange(y0, y1), 0, height - 1), np.clip(np.arange(x0, x1), 0, width - 1)
        patch = image[rows[:, None], columns]
    elif patch.shape[:2] != (y1 - y0, x1 - x0):
        above, before = max(-y0, 0), max(-x0, 0)
        below, behind = y1 - y0 - above - patch.shape[0], x1 - x0 - before - patch.shape[1]
        patch = np.pad(patch, ((above, below), (before, behind), (0, 0)), mode="edge")
    # The square need not lie on whole pixels; Pillow takes its edges as fractions, within the patch.
    x, y = x - x0, y - y0
    inside = (x, y, min(x + side, x1 - x0), min(y + side, y1 - y0))
    return np.array(Image.fromarray(patch).resize((size, size), Image.Resampling.BILINEAR, box=inside))
