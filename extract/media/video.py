"""Video files to pictures with the times they are shown, on the time line that the sound of the file is on."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import InputFailure
from .decoders import Doubtful, open_container
from .display import display_matrix, square_width
from .lengths import Source
from .reel import INSTANT, Misled, Reel

Region = tuple[float, float, float, float]
"""Left, top, right and bottom as fractions of a picture, each 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        start: seconds from the utterance's start, by presentation time stamp. Below 0 for a picture that was already
            shown when the utterance starts.
        end: when the next picture of the file takes its place, whether that one is sampled or not.
    """

    image: npt.NDArray[np.uint8]
    start: float
    end: float


def video_recipe(fps: float | None) -> dict[str, Any]:
    """Return what `decode_video` adds to the recipe of every encoder that sees video."""
    return {
        "pictures": "RGB, 8 bit, upright, by swscale",
        "picture_times": "presentation time stamps",
        "fps": fps if fps is None else float(fps),
    }


def decode_video(
    path: Path | str,
    start: float | None = None,
    end: float | None = None,
    *,
    region: Region | None = None,
    fps: float | None = None,
) -> Iterator[Frame]:
    """The pictures of one utterance, decoded one by one as they are asked for.

    A picture is shown from its presentation time stamp, counted from the start of the container, until that of the
    next one; the last for its own duration, or the median of the intervals before it where it has none. Those shown
    at any time within the segment are given. Two things in the stamps are put right: a picture without one follows
    its predecessor by that one's duration, or by the track's average interval; one that is not later than its
    predecessor is left out.

    With `fps`, the pictures that are shown at k / fps seconds after the utterance's start, k = 0, 1, ..., each once;
    the first one stands for points before it, too. Pictures are as the file asks for them to be shown: turned by
    quarters, mirrored, and of square pixels, for which their width is changed.

    Args:
        path: a media file.
        start: seconds into the media; None for its beginning.
        end: seconds into the media; None for its end. It may lie up to 0.5 s behind the last picture.
        region: the part wanted of the picture as it is shown; None for all of it.
        fps: pictures a second at most, in Hz; None for all there are.

    Yields:
        Frames in order of time, at least one.

    Raises:
        InputFailure: the file or the segment is empty, has no video track, is not decodable, ends too early, or
            exceeds `reel.MAX_PIXELS`, `reel.MAX_PICTURES` or `reel.MAX_SECONDS`.
        EmocacheError: PyAV is not installed.
        MissingCodecError: PyAV was built without the codec.
        OSError: the file cannot be read.
        MemoryError: there is too little memory.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise InputFailure("empty", f"{path.name} has 0 bytes")
    wanted = _Wanted(start or 0.0, math.inf if end is None else end, region, fps)
    source: Source = str(path)
    seek = bool(start)
    given = 0
    while True:
        try:
            for frame in islice(_decode(source, path.name, wanted, seek), given, None):
                yield frame
                given += 1
            return
        except Misled:
            seek = False
        except Doubtful:
            if isinstance(source, io.BytesIO):
                raise
            # As in media.decode_audio: what still fails when decoded from memory lies in the input.
            source, seek = io.BytesIO(path.read_bytes()), False


@dataclass(frozen=True, slots=True)
class _Wanted:
    start: float
    end: float  # infinite for the media's end
    region: Region | None
    fps: float | None


def _decode(source: Source, name: str, wanted: _Wanted, seek: bool) -> Iterator[Frame]:
    start, end = wanted.start, wanted.end
    grid = _Grid(wanted.fps, end - start)
    empty = True
    with open_container(source, name) as container:
        reel = Reel(container, name, start, end)
        for picture, begins, ends in reel.pictures(seek):
            if max(begins, start) > end - INSTANT:
                break
            if ends > start + INSTANT and grid.takes(ends - start):
                empty = False
                yield Frame(_image(picture, reel.pixel_shape, wanted.region), begins - start, ends - start)
        else:
            reel.check_length()
    if empty:
        stop = "its end" if math.isinf(end) else f"{end:g} s"
        raise Doubtful("empty", f"{name} from {start:g} s to {stop} holds no pictures")


class _Grid:
    """Picks at most so many pictures a second: those shown at the points k / fps within the segment."""

    def __init__(self, fps: float | None, length: float) -> None:
        self._fps = fps
        self._length = length
        self._next = 0  # k of the first point that no picture stands for

    def takes(self, end: float) -> bool:
        """Tell whether to take the next picture, which is shown until `end` seconds."""
        if self._fps is None:
            return True
        following = math.ceil((end - INSTANT) * self._fps)
        if following <= self._next or self._next / self._fps > self._length - INSTANT:
            return False
        self._next = following
        return True


def _image(picture: Any, shape: Fraction, region: Region | None) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB, as it is to be shown, cut to the region."""
    if (width := square_width(picture.width, picture.height, shape)) != picture.width:
        picture = picture.reformat(width=width, format="rgb24", interpolation="BICUBIC")
    image = display_matrix(picture).applied_to(picture.to_ndarray(format="rgb24"))
    if region is not None:
        height, width = image.shape[:2]
        left, top = min(round(region[0] * width), width - 1), min(round(region[1] * height), height - 1)
        right, bottom = max(round(region[2] * width), left + 1), max(round(region[3] * height), top + 1)
        image = image[top:bottom, left:right]
    return np.ascontiguousarray(image)
