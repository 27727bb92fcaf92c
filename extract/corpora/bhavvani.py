"""BhavVani, Hindi: clips of a television comedy, named train_..., val_... and test_..., with one table of labels.

Goel et al. 2024, "Exploring Multilingual Unseen Speaker Emotion Recognition", section 3.2. The corpus is given out on
request; what its files are called stands in the loader of NLP-SBILAB/CAMuLeNet, the names of most columns do not.
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from ...cache import EmocacheError, Manifest, Utterance
from ..media.audio import VIDEO_SUFFIXES
from .files import MediaHasher, Published, media, media_files, one_per_stem
from .table_file import find_table, read_table

_NAME = re.compile(r"(train|val|test)_.+")
_SPLITS = {"train": "train", "val": "valid", "test": "test"}
_EMOTIONS = {
    "neutral": "neutral",
    "anger": "angry",
    "fear": "fearful",
    "surprise": "surprised",
    "enjoyment": "happy",
    "contempt": "contempt",
    "sadness": "sad",
    "disgust": "disgust",
}
_GENDERS = {"m": "male", "male": "male", "f": "female", "female": "female"}
_NEEDED = ("file", "emotion")
_FIELDS = (*_NEEDED, "gender", "character", "text")
_Row = Mapping[str, str | None]
PUBLISHED = Published(
    utterances=8734,
    speakers=6,
    classes={},
    source="Goel et al. 2024, section 3.2; five characters and Others",
)


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each clip in Data/ (.wav) and Data_/ (.mp4) that are joined by their stems; id is the stem.

    Its "audio" is the .wav or else the .mp4's own sound, its "video" the .mp4, and its split is in its name. The
    speaker is the character; all minor ones are called Others and are one speaker. `emotion` has the eight of the
    annotators, and `emotion7` the seven of the paper, with contempt counted as disgust.

    Args:
        root: the folder with Data/, Data_/ or both, and the table.
        mapping: {field: column} for `file` (the clip's .mp4), `emotion`, `gender`, `character` and `text`, where the
            column is not called that; `table=FILE` where the table is not final_annotation.csv.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no clip or no table below `root`, an unknown field, a column that is not there, two different
            rows of one clip, a clip without a row, or an unknown emotion.
    """
    files = media_files(root, notes=hasher.notes)
    seen = one_per_stem(path for path in files if path.suffix.lower() in VIDEO_SUFFIXES)
    heard = seen | one_per_stem(path for path in files if path.suffix.lower() not in VIDEO_SUFFIXES)
    clips = sorted(stem for stem in heard if _NAME.fullmatch(stem))
    if not clips:
        raise EmocacheError(f"corpus bhavvani: no file named like Data/train_....wav or Data_/val_....mp4 below {root};"
                            " give the corpus's own folder with --data")  # fmt: skip
    _check_fields(mapping)
    source = find_table(root, mapping.get("table", "final_annotation.csv"))
    rows = _rows(source, mapping)
    bare = [clip for clip in clips if clip not in rows]
    if bare:
        raise EmocacheError(
            f"corpus bhavvani: {len(bare)} of {len(clips)} clips have no row in {source.name} (first:"
            f" {', '.join(bare[:3])}); is file={mapping.get('file', 'file')} the column with the clips' names?"
        )
    probes = hasher.probe({path for clip in clips for path in (heard[clip], seen.get(clip)) if path is not None})
    utterances = []
    for clip in clips:
        roles = {"audio": heard[clip]} | ({"video": seen[clip]} if clip in seen else {})
        row = rows[clip]
        emotion = _emotion(source, clip, row["emotion"])
        utterances.append(
            Utterance(
                id=clip,
                media=tuple(media(root, path, role, probes) for role, path in roles.items()),
                duration=probes[heard[clip]].duration,
                speaker=row["character"],
                language="hi",
                gender=_GENDERS.get((row["gender"] or "").lower()),
                split=_SPLITS[clip.partition("_")[0]],
                text=row["text"],
                labels={"emotion": emotion, "emotion7": "disgust" if emotion == "contempt" else emotion},
            )
        )
    return Manifest.from_utterances("bhavvani", utterances)


def _check_fields(mapping: Mapping[str, str]) -> None:
    for field, column in mapping.items():
        if field not in (*_FIELDS, "table"):
            raise EmocacheError(
                f"--map {field}={column}: there is no field {field!r}; there are: {', '.join(_FIELDS)}, table"
            )


def _rows(source: Path, mapping: Mapping[str, str]) -> dict[str, _Row]:
    """{clip: {field: cell}}; cells of a field that has no column are None."""
    columns = read_table(source)
    for field in _FIELDS:
        column = mapping.get(field, field)
        if column not in columns and (field in mapping or field in _NEEDED):
            raise EmocacheError(
                f"corpus bhavvani: {source.name} has no column {column!r}; it has: {', '.join(columns)};"
                f" say which one it is with --map {field}=COLUMN"
            )
    nothing = [None] * len(next(iter(columns.values())))
    rows: dict[str, _Row] = {}
    for cells in zip(*(columns.get(mapping.get(field, field), nothing) for field in _FIELDS), strict=True):
        file, *rest = (None if cell is None else str(cell).strip() or None for cell in cells)
        row = dict(zip(_FIELDS[1:], rest, strict=True))
        if file is not None and rows.setdefault(unicodedata.normalize("NFC", Path(file).stem), row) != row:
            raise EmocacheError(f"corpus bhavvani: {source.name} has two different rows of {file}; keep one")
    return rows


def _emotion(source: Path, clip: str, cell: str | None) -> str | None:
    if cell is not None and cell.lower() not in _EMOTIONS:
        raise EmocacheError(
            f"corpus bhavvani: {source.name}, {clip}: emotion {cell!r} is none of {', '.join(_EMOTIONS)}"
        )
    return _EMOTIONS[cell.lower()] if cell else None
