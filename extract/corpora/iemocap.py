"""IEMOCAP: five sessions, each of a woman and a man in improvised and scripted dialogues, labelled turn by turn.

Busso et al. 2008, "IEMOCAP: interactive emotional dyadic motion capture database"; the names are explained in the
README.txt of the full release.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ...cache import EmocacheError, Manifest, Media, Utterance
from .files import MediaHasher, Probe, Published, media
from .iemocap_files import Turn, read_alignment, read_transcript, read_turns

_EMOTIONS = {
    "ang": "angry",
    "hap": "happy",
    "sad": "sad",
    "neu": "neutral",
    "exc": "excited",
    "fru": "frustrated",
    "sur": "surprised",
    "fea": "fearful",
    "dis": "disgust",
    "oth": "other",
}
_SUBSETS = {
    "emotion4": {**{code: _EMOTIONS[code] for code in ("ang", "hap", "sad", "neu")}, "exc": "happy"},
    "emotion6": {code: _EMOTIONS[code] for code in ("ang", "hap", "exc", "sad", "fru", "neu")},
    "emotion7": {code: _EMOTIONS[code] for code in ("ang", "hap", "exc", "sad", "fru", "sur", "neu")},
}
_CODES = {
    "xxx": 2507, "fru": 1849, "neu": 1708, "ang": 1103, "sad": 1084, "exc": 1041, "hap": 595, "sur": 107, "fea": 40,
    "oth": 3, "dis": 2,
}  # fmt: skip
PUBLISHED = Published(
    utterances=10_039,
    speakers=10,
    classes={
        "code": _CODES,
        "emotion4": {"angry": 1103, "happy": 1636, "sad": 1084, "neutral": 1708},
        "emotion7": {_EMOTIONS[code]: _CODES[code] for code in _SUBSETS["emotion7"]},
    },
    source="the labels of dialog/EmoEvaluation, counted in david-yoon/multimodal-speech-emotion, preprocessing",
)

_ROLES = ("audio", "video")
_LEFT = ("marked", "unmarked", "female", "male")
_PIECE = 3.0  # seconds
_CRUMB = 0.1  # seconds; a shorter rest stays with the piece before, since no encoder makes a frame of it


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each labelled turn, with its sound, words and text, and the dialogue's video cut to its times.

    The session is that of the two speakers ("Ses01"), who meet in no other; the dialogue is a label. `emotion` is the
    raters' majority and missing where there is none (`code` "xxx"); `emotion4` joins excited to happy, as the papers
    with 5,531 utterances do; `emotion6` and `emotion7` are as their papers have them, and missing for other emotions.
    `valence`, `arousal` (their "activation") and `dominance` are the external raters' means.

    Args:
        root: the folder IEMOCAP_full_release, or the one that holds it.
        mapping: `left` says whom the left half of the videos shows: "marked" or "unmarked" (who wears the markers in
            that dialogue, or not), "female" or "male". The video of an utterance is then the half that shows its
            speaker; without it, the whole picture. It is not known from the release, so look at some of yours.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no labelled dialogue below `root`, a label file that cannot be read, or an unknown mapping.
    """
    left = _left(mapping)
    release = root / "IEMOCAP_full_release" if (root / "IEMOCAP_full_release").is_dir() else root
    turns = [turn for path in _label_files(release) for turn in read_turns(path)]
    files = {turn.id: _files(release, turn) for turn in turns}
    probes = hasher.probe(found[role] for found in files.values() for role in _ROLES if role in found)
    texts: dict[str, str] = {}
    for path in sorted({found["text"] for found in files.values() if "text" in found}):
        texts |= read_transcript(path)
    utterances = [_utterance(root, turn, files[turn.id], probes, left, texts.get(turn.id)) for turn in turns]
    return Manifest.from_utterances("iemocap", utterances)


def load_segments(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """The utterances of `load` in pieces of 3 s, named `<utterance>#00` and so on, without text and words.

    CA-MSER (Vincent-ZHQ/CA-MSER, features_extraction/features_util.py), whose pieces CAMuLeNet's code reads, cuts from
    the start and keeps the rest as a last, shorter piece, which it fills with zeros. Here that piece keeps its length,
    and a rest of up to 0.1 s is no piece of its own. The label `utterance` is what the pieces of one vote for.
    """
    whole = load(root, mapping, hasher)
    return Manifest.from_utterances("iemocap-segments", [piece for utterance in whole for piece in _pieces(utterance)])


def _left(mapping: Mapping[str, str]) -> str | None:
    for key, value in mapping.items():
        if key != "left" or value not in _LEFT:
            raise EmocacheError(
                f"--map {key}={value}: corpus iemocap knows left={'|'.join(_LEFT)}, whom the left half of the videos"
                " shows"
            )
    return mapping.get("left")


def _label_files(release: Path) -> list[Path]:
    found = sorted(release.glob("Session[1-5]/dialog/EmoEvaluation/Ses*.txt"))
    if not found:
        raise EmocacheError(
            f"corpus iemocap: no file like Session1/dialog/EmoEvaluation/Ses01F_impro01.txt below {release};"
            " give the folder IEMOCAP_full_release"
        )
    return found


def _files(release: Path, turn: Turn) -> dict[str, Path]:
    """The parts there are of one turn."""
    session = release / f"Session{turn.dialogue[4]}"
    paths = {
        "audio": session / "sentences" / "wav" / turn.dialogue / f"{turn.id}.wav",
        "video": session / "dialog" / "avi" / "DivX" / f"{turn.dialogue}.avi",
        "words": session / "sentences" / "ForcedAlignment" / turn.dialogue / f"{turn.id}.wdseg",
        "text": session / "dialog" / "transcriptions" / f"{turn.dialogue}.txt",
    }
    return {kind: path for kind, path in paths.items() if path.is_file()}


def _region(turn: Turn, left: str | None) -> tuple[float, float, float, float] | None:
    if left is None:
        return None
    other = "M" if turn.marked == "F" else "F"
    shown = {"marked": turn.marked, "unmarked": other, "female": "F", "male": "M"}[left]
    return (0.0, 0.0, 0.5, 1.0) if turn.speaker == shown else (0.5, 0.0, 1.0, 1.0)


def _utterance(
    root: Path,
    turn: Turn,
    files: Mapping[str, Path],
    probes: Mapping[Path, Probe],
    left: str | None,
    text: str | None,
) -> Utterance:
    found = {role: media(root, files[role], role, probes) for role in _ROLES if role in files}
    if "video" in found:
        found["video"] = replace(found["video"], start=turn.start, end=turn.end, region=_region(turn, left))
    duration = probes[files["audio"]].duration if "audio" in files else turn.end - turn.start
    words = read_alignment(files["words"], duration) if "words" in files else ()
    return Utterance(
        id=turn.id,
        media=tuple(found.values()),
        duration=duration,
        speaker=turn.dialogue[4] + turn.speaker,
        session=turn.dialogue[:5],
        language="en",
        gender="female" if turn.speaker == "F" else "male",
        text=text or None,
        words=words,
        words_source="corpus" if words else None,
        labels=_labels(turn),
    )


def _labels(turn: Turn) -> dict[str, str | float | None]:
    valence, activation, dominance = turn.ratings
    return {
        "dialogue": turn.dialogue,
        "scenario": "scripted" if "_script" in turn.dialogue else "improvised",
        "code": turn.code,
        "emotion": _EMOTIONS.get(turn.code),
        **{name: emotions.get(turn.code) for name, emotions in _SUBSETS.items()},
        "valence": valence,
        "arousal": activation,
        "dominance": dominance,
    }


def _pieces(utterance: Utterance) -> Iterator[Utterance]:
    whole = utterance.duration
    count = 1 if whole is None else max(1, math.ceil((whole - _CRUMB) / _PIECE))
    for number in range(count):
        start = number * _PIECE
        end = start + _PIECE if number < count - 1 else None
        yield replace(
            utterance,
            id=f"{utterance.id}#{number:02d}",
            media=tuple(_cut(medium, start, end) for medium in utterance.media),
            start=start,
            end=end,
            duration=whole if whole is None else (whole if end is None else end) - start,
            text=None,
            words=(),
            words_source=None,
            labels={**utterance.labels, "utterance": utterance.id},
        )


def _cut(medium: Media, start: float, end: float | None) -> Media:
    if medium.start is None:
        return medium
    return replace(medium, start=medium.start + start, end=medium.end if end is None else medium.start + end)
