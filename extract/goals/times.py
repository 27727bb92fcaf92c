"""The time that encoders take: from what earlier runs recorded, else a guess from the size of their models."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..encoders.registry import REGISTRY
from .passes import Making
from .rates import setting

# Multiply-adds a second: of a core, of which more than some help little, and of a GPU that a host keeps half busy.
_CORE, _MOST_CORES, _GPU = 2e10, 8, 3e12
_LIKE_LARGE = (1024, 24, 50.0)  # dim, layers and frames a second of a model that nobody knows
_TOKENS = 4.0  # in a second of speech
_SIGNALS = {  # seconds of media a second on a small CPU
    **dict.fromkeys(("logmel", "mfcc", "mfcc39", "mfcc-code", "spectrogram", "spectrogram-code"), 350.0),
    **dict.fromkeys(("egemaps", "egemaps-functionals"), 60.0),
    **dict.fromkeys(("alexnet", "glove"), 150.0),
}
_DECODING = 350.0  # seconds of sound a second: no encoder is faster than that
_PICTURES = ("face-boxes", "face-dlib", "vgg-face", "marlin", "picture", "picture-whole")
_PICTURE = (0.08, 5e9)  # seconds to find the face in one, on a CPU; multiply-adds to encode it
_FRAMES = 25.0  # pictures a second of most video
_WINDOWS = {  # many times what the clip's own length would take, for clips of some seconds
    **dict.fromkeys(("whisper", "whisper-padded", "whisper-overlap"), 6.0),
    **dict.fromkeys(("transcript", "transcript-15s"), 20.0),
    "whisper-clip": 0.7,
    "wav2vec2-10s": 2.0,
}


@dataclass(frozen=True)
class Work:
    """An encoder that goes over the media of a corpus, for one stream or for several.

    Attributes:
        encoder: its name. weights: the name of the checkpoint that it is a variant of.
        text_from: the name of the stream that its texts are from; "" where there is none.
        how: what its name does not tell, but for `fit_on`.
        media: seconds that are left to encode.
    """

    encoder: str
    weights: str
    text_from: str
    how: Making
    media: float

    @property
    def once(self) -> tuple[str, str, Making]:
        """The things that streams must have in common to be encoded at once."""
        return self.encoder, self.text_from, self.how


@dataclass(frozen=True)
class Time:
    """The time that is left for something.

    Attributes:
        seconds: as far as one can tell.
        guessed: nothing of that kind was recorded here.
        shared: it is counted with another stream already.
    """

    seconds: float = 0.0
    guessed: bool = False
    shared: bool = False


def times(works: Iterable[Sequence[Work]], rates: Mapping[str, float], gpu: bool) -> list[Time]:
    """Tell the time that streams take, each encoder once.

    Args:
        works: of each stream.
        rates: {setting: seconds of media a second}, of earlier runs.
        gpu: whether there is one.

    Returns:
        The time of each; what an earlier one takes already is not counted again.
    """
    told: set[tuple[str, str, Making]] = set()
    found = []
    for own in works:
        left = [work for work in own if work.media > 0]
        fresh = [work for work in left if work.once not in told]
        told |= {work.once for work in fresh}
        known = [rates.get(setting(work.encoder, work.how)) for work in fresh]
        took = [work.media / (rate or guess(work, gpu)) for work, rate in zip(fresh, known, strict=True)]
        found.append(Time(sum(took), None in known, bool(left) and not fresh))
    return found


def of_signals(rates: Mapping[str, float]) -> dict[str, float]:
    """Return those of signal transforms, which run on the CPU whatever the device."""
    known = {name for name, entry in REGISTRY.items() if entry.family in _SIGNALS}
    return {key: rate for key, rate in rates.items() if key.partition(",")[0] in known}


def guess(work: Work, gpu: bool, cores: int | None = None) -> float:
    """Guess how many seconds of media an encoder goes over in a second; right to a factor of three, with luck.

    Args:
        work: of the encoder.
        gpu: whether models run on one.
        cores: of the CPU; None: of this one.

    Returns:
        The guess.
    """
    entry, base = REGISTRY.get(work.encoder), REGISTRY.get(work.weights)
    family = entry.family if entry is not None else ""
    if family in _SIGNALS:
        return _SIGNALS[family]
    speed = _GPU if gpu else _CORE * min(cores or os.cpu_count() or 1, _MOST_CORES)
    if family in _PICTURES:
        pictures = min(work.how.fps or _FRAMES, _FRAMES)
        return 1 / (pictures * (_PICTURE[0] / work.how.detect_every + _PICTURE[1] / speed))
    dim, layers, rate = (
        _LIKE_LARGE if base is None or not base.layers else (base.dim, base.layers, base.rate or _TOKENS)
    )
    adds = 12 * layers * dim * dim * rate * _WINDOWS.get(family, 1.5)
    return 1 / (1 / _DECODING + adds / speed)


def about(seconds: float) -> str:
    """Say a time as roughly as it is known.

    >>> about(20), about(250), about(3000), about(7700), about(40000), about(400000)
    ('under a minute', '4 min', '50 min', '2 h 10 min', '11 h', '5 days')
    """
    minutes = seconds / 60
    if minutes < 1:
        return "under a minute"
    if minutes < 9.5:
        return f"{round(minutes)} min"
    if minutes < 57.5:
        return f"{5 * round(minutes / 5)} min"
    hours, tens = divmod(round(minutes / 10), 6)
    if hours < 10:
        return f"{hours} h" + (f" {tens * 10} min" if tens else "")
    return f"{round(minutes / 60)} h" if minutes < 48 * 60 else f"{round(minutes / 1440)} days"


def roughly(seconds: float) -> str:
    """Say a guess: more roughly still.

    >>> roughly(20), roughly(250), roughly(3000), roughly(7700), roughly(400000)
    ('under a minute', '4 min', '50 min', '2 h', '5 days')
    """
    hours = seconds / 3600
    if 57.5 / 60 <= hours < 10:
        return f"{max(1, round(hours))} h"
    if 9.5 / 60 <= hours < 57.5 / 60:
        return f"{min(50, max(10, 10 * round(hours * 6)))} min"
    return about(seconds)
