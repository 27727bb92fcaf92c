"""The length of a media file as it says itself.

Where it says nothing FFmpeg guesses from the bit rate, and does not tell that it guessed.
"""

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

Source = str | io.BytesIO

_UNTOLD = frozenset(("aac", "ac3", "amr", "mp3"))  # FFmpeg's names of formats that are nothing but frames
_MPEG_RATES = (44100, 48000, 32000)


def opened(source: Source) -> BinaryIO:
    """The bytes from their beginning."""
    return Path(source).open("rb") if isinstance(source, str) else io.BytesIO(source.getvalue())


def is_guessed(container: Any) -> bool:
    """Tell whether the length that FFmpeg gives may be a guess."""
    return container.format.name in _UNTOLD


def stated_seconds(container: Any, track: Any, source: Source) -> float:
    """Tell when an audio track ends by what the file says.

    Args:
        container: an open PyAV container.
        track: one of its tracks.
        source: what it was opened from.

    Returns:
        Seconds; 0 if the file does not say.
    """
    name = container.format.name
    if name == "mp3":
        return mp3_seconds(source)
    if name == "wav":
        promised, there, byte_rate = _riff_data(source)
        return promised / byte_rate if byte_rate and promised > there else 0.0
    if is_guessed(container) or not track.duration:
        return 0.0
    return float(((track.start_time or 0) + track.duration) * track.time_base) - (container.start_time or 0) / 1e6


def mp3_seconds(source: Source) -> float:
    """Length by the Xing, Info or VBRI header of an MP3 file, without what the encoder added; 0 if there is none."""
    with opened(source) as file:
        at = 0
        while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:
            # ID3v2 writes its length in four bytes of seven bits each.
            at += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
            file.seek(at)
        file.seek(at)
        head = file.read(256)
    if len(head) < 256 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[2] & 0x0C == 0x0C:
        return 0.0  # no frame of layer III
    version = head[1] >> 3 & 3  # 3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5
    rate = _MPEG_RATES[head[2] >> 2 & 3] >> {3: 0, 2: 1}.get(version, 2)
    size = 1152 if version == 3 else 576
    mono = head[3] >> 6 == 3
    # The tag lies behind the frame's header and its side information, whose size these four cases are.
    tag = head[4 + ({False: 32, True: 17} if version == 3 else {False: 17, True: 9})[mono] :]
    frames = padding = 0
    if tag[:4] in (b"Xing", b"Info") and tag[7] & 1:
        frames = int.from_bytes(tag[8:12])
        # The encoder's own tag follows the fields that the flags say are there; its bytes 21 to 23 hold two 12-bit
        # numbers, the samples that it added before and after the sound.
        lame = tag[8 + sum(length for bit, length in ((1, 4), (2, 4), (4, 100), (8, 4)) if tag[7] & bit) :]
        if len(lame) >= 24 and lame[:4] in (b"LAME", b"Lavf", b"Lavc"):
            padding = (int.from_bytes(lame[21:24]) >> 12) + (int.from_bytes(lame[21:24]) & 0xFFF)
    elif head[36:40] == b"VBRI":
        frames = int.from_bytes(head[50:54])
    return max(frames * size - padding, 0) / rate


def riff_frames(source: Source) -> int:
    """Frames that a RIFF header promises, 0 if it is none or gives no length. libsndfile hides a cut-off file's."""
    with opened(source) as file:
        format_, align, bits, _, size = _riff(file)
    whole = format_ in (1, 3, 0xFFFE) and bits % 8 == 0
    return size // align if align and whole else 0


def _riff_data(source: Source) -> tuple[int, int, int]:
    """Bytes of sound that a RIFF header promises, those that are there, and bytes a second."""
    with opened(source) as file:
        *_, byte_rate, size = _riff(file)
        start = file.tell()
        return size, file.seek(0, io.SEEK_END) - start, byte_rate


def _riff(file: BinaryIO) -> tuple[int, int, int, int, int]:
    """Format, bytes a frame, bits, bytes a second and bytes of sound; the file is left where the sound starts."""
    format_ = align = bits = byte_rate = 0
    if file.read(4) == b"RIFF" and file.seek(8) and file.read(4) == b"WAVE":
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                # 0 and 2 GiB and more are what writers to a pipe leave there.
                return format_, align, bits, byte_rate, size if size < 0x7FFF0000 else 0
            body = file.read(16) if header[:4] == b"fmt " else b""
            if len(body) == 16:
                format_, _, _, byte_rate, align, bits = struct.unpack("<HHIIHH", body)
            file.seek(size + size % 2 - len(body), io.SEEK_CUR)
    return format_, align, bits, byte_rate, 0


def is_chained(source: Source) -> bool:
    """Tell whether an Ogg file holds several streams, as joined recordings do; libsndfile reads the first alone."""
    with opened(source) as file:
        found, rest = 0, b""
        while block := file.read(1 << 20):
            found += (rest + block).count(b"OggS\0\2")  # the first page of a stream
            rest = block[-5:]
    return found > 1
