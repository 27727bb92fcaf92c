"""MSP-Podcast: one table of consensus labels, five partitions, two letters that are no class, a part without labels."""

import wave
from collections.abc import Callable
from pathlib import Path

import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract.corpora import MediaHasher, census, msp_podcast

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
ROWS = """\
MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1
MSP-PODCAST_0001_0009.wav,U,3.777778,3.555556,3.777778,39,Female,Test1
MSP-PODCAST_0002_0001.wav,A,5.9,2.5,5.1,7,Male,Train
MSP-PODCAST_0002_0002.wav,X,4.0,4.0,4.0,Unknown,Unknown,Train
MSP-PODCAST_0003_0001.wav,O,3.0,3.75,3.166667,8,Female,Development
MSP-PODCAST_0004_0001.wav,C,4.125,4.75,4.0,9,Female,Test2
MSP-PODCAST_test3_0001.wav,,,,,Unknown,Unknown,Test3
"""


def write_wav(path: Path, value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(value.to_bytes(2, "little") * 160)


def build(root: Path, rows: str = ROWS, header: str = HEADER) -> None:
    (root / "Labels").mkdir(parents=True, exist_ok=True)
    (root / "Labels/labels_consensus.csv").write_text(f"{header}\n{rows}")
    for number, row in enumerate(rows.splitlines()):
        write_wav(root / "Audios" / row.partition(",")[0], number)


def load(root: Path) -> Manifest:
    return msp_podcast.load(root, {}, MediaHasher())


def test_partitions_are_splits_and_letters_are_classes(tmp_path: Path) -> None:
    build(tmp_path)
    manifest = load(tmp_path)
    assert manifest.corpus == "msp-podcast" and len(manifest) == 7
    assert manifest.column("split") == ["test", "test", "train", "train", "valid", "test", "test"]
    assert manifest.column("label.partition") == ["Test1", "Test1", "Train", "Train", "Development", "Test2", "Test3"]
    assert manifest.column("label.code") == ["N", "U", "A", "X", "O", "C", None]
    assert manifest.column("label.emotion") == ["neutral", "surprised", "angry", None, None, "contempt", None]
    assert manifest.column("label.arousal") == [2.2, 3.777778, 5.9, 4.0, 3.0, 4.125, None]
    assert [manifest.column(f"label.{name}")[0] for name in ("valence", "dominance")] == [4.0, 2.6]
    assert manifest.column("speaker") == ["30", "39", "7", None, "8", "9", None]
    assert manifest.column("gender") == ["male", "female", "male", None, "female", "female", None]
    first = next(iter(manifest))
    assert (first.id, first.media[0].path) == ("MSP-PODCAST_0001_0008", "Audios/MSP-PODCAST_0001_0008.wav")


def test_every_letter_of_the_eight_is_a_class_of_its_own(tmp_path: Path) -> None:
    build(tmp_path, "".join(f"{letter}.wav,{letter},1,2,3,1,Male,Train\n" for letter in "ACDFHNSU"))
    found = load(tmp_path).column("label.emotion")
    assert found == ["angry", "contempt", "disgust", "fearful", "happy", "neutral", "sad", "surprised"]


def test_transcripts_are_texts(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "Transcripts").mkdir()
    (tmp_path / "Transcripts/MSP-PODCAST_0001_0008.txt").write_text("So,\n that is  it. \n")
    (tmp_path / "Transcripts/MSP-PODCAST_0001_0009.txt").write_text("\n")
    (tmp_path / "MSP-PODCAST_0002_0001.txt").write_text("no transcript")
    assert load(tmp_path).column("text")[:3] == ["So, that is it.", None, None]


@pytest.mark.parametrize("cells", ["N,4.0,4.0,4.0", "?,?,?,?", "X,hidden,,nan"])
def test_what_is_withheld_of_test3_is_missing_and_what_is_not_is_taken(tmp_path: Path, cells: str) -> None:
    build(tmp_path, f"a.wav,{cells},Unknown,Unknown,Test3\n")
    (one,) = load(tmp_path)
    given: dict[str, str | float] = {} if "?" in cells else {"code": cells[0]}
    given |= {"emotion": "neutral", "arousal": 4.0, "valence": 4.0, "dominance": 4.0} if cells[0] == "N" else {}
    assert one.labels == {"partition": "Test3", **given}


def test_folders_that_unpacking_nested(tmp_path: Path) -> None:
    build(tmp_path / "MSP-PODCAST-1.11")
    assert len(load(tmp_path)) == 7
    build(tmp_path / "MSP-PODCAST-1.12")
    with pytest.raises(EmocacheError, match=r"several tables in .*1\.11/Labels.*1\.12.*the folder of one release"):
        load(tmp_path)


def change(old: str, new: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        table = root / "Labels/labels_consensus.csv"
        table.write_text(table.read_text().replace(old, new, 1))

    return write


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda root: (root / "Labels/labels_consensus.csv").unlink(), r"no Labels/.*csv below .*--data"),
        (change("EmoVal", "Valence"), r"consensus\.csv has no column EmoVal; it has: FileName, .* as it is given"),
        (change("Development", "Dev"), r"0003_0001: Split_Set 'Dev' is none of Train, Development, .*correct it"),
        (change("Development", "development"), r"did you mean 'Development'\?"),
        (change(",A,", ",B,"), r"0002_0001: EmoClass 'B' is none of A angry, .*X no agreement"),
        (change("5.9", "5;9"), r"0002_0001: EmoAct is '5;9', which is not a number"),
        (change("MSP-PODCAST_0002_0001.wav", ""), r"row 3: FileName is empty"),
        (lambda root: (root / "Audios/MSP-PODCAST_0004_0001.wav").unlink(),
         r"1 of the 7 recordings in .* are not below .* \(first: MSP-PODCAST_0004_0001\); unpack all of Audios/"),
        (change("_0002_0002", "_0002_0001"), r"id 'MSP-PODCAST_0002_0001' occurs twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path, damage: Callable[[Path], None], told: str) -> None:
    build(tmp_path)
    damage(tmp_path)
    with pytest.raises(EmocacheError, match=told):
        load(tmp_path)


def test_the_census_counts_and_asks_what_no_source_tells(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "Audios/left-over.wav").write_bytes(b"")
    report = census.lines(census.take_census("msp-podcast", tmp_path, {}, MediaHasher()))
    start = report.index("label partition")
    assert [line.split() for line in report[start + 1 : start + 6]] == [
        ["Development", "1"], ["Test1", "2"], ["Test2", "1"], ["Test3", "1"], ["Train", "2"]
    ]  # fmt: skip
    assert "  Audios/left-over.wav" in report
    asked = report[report.index("not known here, so look yourself:") + 1 :]
    assert asked == [f"  {one}" for one in msp_podcast.NOT_KNOWN]
