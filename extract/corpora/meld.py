"""MELD: utterances of scenes from Friends, named dia0_utt0.mp4 in a folder for each part, and a table for each part.

Poria et al. 2019, "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations". Columns and rows
are those of declare-lab/MELD, data/MELD/{train,dev,test}_sent_emo.csv; the folders, those that public readers of
MELD.Raw name: train_splits, dev_splits_complete, output_repeated_splits_test.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cache import EmocacheError, Manifest, Utterance
from ..media.audio import VIDEO_SUFFIXES
from .files import MediaHasher, Published, media_files
from .table import utterances
from .table_file import read_table
from .walking import find_files

_PARTS = {"train": "train", "dev": "valid", "test": "test"}
_EMOTIONS = {
    "neutral": "neutral",
    "joy": "happy",
    "surprise": "surprised",
    "anger": "angry",
    "sadness": "sad",
    "disgust": "disgust",
    "fear": "fearful",
}
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
_FIELDS = {"speaker": "Speaker", "text": "Utterance", "label.sentiment": "Sentiment", "label.emotion": "emotion"}
_CLIP = re.compile(r"dia\d+_utt\d+")
# Public readers find that the archives lack the one, and that the other cannot be decoded.
_KNOWN_TO_LACK = {"dia110_utt7-dev", "dia125_utt3-train"}

PUBLISHED = Published(
    utterances=13_708,
    speakers=None,
    classes={},
    splits={"train": 9_989, "valid": 1_109, "test": 2_610},
    source="the tables of declare-lab/MELD",
)


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each row of the three tables; id is the clip and the part, such as dia0_utt0-train.

    Dialogues and utterances are numbered from 0 in each part, so neither is unique without it. `session` is the
    dialogue. StartTime and EndTime are of the episode, of which there is no recording, and are left out. A clip of the
    two that the archives are known to lack has no utterance where it is not there, which is told. Speakers are the
    characters, who are in all parts.

    Args:
        root: the folder with the tables and the parts' folders, as the archives unpack; MELD.Raw.
        mapping: empty: this corpus takes none.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no table, a column that is not there, an unknown emotion, or clips that are not there.
    """
    del mapping
    tables: dict[str, Path] = {}
    for path in sorted(find_files(root, lambda name: name.endswith("_sent_emo.csv")), key=lambda p: (len(p.parts), p)):
        tables.setdefault(path.name.partition("_")[0], path)
    clips = _clips(root, hasher.notes)
    rows = [row for part in _PARTS if part in tables for row in _utterances(root, part, tables[part], clips, hasher)]
    if not rows:
        raise EmocacheError(f"corpus meld: no train_sent_emo.csv, dev_sent_emo.csv or test_sent_emo.csv below {root};"
                            " give the folder with MELD's tables and clips, such as MELD.Raw, with --data")  # fmt: skip
    return Manifest.from_utterances("meld", rows)


def _clips(root: Path, notes: list[str]) -> dict[str, Path]:
    """{clip and part: file}; the part is a word in the name of the nearest folder that has one. Video counts first."""
    found: dict[str, Path] = {}
    files = media_files(root, notes=notes)
    for path in sorted(files, key=lambda p: (p.suffix.lower() not in VIDEO_SUFFIXES, len(p.parts), str(p))):
        folders = reversed(path.relative_to(root).parts[:-1])
        words = (word for folder in folders for word in re.split(r"[^a-z]+", folder.lower()))
        part = next((word for word in words if word in _PARTS), None)
        if part is not None and _CLIP.fullmatch(path.stem):
            found.setdefault(f"{path.stem}-{part}", path)
    return found


def _utterances(root: Path, part: str, source: Path, clips: Mapping[str, Path], hasher: MediaHasher) -> list[Utterance]:
    """The utterances of one part, by the `table` corpus."""
    columns: dict[str, list[Any]] = read_table(source)
    absent = [name for name in _COLUMNS if name not in columns]
    if absent:
        raise EmocacheError(f"corpus meld: {source} has no column {', '.join(absent)}; it has: {', '.join(columns)};"
                            " take the table of declare-lab/MELD")  # fmt: skip
    numbers = zip(columns["Dialogue_ID"], columns["Utterance_ID"], strict=True)
    columns["id"] = [f"dia{dialogue}_utt{utterance}-{part}" for dialogue, utterance in numbers]
    columns["session"] = [f"dia{dialogue}-{part}" for dialogue in columns["Dialogue_ID"]]
    columns["emotion"] = [_emotion(source, *pair) for pair in zip(columns["id"], columns["Emotion"], strict=True)]
    columns["split"] = [_PARTS[part]] * len(columns["id"])
    columns["language"] = ["en"] * len(columns["id"])
    missing = [id_ for id_ in columns["id"] if id_ not in clips]
    if lacking := set(missing) - _KNOWN_TO_LACK:
        first = ", ".join([id_.removesuffix(f"-{part}") for id_ in missing if id_ in lacking][:3])
        raise EmocacheError(
            f"corpus meld: {len(lacking)} of the {len(columns['id'])} clips of {source.name} are in no folder of"
            f" {root} that is called {part} or {part}_... (first: {first}.mp4); unpack all of {part}.tar.gz there, or"
            " remove their rows"
        )
    hasher.notes.extend(f"{id_} is not in the archives, and is left out" for id_ in missing)
    kept = [id_ in clips for id_ in columns["id"]]
    columns = {name: [cell for cell, keep in zip(c, kept, strict=True) if keep] for name, c in columns.items()}
    columns["file"] = [clips[id_].relative_to(root).as_posix() for id_ in columns["id"]]
    return utterances(source, root, columns, _FIELDS, hasher)


def _emotion(source: Path, id_: str, cell: str | None) -> str:
    if cell is None or cell.strip().lower() not in _EMOTIONS:
        raise EmocacheError(f"corpus meld: {source}, {id_}: Emotion {cell!r} is none of {', '.join(_EMOTIONS)}")
    return _EMOTIONS[cell.strip().lower()]
