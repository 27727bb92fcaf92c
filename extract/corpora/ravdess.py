"""RAVDESS, the speech part: 24 actors, two statements, eight emotions, named 03-01-06-01-02-01-12.wav.

Livingstone & Russo 2018, "The Ryerson Audio-Visual Database of Emotional Speech and Song", section "File naming".
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ...cache import EmocacheError, Manifest, Utterance
from .files import MediaHasher, Probe, Published, media, media_files, one_per_stem

# modality-channel-emotion-intensity-statement-repetition-actor
_NAME = re.compile(r"0[123]-01-0[1-8]-0[12]-0[12]-0[12]-(?:0[1-9]|1\d|2[0-4])")
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
_INTENSITIES = {"01": "normal", "02": "strong"}
PUBLISHED = Published(
    utterances=1440,
    speakers=24,
    classes={"emotion": {emotion: 96 if emotion == "neutral" else 192 for emotion in _EMOTIONS}},
    source="Livingstone & Russo 2018: 24 actors, 60 recordings of speech each; only neutral has no strong intensity",
)


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each recording, whatever mixture of audio-only (03), full (01) and silent (02) files is there.

    Its "audio" is the audio-only file or else the full one, its "video" the full file or else the silent one, and its
    id the stem of the first of these. Songs are left out, and of files that occur twice (Kaggle's archive holds a
    second copy of all) the one nearest to `root` is taken.

    Args:
        root: the corpus folder; media paths are relative to it.
        mapping: empty: this corpus takes none.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no recording below `root`.
    """
    del mapping
    files = {s: p for s, p in one_per_stem(media_files(root, notes=hasher.notes)).items() if _NAME.fullmatch(s)}
    if not files:
        raise EmocacheError(f"corpus ravdess: no file named like Actor_12/03-01-06-01-02-01-12.wav below {root};"
                            " give the corpus's own folder with --data")  # fmt: skip
    probes = hasher.probe(files.values())
    utterances = []
    for performance in sorted({stem[2:] for stem in files}):
        audio, full, silent = (modality + performance for modality in ("03", "01", "02"))
        heard = next((files[s] for s in (audio, full) if s in files), None)
        seen = next((files[s] for s in (full, silent) if s in files), None)
        utterances.append(_utterance(root, heard, seen, probes))
    return Manifest.from_utterances("ravdess", utterances)


def _utterance(root: Path, heard: Path | None, seen: Path | None, probes: Mapping[Path, Probe]) -> Utterance:
    roles = [(role, path) for role, path in (("audio", heard), ("video", seen)) if path is not None]
    first = roles[0][1]
    _, _, emotion, intensity, statement, repetition, actor = first.stem.split("-")
    return Utterance(
        id=first.stem,
        media=tuple(media(root, path, role, probes) for role, path in roles),
        duration=probes[first].duration,
        speaker=actor,
        language="en",
        gender="male" if int(actor) % 2 else "female",
        text=_STATEMENTS[statement],
        labels={
            "emotion": _EMOTIONS[int(emotion) - 1],
            "intensity": _INTENSITIES[intensity],
            "statement": statement,
            "repetition": repetition,
        },
    )
