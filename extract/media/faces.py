"""The one face that a clip is about, in every picture: found, cut out on the way, or cut out later."""

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...cache import InputFailure
from .detectors import BatchDetector, FaceDetector, Faces, Picture
from .tracks import Boxes, Track
from .video import Frame

Cut = Callable[[Picture, Boxes], npt.NDArray[Any]]
"""Cuts a face out of a picture, by its box, as an encoder takes it; told from others by == and hash()."""

_WAITING = 128  # pictures kept until their boxes are certain


@dataclass(frozen=True, eq=False)
class FaceVideo:
    """The pictures of a clip and the face in each. Only times, boxes and what was cut out are kept in memory.

    Attributes:
        times: (T, 2) float64, start and end of every frame in seconds from the utterance's start.
        boxes: (T, 4) float32: left, top, right, bottom in pixels, smoothed; the fall-back where no face was found.
        found: (T,) bool, whether a face was detected in that very frame; see `Track` for the others.
        frames: decodes the T images again, in order, (H, W, 3) uint8 RGB.
        crops: {cut: the T faces as it cuts them out}, of none where there was no room.
    """

    times: npt.NDArray[np.float64]
    boxes: Boxes
    found: npt.NDArray[np.bool_]
    frames: Callable[[], Iterator[Picture]]
    crops: Mapping[Cut, Sequence[npt.NDArray[Any]]] = field(default_factory=dict)

    def cut(self, cut: Cut, wanted: Container[int] | None = None) -> Iterator[npt.NDArray[Any]]:
        """Yield the faces as one cut out: those that were, else out of pictures that are decoded again.

        Args:
            cut: of an encoder.
            wanted: numbers of the frames; None for all.

        Raises:
            ValueError: the second decoding gives more or fewer frames than the first.
        """
        if cut in self.crops:
            yield from (crop for i, crop in enumerate(self.crops[cut]) if wanted is None or i in wanted)
            return
        for i, (image, box) in enumerate(zip(self.frames(), self.boxes, strict=True)):
            if wanted is None or i in wanted:
                yield cut(image, box)


class Room:
    """Bytes that all clips under way may keep together; safe to use from several threads.

    Args:
        size: in bytes.
    """

    def __init__(self, size: float) -> None:
        self._left = size
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """The bytes that nobody has taken."""
        return self._left

    def take(self, size: int) -> bool:
        """Take so many bytes; False where that is more than there are."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
        return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._left += size


def track_faces(
    frames: Callable[[], Iterator[Frame]],
    detector: FaceDetector,
    cuts: Sequence[Cut] = (),
    room: Room | None = None,
    every: int = 1,
) -> FaceVideo:
    """Find one face in every frame and cut it out, in one pass over the video.

    A frame's box is certain two detections later, see `Track`; until then the picture is kept.

    Args:
        frames: gives the frames, the same every time it is called.
        detector: finds faces.
        cuts: of the encoders that are to see it.
        room: for crops and the pictures that wait. A clip that finds none, or whose face stays away for long, is left
            without crops. Freed with the result. None: all that is needed.
        every: N, to look for faces in every N-th frame only; see `Track`.

    Returns:
        The box of every frame, and in which of them a face was found.

    Raises:
        InputFailure: there are no frames, or no face in any; or as `frames` raises.
    """
    times: list[tuple[float, float]] = []
    told: list[tuple[Boxes, bool]] = []
    track, crops = Track(every), _Crops(cuts, Room(math.inf) if room is None else room)

    def settle(whole: bool) -> None:
        for box, found in track.boxes(whole):
            told.append((box, found))
            crops.cut(box)

    try:
        for frame, faces in _looked_at(frames(), detector, every):
            track.add(frame.image, faces)
            times.append((frame.start, frame.end))
            crops.wait(frame.image)
            settle(whole=False)
        if not times:
            raise InputFailure("no_frames", "the video has 0 frames")
        if not track.detections:
            raise InputFailure("no_face", f"no face was found in any of {len(times)} frames")
        settle(whole=True)
        boxes, found = (np.array(column) for column in zip(*told, strict=True))
        video = FaceVideo(
            np.array(times, np.float64), boxes, found, lambda: (frame.image for frame in frames()), crops.kept
        )
        return crops.keep(video)
    finally:
        crops.close()


def _looked_at(
    frames: Iterator[Frame], detector: FaceDetector | BatchDetector, every: int
) -> Iterator[tuple[Frame, Faces | None]]:
    """Pair frames with the faces in them, None but in every N-th; as many at once as the detector is best given."""
    batch = detector.batch if hasattr(detector, "batch") else 1
    for first in count(step=batch):
        chunk = list(islice(frames, batch))
        turn = range(-first % every, len(chunk), every)
        images = [chunk[i].image for i in turn]
        if hasattr(detector, "detect_many"):
            found = detector.detect_many(images) if images else []
        else:
            found = [detector.detect(image) for image in images]
        faces = dict(zip(turn, found, strict=True))
        yield from ((frame, faces.get(i)) for i, frame in enumerate(chunk))
        if len(chunk) < batch:
            return


class _Crops:
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

    def keep(self, video: FaceVideo) -> FaceVideo:
        """Leave the room taken for as long as the video is there."""
        weakref.finalize(video, self._room.give, self._taken).atexit = False
        self._taken = 0
        return video

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
    columns = np.arange(math.floor(x), math.ceil(x + side))
    rows = np.arange(math.floor(y), math.ceil(y + side))
    patch = image[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    # The square need not lie on whole pixels; Pillow takes its edges as fractions, within the patch.
    x, y = x - columns[0], y - rows[0]
    inside = (x, y, min(x + side, len(columns)), min(y + side, len(rows)))
    return np.array(Image.fromarray(patch).resize((size, size), Image.Resampling.BILINEAR, box=inside))
