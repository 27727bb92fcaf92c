"""Media files to 16 kHz mono samples, with every way a file can be wrong told apart from every way a machine can be."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..cache import EmocacheError, InputFailure
from .decoders import DEMUXERS, Doubtful, Samples, Source, decode_container, decode_soundfile, require

_Decoder = Callable[[Source, str, float | None, float | None], tuple[Samples, int]]

AUDIO_RECIPE = {"sample_rate": 16000, "channels": "mean", "resampler": "soxr VHQ"}
"""What decoding contributes to a stream's numbers; part of the recipe of every encoder that hears audio."""

SOUNDFILE_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
)
VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".flv", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".3gp"))
MEDIA_SUFFIXES = SOUNDFILE_SUFFIXES | VIDEO_SUFFIXES | {".m4a", ".aac", ".wma", ".mka", ".amr"}
"""The file names that are taken for media; those not read by libsndfile are read by FFmpeg."""


def decode_audio(
    path: Path | str, start: float | None = None, end: float | None = None, sample_rate: int = 16000
) -> Samples:
    """The samples of one utterance: the mean of all channels, resampled by soxr (VHQ).

    The segment is cut at the native rate, at samples round(start * rate) to round(end * rate), then resampled alone.
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
        OSError: the file cannot be read.
        MemoryError: there is too little memory.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise InputFailure("empty", f"{path.name} has 0 bytes")
    decode: _Decoder = decode_soundfile if path.suffix.lower() in SOUNDFILE_SUFFIXES else decode_container
    try:
        samples, native = decode(str(path), path.name, start, end)
    except Doubtful:
        # Both libraries report a failing disk as bad data. Python reads the bytes itself and raises OSError for that;
        # what still fails when decoded from memory lies in the input.
        samples, native = decode(io.BytesIO(path.read_bytes()), path.name, start, end)
    if samples.size and native != sample_rate:
        samples = require("soxr").resample(samples, native, sample_rate, quality="VHQ")
    if samples.size == 0:
        raise InputFailure("empty", f"{path.name}{_segment(start, end)} holds no samples")
    if not np.isfinite(samples).all():
        raise InputFailure("not_finite", f"{path.name}{_segment(start, end)} holds NaN or infinite samples")
    return np.ascontiguousarray(samples, dtype=np.float32)


def media_duration(path: Path | str) -> float | None:
    """Seconds according to the header, or None where that cannot be read. For planning only.

    Raises:
        EmocacheError: the library for this format is not installed.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in SOUNDFILE_SUFFIXES:
            info = require("soundfile").info(str(path))
            seconds = info.frames / info.samplerate
        else:
            with require("av").open(str(path), container_options={"format_whitelist": DEMUXERS}) as container:
                seconds = container.duration / 1e6
    except EmocacheError:
        raise
    except Exception:  # whatever is wrong with the file is told when it is decoded, and only for this utterance
        return None
    return seconds if 0 <= seconds <= 1e6 else None


def _segment(start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return ""
    return f" from {start or 0:g} s to " + ("its end" if end is None else f"{end:g} s")
