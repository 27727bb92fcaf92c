"""BhavVani: clips joined to a table whose columns the user names."""

import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract.corpora import MediaHasher, bhavvani

MAPPING = {"file": "video", "emotion": "Emotion", "character": "Speaker", "text": "utterance"}
HEADER = "video,Emotion,gender,Speaker,utterance"


def write_wav(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * 160)


def build(root: Path, clips: Sequence[str], rows: Sequence[str], header: str = HEADER) -> None:
    for clip in clips:
        write_wav(root / clip)
    (root / "final_annotation.csv").write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")


def load(root: Path, mapping: Mapping[str, str] = MAPPING) -> Manifest:
    return bhavvani.load(root, mapping, MediaHasher())


def test_clips_and_their_rows(tmp_path: Path) -> None:
    build(
        tmp_path,
        ["Data/train_1.wav", "Data_/train_1.mp4", "Data/val_2.wav", "Data_/test_3.mp4", "Data/other.wav"],
        [
            "train_1.mp4,Enjoyment,M,Rosesh,नमस्ते",
            "val_2.mp4,Contempt,F,Maya,",
            "test_3.mp4,,,Others,x",
            "train_9.mp4,Anger,M,Indira,a clip that is not there",
        ],
    )
    manifest = load(tmp_path)
    assert {u.id: {m.role: m.path for m in u.media} for u in manifest} == {
        "test_3": {"audio": "Data_/test_3.mp4", "video": "Data_/test_3.mp4"},
        "train_1": {"audio": "Data/train_1.wav", "video": "Data_/train_1.mp4"},
        "val_2": {"audio": "Data/val_2.wav"},
    }
    assert manifest.column("split") == ["test", "train", "valid"]
    assert manifest.column("gender") == [None, "male", "female"]
    assert manifest.column("speaker") == ["Others", "Rosesh", "Maya"]
    assert manifest.column("text") == ["x", "नमस्ते", None]
    assert manifest.column("emotion") == [None, "happy", "contempt"]
    assert manifest.column("emotion7") == [None, "happy", "disgust"]
    assert set(manifest.column("language")) == {"hi"}


def test_the_eight_emotions(tmp_path: Path) -> None:
    words = ["Neutral", "Anger", "Fear", "Surprise", "Enjoyment", "Contempt", "Sadness", "disgust"]
    clips = [f"train_{n}" for n in range(8)]
    build(
        tmp_path, [f"Data/{c}.wav" for c in clips], [f"{c}.mp4,{w},M,Maya,x" for c, w in zip(clips, words, strict=True)]
    )
    manifest = load(tmp_path)
    assert manifest.column("emotion") == [
        "neutral", "angry", "fearful", "surprised", "happy", "contempt", "sad", "disgust",
    ]  # fmt: skip
    assert len(set(manifest.column("emotion7"))) == 7


def test_columns_of_the_fields_own_names_need_no_mapping(tmp_path: Path) -> None:
    build(tmp_path, ["Data/train_1.wav"], ["Data_/train_1.mp4,Anger"], "file,emotion")
    (utterance,) = load(tmp_path, {})
    assert (utterance.labels["emotion"], utterance.speaker, utterance.text) == ("angry", None, None)


def test_another_table(tmp_path: Path) -> None:
    build(tmp_path, ["Data/train_1.wav"], ["train_1.mp4,Anger"], "file,emotion")
    (tmp_path / "final_annotation.csv").rename(tmp_path / "labels.csv")
    assert load(tmp_path, {"table": "labels.csv"}).column("emotion") == ["angry"]
    with pytest.raises(EmocacheError, match=r"table=final_annotation\.csv: no such file in .*; there are: labels\.csv"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, r"has no column 'file'; it has: video, Emotion, gender, Speaker, utterance; .* --map file=COLUMN"),
        ({"file": "video"}, r"has no column 'emotion'; .* --map emotion=COLUMN"),
        ({**MAPPING, "gender": "sex"}, r"has no column 'sex'; .* --map gender=COLUMN"),
        (
            {**MAPPING, "speaker": "Speaker"},
            r"no field 'speaker'; there are: file, emotion, gender, character, text, table",
        ),
        (
            {**MAPPING, "file": "utterance"},
            r"1 of 1 clips have no row .* \(first: train_1\); is file=utterance the column",
        ),
    ],
)
def test_mappings_that_do_not_fit(tmp_path: Path, mapping: dict[str, str], message: str) -> None:
    build(tmp_path, ["Data/train_1.wav"], ["train_1.mp4,Anger,M,Maya,x"])
    with pytest.raises(EmocacheError, match=message):
        load(tmp_path, mapping)


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    row = "train_1.mp4,Anger,M,Maya,x"
    build(tmp_path, ["Data/train_1.wav"], [row, row])
    assert len(load(tmp_path)) == 1
    build(tmp_path, [], [row, row.replace("Anger", "Fear")])
    with pytest.raises(EmocacheError, match=r"two different rows of train_1\.mp4; keep one"):
        load(tmp_path)
    build(tmp_path, [], [row.replace("Anger", "Joy")])
    with pytest.raises(EmocacheError, match="train_1: emotion 'Joy' is none of neutral, anger, fear"):
        load(tmp_path)


def test_the_wrong_folder_says_what_was_expected(tmp_path: Path) -> None:
    write_wav(tmp_path / "other.wav")
    with pytest.raises(EmocacheError, match=r"corpus bhavvani: no file named like Data/train_\.\.\.\.wav or Data_"):
        load(tmp_path)
