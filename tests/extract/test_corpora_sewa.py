"""SEWA: a small tree of the AVEC package, and a made-up one of the database, read as a mapping file says."""

import wave
from pathlib import Path

import numpy as np
import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract.corpora import MediaHasher, packaged, sewa, sewa_basic

HEADER = "name;timestamp;arousal;valence;liking\n"
ROWS = """\
'Devel_DE_01';0.000000;0.000000;0.000000;0.000000
'Devel_DE_01';0.100000;0.200000;-0.400000;NaN
'Devel_DE_01';0.200000;0.100000;-0.200000;0.600000
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def write_wav(path: Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(16000 * seconds)))


@pytest.fixture
def avec(tmp_path: Path) -> Path:
    """One complete person of Devel, one of Train without media, one of Test without labels."""
    tmp_path = tmp_path / "AVEC"
    write(tmp_path / "labels/Devel_DE_01.csv", HEADER + ROWS)
    write(tmp_path / "labels/Train_HU_07.csv", HEADER + ROWS.replace("Devel_DE_01", "Train_HU_07"))
    write(tmp_path / "labels/._Devel_DE_01.csv", "x")
    write_wav(tmp_path / "audio/Devel_DE_01.wav", 0.5)
    write(tmp_path / "video/Devel_DE_01.avi", "pictures")
    write_wav(tmp_path / "audio/Test_CN_70.wav")
    write(tmp_path / "audio/readme.wav", "not a person")
    write(tmp_path / "audio_features_mfcc/Devel_DE_02.csv", "name;frameTime;mfcc\n")
    return tmp_path


def load(root: Path, **mapping: str) -> Manifest:
    named = {key.replace("__", "."): value for key, value in mapping.items()}
    return sewa.load(root, named, MediaHasher())


def test_avec_names_and_partitions(avec: Path) -> None:
    manifest = load(avec)
    assert manifest.corpus == "sewa"
    assert manifest.ids == ["Devel_DE_01", "Test_CN_70", "Train_HU_07"]
    assert manifest.column("split") == ["valid", "test", "train"]
    assert manifest.column("culture") == ["DE", "CN", "HU"]
    assert manifest.column("language") == ["de", "zh", "hu"]
    assert manifest.column("partition") == ["Devel_DE", "Test_CN", "Train_HU"]
    assert manifest.column("speaker") == manifest.ids
    assert manifest.column("session") == [None] * 3
    assert [[(m.role, m.path) for m in u.media] for u in manifest] == [
        [("audio", "audio/Devel_DE_01.wav"), ("video", "video/Devel_DE_01.avi")],
        [("audio", "audio/Test_CN_70.wav")],
        [],
    ]


def test_avec_tracks_keep_their_stamps_and_lengths(avec: Path) -> None:
    devel, test, train = load(avec)
    np.testing.assert_array_equal(devel.tracks["arousal"].times, [0.0, 0.1, 0.2])
    np.testing.assert_array_equal(devel.tracks["valence"].values, [0.0, -0.4, -0.2])
    np.testing.assert_array_equal(devel.tracks["liking"].times, [0.0, 0.2])  # NaN at 0.1 s
    assert devel.labels == {
        "partition": "Devel_DE", "arousal": pytest.approx(0.1), "valence": pytest.approx(-0.2), "liking": 0.3,
    }  # fmt: skip
    assert devel.duration == 0.5  # longer than its labels
    assert (test.tracks, test.labels) == ({}, {"partition": "Test_CN"})
    assert (set(train.tracks), train.duration) == ({"arousal", "valence", "liking"}, None)


@pytest.mark.parametrize("text", [ROWS, HEADER + ROWS.replace("\n", "\r\n"), ROWS.replace("'", ""), "\ufeff" + ROWS])
def test_avec_label_files_with_and_without_header(avec: Path, text: str) -> None:
    expected = load(avec)
    write(avec / "labels/Devel_DE_01.csv", text)
    assert load(avec) == expected


@pytest.mark.parametrize("text", ["", HEADER, HEADER + "'Devel_DE_01';0.0;NaN;NaN;NaN\n"])
def test_avec_labels_that_say_nothing_are_no_tracks(avec: Path, text: str) -> None:
    write(avec / "labels/Devel_DE_01.csv", text)
    assert load(avec)["Devel_DE_01"].tracks == {}
    assert load(avec)["Devel_DE_01"].labels == {"partition": "Devel_DE"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("'Devel_DE_02';0.0;0;0;0", "line 2: .* is not 'name;timestamp;arousal;valence;liking' of Devel_DE_01"),
        ("'Devel_DE_01';0.0;0;0", "line 2: .* is not "),
        ("'Devel_DE_01';0.0;0;x;0", "line 2: 'x' is not a number"),
    ],
)
def test_avec_lines_that_cannot_be_read_are_named(avec: Path, line: str, problem: str) -> None:
    write(avec / "labels/Devel_DE_01.csv", HEADER + line + "\n")
    with pytest.raises(EmocacheError, match=problem):
        load(avec)


def test_avec_cultures_may_be_named(avec: Path) -> None:
    assert load(avec, culture__DE="German").column("culture") == ["German", "CN", "HU"]
    for key in ("culture__UK", "DE"):
        with pytest.raises(EmocacheError, match=r"there are: culture\.CN, culture\.DE, culture\.HU"):
            load(avec, **{key: "British"})


def test_avec_the_wrong_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"no labels/Train_DE_01\.csv, audio/Train_DE_01\.wav or the like in"):
        load(tmp_path)


def test_avec_published_counts_agree() -> None:
    assert sum(sewa.PUBLISHED.classes["partition"].values()) == sewa.PUBLISHED.utterances == 200


PLAN = """\
[fields]
subject = "Who/Subject"
session = "Where/Number"
culture = "Where/Culture"
gender = "Who/Sex"
episode = "Where/Category"

[values.culture]
C3 = "German"

[values.gender]
f = "female"
m = "male"

[media]
audio = "{folder}/*.wav"
video = "{folder}/*.avi"

[tracks.valence]
file = "annotations/{session}_{subject}_valence.csv"
time = "ms"
value = "gold"
seconds = 0.001
delimiter = ";"

[tracks.arousal]
file = "{folder}/arousal.csv"
time = 0
value = 1
"""
METADATA = """\
[Where]
Number = 012
Culture = {culture}
Category = chat
[Who]
subject = {subject}
Sex: {sex}
Share = 100%
"""


@pytest.fixture
def basic(tmp_path: Path) -> Path:
    """Two folders with recordings of two cultures that both call them session 012, subject 1, and one with neither."""
    root = tmp_path / "SEWA [basic]"
    for culture, sex in (("C3", "f"), ("C4", "m")):
        folder = root / culture / "Chat"
        write(folder / "metadata.ini", METADATA.format(culture=culture, subject=1, sex=sex))
        write_wav(folder / "talk.wav", 0.25)
    write(root / "C3/Chat/talk.avi", "pictures")
    write(root / "C3/Chat/arousal.csv", "0.00,0.5\n0.02,0.25\n0.04,\n")
    write(root / "annotations/012_1_valence.csv", "ms; gold\n0;-1\n20;0\n")
    write(root / "C3/Questionnaire/metadata.ini", "[Where]\nCategory = form\n")
    return root


def load_basic(root: Path, plan: str = PLAN) -> Manifest:
    path = root.parent / "sewa.toml"
    path.write_text(plan, encoding="utf-8")
    return sewa_basic.load(root, {"file": str(path)}, MediaHasher())


def test_basic_follows_the_mapping_file(basic: Path) -> None:
    manifest = load_basic(basic)
    assert manifest.corpus == "sewa-basic"
    one, two = manifest
    assert (one.id, one.speaker, one.session) == ("C3/Chat", "C3-012-1", "C3-012")
    assert (two.id, two.speaker, two.session) == ("C4/Chat", "C4-012-1", "C4-012")
    assert (one.culture, two.culture, one.gender, two.gender) == ("German", "C4", "female", "male")
    assert [(m.role, m.path) for m in one.media] == [("audio", "C3/Chat/talk.wav"), ("video", "C3/Chat/talk.avi")]
    assert one.duration == two.duration == 0.25
    assert one.labels == {"episode": "chat", "valence": -0.5, "arousal": 0.375}
    np.testing.assert_allclose(one.tracks["valence"].times, [0.0, 0.02])
    np.testing.assert_array_equal(one.tracks["arousal"].values, [0.5, 0.25])
    assert set(two.tracks) == {"valence"}


def test_basic_one_name_for_two_cultures_merges_no_people(basic: Path) -> None:
    manifest = load_basic(basic, PLAN.replace('C3 = "German"', 'C3 = "west"\nC4 = "west"'))
    assert manifest.column("culture") == ["west", "west"]
    assert manifest.column("speaker") == ["C3-012-1", "C4-012-1"]
    for culture, session, subject in (("C3", "1-2", "3"), ("C4", "1", "2-3")):
        text = METADATA.format(culture="C3", subject=subject, sex="f").replace("012", session)
        write(basic / culture / "Chat/metadata.ini", text)
    assert load_basic(basic).column("speaker") == ["C3-1_2-3", "C3-1-2_3"]


@pytest.mark.parametrize(("pattern", "subject"), [("{subject}/a.csv", "../.."), ("C3/{subject}./a.csv", ".")])
def test_basic_metadata_do_not_lead_out_of_the_corpus(basic: Path, pattern: str, subject: str) -> None:
    write(basic / "C3/Chat/metadata.ini", METADATA.format(culture="C3", subject=subject, sex="f"))
    with pytest.raises(EmocacheError, match=r"becomes '.*', which is no relative glob: it leaves the corpus folder"):
        load_basic(basic, PLAN.replace("{folder}/arousal.csv", pattern))


def test_basic_hidden_folders_are_left_out(basic: Path) -> None:
    write(basic / ".Trash/Chat/metadata.ini", METADATA.format(culture="C5", subject=1, sex="f"))
    write_wav(basic / ".Trash/Chat/talk.wav")
    assert load_basic(basic).ids == ["C3/Chat", "C4/Chat"]


def test_basic_folders_with_several_recordings(basic: Path) -> None:
    write_wav(basic / "C4/Chat/advert.wav")
    plan = (
        PLAN.replace('episode = "Where/Category"\n', "")
        .replace("*.wav", "{episode}.wav")
        .replace("*.avi", "{episode}.avi")
    )
    manifest = load_basic(basic, 'episodes = ["advert", "talk", "other"]\n' + plan)
    assert manifest.ids == ["C3/Chat/talk", "C4/Chat/advert", "C4/Chat/talk"]
    assert manifest.column("episode") == ["talk", "advert", "talk"]


def test_basic_a_pattern_that_finds_two_files(basic: Path) -> None:
    write_wav(basic / "C4/Chat/advert.wav")
    with pytest.raises(
        EmocacheError, match=r"\{folder\}/\*\.wav' finds advert\.wav and talk\.wav for C4/Chat.*episodes"
    ):
        load_basic(basic)


def test_basic_archives_are_not_unpacked(basic: Path) -> None:
    write(basic / "C4/Chat/talk-Video.zip", "PK")
    with pytest.raises(EmocacheError, match=r"talk-Video\.zip: .*; unzip SEWA's archives first"):
        load_basic(basic)
    write(basic / "C4/Chat/talk.avi", "pictures")
    assert len(load_basic(basic)) == 2


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (
            "Who/Subject",
            "Who/Id",
            r"metadata\.ini has no 'Who/Id', which is the subject .*it has: where/number, .*who/sex",
        ),
        ('subject = "Who/Subject"\n', "", r"sewa\.toml: fields\.subject: Field required; docs/corpora\.md"),
        ("time = 0", "time = -1", r"tracks\.arousal\.time"),
        ("time = 0", "time = 7", r"arousal\.csv has no column '7'; it has: 0, 1"),
        ('time = "ms"', 'time = "s"', r"valence\.csv has no column 's'; it has: ms, gold"),
        ("[tracks.arousal]\nfile", "[tracks.arousal]\nname", r"tracks\.arousal\.file: Field required"),
        ("gender = ", "sex = ", r"fields\.sex: Extra inputs are not permitted"),
        ("[fields]", "[fields", r"sewa\.toml cannot be read"),
        ("{folder}/*.wav", "../*.wav", r"pattern '\.\./\*\.wav' is not a glob relative to the corpus folder"),
        ("{folder}/*.wav", "/tmp/*.wav", r"is not a glob relative to the corpus folder"),
        ("annotations/{session}_", "{share}/", r"pattern '\{share\}/.* with placeholders among"),
        ("annotations/{session}_", "{session}/", r"pattern .* becomes '/012/.*', which is no relative glob"),
        ("{folder}/*.wav", "{dir}/*.wav", r"with placeholders among \{folder\}, \{subject\}"),
    ],
)
def test_basic_mistakes_in_the_mapping_file(basic: Path, before: str, after: str, problem: str) -> None:
    assert before in PLAN
    if "becomes" in problem:
        write(basic / "C3/Chat/metadata.ini", METADATA.format(culture="C3", subject=1, sex="f").replace("012", "/012"))
    with pytest.raises(EmocacheError, match=problem):
        load_basic(basic, PLAN.replace(before, after))


def test_one_name_for_both_packagings(basic: Path, avec: Path, tmp_path: Path) -> None:
    assert packaged("sewa", basic) == "sewa-basic" and packaged("sewa-basic", basic) == "sewa-basic"
    assert packaged("sewa", avec) == "sewa"
    assert packaged("sewa", tmp_path / "nowhere") == "sewa" and packaged("ravdess", basic) == "ravdess"
    # Notes beside the package make no database of it.
    write(avec / "metadata.ini", "[Who]\n")
    assert packaged("sewa", avec) == "sewa"


def test_basic_finds_its_mapping_file_in_the_folder(basic: Path) -> None:
    expected = load_basic(basic)
    (basic.parent / "sewa.toml").rename(basic / "sewa.toml")
    assert sewa_basic.load(basic, {}, MediaHasher()) == expected


def test_basic_files_that_cannot_be_read(basic: Path) -> None:
    write(basic / "C3/Chat/arousal.csv", "0.00,0.5\n0.02\n")
    with pytest.raises(EmocacheError, match=r"arousal\.csv, line 2: 1 cells, but 2 columns"):
        load_basic(basic)
    write(basic / "C3/Chat/arousal.csv", "0.00,high\n")
    with pytest.raises(EmocacheError, match=r"arousal\.csv, line 1: 'high' is not a number"):
        load_basic(basic)
    write(basic / "C3/Chat/metadata.ini", "Number = 1\n")
    with pytest.raises(EmocacheError, match=r"metadata\.ini cannot be read: .*no section"):
        load_basic(basic)


def test_basic_says_where_to_put_what(basic: Path, tmp_path: Path) -> None:
    for mapping in ({}, {"subject": "x"}):
        with pytest.raises(EmocacheError, match=r"with --map file=PATH; found .*docs/corpora\.md shows such a file"):
            sewa_basic.load(basic, mapping, MediaHasher())
    with pytest.raises(EmocacheError, match=r"mapping file .*none\.toml cannot be read"):
        sewa_basic.load(basic, {"file": str(tmp_path / "none.toml")}, MediaHasher())
    for text in ("x = " + "[" * 5000, "x = \xff"):
        with pytest.raises(EmocacheError, match=r"mapping file .*sewa\.toml cannot be read"):
            load_basic(basic, text)
    with pytest.raises(EmocacheError, match=r"3 folders below .*, but \[media\] of .* finds no file in any; the first"):
        load_basic(basic, PLAN.replace("*.wav", "*.flac").replace("*.avi", "*.mp4"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmocacheError, match=r"no metadata\.ini below .*empty"):
        load_basic(tmp_path / "empty")
