"""The two libraries that read media, and the limits that hold for both. `media` is what callers use."""

import errno
import importlib
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache import EmocacheError, InputFailure

Samples = npt.NDArray[np.float32]
Source = str | io.BytesIO

MAX_CHANNELS = 32
MAX_SECONDS = 2 * 3600.0
"""The longest utterance; longer recordings are cut by start and end in the manifest."""
RATES = (1000, 1_000_000)
"""Hz. What lies outside is a broken header, and resampling from it could take all memory."""
SLACK = 0.1
"""Seconds by which headers, time stamps and segment ends may be off without anything being lost."""
DEMUXERS = "mov,mp4,flv,avi,matroska,webm,asf,mpeg,mpegts,3gp,aac,ac3,amr,mp3,ogg,wav,flac,aiff,caf"
"""The formats FFmpeg may find. No playlists: a file named .mp4 could make it open others."""

_BLOCK = 1 << 18  # frames
_FORMATS = {".mp3": "MP3", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG"}  # optional in libsndfile


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


def decode_soundfile(source: Source, name: str, start: float | None, end: float | None) -> tuple[Samples, int]:
    """Channel mean at the native rate, and that rate in Hz, of a format that libsndfile reads.

    Raises:
        InputFailure: see `media.decode_audio`.
        EmocacheError: soundfile is not installed.
        MissingCodecError: libsndfile lacks the codec.
        MemoryError: libsndfile could not allocate.
    """
    soundfile = require("soundfile")
    try:
        with soundfile.SoundFile(source) as file:
            rate, there = int(file.samplerate), int(file.frames)
            if there >= 1 << 62:
                raise InputFailure("undecodable", f"the header of {name} gives no length; write the file again")
            first = round((start or 0.0) * rate)
            last = max(first, max(there, _riff_frames(source)) if end is None else round(end * rate))
            _check_header(name, file.channels, rate, (last - first) / rate)
            position, stop = min(first, there), min(last, there)
            blocks = [np.zeros(0, np.float32)]
            if position < stop:
                file.seek(position)
            while position < stop:
                block = file.read(min(stop - position, _BLOCK), dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                blocks.append(block.mean(axis=1, dtype=np.float32))
                position += len(block)
    except soundfile.LibsndfileError as error:
        text = error.error_string.removeprefix("Error : ").rstrip(".") or f"libsndfile error {error.code}"
        if "malloc" in text:
            raise MemoryError(text) from error
        if _FORMATS.get(PurePath(name).suffix.lower(), "WAV") not in soundfile.available_formats():
            raise MissingCodecError(f"{name}: this libsndfile was built without its codec; update soundfile") from error
        raise Doubtful("undecodable", f"{name} cannot be decoded: {text}") from error
    _check_length(name, rate, position, last)
    return np.concatenate(blocks), rate


def decode_container(source: Source, name: str, start: float | None, end: float | None) -> tuple[Samples, int]:
    """Channel mean at the native rate, and that rate in Hz, of the first audio track that FFmpeg finds.

    Raises:
        InputFailure: see `media.decode_audio`.
        EmocacheError: PyAV is not installed.
        MissingCodecError: PyAV lacks the codec.
    """
    with open_container(source, name) as container:
        return _hear(container, name, start, end)


@contextmanager
def open_container(source: Source, name: str) -> Iterator[Any]:
    """The container, with what PyAV raises inside sorted into the input's failures and the machine's."""
    av = require("av")
    try:
        with av.open(source, container_options={"format_whitelist": DEMUXERS}) as container:
            yield container
    except (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError) as error:
        raise MissingCodecError(f"{name}: this PyAV was built without its codec ({error}); update av") from error
    except _bad_bytes(av) as error:
        if isinstance(error, OSError) and error.errno != errno.EIO:
            raise
        text = getattr(error, "strerror", None) or str(error)
        raise Doubtful("undecodable", f"{name} cannot be decoded: {text}") from error


def _bad_bytes(av: Any) -> tuple[type[Exception], ...]:
    """What PyAV raises for damage, OSError only with EIO; "not implemented" is how FFmpeg words impossible headers."""
    error = av.error
    return (
        error.InvalidDataError,
        error.ArgumentError,
        error.EOFError,
        error.PatchWelcomeError,
        UnicodeDecodeError,
        OSError,
    )


def _hear(container: Any, name: str, start: float | None, end: float | None) -> tuple[Samples, int]:
    if not container.streams.audio:
        raise InputFailure("no_audio", f"{name} has no audio track")
    track = container.streams.audio[0]
    if track.codec_context is None:
        raise MissingCodecError(f"{name}: this PyAV has no decoder for its audio track; update av")
    origin = (container.start_time or 0) / 1e6
    claimed = 0.0  # seconds at which the track says it ends
    if track.duration:
        claimed = float(((track.start_time or 0) + track.duration) * track.time_base) - origin
    ear: _Ear | None = None
    reached = 0.0  # seconds, of any track
    for packet in container.demux():
        if packet.pts is not None:
            reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base) - origin)
        for frame in packet.decode() if packet.stream is track else ():
            if ear is None:
                seconds = (claimed if end is None else end) - (start or 0.0)
                _check_header(name, frame.layout.nb_channels, frame.rate, seconds)
                ear = _Ear(name, frame.rate, start, end)
            ear.add(frame, origin)
        if ear is not None and ear.full:
            break
    if ear is None:
        raise Doubtful("empty", f"the audio track of {name} holds no samples")
    whole = (container.duration or 0) / 1e6
    # The container's length may be another track's, and an audio track may end before it; a file cut off ends all.
    promised = max(claimed, end or start or 0.0, whole if reached < whole - 0.5 else 0.0)
    if not ear.full:
        _check_length(name, ear.rate, ear.position, round(promised * ear.rate))
    return np.concatenate([np.zeros(0, np.float32), *ear.blocks]), ear.rate


class _Ear:
    """Puts decoded frames on the media's time line and keeps those inside the segment."""

    def __init__(self, name: str, rate: int, start: float | None, end: float | None) -> None:
        self.name = name
        self.rate = rate
        self.position = 0  # frames heard so far, silence included
        self.blocks: list[Samples] = []
        self._first = round((start or 0.0) * rate)
        self._last = self._first + round(MAX_SECONDS * rate) + 1 if end is None else round(end * rate)
        self._open = end is None

    @property
    def full(self) -> bool:
        """Whether the segment's end is reached."""
        return self.position >= self._last

    def add(self, frame: Any, origin: float) -> None:
        """Take one decoded frame, whose time stamp counts from `origin` seconds."""
        if frame.rate != self.rate:
            raise Doubtful("undecodable", f"{self.name} changes its rate from {self.rate} to {frame.rate} Hz")
        mono = _mono(frame)
        if frame.pts is not None:
            gap = round((float(frame.pts * frame.time_base) - origin) * self.rate) - self.position
            if gap > (SLACK * self.rate if self.position else 0):
                self._keep(gap, None)
            elif gap < 0 and self.position == 0:
                mono = mono[-gap:]
        self._keep(mono.size, mono)

    def _keep(self, count: int, samples: Samples | None) -> None:
        low = max(self._first - self.position, 0)
        high = min(self._last - self.position, count)
        if high > low:
            self.blocks.append(np.zeros(high - low, np.float32) if samples is None else samples[low:high])
        self.position += count
        if self._open and self.full:
            _check_header(self.name, 1, self.rate, (self.position - self._first) / self.rate)


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


def _check_header(name: str, channels: int, rate: int, seconds: float) -> None:
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


def _check_length(name: str, rate: int, got: int, promised: int) -> None:
    if promised - got > SLACK * rate:
        raise Doubtful(
            "truncated", f"{name} ends at {got / rate:.3f} s; its header or the segment says {promised / rate:.3f} s"
        )


def _riff_frames(source: Source) -> int:
    """Frames that a RIFF header promises, 0 if it is none or gives no length. libsndfile hides a cut-off file's."""
    with Path(source).open("rb") if isinstance(source, str) else io.BytesIO(source.getvalue()) as file:
        if file.read(4) != b"RIFF" or not file.seek(8) or file.read(4) != b"WAVE":
            return 0
        align, packed = 0, True
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                # 0 and 2 GiB and more are what writers to a pipe leave there.
                return size // align if align and not packed and 0 < size < 0x7FFF0000 else 0
            body = file.read(16) if header[:4] == b"fmt " else b""
            if len(body) == 16:
                format_, _, _, _, align, bits = struct.unpack("<HHIIHH", body)
                packed = format_ not in (1, 3, 0xFFFE) or bits % 8 != 0
            file.seek(size + size % 2 - len(body), io.SEEK_CUR)
    return 0
