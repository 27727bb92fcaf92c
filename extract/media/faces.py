"""The one face that a clip is about: chosen in every picture, followed over time, cut out."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...cache import InputFailure
from .detectors import FaceDetector, Faces, Picture
from .video import Frame

Boxes = npt.NDArray[np.float32]

POLICY = {
    "version": 1,
    "choice": "most overlap with the last, else the largest",
    "smoothing": "centred median of 5 detections",
    "not_found": "last box, before the first the central square",
}
"""The rule by which one box a picture comes of what a detector finds; part of the recipe of every encoder of faces."""

_HALF = 2  # detections on either side that the median takes in


@dataclass(frozen=True, eq=False)
class FaceVideo:
    """The pictures of a clip and the face in each. Only times and boxes are kept in memory.

    Attributes:
        times: (T, 2) float64, start and end of every frame in seconds from the utterance's start.
        boxes: (T, 4) float32: left, top, right, bottom in pixels, smoothed; the fall-back where no face was found.
        found: (T,) bool, whether a face was detected in that very frame.
        frames: decodes the T images again, in order, (H, W, 3) uint8 RGB.
    """

    times: npt.NDArray[np.float64]
    boxes: Boxes
    found: npt.NDArray[np.bool_]
    frames: Callable[[], Iterator[Picture]]


def track_faces(frames: Callable[[], Iterator[Frame]], detector: FaceDetector) -> FaceVideo:
    """Find one face in every frame, in one pass that keeps no picture.

    Of several faces, the one that overlaps the last chosen box most (intersection over union) is taken, and where none
    overlaps it, the largest; of equally large ones that with the higher score, then the one further left, then up.

    Each detected box is then replaced by the median, coordinate by coordinate, of the five detections around it, fewer
    at either end, always as many before as after. Frames without a detection keep the last box; those before the first
    detection get the largest central square.

    Args:
        frames: gives the frames, the same every time it is called.
        detector: finds faces.

    Returns:
        The box of every frame, and in which of them a face was found.

    Raises:
        InputFailure: there are no frames, or no face in any; or as `frames` raises.
    """
    times: list[tuple[float, float]] = []
    squares: list[tuple[float, ...]] = []
    found: list[bool] = []
    chosen: list[Boxes] = []
    for frame in frames():
        faces = detector.detect(frame.image)
        if len(faces):
            chosen.append(_choose(faces, chosen[-1] if chosen else None))
        found.append(len(faces) > 0)
        times.append((frame.start, frame.end))
        squares.append(_central_square(frame.image))
    if not times:
        raise InputFailure("no_frames", "the video has 0 frames")
    if not chosen:
        raise InputFailure("no_face", f"no face was found in any of {len(times)} frames")
    last = np.cumsum(found) - 1  # the number of the detection that each frame goes by, -1 before the first
    boxes = np.where(last[:, None] < 0, np.array(squares, np.float32), _smooth(np.stack(chosen))[last])
    return FaceVideo(np.array(times, np.float64), boxes, np.array(found), lambda: (f.image for f in frames()))


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
    columns = np.arange(math.floor(x), math.ceil(x + side))
    rows = np.arange(math.floor(y), math.ceil(y + side))
    patch = image[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    # The square need not lie on whole pixels; Pillow takes its edges as fractions, within the patch.
    x, y = x - columns[0], y - rows[0]
    inside = (x, y, min(x + side, len(columns)), min(y + side, len(rows)))
    return np.array(Image.fromarray(patch).resize((size, size), Image.Resampling.BILINEAR, box=inside))


def _choose(faces: Faces, last: Boxes | None) -> Boxes:
    boxes, scores = faces[:, :4], faces[:, 4]
    # np.lexsort's last key counts most.
    order = np.lexsort((boxes[:, 1], boxes[:, 0], -scores, -_area(boxes)))
    boxes = boxes[order]
    if last is None:
        return np.asarray(boxes[0])
    shared = _area(np.hstack([np.maximum(boxes[:, :2], last[:2]), np.minimum(boxes[:, 2:], last[2:])]))
    together = np.maximum(_area(boxes) + _area(last[None]) - shared, 1e-9)
    return np.asarray(boxes[np.argmax(shared / together)])


def _area(boxes: Boxes) -> npt.NDArray[np.float32]:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def _central_square(image: Picture) -> tuple[float, ...]:
    height, width = image.shape[:2]
    side = min(height, width)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def _smooth(boxes: Boxes) -> Boxes:
    """(N, 4): the median of each detection and its neighbours."""
    smoothed = np.empty_like(boxes)
    for i in range(len(boxes)):
        half = min(_HALF, i, len(boxes) - 1 - i)
        smoothed[i] = np.median(boxes[i - half : i + half + 1], axis=0)
    return smoothed
