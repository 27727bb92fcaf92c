"""CREMA-D: names, media of all kinds, and the tables of raters and actors, on small trees and on the real files."""

import csv
import shutil
import wave
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emocache.cache import EmocacheError, InputFailure, Manifest
from emocache.extract.corpora import MediaHasher, cremad
from emocache.extract.media.audio import decode_audio

SUMMARY = (
    '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"',
    '"1","1001_IEO_NEU_XX","N","69.1","N","92.22","N","64.78"',
    '"3","1001_IEO_HAP_MD","F:N","64.75:61.50","H","57","D:F:N","50:51:52"',
)
DEMOGRAPHICS = (
    '"ActorID","Age","Sex","Race","Ethnicity"',
    '1001,51,"Male","Caucasian","Not Hispanic"',
    '1002,21,"Female","Caucasian","Not Hispanic"',
)


def write_wav(path: Path, frames: int = 160) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(len(path.name).to_bytes(2, "little") * frames)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def load(root: Path) -> Manifest:
    return cremad.load(root, {}, MediaHasher())


def paths(manifest: Manifest) -> dict[str, dict[str, str]]:
    return {u.id: {m.role: m.path for m in u.media} for u in manifest}


def test_names(tmp_path: Path) -> None:
    for name in ("1001_IEO_ANG_LO", "1091_DFA_FEA_XX", "1002_IEO_HAP_HI", "1003_IEO_DIS_MD", "1004_WSI_SAD_XX"):
        write_wav(tmp_path / "AudioWAV" / f"{name}.wav")
    for name in ("1001_IEO_ANG_XL", "1001_ABC_ANG_LO", "1001_IEO_SUR_LO", "notes", "._1001_IEO_NEU_XX"):
        write_wav(tmp_path / "AudioWAV" / f"{name}.wav")
    manifest = load(tmp_path)
    assert manifest.column("emotion") == ["angry", "happy", "disgust", "sad", "fearful"]
    assert manifest.column("level") == ["low", "high", "medium", "unspecified", "unspecified"]
    assert manifest.column("speaker") == ["1001", "1002", "1003", "1004", "1091"]
    assert manifest.column("sentence") == ["IEO", "IEO", "IEO", "WSI", "DFA"]
    assert manifest.column("text")[3:] == ["We'll stop in a couple of minutes", "Don't forget a jacket"]
    assert manifest.column("gender") == [None] * 5
    assert manifest.label_names == ["emotion", "level", "sentence"]
    assert set(manifest.column("language")) == {"en"}


def test_sound_and_picture_are_joined_whatever_is_there(tmp_path: Path) -> None:
    a, b, c, d = (f"100{n}_IEO_NEU_XX" for n in (1, 2, 3, 4))
    for path in (
        f"AudioWAV/{a}.wav", f"AudioMP3/{a}.mp3", f"VideoFlash/{a}.flv", f"AudioWAV_official/{a}.wav",
        f"AudioMP3/{b}.mp3", f"VideoFlash/{b}.flv",
        f"VideoFlash/{c}.flv",
        f"AudioWAV/{d}.flac",
    ):  # fmt: skip
        write_wav(tmp_path / path)
    assert paths(load(tmp_path)) == {
        a: {"audio": f"AudioWAV/{a}.wav", "video": f"VideoFlash/{a}.flv"},
        b: {"audio": f"AudioMP3/{b}.mp3", "video": f"VideoFlash/{b}.flv"},
        c: {"audio": f"VideoFlash/{c}.flv", "video": f"VideoFlash/{c}.flv"},
        d: {"audio": f"AudioWAV/{d}.flac"},
    }


def test_the_misspelt_file_gets_the_name_of_its_clip(tmp_path: Path) -> None:
    write_wav(tmp_path / "AudioWAV" / "1040_ITH_SAD_X.wav")
    write_wav(tmp_path / "VideoFlash" / "1040_ITH_SAD_XX.flv")
    write_lines(
        tmp_path / "processedResults" / "summaryTable.csv",
        [SUMMARY[0], '"1","1040_ITH_SAD_XX","N","46","N","61.5","F","31.5"'],
    )
    (utterance,) = load(tmp_path)
    assert utterance.id == "1040_ITH_SAD_XX"
    assert [m.role for m in utterance.media] == ["audio", "video"]
    assert utterance.labels["multimodal_vote"] == "fearful"


def test_votes_and_ties(tmp_path: Path) -> None:
    for name in ("1001_IEO_NEU_XX", "1001_IEO_HAP_MD", "1002_IEO_HAP_HI"):
        write_wav(tmp_path / "AudioWAV" / f"{name}.wav")
    write_lines(tmp_path / "processedResults" / "summaryTable.csv", SUMMARY)
    tie, clear, unrated = load(tmp_path)
    votes = {k: v for k, v in clear.labels.items() if k.partition("_")[0] in ("voice", "face", "multimodal")}
    assert votes == {
        "voice_vote": "neutral", "voice_level": 69.1, "face_vote": "neutral", "face_level": 92.22,
        "multimodal_vote": "neutral", "multimodal_level": 64.78,
    }  # fmt: skip
    votes = {k: v for k, v in tie.labels.items() if k.partition("_")[0] in ("voice", "face", "multimodal")}
    assert votes == {
        "voice_tie": "fearful:neutral",
        "face_vote": "happy",
        "face_level": 57.0,
        "multimodal_tie": "disgust:fearful:neutral",
    }
    assert set(unrated.labels) == {"emotion", "level", "sentence"}


def test_actors(tmp_path: Path) -> None:
    for name in ("1001_IEO_NEU_XX", "1002_IEO_HAP_MD", "1003_IEO_HAP_HI"):
        write_wav(tmp_path / "AudioWAV" / f"{name}.wav")
    write_lines(tmp_path / "VideoDemographics.csv", DEMOGRAPHICS)
    manifest = load(tmp_path)
    assert manifest.column("gender") == ["male", "female", None]
    assert manifest.column("age") == [51.0, 21.0, None]
    assert manifest.column("race") == ["Caucasian", "Caucasian", None]
    assert manifest.column("ethnicity") == ["Not Hispanic", "Not Hispanic", None]


def test_column_names_are_found_in_any_case(tmp_path: Path) -> None:
    write_wav(tmp_path / "AudioWAV" / "1001_IEO_NEU_XX.wav")
    write_lines(tmp_path / "summaryTable.csv", [SUMMARY[0].replace("FileName", "fileName"), SUMMARY[1]])
    assert load(tmp_path).column("voice_vote") == ["neutral"]


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        (
            "summaryTable",
            ['"","FileName","VoiceVote"', '"1","1001_IEO_NEU_XX","N"'],
            "has no column VoiceLevel; it has",
        ),
        (
            "summaryTable",
            [SUMMARY[0], SUMMARY[1].replace('"N"', '"Q"', 1)],
            "NEU_XX: VoiceVote 'Q' with VoiceLevel '69.1'",
        ),
        ("summaryTable", [SUMMARY[0], SUMMARY[1].replace("69.1", "high")], "VoiceVote 'N' with VoiceLevel 'high'"),
        (
            "VideoDemographics",
            [*DEMOGRAPHICS, DEMOGRAPHICS[1].replace("51", "52")],
            "two different rows of ActorID 1001; keep one",
        ),
        ("VideoDemographics", [DEMOGRAPHICS[0], DEMOGRAPHICS[1].replace("51", "old")], "actor 1001: age 'old' is not"),
    ],
)
def test_a_table_that_is_not_the_corpus_s(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    write_wav(tmp_path / "AudioWAV" / "1001_IEO_NEU_XX.wav")
    write_lines(tmp_path / f"{name}.csv", lines)
    with pytest.raises(EmocacheError, match=message):
        load(tmp_path)


def test_the_wrong_folder_says_what_was_expected(tmp_path: Path) -> None:
    write_wav(tmp_path / "other.wav")
    with pytest.raises(EmocacheError, match=r"corpus cremad: no file named like AudioWAV/1001_DFA_ANG_XX\.wav below"):
        load(tmp_path)


def test_the_clip_without_signal_stays_and_decoding_tells(tmp_path: Path) -> None:
    write_wav(tmp_path / "AudioWAV" / "1076_MTI_SAD_XX.wav", frames=0)
    (utterance,) = load(tmp_path)
    with pytest.raises(InputFailure) as failure:
        decode_audio(tmp_path / utterance.media[0].path)
    assert failure.value.reason == "empty"


def test_real_clips(shared: Callable[[str], Path]) -> None:
    root = shared("data/cremad")
    manifest = load(root)
    assert len(manifest) == 12
    assert set(Counter(manifest.column("emotion")).values()) == {2}
    assert manifest.column("gender") == ["male"] * 6 + ["female"] * 6
    assert all(m["audio"].startswith("AudioWAV/") for m in paths(manifest).values())
    assert sum("video" in m for m in paths(manifest).values()) == 6
    last = manifest["1002_DFA_SAD_XX"]
    assert last.labels["face_tie"] == "neutral:sad"
    assert "face_vote" not in last.labels and last.labels["voice_level"] == 65.71


def test_real_video_gives_its_own_sound(shared: Callable[[str], Path], tmp_path: Path) -> None:
    root = shared("data/cremad")
    name = "1001_DFA_ANG_XX"
    shutil.copy(root / "VideoFlash" / f"{name}.flv", tmp_path)
    (utterance,) = load(tmp_path)
    assert [(m.role, m.path) for m in utterance.media] == [("audio", f"{name}.flv"), ("video", f"{name}.flv")]
    heard = decode_audio(tmp_path / f"{name}.flv")
    assert heard.size == pytest.approx(decode_audio(root / "AudioWAV" / f"{name}.flac").size, abs=1600)


def test_real_tables_give_the_published_counts(shared: Callable[[str], Path], tmp_path: Path) -> None:
    root = shared("data/cremad")
    for name in ("VideoDemographics.csv", "processedResults/summaryTable.csv"):
        shutil.copy(root / name, tmp_path)
    with (root / "SentenceFilenames.csv").open() as file:
        names = [row["Filename"] for row in csv.DictReader(file)]
    for name in names:
        (tmp_path / f"{name}.wav").touch()
    manifest = load(tmp_path)
    assert len(manifest) == cremad.PUBLISHED.utterances
    assert len(set(manifest.column("speaker"))) == cremad.PUBLISHED.speakers
    for label, counts in cremad.PUBLISHED.classes.items():
        assert Counter(manifest.column(label)) == counts
    assert Counter(dict(zip(manifest.column("speaker"), manifest.column("gender"), strict=True)).values()) == {
        "male": 48,
        "female": 43,
    }
    for given, ties in (("multimodal", 420), ("voice", 644)):
        tied, votes = manifest.column(f"{given}_tie"), manifest.column(f"{given}_vote")
        assert sum(tie is not None for tie in tied) == ties
        assert all((tie is None) != (vote is None) for tie, vote in zip(tied, votes, strict=True))
