"""Renders the demo corpus. Run as a child process, because eSpeak's state outlives a call and would differ in another.

python -m emocache.extract.corpora.demo_render FOLDER
"""

import hashlib
import io
import json
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.errors import EmocacheError
from .demo_sentences import CULTURES, SENTENCES, UNSPACED
from .espeak import Espeak, SpokenWord

VERSION = 1  # of everything below; another one renders into another folder
SAMPLE_RATE = 16000
TRACK_RATE = 10  # Hz
_CLIPS_PER_EMOTION = 3
_SPLITS = ("train", "train", "train", "valid", "test")  # of the speakers of each culture

# Where each emotion lies on valence and arousal, both in -1..1.
EMOTIONS = {"angry": (-0.65, 0.6), "happy": (0.7, 0.55), "neutral": (0.1, -0.05), "sad": (-0.5, -0.7)}
_CENTRE_SPREAD = 0.2  # of a clip's centre around its emotion's, standard deviation
_SWING = 0.45  # how far valence and arousal wander inside a clip
_RATER_NOISE = 0.03


@dataclass(frozen=True, slots=True)
class Speaker:
    """A synthetic speaker: a voice, and offsets of their own."""

    id: str
    language: str
    gender: str
    split: str
    voice: str
    pitch: float  # on eSpeak's scale of 0 to 99
    range: float  # same scale
    rate: float  # words per minute
    level: float  # dB
    noise: float  # dB below full scale, of the room


def speakers() -> list[Speaker]:
    """Five speakers of each culture, women and men in turn."""
    found = []
    for c, language in enumerate(SENTENCES):
        for s, split in enumerate(_SPLITS):
            rng = np.random.default_rng([VERSION, c, s])
            gender = ("female", "male")[(c + s) % 2]
            found.append(
                Speaker(
                    id=f"{language}-{s + 1:02d}",
                    language=language,
                    gender=gender,
                    split=split,
                    voice=f"{language}+{gender[0]}{1 + (s // 2 + c) % 3}",
                    pitch=rng.uniform(-5, 5),
                    range=rng.uniform(-12, 12),
                    rate=rng.uniform(160, 190),
                    level=rng.uniform(-1, 1),
                    noise=rng.uniform(-56, -52),
                )
            )
    return found


def render(folder: Path) -> None:
    """Write every clip below `folder`, and `clips.json` last.

    Args:
        folder: is made where it is not there.

    Raises:
        EmocacheError: eSpeak NG is missing or broken.
    """
    espeak = Espeak()
    clips = []
    for index, speaker in enumerate(speakers()):
        order = np.random.default_rng([VERSION, 1000, index]).permuted(np.tile(np.arange(8), 2))
        for number, (emotion, take) in enumerate(_takes()):
            rng = np.random.default_rng([VERSION, 2000, index, number])
            espeak.seed(int(rng.integers(1 << 31)))
            clip_id = f"{speaker.id}-{emotion}-{take}"
            sentence = SENTENCES[speaker.language][order[number]]
            clips.append(_render_clip(espeak, speaker, clip_id, emotion, sentence.split(" "), rng, folder))
    document = {"version": VERSION, "clips": clips}
    (folder / "clips.json").write_text(json.dumps(document, ensure_ascii=False, indent=0), encoding="utf-8")


def _takes() -> Iterator[tuple[str, int]]:
    for take in range(1, _CLIPS_PER_EMOTION + 1):
        for emotion in EMOTIONS:
            yield emotion, take


def _render_clip(
    espeak: Espeak,
    speaker: Speaker,
    clip_id: str,
    emotion: str,
    words: list[str],
    rng: np.random.Generator,
    folder: Path,
) -> dict[str, Any]:
    centre = np.asarray(EMOTIONS[emotion]) + rng.normal(0, _CENTRE_SPREAD, 2)
    feeling = np.clip(centre + _SWING * _wander(len(words), rng), -1, 1)  # (words, 2): valence, arousal
    speech = espeak.say(speaker.voice, _prosody(speaker, words, feeling, rng))
    stamps = np.arange(int(speech.samples.size / espeak.sample_rate * TRACK_RATE) + 1) / TRACK_RATE
    middles = [(start + end) / 2 for start, end in speech.words]
    tracks = np.stack([np.interp(stamps, middles, feeling[:, k]) for k in (0, 1)])
    data = _wav(_sound(speaker, speech.samples, espeak.sample_rate, stamps, tracks, rng))
    (folder / f"{clip_id}.wav").write_bytes(data)
    rated = np.clip(tracks + rng.normal(0, _RATER_NOISE, tracks.shape), -1, 1).round(4)
    bare = [word.strip(".,。，") for word in words]
    return {
        "id": clip_id,
        "file": f"{clip_id}.wav",
        "sha256": hashlib.sha256(data).hexdigest(),
        "speaker": speaker.id,
        "culture": CULTURES[speaker.language],
        "language": speaker.language,
        "gender": speaker.gender,
        "split": speaker.split,
        "text": ("" if speaker.language in UNSPACED else " ").join(words),
        "words": [[w, round(s, 3), round(e, 3)] for w, (s, e) in zip(bare, speech.words, strict=True)],
        "emotion": emotion,
        "times": stamps.tolist(),
        "valence": rated[0].tolist(),
        "arousal": rated[1].tolist(),
    }


def _prosody(
    speaker: Speaker, words: list[str], feeling: npt.NDArray[np.float64], rng: np.random.Generator
) -> list[SpokenWord]:
    """Choose how each word is said: arousal raises pitch, range and rate; valence raises pitch and range."""
    pitch_slip, range_slip, rate_slip = rng.normal(0, (2, 6, 0.04))
    return [
        SpokenWord(
            text=word,
            pitch=_whole(48 + speaker.pitch + pitch_slip + 16 * valence + 15 * arousal, 2, 98),
            range=_whole(50 + speaker.range + range_slip + 30 * valence + 15 * arousal, 2, 98),
            rate=_whole(speaker.rate * (1 + rate_slip + 0.06 * valence + 0.22 * arousal), 90, 400),
        )
        for word, (valence, arousal) in zip(words, feeling, strict=True)
    ]


def _sound(
    speaker: Speaker,
    speech: npt.NDArray[np.int16],
    sample_rate: int,
    stamps: npt.NDArray[np.float64],
    tracks: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """(n,) float64 at 16 kHz: arousal makes the speech louder, valence softer, and the room adds its noise."""
    import soxr

    samples = soxr.resample(speech.astype(np.float64) / 32768, sample_rate, SAMPLE_RATE, quality="VHQ")
    valence, arousal = (np.interp(np.arange(samples.size) / SAMPLE_RATE, stamps, track) for track in tracks)
    level = speaker.level + rng.normal(0, 0.5) - 10 - 4 * valence + 8 * arousal
    noise = rng.normal(0, 10 ** (speaker.noise / 20), samples.size)
    return np.asarray(samples * 10 ** (level / 20) + noise)


def _wander(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(count, 2) slow swings of about unit size around zero, one for valence and one for arousal."""
    cycles, phase, size = rng.uniform(0.4, 1.1, 2), rng.uniform(0, 1, 2), rng.uniform(0.5, 1.2, 2)
    progress = np.linspace(0, 1, count)[:, None]
    swing: npt.NDArray[np.float64] = size * np.sin(2 * np.pi * (cycles * progress + phase))
    return np.asarray(swing - swing.mean(axis=0))


def _whole(value: float, low: int, high: int) -> int:
    return int(min(max(round(value), low), high))


def _wav(samples: npt.NDArray[np.float64]) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes())
    return data.getvalue()


if __name__ == "__main__":
    try:
        render(Path(sys.argv[1]))
    except EmocacheError as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
