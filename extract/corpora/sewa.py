"""SEWA as packaged for the cross-cultural sub-challenges of AVEC 2018 and 2019: video chats, rated every 0.1 s.

Ringeval et al. 2019, "AVEC 2019 Workshop and Challenge", section on SEWA; the files are those that
AudioVisualEmotionChallenge/AVEC2019, Baseline_systems/CES, reads.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, Manifest, Track, Utterance
from .files import MediaHasher, Probe, Published, media, media_files, one_per_stem

_NAME = re.compile(r"(Train|Devel|Test)_([A-Z]{2})_\d\d")  # partition, culture
_SPLITS = {"Train": "train", "Devel": "valid", "Test": "test"}
_LANGUAGES = {"DE": "de", "HU": "hu", "CN": "zh"}
_COLUMNS = ("name", "timestamp", "arousal", "valence", "liking")  # of AVEC 2018, whose files have no header

PUBLISHED = Published(
    utterances=200,
    speakers=200,
    classes={
        "partition": {
            "Train_DE": 34,
            "Train_HU": 34,
            "Devel_DE": 14,
            "Devel_HU": 14,
            "Test_DE": 16,
            "Test_HU": 18,
            "Test_CN": 70,
        }
    },
    source="AudioVisualEmotionChallenge/AVEC2019, Baseline_systems/CES/CES_data.py",
)


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each person, the whole recording: whatever of labels/, audio/ and video/ has the person's name.

    Tracks are the gold standard's `arousal`, `valence` and `liking` at their own stamps, as long as they are: where
    labels and media differ in length, neither is cut. Stamps with NaN are left out. The labels of the same names are
    the tracks' means; `partition` is the owner's ("Devel_DE"). Test partitions have no tracks. Which two persons talk
    to each other is not told, so there is no session: folds by speaker may separate the two of a conversation.

    Args:
        root: the folder that holds labels/, audio/ and video/; feature folders beside them are left out.
        mapping: `culture.DE=German` names a culture; without it, the code is the name.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no file with such a name, a label file that cannot be read, or an unknown mapping.
    """
    found = _files(root, hasher.notes)
    names = sorted({name for files in found.values() for name in files if _NAME.fullmatch(name)})
    if not names:
        raise EmocacheError(
            f"corpus sewa: no labels/Train_DE_01.csv, audio/Train_DE_01.wav or the like in {root};"
            " give the folder that holds labels, audio and video of the AVEC 2019 package, or that of the database"
            " itself, with its metadata.ini files"
        )
    cultures = _cultures(mapping, {name.split("_")[1] for name in names})
    probes = hasher.probe(found[role][name] for role in ("audio", "video") for name in names if name in found[role])
    utterances = []
    for name in names:
        files = {kind: paths[name] for kind, paths in found.items() if name in paths}
        utterances.append(_utterance(root, name, files, probes, cultures))
    return Manifest.from_utterances("sewa", utterances)


def packaged_by_avec(root: Path) -> bool:
    """Tell whether a folder has labels, audio or video of persons as the package names them."""
    return any(_NAME.fullmatch(name) for files in _files(root).values() for name in files)


def _files(root: Path, notes: list[str] | None = None) -> dict[str, dict[str, Path]]:
    """{kind: {name: file}}."""
    return {
        "labels": {path.stem: path for path in sorted((root / "labels").glob("*.csv"))},
        "audio": one_per_stem(media_files(root / "audio", notes=notes)),
        "video": one_per_stem(media_files(root / "video", notes=notes)),
    }


def _cultures(mapping: Mapping[str, str], codes: Iterable[str]) -> dict[str, str]:
    names = {code: code for code in sorted(codes)}
    for key, value in mapping.items():
        code = key.removeprefix("culture.")
        if key == code or code not in names:
            known = ", ".join(f"culture.{code}" for code in names)
            raise EmocacheError(f"--map {key}={value}: there is no {key!r} in this folder; there are: {known}")
        names[code] = value
    return names


def _utterance(
    root: Path, name: str, files: Mapping[str, Path], probes: Mapping[Path, Probe], cultures: Mapping[str, str]
) -> Utterance:
    roles = [role for role in ("audio", "video") if role in files]
    tracks = read_labels(files["labels"]) if "labels" in files else {}
    partition, code, _ = name.split("_")
    return Utterance(
        id=name,
        media=tuple(media(root, files[role], role, probes) for role in roles),
        duration=probes[files[roles[0]]].duration if roles else None,
        speaker=name,
        culture=cultures[code],
        language=_LANGUAGES.get(code),
        split=_SPLITS[partition],
        labels={"partition": f"{partition}_{code}", **means(tracks)},
        tracks=tracks,
    )


def read_labels(path: Path) -> dict[str, Track]:
    """Read one label file: `name;timestamp;arousal;...`, with a header (2019) or without (2018).

    Args:
        path: of the file.

    Returns:
        {dimension: track}.

    Raises:
        EmocacheError: a line that cannot be read, or of another person.
    """
    values = []
    for line, row in read_rows(path, ";", "'"):
        if row == list(_COLUMNS):
            continue
        if len(row) != len(_COLUMNS) or row[0] != path.stem:
            raise EmocacheError(
                f"{path}, line {line}: {';'.join(row)!r} is not {';'.join(_COLUMNS)!r} of {path.stem};"
                " take the file from the release again"
            )
        values.append([number_in(path, line, cell) for cell in row[1:]])
    table = np.array(values, np.float64).reshape(-1, len(_COLUMNS) - 1)
    tracks = {name: clean_track(table[:, 0], table[:, i]) for i, name in enumerate(_COLUMNS[2:], 1)}
    return {name: track for name, track in tracks.items() if track.times.size}


def read_rows(path: Path, delimiter: str, quote: str = '"') -> list[tuple[int, list[str]]]:
    """Read a CSV file.

    Args:
        path: of the file.
        delimiter: between cells.
        quote: around cells, if any.

    Returns:
        (line number, stripped cells) of every line that is not blank.

    Raises:
        EmocacheError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, quotechar=quote)
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EmocacheError(f"{path} cannot be read: {error}") from error


def number_in(path: Path, line: int, cell: str) -> float:
    """Read the number in a cell.

    Args:
        path: of the file, for errors.
        line: its number, for errors.
        cell: its text.

    Returns:
        The number; NaN where the cell says so or is empty.

    Raises:
        EmocacheError: it holds something else.
    """
    try:
        return float(cell or "nan")
    except ValueError:
        raise EmocacheError(f"{path}, line {line}: {cell!r} is not a number") from None


def clean_track(times: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> Track:
    """A track of (N,) stamps in seconds and (N,) values, without those that are not finite."""
    finite = np.isfinite(times) & np.isfinite(values)
    return Track(times[finite], values[finite])


def means(tracks: Mapping[str, Track]) -> dict[str, float]:
    """{name: mean value} of tracks that are not empty."""
    return {name: math.fsum(track.values) / track.values.size for name, track in tracks.items()}
