"""MELD: three tables, dialogues numbered anew in each part, times of the episode, clips in folders by part."""

import wave
from pathlib import Path

import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract.corpora import MediaHasher, census, meld

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
TABLES = {  # with what the real ones have: commas, doubled quotes, two forms of times, which may run backwards
    "train": """\
1,"Or! Or, we could go to the bank.",Ross,neutral,neutral,0,0,4,4,"00:12:24,660","00:12:30,915"
2,"\"\"Wanted. Female roommate.\"\" Nice!",Chandler,joy,positive,0,1,4,4,"0:12:20,872","0:12:19,291"
3,You\u2019re a genius!,Chandler,surprise,positive,1,0,4,4,"00:12:32,334","00:12:33,960"
""",
    "dev": '1,What?,Monica,disgust,negative,0,0,4,7,"00:21:01,927","00:21:03,261"\n',
    "test": '1,"No, I know!",Phoebe,fear,negative,0,0,4,4,"00:12:59,195","00:13:01,863"\n',
}
FOLDERS = {"train": "train/train_splits", "dev": "dev/dev_splits_complete", "test": "output_repeated_splits_test"}
IDS = ["dia0_utt0-dev", "dia0_utt0-test", "dia0_utt0-train", "dia0_utt1-train", "dia1_utt0-train"]


def write_clip(path: Path, value: int) -> None:
    """A clip's content is not read here, so a wav with three channels does as well as a film."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((3, 2, 48000, 0, "NONE", ""))
        file.writeframes(value.to_bytes(2, "little") * 4800 * 3)


def build(root: Path) -> None:
    for number, (part, rows) in enumerate(TABLES.items()):
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{part}_sent_emo.csv").write_text(f"{HEADER}\n{rows}", encoding="utf-8")
        for k in range(len(rows.splitlines())):
            write_clip(root / FOLDERS[part] / f"dia{k // 2}_utt{k % 2}.mp4", 10 * number + k)


def load(root: Path) -> Manifest:
    return meld.load(root, {}, MediaHasher())


def test_the_official_layout(tmp_path: Path) -> None:
    build(tmp_path / "MELD.Raw")
    manifest = load(tmp_path)
    assert (manifest.corpus, list(manifest.ids)) == ("meld", IDS)
    assert manifest.column("split") == ["valid", "test", "train", "train", "train"]
    assert manifest.column("session") == ["dia0-dev", "dia0-test", "dia0-train", "dia0-train", "dia1-train"]
    assert manifest.column("speaker") == ["Monica", "Phoebe", "Ross", "Chandler", "Chandler"]
    assert manifest.column("label.emotion") == ["disgust", "fearful", "neutral", "happy", "surprised"]
    assert manifest.column("label.sentiment") == ["negative", "negative", "neutral", "positive", "positive"]
    assert manifest.column("text")[2:] == [
        "Or! Or, we could go to the bank.", '"Wanted. Female roommate." Nice!', "You\u2019re a genius!"
    ]  # fmt: skip
    one = next(iter(manifest))
    assert {(m.role, m.path) for m in one.media} == {
        (role, "MELD.Raw/dev/dev_splits_complete/dia0_utt0.mp4") for role in ("audio", "video")
    }
    assert one.start is None and one.end is None  # the times are of the episode
    assert manifest.label_names == ["emotion", "sentiment"]


def test_a_part_alone_and_sound_cut_out_of_the_clips(tmp_path: Path) -> None:
    (tmp_path / "dev_sent_emo.csv").write_text(f"{HEADER}\n{TABLES['dev']}")
    write_clip(tmp_path / "dev/dia0_utt0.wav", 1)
    (one,) = load(tmp_path)
    assert [(m.role, m.path) for m in one.media] == [("audio", "dev/dia0_utt0.wav")]
    write_clip(tmp_path / "latest/dev_splits_complete/final/dia0_utt0.mp4", 2)
    (one,) = load(tmp_path)
    assert one.media[0].path == "latest/dev_splits_complete/final/dia0_utt0.mp4"


def test_the_two_that_the_archives_lack_are_left_out_and_told(tmp_path: Path) -> None:
    build(tmp_path)
    with (tmp_path / "dev_sent_emo.csv").open("a") as file:
        file.write('2,Did they?,Phoebe,neutral,neutral,110,7,6,11,"00:07:11,764","00:07:13,890"\n')
    hasher = MediaHasher()
    assert meld.load(tmp_path, {}, hasher).ids == IDS
    assert hasher.notes == ["dia110_utt7-dev is not in the archives, and is left out"]
    write_clip(tmp_path / FOLDERS["dev"] / "dia110_utt7.mp4", 99)
    assert "dia110_utt7-dev" in load(tmp_path).ids


def test_clips_that_are_not_there(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / FOLDERS["train"] / "dia0_utt1.mp4").unlink()
    told = (
        r"1 of the 3 clips of train_sent_emo\.csv are in no folder .* called train .*first: dia0_utt1\.mp4.*train\.tar"
    )
    with pytest.raises(EmocacheError, match=told):
        load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "Dialogue_ID",
            "Dialogue",
            r"dev_sent_emo\.csv has no column Dialogue_ID; it has: Sr No\., .*declare-lab/MELD",
        ),
        ("disgust", "bored", r"dev_sent_emo\.csv, dia0_utt0-dev: Emotion 'bored' is none of neutral, joy, "),
        ("disgust", "", r"Emotion None is none of"),
        (TABLES["dev"], TABLES["dev"] * 2, r"dev_sent_emo\.csv: id 'dia0_utt0-dev' stands in row 1 and in row 2"),
    ],
)
def test_what_is_wrong_in_a_table(tmp_path: Path, old: str, new: str, told: str) -> None:
    build(tmp_path)
    table = tmp_path / "dev_sent_emo.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(EmocacheError, match=told):
        load(tmp_path)


def test_a_folder_without_tables(tmp_path: Path) -> None:
    write_clip(tmp_path / "train_splits/dia0_utt0.mp4", 1)
    with pytest.raises(EmocacheError, match=r"corpus meld: no train_sent_emo\.csv, .* below .*MELD\.Raw, with --data"):
        load(tmp_path)


def test_the_census_stands_beside_the_published_counts(tmp_path: Path) -> None:
    build(tmp_path)
    report = census.lines(census.take_census("meld", tmp_path, {}, MediaHasher()))
    start = report.index("split")
    assert [line.split() for line in report[start + 1 : start + 4]] == [
        ["train", "3", "9989", "-9986"], ["valid", "1", "1109", "-1108"], ["test", "1", "2610", "-2609"],
    ]  # fmt: skip
