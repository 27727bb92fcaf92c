"""MSP-Podcast: segments of podcasts, named MSP-PODCAST_0001_0008.wav, and one table with what raters agreed on.

Lotfian & Busso 2019, "Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional Speech from
Existing Podcast Recordings". Folders, columns, letters and partitions are those that the owner's baseline reads,
msplabresearch/MSP-Podcast_Challenge (README.md, utils/data/podcast.py, process_labels_for_categorical.py), as is
"Unknown" for a speaker. One text a segment in Transcripts/ is what readers of others find there.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...cache import EmocacheError, Manifest, Utterance
from ...cache.hints import did_you_mean
from .files import MediaHasher, media, media_files, one_per_stem, read_lines
from .table_file import finite_number, read_table
from .walking import find_files

_TABLE = "labels_consensus.csv"
_EMOTIONS = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprised",
    "F": "fearful",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
}
_NO_CLASS = {"O": "other", "X": "no agreement"}
_ATTRIBUTES = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
_COLUMNS = ("FileName", "EmoClass", *_ATTRIBUTES, "SpkrID", "Gender", "Split_Set")
_SPLITS = {"Train": "train", "Development": "valid", "Test1": "test", "Test2": "test", "Test3": "test"}
_WITHHELD = "Test3"  # the owner gives its segments out without labels
_GENDERS = {"male": "male", "female": "female"}
_Row = Mapping[str, str | None]

NOT_KNOWN = (
    "the segments, speakers and hours of your release: hold what is found against the readme that came with it",
    f"labels of {_WITHHELD}, which some releases may have: segments with any are counted under its labels",
    "the content of SpkrID where a speaker is not told, other than Unknown: look for it among the speakers",
)
"""What no public source tells, for `emocache corpora` to ask of whoever has the corpus."""


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each row of Labels/labels_consensus.csv; id is the file's name without .wav.

    `code` is the letter of EmoClass, and `emotion` the class of eight of them; O (other) and X (no agreement) are no
    class, and have none. `arousal`, `valence` and `dominance` are EmoAct, EmoVal and EmoDom, means of 1 to 7.
    `partition` is Split_Set: Train, Development (split "valid"), Test1, Test2, Test3 (all split "test"). Whatever of a
    label in Test3 is not such a letter or number is withheld, and missing. A speaker "Unknown" is none. Texts are those
    of Transcripts/<id>.txt, where they are.

    Args:
        root: the folder with Audios/, Labels/ and, where wanted, Transcripts/.
        mapping: empty: this corpus takes none.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no table or several, a column that is not there, a row without a file name, a partition, letter
            or number that is none, or a recording that is not there.
    """
    del mapping
    source = _table(root)
    rows = list(_rows(source))
    files = one_per_stem(media_files(root, notes=hasher.notes))
    missing = [id_ for id_, _ in rows if id_ not in files]
    if missing:
        raise EmocacheError(
            f"corpus msp-podcast: {len(missing)} of the {len(rows)} recordings in {source} are not below {root} (first:"
            f" {', '.join(missing[:3])}); unpack all of Audios/ there, or remove their rows"
        )
    texts = one_per_stem(p for p in media_files(root, frozenset((".txt",))) if "Transcripts" in p.parts)
    probes = hasher.probe(files[id_] for id_, _ in rows)
    return Manifest.from_utterances(
        "msp-podcast",
        [
            Utterance(
                id=id_,
                media=(media(root, files[id_], "audio", probes),),
                duration=probes[files[id_]].duration,
                speaker=None if row["SpkrID"] == "Unknown" else row["SpkrID"],
                language="en",
                gender=_GENDERS.get((row["Gender"] or "").lower()),
                split=_SPLITS[_partition(source, id_, row)],
                text=" ".join(" ".join(read_lines(texts[id_])).split()) or None if id_ in texts else None,
                labels=_labels(source, id_, row),
            )
            for id_, row in rows
        ],
    )


def _table(root: Path) -> Path:
    """The nearest one to the root: unpacking may nest Labels/ in another folder of that name."""
    found = sorted(find_files(root, lambda name: name == _TABLE), key=lambda path: (len(path.parts), path))
    if not found:
        raise EmocacheError(f"corpus msp-podcast: no Labels/{_TABLE} below {root}; give the folder that holds Audios"
                            " and Labels, such as MSP-PODCAST-1.11, with --data")  # fmt: skip
    same = [path for path in found if len(path.parts) == len(found[0].parts)]
    if len(same) > 1:
        told = ", ".join(path.relative_to(root).as_posix() for path in same)
        raise EmocacheError(f"corpus msp-podcast: several tables in {root} ({told}); give the folder of one release"
                            " with --data")  # fmt: skip
    return found[0]


def _rows(source: Path) -> Iterator[tuple[str, _Row]]:
    """(id, {column: cell}) of every row."""
    columns: Mapping[str, list[Any]] = read_table(source)
    absent = [name for name in _COLUMNS if name not in columns]
    if absent:
        raise EmocacheError(
            f"corpus msp-podcast: {source} has no column {', '.join(absent)}; it has: {', '.join(columns)};"
            f" take {_TABLE} as it is given out"
        )
    for number, cells in enumerate(zip(*(columns[name] for name in _COLUMNS), strict=True)):
        row = {name: str(cell).strip() or None for name, cell in zip(_COLUMNS, cells, strict=True) if cell is not None}
        row = dict.fromkeys(_COLUMNS) | row
        if row["FileName"] is None:
            raise EmocacheError(f"corpus msp-podcast: {source}, row {number + 1}: FileName is empty")
        yield unicodedata.normalize("NFC", Path(row["FileName"]).stem), row


def _partition(source: Path, id_: str, row: _Row) -> str:
    name = row["Split_Set"] or ""
    if name not in _SPLITS:
        raise EmocacheError(
            f"corpus msp-podcast: {source}, {id_}: Split_Set {name!r} is none of {', '.join(_SPLITS)};"
            f" {did_you_mean(name, _SPLITS)}correct it, or remove the row"
        )
    return name


def _labels(source: Path, id_: str, row: _Row) -> dict[str, str | float | None]:
    withheld = row["Split_Set"] == _WITHHELD
    letter = row["EmoClass"]
    if letter not in _EMOTIONS and letter not in _NO_CLASS:
        if letter is not None and not withheld:
            known = ", ".join(f"{code} {name}" for code, name in (_EMOTIONS | _NO_CLASS).items())
            raise EmocacheError(f"corpus msp-podcast: {source}, {id_}: EmoClass {letter!r} is none of {known}")
        letter = None
    labels: dict[str, str | float | None] = {"partition": row["Split_Set"], "code": letter}
    labels["emotion"] = _EMOTIONS.get(letter or "")
    for column, label in _ATTRIBUTES.items():
        cell = row[column]
        labels[label] = None if cell is None else finite_number(cell)
        if cell is not None and labels[label] is None and not withheld:
            raise EmocacheError(f"corpus msp-podcast: {source}, {id_}: {column} is {cell!r}, which is not a number")
    return labels
