"""All that is known of one utterance: the row of a manifest."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import EmocacheError
from .recipe import Input, canonical_json, item_key

Label = str | float | None
_MAX_ID = 512


@dataclass(frozen=True, slots=True)
class Media:
    """One media file of an utterance."""

    role: str  # "audio" or "video"; what the encoders ask for
    path: str  # POSIX path below the corpus folder; found again by the extractor only
    sha256: str  # of the file's bytes; goes into the item key, the path does not
    start: float | None = None  # seconds into this file, where start and end differ from the utterance's own
    end: float | None = None
    region: tuple[float, float, float, float] | None = None  # left, top, right, bottom of the picture, each 0 to 1
    reading: str | None = None  # how it is decoded, where that is not as emocache first did; goes into the item key


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its time span in seconds from the utterance's start."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A time-stamped continuous label.

    Attributes:
        times: (N,) float64, seconds from the utterance's start, increasing.
        values: (N,) float64.
    """

    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of the manifest. Fields a corpus does not know stay None or empty."""

    id: str  # unique in the corpus; an arbitrary string, never used as a path
    media: tuple[Media, ...] = ()
    start: float | None = None  # seconds into the media; None: from its beginning
    end: float | None = None  # seconds into the media; None: to its end
    duration: float | None = None  # seconds, from the header; None where unreadable. Used to plan, never to cut
    speaker: str | None = None
    session: str | None = None  # session or dialogue: the group that shares a recording
    culture: str | None = None
    language: str | None = None
    gender: str | None = None
    split: str | None = None  # the owner's split: "train", "valid" or "test"
    text: str | None = None
    words: tuple[Word, ...] = ()
    words_source: str | None = None  # "corpus", "whisper-..." or "ctc-..."
    labels: Mapping[str, Label] = field(default_factory=dict)
    tracks: Mapping[str, Track] = field(default_factory=dict)

    def media_of(self, role: str) -> Media | None:
        """The media file with this role, or None."""
        return next((m for m in self.media if m.role == role), None)

    def span_of(self, role: str) -> tuple[float | None, float | None]:
        """Start and end of the utterance in the media file with this role, in seconds; None: the file's own."""
        media = self.media_of(role)
        if media is not None and (media.start is not None or media.end is not None):
            return media.start, media.end
        return self.start, self.end

    def inputs_sha256(self, inputs: Sequence[Input]) -> str:
        """Hash of what an encoder declares as its inputs, see `recipe.Input`."""
        parts: list[Any] = []
        for name in inputs:
            if isinstance(name, Mapping):
                parts.append(["item", item_key(name["stream"], self.id, self.inputs_sha256(name["inputs"]))])
            elif name in ("audio", "video"):
                media = self.media_of(name)
                parts.append([name, media and media.sha256, *self.span_of(name)])
                if media is not None and media.region is not None:
                    parts.append(["region", *media.region])
                if media is not None and media.reading is not None:
                    parts.append(["reading", media.reading])
            elif name == "text":
                parts.append([name, self.text])
            elif name == "words":
                parts.append([name, [[w.word, w.start, w.end] for w in self.words]])
            else:
                raise ValueError(f"unknown input {name!r}")
        return hashlib.sha256(canonical_json(parts)).hexdigest()


def check(corpus: str, utterance: Utterance) -> None:
    """Refuse what no manifest may hold.

    Args:
        corpus: its name, for the message.
        utterance: to be checked.

    Raises:
        EmocacheError: an id that cannot be one, a path that leaves the corpus folder, a number that is not finite, a
            region outside the picture, or a track whose times do not increase.
    """
    where = f"corpus {corpus!r}: utterance {utterance.id!r}"
    if not 0 < len(utterance.id) <= _MAX_ID or not utterance.id.isprintable():
        raise EmocacheError(f"{where}: an id is 1 to {_MAX_ID} printable characters")
    for path in [utterance.id, *(m.path for m in utterance.media)]:
        parts = PurePosixPath(path.replace("\\", "/"))
        if ".." in parts.parts or (path is not utterance.id and parts.is_absolute()):
            raise EmocacheError(f"{where}: {path!r} leaves the corpus folder; ids and paths may not hold '..'")
    spans = [seconds for m in utterance.media for seconds in (m.start, m.end)]
    for seconds in (utterance.start, utterance.end, utterance.duration, *spans):
        if seconds is not None and not math.isfinite(seconds):
            raise EmocacheError(f"{where}: start, end or duration is {seconds}; leave it empty if unknown")
    for region in (m.region for m in utterance.media if m.region is not None):
        if len(region) != 4 or not (0 <= region[0] < region[2] <= 1 and 0 <= region[1] < region[3] <= 1):
            raise EmocacheError(f"{where}: region {region} is not left, top, right, bottom, each 0 to 1")
    for word in utterance.words:
        if not (math.isfinite(word.start) and math.isfinite(word.end)):
            raise EmocacheError(f"{where}: word {word.word!r} has times {word.start} to {word.end}; drop it")
    for name, value in utterance.labels.items():
        if value is not None and not isinstance(value, str) and not math.isfinite(value):
            raise EmocacheError(f"{where}: label {name!r} is {value}; leave missing labels empty")
    for name, track in utterance.tracks.items():
        if track.times.shape != track.values.shape or track.times.ndim != 1:
            raise EmocacheError(f"{where}: track {name!r} has {track.times.shape} times, {track.values.shape} values")
        if not (np.isfinite(track.times).all() and np.isfinite(track.values).all()):
            raise EmocacheError(f"{where}: track {name!r} holds NaN or infinity; drop those stamps")
        if (np.diff(track.times) <= 0).any():
            raise EmocacheError(f"{where}: the times of track {name!r} do not increase")
