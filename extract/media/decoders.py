"""Media that FFmpeg decodes, and the limits and failures that hold for all media. `audio` is what callers use."""

import errno
import importlib
import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, InputFailure
from .lengths import Source, is_guessed, stated_seconds

Samples = npt.NDArray[np.float32]
Sound = Iterator[tuple[Samples, int]]  # block after block, the mean of the channels, and its rate in Hz

MAX_CHANNELS = 32
MAX_SECONDS = 12 * 3600.0
"""The longest utterance of sound; longer recordings are cut by start and end in the manifest."""
RATES = (1000, 1_000_000)
"""Hz. What lies outside is a broken header, and resampling from it could take all memory."""
SLACK = 0.1
"""Seconds by which headers, time stamps and segment ends may be off without anything being lost."""
DEMUXERS = "mov,mp4,flv,avi,matroska,webm,asf,mpeg,mpegts,3gp,aac,ac3,amr,mp3,ogg,wav,flac,aiff,caf"
"""The formats FFmpeg may find. No playlists: a file named .mp4 could make it open others."""

# Seconds to decode before a segment where packets were left out, by codec; AAC, with its noise, is not among those that
# forget what was before.
_LEADS = {"mp3": 2.0, "mp3float": 2.0, "flac": 1.0, "alac": 1.0, "opus": 10.0}


class Doubtful(InputFailure):
    """A failure that a bad disk could have caused as well as bad bytes."""


class MissingCodecError(RuntimeError):
    """The library on this machine was built without the codec, which says nothing about the input."""


def require(module: str) -> Any:
    """An optional library of the `extract` extra; an EmocacheError that says how to get it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise EmocacheError(f"decoding media needs {module} ({error}): pip install 'emocache[extract]'") from error


def decode_container(source: Source, name: str, start: float | None, end: float | None) -> Sound:
    """Decode the first audio track that FFmpeg finds.

    Args:
        source: what PyAV opens.
        name: of the file, for errors.
        start: seconds; None: from the beginning.
        end: seconds; None: to the end.

    Yields:
        (n,) float32 samples, block after block, the mean of the channels at their native rate, and that rate in Hz.

    Raises:
        InputFailure: see `audio.decode_audio`.
        EmocacheError: PyAV is not installed.
        MissingCodecError: PyAV lacks the codec.
    """
    with open_container(source, name) as container:
        yield from _hear(container, source, name, start, end)


@contextmanager
def open_container(source: Source, name: str) -> Iterator[Any]:
    """The container, with what PyAV raises inside sorted into the input's failures and the machine's."""
    av = require("av")
    if isinstance(source, io.BytesIO):
        source.seek(0)  # libsndfile may have looked at it
    try:
        with av.open(source, container_options={"format_whitelist": DEMUXERS}) as container:
            yield container
    except (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError) as error:
        raise MissingCodecError(f"{name}: this PyAV was built without its codec ({error}); update av") from error
    except _bad_bytes(av) as error:
        decoding = str(getattr(error, "filename", None)).startswith("avcodec_")  # which opens no file
        if isinstance(error, OSError) and error.errno != errno.EIO and not decoding:
            raise
        text = getattr(error, "strerror", None) or str(error)
        raise Doubtful("undecodable", f"{name} cannot be decoded: {text}") from error


def _bad_bytes(av: Any) -> tuple[type[Exception], ...]:
    """Return the errors that PyAV raises for damage, OSError only with EIO.

    "Not implemented" is how FFmpeg words impossible headers. Some decoders return numbers that mean nothing, or
    something else.
    """
    error = av.error
    return (
        error.InvalidDataError,
        error.ArgumentError,
        error.EOFError,
        error.PatchWelcomeError,
        error.UndefinedError,
        UnicodeDecodeError,
        OSError,
    )


def _hear(container: Any, source: Source, name: str, start: float | None, end: float | None) -> Sound:
    track = _sound_track(container, name)
    origin = (container.start_time or 0) / 1e6
    claimed = stated_seconds(container, track, source)
    ear: _Ear | None = None
    reached = 0.0  # seconds, of any track
    row, hands = _Row(track.codec_context.name), _Hands(container)
    for packet in container.demux():
        if packet.pts is not None:
            reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base) - origin)
        if packet.stream is not track:
            continue
        if ear is not None and (count := row.spared(packet, ear)):
            ear.position += count
            continue
        for frame in hands.decode(packet):
            if ear is None:
                seconds = (claimed if end is None else end) - (start or 0.0)
                check_header(name, frame.layout.nb_channels, frame.rate, seconds)
                ear = _Ear(name, frame.rate, start, end)
            ear.add(frame, origin)
            while ear.blocks:
                yield ear.blocks.popleft(), ear.rate
        if ear is not None and ear.full:
            break
    if ear is None:
        raise Doubtful("empty", f"the audio track of {name} holds no samples")
    whole = 0.0 if is_guessed(container) else (container.duration or 0) / 1e6
    # The container's length may be another track's, and an audio track may end before it; a file cut off ends all.
    # Matroska's counts from 0, whenever the first track begins.
    promised = max(claimed, end or start or 0.0, whole if reached + max(origin, 0.0) < whole - 0.5 else 0.0)
    if not ear.full:
        check_length(name, ear.rate, ear.position, round(promised * ear.rate))


def _sound_track(container: Any, name: str) -> Any:
    if not container.streams.audio:
        raise InputFailure("no_audio", f"{name} has no audio track")
    track = container.streams.audio[0]
    if track.codec_context is None:
        raise MissingCodecError(f"{name}: this PyAV has no decoder for its audio track; update av")
    return track


class _Hands:
    """Decodes the packets of a track, and says which broken ones do not matter."""

    def __init__(self, container: Any) -> None:
        self._tags = container.format.name == "mp3"  # may stand between the frames, and are none of the sound
        self._broken: Exception | None = None

    def decode(self, packet: Any) -> list[Any]:
        """The frames of a packet; of the last one none, if it is but a part, as what is missing shows in the length."""
        if self._broken is not None and packet.size:
            raise self._broken
        try:
            return list(packet.decode())
        except require("av").error.InvalidDataError as error:
            if not self._tags:
                self._broken = error
            return []


class _Row:
    """Tells packets that follow each other without a gap and lie well before the segment: they need no decoding.

    The first few are decoded, to see that they give as many samples as they say. From a packet that is not in the row,
    or says no exact number, on, all are decoded.
    """

    def __init__(self, codec: str) -> None:
        self._lead = _LEADS.get(codec, 0.0 if codec.startswith("pcm_") else None)
        self._next: int | None = None  # the time stamp that continues the row
        self._sync = codec.startswith("mp3")
        self._left = 4  # packets to decode first
        self._expected = 0  # the ear's position, if the last packet gave what it said

    def spared(self, packet: Any, ear: "_Ear") -> int:
        """The samples of a packet that need not be decoded, else 0."""
        count = (packet.duration or 0) * packet.time_base * ear.rate
        row = packet.pts is not None and count > 0 and count.denominator == 1
        row = row and not (packet.is_discard or packet.is_corrupt)
        if self._next is not None:
            row = row and packet.pts == self._next and ear.position == self._expected
        if self._sync:
            row = row and bytes(packet)[:2] >= b"\xff\xe0"  # no tag in the middle of an .mp3
        if self._lead is None or not row:
            self._lead = None
            return 0
        self._next = packet.pts + packet.duration
        self._expected = ear.position + int(count)
        self._left -= 1
        return int(count) if self._left < 0 and self._expected < ear.first - self._lead * ear.rate else 0


class _Ear:
    """Puts decoded frames on the media's time line and keeps those inside the segment."""

    def __init__(self, name: str, rate: int, start: float | None, end: float | None) -> None:
        self.name = name
        self.rate = rate
        self.position = 0  # frames heard so far, silence included
        self.blocks: deque[Samples] = deque()  # for whoever takes them
        self.first = round((start or 0.0) * rate)
        self._last = self.first + round(MAX_SECONDS * rate) + 1 if end is None else round(end * rate)
        self._open = end is None

    @property
    def full(self) -> bool:
        """Tell whether the segment's end is reached."""
        return self.position >= self._last

    def add(self, frame: Any, origin: float) -> None:
        """Take one decoded frame, whose time stamp counts from `origin` seconds."""
        if frame.rate != self.rate:
            raise Doubtful("undecodable", f"{self.name} changes its rate from {self.rate} to {frame.rate} Hz")
        skipped = 0
        if frame.pts is not None:
            gap = round((float(frame.pts * frame.time_base) - origin) * self.rate) - self.position
            if gap > (SLACK * self.rate if self.position else 0):
                self._keep(gap, None)
            elif gap < 0 and self.position == 0:
                skipped = min(-gap, frame.samples)
        before = self.position + frame.samples - skipped <= self.first
        self._keep(frame.samples - skipped, None if before else _mono(frame)[skipped:])

    def _keep(self, count: int, samples: Samples | None) -> None:
        low = max(self.first - self.position, 0)
        high = min(self._last - self.position, count)
        if high > low:
            # Of silence, which may last for hours, no sample takes memory.
            silence = np.broadcast_to(np.float32(0), (high - low,))
            self.blocks.append(silence if samples is None else samples[low:high])
        self.position += count
        if self._open and self.full:
            check_header(self.name, 1, self.rate, (self.position - self.first) / self.rate)


def _mono(frame: Any) -> Samples:
    """The channel mean of a frame, full scale at 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mean = samples.mean(axis=0, dtype=np.float32 if samples.dtype == np.float32 else np.float64)
    if samples.dtype.kind == "u":
        mean = mean / 128 - 1
    elif samples.dtype.kind == "i":
        mean = mean / -float(np.iinfo(samples.dtype).min)
    return np.asarray(mean, np.float32)


def check_header(name: str, channels: int, rate: int, seconds: float) -> None:
    """Refuse what no header of an utterance may claim."""
    if not 0 < channels <= MAX_CHANNELS:
        raise InputFailure("undecodable", f"{name} claims {channels} channels; at most {MAX_CHANNELS} are taken")
    if not RATES[0] <= rate <= RATES[1]:
        raise InputFailure("undecodable", f"{name} claims a rate of {rate} Hz; {RATES[0]} to {RATES[1]} are taken")
    if seconds > MAX_SECONDS:
        raise InputFailure(
            "undecodable",
            f"{name} claims {seconds:g} s of audio; at most {MAX_SECONDS:g} s are taken as one utterance,"
            " so give start and end in the manifest",
        )


def check_length(name: str, rate: int, got: int, promised: int) -> None:
    """Refuse sound that ends before its header or the segment says, by the frames there are and those promised."""
    if promised - got > SLACK * rate:
        raise Doubtful(
            "truncated", f"{name} ends at {got / rate:.3f} s; its header or the segment says {promised / rate:.3f} s"
        )
