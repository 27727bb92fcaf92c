"""One face followed from picture to picture: its box in each, told as soon as no later picture can change it."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .detectors import Faces, Picture

Boxes = npt.NDArray[np.float32]

POLICY: dict[str, Any] = {
    "version": 1,
    "choice": "most overlap with the last, else the largest",
    "smoothing": "centred median of 5 detections",
    "not_found": "last box, before the first the central square",
}
"""The rule by which one box a picture comes of what a detector finds; part of the recipe of every encoder of faces."""


def policy(every: int = 1) -> dict[str, Any]:
    """Return the rule where faces are looked for in every N-th picture: what is in the recipe."""
    return POLICY if every == 1 else {**POLICY, "detect_every": every, "between": "linear between smoothed detections"}


_HALF = 2  # detections on either side that the median takes in


class Track:
    """The face of a clip, as far as its pictures have come.

    Of several faces, the one that overlaps the last chosen box most (intersection over union) is taken, and where none
    overlaps it, the largest; of equally large ones that with the higher score, then the one further left, then up.

    Each detected box is then replaced by the median, coordinate by coordinate, of the five detections around it, fewer
    at either end, always as many before as after. Pictures without a detection keep the last box; those before the
    first detection get the largest central square.

    Where faces are looked for in every N-th picture only, the boxes of the pictures between two detections move evenly
    from one smoothed box to the other, and count as found; where only one of two pictures looked at shows a face, those
    between them keep the last box, and do not count.

    Attributes:
        detections: so far.

    Args:
        every: N.
    """

    def __init__(self, every: int = 1) -> None:
        self._every = every
        self._chosen: list[Boxes] = []
        self._smoothed: list[Boxes] = []
        self._hits: list[bool] = []  # of the pictures that were looked at
        self._count = 0
        # Of each picture without a box yet: its number, that of the last detection, the central square.
        self._waiting: deque[tuple[int, int, Boxes]] = deque()

    @property
    def detections(self) -> int:
        """The detections so far."""
        return len(self._chosen)

    def add(self, image: Picture, faces: Faces | None) -> None:
        """Take in the next picture, with the faces in it; None where it is not looked at."""
        if faces is not None:
            self._hits.append(len(faces) > 0)
            if len(faces):
                self._chosen.append(_choose(faces, self._chosen[-1] if self._chosen else None))
        self._waiting.append((self._count, len(self._chosen) - 1, _central_square(image)))
        self._count += 1

    def boxes(self, whole: bool = False) -> Iterator[tuple[Boxes, bool]]:
        """Yield the boxes of the next pictures that have not been told yet, up to the first that may still change.

        Args:
            whole: there are no more pictures, so nothing changes any more.

        Yields:
            The box, and whether a face was found there.
        """
        while self._waiting:
            number, detection, box = self._waiting[0]
            look, after = divmod(number, self._every)
            following = self._hits[look + 1] if look + 1 < len(self._hits) else None
            if after and following is None and not whole:
                return
            moves = bool(after and self._hits[look] and following)
            if detection >= 0:
                if not self._smooth(detection + moves, whole):
                    return
                box = self._smoothed[detection]
                if moves:
                    box = box + (self._smoothed[detection + 1] - box) * np.float32(after / self._every)
            self._waiting.popleft()
            yield box, self._hits[look] and (not after or following is not False)

    def _smooth(self, detection: int, whole: bool) -> bool:
        """Smooth the detections up to this one; False if it takes later ones."""
        for i in range(len(self._smoothed), detection + 1):
            half = min(_HALF, i)
            if whole:
                half = min(half, len(self._chosen) - 1 - i)
            elif i + half >= len(self._chosen):
                return False
            self._smoothed.append(np.median(self._chosen[i - half : i + half + 1], axis=0).astype(np.float32))
        return True


def _choose(faces: Faces, last: Boxes | None) -> Boxes:
    boxes, scores = faces[:, :4], faces[:, 4]
    # np.lexsort's last key counts most.
    order = np.lexsort((boxes[:, 1], boxes[:, 0], -scores, -_area(boxes)))
    boxes = boxes[order]
    return np.asarray(boxes[0] if last is None else boxes[np.argmax(overlap(boxes, last[None]))])


def overlap(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of (N, 4) boxes with as many others, or with one."""
    shared = _area(np.hstack([np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])]))
    together = np.maximum(_area(boxes) + _area(others) - shared, 1e-9)
    return np.asarray(shared / together)


def _area(boxes: Boxes) -> npt.NDArray[np.float32]:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def _central_square(image: Picture) -> Boxes:
    height, width = image.shape[:2]
    side = min(height, width)
    return np.array([(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2], np.float32)
