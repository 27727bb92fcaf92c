"""The one face that a clip is about, in every picture: found, cut out on the way, or cut out later."""

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import InputFailure
from .crops import Crops, Cut, Room
from .detectors import BatchDetector, FaceDetector, Faces, Picture
from .tracks import Boxes, Track
from .video import Frame


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
    track, crops = Track(every), Crops(cuts, Room(math.inf) if room is None else room)

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
        return _video(times, boxes, found, frames, crops)
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


def revisit_faces(
    frames: Callable[[], Iterator[Frame]],
    times: npt.NDArray[np.float64],
    boxes: Boxes,
    found: npt.NDArray[np.bool_],
    cuts: Sequence[Cut] = (),
    room: Room | None = None,
) -> FaceVideo:
    """Cut out the faces whose boxes are known, in one pass over the video, or in none where nothing is to be cut out.

    Args:
        frames: as `track_faces` took them. times: as it gave them. boxes: the same. found: the same.
        cuts: see `track_faces`. room: see there.

    Returns:
        The same as `track_faces`.
    """
    crops = Crops(cuts, Room(math.inf) if room is None else room)
    try:
        remaining = zip(frames(), boxes, strict=True) if cuts else iter(())
        for frame, box in remaining:
            crops.wait(frame.image)
            crops.cut(box)
            if not crops.kept:  # no room
                break
        return _video(times, boxes, found, frames, crops)
    finally:
        crops.close()


def _video(times: Any, boxes: Boxes, found: Any, frames: Callable[[], Iterator[Frame]], crops: Crops) -> FaceVideo:
    video = FaceVideo(
        np.asarray(times, np.float64), boxes, found, lambda: (frame.image for frame in frames()), crops.kept
    )
    crops.keep(video)
    return video
