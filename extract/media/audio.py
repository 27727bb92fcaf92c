"""Media files to 16 kHz mono samples, with every way a file can be wrong told apart from every way a machine can be."""

import contextlib
import io
from pathlib import Path

import numpy as np

from ...cache import EmocacheError, InputFailure
from ...cache.spill import BLOCK, LARGE, Tape, blocks
from .decoders import DEMUXERS, Doubtful, Samples, Sound, decode_container, require
from .lengths import Source, is_guessed, stated_seconds
from .soundfiles import NotHereError, decode_soundfile, open_soundfile

_SAMPLES = 1 << 18  # that go through the resampler together

AUDIO_RECIPE = {"sample_rate": 16000, "channels": "mean", "resampler": "soxr VHQ"}
"""The part that decoding has in a stream's numbers, and so in the recipe of every encoder that hears audio."""

SOUND_SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"))
VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".flv", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".3gp"))
MEDIA_SUFFIXES = SOUND_SUFFIXES | VIDEO_SUFFIXES | {".m4a", ".aac", ".wma", ".mka", ".amr"}
"""The file names that are taken for media; their content tells what reads them."""


def decode_audio(
    path: Path | str, start: float | None = None, end: float | None = None, sample_rate: int = 16000
) -> Samples:
    """The samples of one utterance: the mean of all channels, resampled by soxr (VHQ).

    The segment is cut at the native rate, at samples round(start * rate) to round(end * rate), then resampled alone.
    These samples are the ones that the whole file, decoded from its beginning, has there; of Opus within 1e-4 of its
    level.
    It is decoded and resampled block by block; what is too long for memory lies in a temporary file, see `cache.spill`.
    In containers, samples are placed by their time stamps: silence stands where the track starts late or has a gap.

    Args:
        path: a media file.
        start: seconds into the media; None for its beginning.
        end: seconds into the media; None for its end. It may lie up to 0.1 s behind the media's end.
        sample_rate: of the result, in Hz.

    Returns:
        (n,) float32, n > 0, finite.

    Raises:
        InputFailure: the file or the segment is empty, has no audio track, is not decodable, ends too early, holds
            values that are not finite, or exceeds `decoders.MAX_CHANNELS` or `decoders.MAX_SECONDS`.
        EmocacheError: the library for this format is not installed.
        MissingCodecError: that library was built without the codec.
        OSError: the file cannot be read, or a long recording finds no room among the temporary files.
        MemoryError: there is too little memory.
    """
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        raise InputFailure("empty", f"{path.name} has 0 bytes")
    try:
        samples = _resampled(_decode(str(path), path.name, start, end), sample_rate)
    except Doubtful:
        # Both libraries report a failing disk as bad data. Python reads the bytes itself and raises OSError for that;
        # what still fails when decoded from memory lies in the input.
        samples = _resampled(_decode(_read(path, size), path.name, start, end), sample_rate)
    if samples.size == 0:
        raise InputFailure("empty", f"{path.name}{_segment(start, end)} holds no samples")
    if not all(np.isfinite(block).all() for block in blocks(samples)):
        raise InputFailure("not_finite", f"{path.name}{_segment(start, end)} holds NaN or infinite samples")
    return samples


def _decode(source: Source, name: str, start: float | None, end: float | None) -> Sound:
    """By the library that the content, whatever its name, is for."""
    with contextlib.suppress(NotHereError):
        yield from decode_soundfile(source, name, start, end)
        return
    yield from decode_container(source, name, start, end)


def _read(path: Path, size: int) -> Source:
    """Read all bytes of a file, and return them, or the file itself where they are too many for memory."""
    if size <= LARGE:
        return io.BytesIO(path.read_bytes())
    with path.open("rb") as file:
        while file.read(BLOCK):
            pass
    return str(path)


def _resampled(parts: Sound, sample_rate: int) -> Samples:
    """Resample sound as it comes, to the numbers that soxr gives for all of it at once."""
    tape, stream = Tape(), None
    for samples, native in _even(parts):
        if native != sample_rate and stream is None:
            stream = require("soxr").ResampleStream(native, sample_rate, 1, dtype="float32", quality="VHQ")
        tape.append(samples if stream is None else stream.resample_chunk(samples))
    nothing = np.zeros(0, np.float32)
    tape.append(nothing if stream is None else stream.resample_chunk(nothing, last=True))
    return tape.whole()


def _even(parts: Sound) -> Sound:
    """Join short blocks and cut long ones: those of FFmpeg have 1,024 samples, or are a silence of hours."""
    held: list[Samples] = []
    count = rate = 0
    for samples, rate in parts:
        for first in range(0, len(samples), _SAMPLES):
            held.append(np.ascontiguousarray(samples[first : first + _SAMPLES]))
            count += len(held[-1])
            if count >= _SAMPLES:
                yield _joined(held), rate
                held, count = [], 0
    if held:
        yield _joined(held), rate


def _joined(held: list[Samples]) -> Samples:
    return held[0] if len(held) == 1 else np.concatenate(held)


def media_duration(path: Path | str) -> float | None:
    """Tell the duration of a file by what it says itself. For planning only.

    Of formats without a header that tells it, the packets are counted, not decoded.

    Args:
        path: of the file.

    Returns:
        Seconds, or None where that cannot be read.

    Raises:
        EmocacheError: the library for this format is not installed.
    """
    path = Path(path)
    try:
        with open_soundfile(str(path)) as file:
            seconds = file.frames / file.samplerate
    except NotHereError:
        seconds = _container_duration(path)
    except EmocacheError:
        raise
    except Exception:  # whatever is wrong with the file is told when it is decoded, and only for this utterance
        return None
    return seconds if seconds is not None and 0 <= seconds <= 1e6 else None


def _container_duration(path: Path) -> float | None:
    av = require("av")
    try:
        with av.open(str(path), container_options={"format_whitelist": DEMUXERS}) as container:
            if not is_guessed(container):
                return float(container.duration / 1e6)
            track = container.streams.audio[0]
            if seconds := stated_seconds(container, track, str(path)):
                return seconds
            return float(sum(packet.duration or 0 for packet in container.demux(track)) * track.time_base)
    except Exception:  # as above
        return None


def _segment(start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return ""
    return f" from {start or 0:g} s to " + ("its end" if end is None else f"{end:g} s")
