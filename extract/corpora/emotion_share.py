"""Emotion Share (HUME-PROSODY) of ComParE 2023: clips of 1 to 8 s, each with the shares of nine emotions.

Schuller et al. 2023, "The ACM Multimedia 2023 Computational Paralinguistics Challenge: Emotion Share & Requests".
"""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...cache import EmocacheError, Manifest, Utterance
from .files import MediaHasher, Published, media, media_files, one_per_stem
from .table_file import finite_number, read_table

_EMOTIONS = (
    "Anger",
    "Boredom",
    "Calmness",
    "Concentration",
    "Determination",
    "Excitement",
    "Interest",
    "Sadness",
    "Tiredness",
)
_SPLITS = {"train": "train", "devel": "valid", "test": "test"}
PUBLISHED = Published(
    utterances=51_813,
    speakers=None,
    classes={},
    splits={"train": 31_745, "valid": 9_925, "test": 10_143},
    source="Schuller et al. 2023: train 31,745, devel 9,925 and test 10,143 clips",
)


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each row of lab/train.csv, lab/devel.csv (split "valid") and lab/test.csv, those that exist.

    The labels are `anger` to `tiredness`, shares of 0 to 1. The owner masks those of the test clips, which then have
    none; lab/test.unmasked.csv is read instead where it is there. Speakers are not published. Recordings are found by
    their names in wav/ or else deeper (raw/wav/); id is the name without .wav.

    Args:
        root: the folder with lab/ and wav/, or the one that holds it as data/.
        mapping: nothing.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no table in lab/, a table without the nine columns, a share that is no number where it must be
            one, or a recording that is not there.
    """
    del mapping
    lab = next((lab for lab in (root / "lab", root / "data" / "lab") if lab.is_dir()), root)
    sources = {part: _source(lab, part) for part in _SPLITS}
    rows = [(part, *row) for part, source in sources.items() if source.is_file() for row in _rows(source)]
    if not rows:
        raise EmocacheError(f"corpus emotionshare: no lab/train.csv, lab/devel.csv or lab/test.csv in {root}")
    files = one_per_stem(media_files(root, notes=hasher.notes))
    missing = [stem for _, stem, _ in rows if stem not in files]
    if missing:
        raise EmocacheError(
            f"corpus emotionshare: {len(missing)} of the {len(rows)} recordings in {lab} are not below {root} (first:"
            f" {', '.join(missing[:3])}); unpack all of wav/ or remove their rows"
        )
    probes = hasher.probe(files[stem] for _, stem, _ in rows)
    return Manifest.from_utterances(
        "emotionshare",
        [
            Utterance(
                id=stem,
                media=(media(root, files[stem], "audio", probes),),
                duration=probes[files[stem]].duration,
                split=_SPLITS[part],
                labels=labels,
            )
            for part, stem, labels in rows
        ],
    )


def _source(lab: Path, part: str) -> Path:
    unmasked = lab / f"{part}.unmasked.csv"
    return unmasked if unmasked.is_file() else lab / f"{part}.csv"


def _rows(source: Path) -> Iterator[tuple[str, dict[str, float | None]]]:
    """(recording, {emotion: share}) of every row."""
    columns = read_table(source)
    files = next(iter(columns.values()))
    absent = [name for name in _EMOTIONS if name not in columns]
    if absent:
        raise EmocacheError(f"{source} has no column {', '.join(absent)}; it has: {', '.join(columns)}")
    for row, file in enumerate(files):
        labels = {name.lower(): finite_number(columns[name][row] or "") for name in _EMOTIONS}
        unread = [name for name in _EMOTIONS if labels[name.lower()] is None]
        if unread and source.name != "test.csv":
            cell = columns[unread[0]][row]
            raise EmocacheError(f"{source}, row {row + 1} ({file}): {unread[0]} is {cell!r}, which is not a number")
        yield unicodedata.normalize("NFC", Path(file or "").stem), labels
