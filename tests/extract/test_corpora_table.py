"""Any folder with a table: which column becomes what, and every way it can be wrong said in one line."""

import wave
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract import corpora
from emocache.extract.corpora import MediaHasher


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a.wav, b.wav and c.mp4 (1 s each as far as their headers say) below wav/."""
    (tmp_path / "wav").mkdir()
    for name in ("a.wav", "b.wav", "c.mp4"):
        with wave.open(str(tmp_path / "wav" / name), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(bytes(32000))
    return tmp_path


def load(root: Path, **mapping: str) -> Manifest:
    named = {key.replace("__", "."): column for key, column in mapping.items()}
    return corpora.load("table", root, mapping=named, hasher=MediaHasher())


def write(root: Path, text: str, name: str = "labels.csv") -> None:
    (root / name).write_text(text, encoding="utf-8")


def test_columns_with_our_names_need_no_mapping(root: Path) -> None:
    write(root, "id,file,speaker,split,emotion,valence\n1,wav/a.wav,01,train,happy,0.5\n2,wav/b.wav,02,dev,sad,-1\n")
    manifest = load(root)
    assert manifest.corpus == "table"
    one, two = manifest
    assert (one.id, one.speaker, one.split, one.duration) == ("1", "01", "train", 1.0)
    assert one.labels == {"emotion": "happy", "valence": 0.5}
    assert two.labels == {"emotion": "sad", "valence": -1.0}
    assert two.split == "valid"
    assert [m.path for m in two.media] == ["wav/b.wav"]


def test_a_mapping_names_their_columns(root: Path) -> None:
    write(root, "path;spk;emo;level;note\nwav/a.wav;f01;hap;3;x\nwav/b.wav;f02;ang;4;y\n")
    manifest = load(root, file="path", speaker="spk", label__emotion="emo", label="level", corpus="mine")
    assert manifest.corpus == "mine"
    assert manifest.ids == ["wav/a.wav", "wav/b.wav"]
    assert manifest.label_names == ["emotion", "level"]
    assert manifest.column("emotion") == ["hap", "ang"]
    assert manifest.column("level") == [3.0, 4.0]
    assert manifest.column("speaker") == ["f01", "f02"]


def test_the_mapping_of_the_help_text(root: Path) -> None:
    write(root, "file,emotion,spk\nwav/a.wav,happy,1\n")
    manifest = load(root, id="file", label="emotion", speaker="spk")
    assert manifest["wav/a.wav"].labels == {"emotion": "happy"}
    assert manifest["wav/a.wav"].speaker == "1"


def test_segments_of_one_recording(root: Path) -> None:
    write(root, "id\tfile\tstart\tend\nu1\twav/a.wav\t0\t0.4\nu2\twav/a.wav\t0.4\t\nu3\twav/c.mp4\t\t2\n", "t.tsv")
    manifest = load(root)
    assert [(u.start, u.end) for u in manifest] == [(0.0, 0.4), (0.4, None), (None, 2.0)]
    assert manifest.column("duration") == pytest.approx([0.4, 0.6, 1.0])
    assert [m.role for m in manifest["u3"].media] == ["audio", "video"]


def test_missing_cells_are_missing_labels(root: Path) -> None:
    write(root, 'id,file,speaker,emotion,score\n1,wav/a.wav,,NaN,\n2,wav/b.wav, x ,"happy",2\n')
    one, two = load(root)
    assert one.labels == {}
    assert one.speaker is None
    assert two.speaker == "x"
    assert two.labels == {"emotion": "happy", "score": 2.0}


def test_parquet_keeps_its_types(root: Path) -> None:
    columns: dict[str, Any] = {
        "id": [1, 2],
        "file": ["wav\\a.wav", "wav/b.wav"],
        "speaker": [3.0, None],
        "score": [float("nan"), 0.25],
        "acted": [True, False],
        "votes": [[1, 2], [3]],
        "text": ["Grüße", "two\nlines"],
    }
    pq.write_table(pa.table(columns), root / "labels.parquet")
    one, two = load(root)
    assert (one.id, one.speaker, one.text) == ("1", "3", "Grüße")
    assert one.media[0].path == "wav/a.wav"
    assert one.labels == {"acted": "true"}
    assert two.labels == {"acted": "false", "score": 0.25}
    assert two.speaker is None


def test_files_of_spreadsheet_programs(root: Path) -> None:
    data = '\ufeffid;file;text\r\n1;wav/a.wav;"one; two\r\nthree"\r\n'
    (root / "labels.csv").write_bytes(data.encode())
    assert load(root)["1"].text == "one; two\r\nthree"


def test_a_name_is_found_whichever_way_its_accents_are_written(root: Path) -> None:
    """macOS writes "e\u0301" for what a table calls "\u00e9"; copied elsewhere, the names stay as they are."""
    forms = ("wav/caf\u00e9.wav", "wav/cafe\u0301.wav")
    for there, named in (forms, forms[::-1]):
        moved = (root / "wav/a.wav").rename(root / there)
        write(root, f"id,file\na,{named}\n")
        assert load(root)["a"].media[0].path in forms
        moved.rename(root / "wav/a.wav")


def test_commas_that_are_no_decimal_commas_stay(root: Path) -> None:
    write(root, "id;file;v\n1;wav/a.wav;0,5\n2;wav/b.wav;sad, angry\n")
    assert load(root).column("v") == ["0,5", "sad, angry"]


def test_a_folder_named_like_a_table_is_none(root: Path) -> None:
    write(root, "id,file\n1,wav/a.wav\n")
    (root / "old.parquet").mkdir()
    assert load(root).ids == ["1"]


def test_one_of_several_tables(root: Path) -> None:
    write(root, "id,file\n1,wav/a.wav\n", "one.csv")
    write(root, "id,file\n2,wav/b.wav\n", "two.csv")
    with pytest.raises(EmocacheError, match=r"several tables .*\(one\.csv, two\.csv\); choose one with --map table="):
        load(root)
    assert load(root, table="two.csv").ids == ["2"]
    with pytest.raises(EmocacheError, match=r"no such file .*; there are: one\.csv, two\.csv"):
        load(root, table="three.csv")


@pytest.mark.parametrize(
    ("text", "mapping", "message"),
    [
        ("", {}, r"cannot be read"),
        ("id,file\n", {}, r"has no rows"),
        ("a,b\n1\n2,3,4\n", {}, r"labels\.csv cannot be read: .*Expected 2 columns"),
        ("path,emotion\nwav/a.wav,x\n", {}, r"no column 'file' or 'id'; .*--map file=COLUMN; it has: path, emotion"),
        (
            "id,file\n1,wav/a.wav\n",
            {"speaker": "spk"},
            r"speaker=spk: labels\.csv has no column 'spk'; it has: id, file",
        ),
        ("id,file\n1,wav/a.wav\n", {"spaeker": "id"}, r"there is no field 'spaeker'; there are: id, file, start"),
        ("id,file,file\n1,wav/a.wav,x\n", {}, r"two columns named 'file'"),
        ("id,file\n1,wav/a.wav\n2,wav/b.wav\n1,wav/b.wav\n", {}, r"id '1' stands in row 1 and in row 3"),
        ("file,start\nwav/a.wav,0\nwav/a.wav,0.5\n", {}, r"id 'wav/a\.wav' stands in row 1 and .*--map id=COLUMN"),
        ("id,file\n1,wav/a.wav\n,wav/b.wav\n", {}, r"row 2: the id is empty"),
        ("id,file\n1,\n", {}, r"row 1: the media file is empty"),
        ("id,file\n../1,wav/a.wav\n", {}, r"'\.\./1' leaves the corpus folder"),
        ("id,file\n1,../a.wav\n", {}, r"row 1: '\.\./a\.wav' leaves"),
        ("id,file\n1,/etc/passwd\n", {}, r"row 1: '/etc/passwd' leaves"),
        ("id,file\n1,C:\\a.wav\n", {}, r"row 1: .* leaves"),
        (
            "id,file\n1,wav/a.wav\n2,w.wav\n3,x.wav\n4,y.wav\n5,z.wav\n",
            {},
            r"4 of its media files are not in .*first: w\.wav, x\.wav, y\.wav\)",
        ),
        ("id,file,start\n1,wav/a.wav,soon\n", {}, r"row 1: start 'soon' is not a number of seconds"),
        ("id,file,start\n1,wav/a.wav,-1\n", {}, r"row 1: start '-1' is not"),
        ("id,file,start,end\n1,wav/a.wav,2,1\n", {}, r"row 1: end 1 s is not after start 2 s"),
        ("id,file,split\n1,wav/a.wav,fold1\n", {}, r"split 'fold1' is none of train, valid, test"),
        (
            "id;file;v\n1;wav/a.wav;0,5\n2;wav/b.wav;1\n",
            {},
            r"column v has a decimal comma in '0,5'; write points",
        ),
        ("id,file\n1,wav/a.wav\n", {"corpus": "My Corpus"}, r"corpus name 'My Corpus'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(root: Path, text: str, mapping: dict[str, str], message: str) -> None:
    write(root, text)
    with pytest.raises(EmocacheError, match=message) as caught:
        load(root, **mapping)
    assert "\n" not in str(caught.value)


def test_no_table_and_no_utf8(root: Path) -> None:
    with pytest.raises(EmocacheError, match=r"corpus table: no \.csv, \.tsv, \.parquet in .*--map table=FILE"):
        load(root)
    (root / "labels.csv").write_bytes("id,file,text\n1,wav/a.wav,Grüße\n".encode("latin-1"))
    with pytest.raises(EmocacheError, match=r"labels\.csv .*UTF-?8"):
        load(root)
    (root / "labels.csv").rename(root / "labels.parquet")
    with pytest.raises(EmocacheError, match=r"labels\.parquet cannot be read"):
        load(root)
