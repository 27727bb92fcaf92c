"""Emotion Share: three tables of nine shares, one of them masked."""

import wave
from collections.abc import Mapping
from pathlib import Path

import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract.corpora import MediaHasher, emotion_share

EMOTIONS = "Anger,Boredom,Calmness,Concentration,Determination,Excitement,Interest,Sadness,Tiredness"
LABELS = EMOTIONS.lower().split(",")
SHARES = "0.0,0.125,0.25,0.375,0.5,0.625,0.75,0.875,1.0"


def write_wav(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * 160)


def build(root: Path, tables: Mapping[str, str], wav: str = "wav") -> None:
    """Tables of one recording each, {table: cells}, and the recordings."""
    (root / "lab").mkdir(parents=True, exist_ok=True)
    for table, cells in tables.items():
        stem = f"{table.partition('.')[0]}_00001"
        (root / "lab" / f"{table}.csv").write_text(f"filename,{EMOTIONS}\n{stem}.wav,{cells}\n")
        write_wav(root / wav / f"{stem}.wav")


def load(root: Path) -> Manifest:
    return emotion_share.load(root, {}, MediaHasher())


@pytest.mark.parametrize(("folder", "wav"), [(".", "wav"), ("data", "wav"), (".", "raw/wav"), ("data", "raw/wav")])
def test_the_three_parts(tmp_path: Path, folder: str, wav: str) -> None:
    build(tmp_path / folder, {"train": SHARES, "devel": SHARES, "test": ",".join("?" * 9)}, wav)
    manifest = load(tmp_path)
    assert manifest.corpus == "emotionshare"
    assert manifest.ids == ["devel_00001", "test_00001", "train_00001"]
    assert manifest.column("split") == ["valid", "test", "train"]
    devel, test, _ = manifest
    assert [devel.labels[name] for name in LABELS] == [float(share) for share in SHARES.split(",")]
    assert test.labels == {}
    assert devel.speaker is None
    assert (tmp_path / devel.media[0].path).is_file()


def test_the_unmasked_table_is_preferred(tmp_path: Path) -> None:
    build(tmp_path, {"test": ",".join("?" * 9), "test.unmasked": SHARES})
    (utterance,) = load(tmp_path)
    assert (utterance.id, utterance.split, utterance.labels["tiredness"]) == ("test_00001", "test", 1.0)


def test_columns_are_known_by_name(tmp_path: Path) -> None:
    build(tmp_path, {})
    (tmp_path / "lab" / "train.csv").write_text(f"filename,{','.join(reversed(EMOTIONS.split(',')))}\na.wav,{SHARES}\n")
    write_wav(tmp_path / "wav" / "a.wav")
    (utterance,) = load(tmp_path)
    assert (utterance.labels["tiredness"], utterance.labels["anger"]) == (0.0, 1.0)


def test_the_nearer_of_two_copies_is_taken(tmp_path: Path) -> None:
    build(tmp_path, {"train": SHARES}, "raw/wav")
    build(tmp_path, {"train": SHARES}, "wav")
    assert [u.media[0].path for u in load(tmp_path)] == ["wav/train_00001.wav"]


@pytest.mark.parametrize("cell", ["?", "", "nan", "inf"])
@pytest.mark.parametrize("table", ["train", "devel", "test.unmasked"])
def test_only_test_csv_may_be_masked(tmp_path: Path, table: str, cell: str) -> None:
    build(tmp_path, {table: SHARES.replace("0.5,", f"{cell},")})
    with pytest.raises(EmocacheError, match=rf"{table}\.csv, row 1 \(.*\): Determination is .* which is not a number"):
        load(tmp_path)


def test_recordings_that_are_not_there(tmp_path: Path) -> None:
    build(tmp_path, {"train": SHARES, "devel": SHARES})
    (tmp_path / "wav" / "devel_00001.wav").unlink()
    with pytest.raises(EmocacheError, match=r"1 of the 2 recordings in .*lab are not below .* \(first: devel_00001\)"):
        load(tmp_path)


def test_one_recording_in_two_tables(tmp_path: Path) -> None:
    build(tmp_path, {"train": SHARES})
    (tmp_path / "lab" / "devel.csv").write_bytes((tmp_path / "lab" / "train.csv").read_bytes())
    with pytest.raises(EmocacheError, match="id 'train_00001' occurs twice"):
        load(tmp_path)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    build(tmp_path, {})
    (tmp_path / "lab" / "train.csv").write_text("filename,Anger,Boredom\na.wav,0,1\n")
    with pytest.raises(EmocacheError, match=r"train\.csv has no column Calmness, .*; it has: filename, Anger, Boredom"):
        load(tmp_path)


def test_the_wrong_folder_says_what_was_expected(tmp_path: Path) -> None:
    write_wav(tmp_path / "other.wav")
    with pytest.raises(
        EmocacheError, match=r"corpus emotionshare: no lab/train\.csv, lab/devel\.csv or lab/test\.csv in"
    ):
        load(tmp_path)
