"""The video track of a container: which one, its pictures on the container's time line, and whether all are there."""

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from ...cache import InputFailure
from .decoders import Doubtful, MissingCodecError, require
from .display import MAX_PIXELS, pixel_shape

MAX_PICTURES = 1_000_000
"""Decoded for one utterance."""
MAX_SECONDS = 2 * 3600.0
"""The longest film of one utterance."""
INSTANT = 1e-6
"""Seconds; times this near to each other are one."""

_SLACK = 0.5  # seconds by which pictures may end before the header or the segment says, without anything being lost
_LEAD = 1.0  # seconds: demuxers seek by the order of decoding, in which key frames come a few pictures early


class Misled(Exception):
    """Seeking did not lead to where the file was to be read from."""


class Reel:
    """The pictures of a container's video track on the container's time line, which starts at 0.

    Attributes:
        pixel_shape: width by height of a pixel.

    Args:
        container: an open PyAV container.
        name: of the file, for messages.
        start: of the segment, in seconds.
        end: of the segment, in seconds; infinite for the container's end.

    Raises:
        InputFailure: there is no video track, or it exceeds a limit.
        MissingCodecError: PyAV has no decoder for it.
    """

    def __init__(self, container: Any, name: str, start: float, end: float) -> None:
        self._container = container
        self._name = name
        self._start = start
        self._end = end
        self._track = _track(container, name)
        self.pixel_shape = pixel_shape(self._track)
        self._origin = (container.start_time or 0) / 1e6
        self._position = 0.0  # seconds at which the last picture ends
        self._reached = 0.0  # seconds, of any track
        self._claimed = 0.0  # seconds at which the track says it ends
        if self._track.duration:
            self._claimed = self._seconds((self._track.start_time or 0) + self._track.duration, self._track.time_base)
        self._check_span(self._claimed if math.isinf(end) else end)

    def pictures(self, seek: bool) -> Iterator[tuple[Any, float, float]]:
        """Yield (picture, start, end) of every picture, or of those from some key frame before the segment on.

        Args:
            seek: go to a key frame before the segment.

        Raises:
            Misled: only without `seek` will those of the segment be among them.
        """
        gaps: list[float] = []
        before: tuple[Any, float] | None = None
        for picture, begins in self._timed(seek):
            if before is not None:
                gaps.append(begins - before[1])
                self._position = begins
                yield *before, begins
            before = picture, begins
        if before is not None:
            picture, begins = before
            self._position = begins + (self._duration(picture) or (median(gaps) if gaps else self._interval()))
            yield picture, begins, self._position

    def check_length(self) -> None:
        """Fail if the file, read to its end, is shorter than it or the segment says."""
        whole = (self._container.duration or 0) / 1e6
        reached = max(self._reached, self._position)
        # The container's length may be another track's, and the pictures may end before it; a file cut off ends all.
        # Matroska's counts from 0, whenever the first track begins.
        needed = self._start if math.isinf(self._end) else self._end
        promised = max(self._claimed, needed, whole if reached + max(self._origin, 0.0) < whole - _SLACK else 0.0)
        if promised - self._position > _SLACK:
            raise Doubtful(
                "truncated",
                f"the pictures of {self._name} end at {self._position:.3f} s;"
                f" its header or the segment says {promised:.3f} s",
            )

    def _timed(self, seek: bool) -> Iterator[tuple[Any, float]]:
        if seek:
            self._seek()
        last: float | None = None
        follows = None if seek else 0.0
        for picture in self._decoded():
            begins = follows if picture.pts is None else self._seconds(picture.pts, picture.time_base)
            if last is None and seek and (begins is None or begins > self._start):
                raise Misled
            if begins is None or not (last is None or begins > last):
                continue
            self._check_span(min(begins, self._end))
            last = begins
            follows = begins + (self._duration(picture) or self._interval())
            yield picture, begins
        if last is None and seek:
            raise Misled

    def _seek(self) -> None:
        target = self._origin + self._start - _LEAD
        try:
            self._container.seek(math.floor(target / self._track.time_base), stream=self._track)
        except (require("av").error.FFmpegError, OverflowError) as error:  # not every format can
            raise Misled from error

    def _decoded(self) -> Iterator[Any]:
        count = 0
        for packet in self._container.demux():
            if packet.pts is not None:
                end = self._seconds(packet.pts + (packet.duration or 0), packet.time_base)
                self._reached = max(self._reached, end)
            # A file that was cut off ends in half a packet, which says less than the length does.
            for picture in packet.decode() if packet.stream is self._track and not packet.is_corrupt else ():
                count += 1
                if count > MAX_PICTURES:
                    raise InputFailure("undecodable", f"{self._name} holds more than {MAX_PICTURES} pictures")
                yield picture

    def _check_span(self, end: float) -> None:
        if end - self._start > MAX_SECONDS:
            raise InputFailure(
                "undecodable",
                f"{self._name} claims {end - self._start:g} s of pictures; at most {MAX_SECONDS:g} s are taken as one"
                " utterance, so give start and end in the manifest",
            )

    def _seconds(self, stamp: int, base: Any) -> float:
        return float(stamp * base) - self._origin

    def _duration(self, picture: Any) -> float:
        return max(float((picture.duration or 0) * picture.time_base), 0.0)

    def _interval(self) -> float:
        rate = self._track.average_rate or self._track.guessed_rate
        return 1 / float(rate) if rate else 0.0


def _track(container: Any, name: str) -> Any:
    """Find the first video track that is not a cover, and make it ready to decode.

    Args:
        container: an open PyAV container.
        name: of the file, for errors.

    Returns:
        A PyAV video stream.

    Raises:
        InputFailure: there is none, or its pictures are too large.
        MissingCodecError: PyAV has no decoder for it.
    """
    covers = require("av.stream").Disposition.attached_pic
    tracks = [track for track in container.streams.video if not track.disposition & covers]
    if not tracks:
        raise InputFailure("no_video", f"{name} has no video track")
    codec = tracks[0].codec_context
    if codec is None:
        raise MissingCodecError(f"{name}: this PyAV has no decoder for its video track; update av")
    if codec.width * codec.height > MAX_PIXELS:
        raise InputFailure(
            "undecodable", f"{name} claims {codec.width} x {codec.height} pixels; at most 4096 x 4096 are taken"
        )
    codec.options = {"max_pixels": str(MAX_PIXELS)}  # the size may change on the way
    return tracks[0]
