"""CREMA-D: 91 actors, twelve sentences, six emotions, named 1001_DFA_ANG_XX, with what raters heard and saw.

Cao et al. 2014, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset"; names and tables are explained in the
README of CheyneyComputerScience/CREMA-D.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...cache import EmocacheError, Manifest, Utterance
from ..media.audio import VIDEO_SUFFIXES
from .files import MediaHasher, Published, media, media_files, one_per_stem
from .table_file import read_table

_EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
_NAME = re.compile(rf"1\d\d\d_({'|'.join(_SENTENCES)})_({'|'.join(_EMOTIONS)})_({'|'.join(_LEVELS)})")
_LETTERS = {code[0]: emotion for code, emotion in _EMOTIONS.items()}
_VOTES = ("Voice", "Face", "MultiModal")  # what the raters were given
_Row = Mapping[str, str | None]

PUBLISHED = Published(
    utterances=7442,
    speakers=91,
    classes={
        "emotion": {name: 1087 if name == "neutral" else 1271 for name in _EMOTIONS.values()},
        "level": {"unspecified": 6077, "low": 455, "medium": 455, "high": 455},
    },
    source="SentenceFilenames.csv and the README of CheyneyComputerScience/CREMA-D",
)


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each clip, whatever mixture of AudioWAV, AudioMP3 and VideoFlash is there.

    Its "audio" is the .wav (or .flac), else the .mp3, else the video's own sound, and its "video" is the .flv.

    `emotion` and `level` are what the actor was asked for. What most raters named is `voice_vote`, `face_vote` and
    `multimodal_vote`, by what they were given, with `voice_level` and so on, their mean rating of its strength (0 to
    100). Where emotions tie there is neither, and `voice_tie` and so on name them: "fearful:neutral". These come from
    processedResults/summaryTable.csv, and gender, `age`, `race` and `ethnicity` from VideoDemographics.csv; without
    the tables they are missing.

    Args:
        root: the corpus folder; media paths are relative to it.
        mapping: empty: this corpus takes none.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no clip below `root`, or a table that is not as the corpus has it.
    """
    del mapping
    files = media_files(root, notes=hasher.notes)
    seen = _clips(p for p in files if p.suffix.lower() in VIDEO_SUFFIXES)
    compressed = _clips(p for p in files if p.suffix.lower() == ".mp3")
    heard = seen | compressed | _clips(p for p in files if p.suffix.lower() not in {".mp3", *VIDEO_SUFFIXES})
    if not heard:
        raise EmocacheError(f"corpus cremad: no file named like AudioWAV/1001_DFA_ANG_XX.wav below {root};"
                            " give the corpus's own folder with --data")  # fmt: skip
    probes = hasher.probe({*heard.values(), *seen.values()})
    tables = one_per_stem(media_files(root, frozenset((".csv",))))
    actors = _rows(tables.get("VideoDemographics"), "ActorID", ["Age", "Sex", "Race", "Ethnicity"])
    ratings = _rows(tables.get("summaryTable"), "FileName", [n + what for n in _VOTES for what in ("Vote", "Level")])
    utterances = []
    for clip, path in heard.items():
        roles = {"audio": path} | ({"video": seen[clip]} if clip in seen else {})
        actor, sentence, emotion, level = clip.split("_")
        sex = actors.get(actor, {}).get("Sex")
        utterances.append(
            Utterance(
                id=clip,
                media=tuple(media(root, path, role, probes) for role, path in roles.items()),
                duration=probes[path].duration,
                speaker=actor,
                language="en",
                gender=sex and sex.lower(),
                text=_SENTENCES[sentence],
                labels={
                    "emotion": _EMOTIONS[emotion],
                    "level": _LEVELS[level],
                    "sentence": sentence,
                    **_person(actor, actors.get(actor)),
                    **_votes(clip, ratings.get(clip)),
                },
            )
        )
    return Manifest.from_utterances("cremad", utterances)


def _clips(paths: Iterable[Path]) -> dict[str, Path]:
    """{clip: path} of the files that are named like one; the corpus itself has 1040_ITH_SAD_X.wav for ..._XX."""
    named = {re.sub("_X$", "_XX", stem): path for stem, path in one_per_stem(paths).items()}
    return {clip: path for clip, path in named.items() if _NAME.fullmatch(clip)}


def _rows(source: Path | None, key: str, wanted: Sequence[str]) -> dict[str, _Row]:
    """{key: {column: cell}}. Columns are found whatever their case: the README writes fileName, the file FileName."""
    if source is None:
        return {}
    columns = {name.casefold(): cells for name, cells in read_table(source).items()}
    for name in (key, *wanted):
        if name.casefold() not in columns:
            raise EmocacheError(
                f"corpus cremad: {source} has no column {name}; it has: {', '.join(columns)};"
                " take the table of the corpus or remove this one"
            )
    cells = zip(*(columns[name.casefold()] for name in wanted), strict=True)
    rows: dict[str, _Row] = {}
    for name, cell in zip(columns[key.casefold()], cells, strict=True):
        row = dict(zip(wanted, cell, strict=True))
        if name is not None and rows.setdefault(name, row) != row:
            raise EmocacheError(f"corpus cremad: {source} has two different rows of {key} {name}; keep one")
    return rows


def _person(actor: str, row: _Row | None) -> dict[str, str | float | None]:
    if row is None:
        return {}
    try:
        age = row["Age"] and float(row["Age"])
    except ValueError as error:
        raise EmocacheError(f"VideoDemographics.csv, actor {actor}: age {row['Age']!r} is not a number") from error
    return {"age": age or None, "race": row["Race"], "ethnicity": row["Ethnicity"]}


def _votes(clip: str, row: _Row | None) -> dict[str, str | float | None]:
    if row is None:
        return {}
    labels: dict[str, str | float | None] = {}
    for given in _VOTES:
        vote, level = row[f"{given}Vote"], row[f"{given}Level"]
        if vote is None:
            continue
        try:
            emotions = [_LETTERS[letter] for letter in vote.split(":")]
            if len(emotions) > 1:
                labels[f"{given.lower()}_tie"] = ":".join(emotions)
            else:
                labels[f"{given.lower()}_vote"] = emotions[0]
                labels[f"{given.lower()}_level"] = None if level is None else float(level)
        except (KeyError, ValueError) as error:
            raise EmocacheError(
                f"summaryTable.csv, clip {clip}: {given}Vote {vote!r} with {given}Level {level!r} is no letter of"
                f" {', '.join(_LETTERS)} with a number, nor such letters joined by colons"
            ) from error
    return labels
