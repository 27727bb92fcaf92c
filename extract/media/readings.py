"""The media that are read otherwise than emocache first read them, and why, for the keys of what was stored of them.

Only their items are extracted anew: a `Media` says it in its `reading`, which is part of the inputs that are hashed.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...cache import EmocacheError, Manifest, Media, Utterance
from .decoders import DEMUXERS, require
from .display import display_matrix
from .lengths import is_chained, mp3_seconds
from .reel import Reel

Readings = Mapping[str, str]
"""Of one file, {what: reading}; what is "video" for its pictures, "audio" for its sound and "segment" for parts of it
that do not begin with it. Empty for most."""

_FIRST_BY_LIBSNDFILE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
_FIRST_BLOCK = 1 << 18  # frames after which its sound of MP3 went wrong for a while


def readings_of(path: Path) -> dict[str, str]:
    """Tell how a file is read otherwise than it first was.

    Args:
        path: of the file.

    Returns:
        {what: why}; nothing of a file that cannot be read.

    Raises:
        EmocacheError: the library for this format is not installed.
    """
    try:
        found = _sound(path)
        return found if found is not None else _pictures(path)
    except EmocacheError:
        raise
    except Exception:  # whatever is wrong with the file is told when it is decoded
        return {}


def _sound(path: Path) -> dict[str, str] | None:
    """Of a file that libsndfile knows, else None."""
    soundfile = require("soundfile")
    named = path.suffix.lower() in _FIRST_BY_LIBSNDFILE
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError:
        return {} if named else None
    if info.subtype.startswith("MPEG_LAYER"):
        if not named:
            return {}
        told = mp3_seconds(str(path))
        whole = told and info.frames <= _FIRST_BLOCK and abs(_counted(path) - told) < 0.3
        return {"segment": "FFmpeg"} if whole else {"segment": "FFmpeg", "audio": "FFmpeg"}
    if info.subtype not in ("OPUS", "VORBIS"):
        return {}
    if is_chained(str(path)):
        return {"segment": "all parts", "audio": "all parts"} if named else {}
    return {"segment": "lead"} if named else {"segment": "libsndfile", "audio": "libsndfile"}


def _counted(path: Path) -> float:
    with require("av").open(str(path), container_options={"format_whitelist": DEMUXERS}) as container:
        track = container.streams.audio[0]
        return float(sum(packet.duration or 0 for packet in container.demux(track)) * track.time_base)


def _pictures(path: Path) -> dict[str, str]:
    with require("av").open(str(path), container_options={"format_whitelist": DEMUXERS}) as container:
        reel = Reel(container, path.name, 0.0, 0.0)
        told = [] if reel.pixel_shape == 1 else [f"pixels {reel.pixel_shape}"]
        if display_matrix(next(reel.pictures(seek=False))[0]).mirrored:
            told.append("mirrored")
        return {"video": ", ".join(told)} if told else {}


def with_readings(manifest: Manifest, root: Path, readings: Mapping[Path, Readings]) -> Manifest:
    """Add the readings of its media to a manifest.

    Args:
        manifest: of a corpus.
        root: its folder.
        readings: by absolute path.

    Returns:
        A manifest of its own; the same one if there are no readings.
    """
    if not readings:
        return manifest
    return Manifest.from_utterances(manifest.corpus, [read_as(utterance, root, readings) for utterance in manifest])


def read_as(utterance: Utterance, root: Path, readings: Mapping[Path, Readings]) -> Utterance:
    """Add the readings of its media to an utterance.

    Args:
        utterance: of a corpus.
        root: the corpus's folder.
        readings: by absolute path.

    Returns:
        The utterance with them.
    """

    def told(medium: Media) -> Media:
        found = readings.get((root / medium.path).absolute(), {})
        own = medium.start is not None or medium.end is not None
        part = medium.role == "audio" and bool(medium.start if own else utterance.start)
        return replace(medium, reading=(found.get("segment") if part else None) or found.get(medium.role))

    return replace(utterance, media=tuple(told(medium) for medium in utterance.media))
