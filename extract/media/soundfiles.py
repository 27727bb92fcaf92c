"""Sound that libsndfile decodes. `audio` is what callers use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...cache import InputFailure
from .decoders import Doubtful, Sound, check_header, check_length, require
from .lengths import Source, is_chained, riff_frames

_BLOCK = 1 << 18  # frames
# What libsndfile decodes to its end and from any sample on. FFmpeg decodes the rest: libsndfile guesses the length of
# MP3, stops after the first of several joined files, and goes wrong where it seeks in MP3 and GSM.
_EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "ALAC_")
_OGG = ("OPUS", "VORBIS")
_OGG_LEAD = 20.0  # seconds to decode before a segment: more than a page, and until no trace of the seek is left


class NotHereError(Exception):
    """libsndfile does not know the sound, or cannot be relied on for it."""


def decode_soundfile(source: Source, name: str, start: float | None, end: float | None) -> Sound:
    """Decode sound that libsndfile reads.

    Args:
        source: the file.
        name: of the file, for errors.
        start: seconds; None: from the beginning.
        end: seconds; None: to the end.

    Yields:
        (n,) float32 samples, block after block, the mean of the channels at their native rate, and that rate in Hz.

    Raises:
        NotHereError: it is for FFmpeg; before the first block.
        InputFailure: see `audio.decode_audio`.
        EmocacheError: soundfile is not installed.
        MemoryError: libsndfile could not allocate.
    """
    soundfile = require("soundfile")
    try:
        with open_soundfile(source) as file:
            rate, there = int(file.samplerate), int(file.frames)
            # libsndfile gives its largest number for a length that it does not know.
            if there >= 1 << 62:
                raise InputFailure("undecodable", f"the header of {name} gives no length; write the file again")
            first = round((start or 0.0) * rate)
            last = max(first, max(there, riff_frames(source)) if end is None else round(end * rate))
            check_header(name, file.channels, rate, (last - first) / rate)
            # Vorbis and Opus need what came before to decode right: some is read ahead and thrown away.
            lead = round(_OGG_LEAD * rate) if file.subtype in _OGG else 0
            position, stop = min(max(first - lead, 0), there), min(last, there)
            if position < stop:
                file.seek(position)
            while position < stop:
                block = file.read(min(stop - position, _BLOCK), dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                position += len(block)
                wanted = block[max(first - position + len(block), 0) :]
                if len(wanted):
                    yield wanted.mean(axis=1, dtype=np.float32), rate
    except soundfile.LibsndfileError as error:
        text = _text_of(error)
        raise Doubtful("undecodable", f"{name} cannot be decoded: {text}") from error
    check_length(name, rate, max(position, min(first, there)), last)


@contextmanager
def open_soundfile(source: Source) -> Iterator[Any]:
    """Open sound by its content alone: by a file's name libsndfile would guess.

    Args:
        source: the file.

    Raises:
        NotHereError: it is for FFmpeg.
        MemoryError: libsndfile could not allocate.
    """
    soundfile = require("soundfile")
    descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0)) if isinstance(source, str) else None
    try:
        try:
            file = soundfile.SoundFile(source if descriptor is None else descriptor, closefd=False)
        except soundfile.LibsndfileError as error:
            raise NotHereError(_text_of(error)) from error
        with file:
            if not (file.subtype.startswith(_EXACT) or (file.subtype in _OGG and not is_chained(source))):
                raise NotHereError(file.subtype)
            yield file
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _text_of(error: Any) -> str:
    """Put a LibsndfileError into words.

    Args:
        error: of soundfile.

    Returns:
        One line.

    Raises:
        MemoryError: that there is too little memory.
    """
    text = str(error.error_string).removeprefix("Error : ").rstrip(".") or f"libsndfile error {error.code}"
    if "malloc" in text:
        raise MemoryError(text) from error
    return text
