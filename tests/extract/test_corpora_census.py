"""What `emocache corpora CORPUS --data DIR` reports: counts that agree with the folder, beside the published ones."""

import wave
from collections.abc import Callable
from pathlib import Path

import pytest

import emocache
from emocache.cache import EmocacheError
from emocache.extract.corpora import REGISTRY, CorpusEntry, MediaHasher, census, ravdess
from emocache.extract.corpora.census import Census, lines, take_census
from emocache.extract.corpora.files import Published


def write_wav(path: Path, seconds: float, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(value.to_bytes(2, "little") * round(16000 * seconds))


def take(name: str, root: Path, **mapping: str) -> Census:
    return take_census(name, root, {key.replace("__", "."): v for key, v in mapping.items()}, MediaHasher())


@pytest.fixture
def actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four RAVDESS recordings of two actors, two of them the same bytes, one with a broken header; and a song."""
    for number, name in enumerate(("07/03-01-03-01-02-01-07", "07/03-01-03-01-02-02-07", "12/03-01-05-02-01-01-12")):
        write_wav(tmp_path / f"Actor_{name}.wav", 9.0, value=number // 2)
    (tmp_path / "Actor_12" / "01-01-06-01-01-01-12.mp4").write_bytes(b"no video")
    write_wav(tmp_path / "Actor_12" / "03-02-05-02-01-01-12.wav", 1.0, value=9)
    published = Published(8, 2, {"emotion": {"neutral": 2, "happy": 2, "angry": 3, "fearful": 1}}, "the paper, table 1")
    monkeypatch.setattr(ravdess, "PUBLISHED", published, raising=False)
    return tmp_path


def test_a_census_counts_what_is_there(actors: Path) -> None:
    found = take("ravdess", actors)
    assert (found.corpus, found.utterances, found.speakers, found.seconds, found.unreadable) == ("ravdess", 4, 2, 27, 1)
    assert found.media == {"audio only": 3, "audio and video": 1, "video only": 0, "no media": 0}
    assert found.given == {"text": 4, "words": 0}
    assert found.fields == {"gender": {"female": 2, "male": 2}, "language": {"en": 4}}
    assert found.labels["emotion"] == {"angry": 1, "fearful": 1, "happy": 2}
    assert found.duplicates == [[f"Actor_07/03-01-03-01-02-0{i}-07.wav" for i in (1, 2)]]
    assert found.unused == ["Actor_12/03-02-05-02-01-01-12.wav"]


def test_the_report_stands_beside_the_published_counts(actors: Path) -> None:
    report = lines(take("ravdess", actors))
    assert report[: report.index("label intensity")] == [
        f"corpus ravdess in {actors}",
        "                    found  published  difference",
        "utterances              4          8          -4",
        "speakers                2          2           0",
        "hours               0.007",
        "unreadable headers      1",
        "media",
        "  audio only            3",
        "  audio and video       1",
        "given",
        "  text                  4",
        "  words                 0",
        "gender",
        "  female                2",
        "  male                  2",
        "language",
        "  en                    4",
        "label emotion",
        "  neutral               0          2          -2",
        "  happy                 2          2           0",
        "  angry                 1          3          -2",
        "  fearful               1          1           0",
    ]
    assert report[-5:] == [
        "published in: the paper, table 1",
        "groups of files with the same bytes: 1",
        "  Actor_07/03-01-03-01-02-01-07.wav = Actor_07/03-01-03-01-02-02-07.wav",
        "media files used by no utterance: 1",
        "  Actor_12/03-02-05-02-01-01-12.wav",
    ]


def test_what_is_published_is_for_load(actors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "ravdess-again", CorpusEntry("by another function", "ravdess:load"))
    assert take("ravdess", actors).published is not None
    assert take("ravdess-again", actors).published is None


def test_published_splits_stand_beside_the_splits(tmp_path: Path) -> None:
    emotions = "Anger,Boredom,Calmness,Concentration,Determination,Excitement,Interest,Sadness,Tiredness"
    write_wav(tmp_path / "wav" / "a.wav", 0.1)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "train.csv").write_text(f"filename,{emotions}\na.wav{',0' * 9}\n")
    report = lines(take("emotionshare", tmp_path))
    start = report.index("split")
    assert [line.split() for line in report[start + 1 : start + 4]] == [
        ["train", "1", "31745", "-31744"], ["valid", "0", "9925", "-9925"], ["test", "0", "10143", "-10143"],
    ]  # fmt: skip
    assert "label split" not in report


def test_nothing_is_decoded(actors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setattr(soundfile.SoundFile, "read", refuse)
    assert take("ravdess", actors).utterances == 4


def test_a_table_has_nothing_published(tmp_path: Path) -> None:
    rows = ["id,file,split,valence,voice,emotion"]
    for number in range(30):
        write_wav(tmp_path / f"{number:02}.wav", 0.1, value=number)
        split = "train" if number < 20 else "test"
        rows.append(f"u{number:02},{number:02}.wav,{split},{number / 4 - 1},{number % 2},e{number}")
    (tmp_path / "labels.csv").write_text("\n".join([*rows, ""]))
    found = take("table", tmp_path)
    assert found.published is None
    assert found.fields == {"split": {"test": 10, "train": 20}}
    assert found.labels == {"voice": {"0": 15, "1": 15}}
    assert found.ranges == {
        "emotion": "30 utterances, 30 values", "valence": "30 utterances, 30 values, -1 to 6.25"
    }  # fmt: skip
    report = lines(found)
    assert report[1:3] == ["                    found", "utterances             30"]
    assert report[-4:] == [
        "label emotion: 30 utterances, 30 values",
        "label valence: 30 utterances, 30 values, -1 to 6.25",
        "groups of files with the same bytes: 0",
        "media files used by no utterance: 0",
    ]


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    for number in range(8):
        write_wav(tmp_path / f"{number}.wav", 0.1, value=number)
    (tmp_path / "labels.csv").write_text("id,file\na,0.wav\n")
    report = lines(take("table", tmp_path))
    assert report[-7:] == ["media files used by no utterance: 7", *(f"  {i}.wav" for i in range(1, 6)), "  ..."]


def test_what_a_loader_refuses_a_census_refuses(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match="no file named like"):
        take("ravdess", tmp_path)


def test_the_real_corpora(shared: Callable[[str], Path]) -> None:
    """One pair of files of Actor_07 has the same bytes in the official archive."""
    found = take("ravdess", shared("data/ravdess"))
    assert found.duplicates == [[f"Actor_07/03-01-03-01-02-0{i}-07.flac" for i in (1, 2)]]
    assert found.unused == []
    assert sum(found.labels["emotion"].values()) == found.utterances == 60 * found.speakers
    assert census.MAX_CLASSES > len(found.labels["emotion"]) == 8


@pytest.mark.parametrize("name", ["ravdess", "emodb", "cremad"])
def test_the_page_on_corpora_shows_what_is_printed(name: str, shared: Callable[[str], Path]) -> None:
    page = (Path(emocache.__file__).parent / "docs" / "corpora.md").read_text()
    heading, *rest = lines(take(name, shared(f"data/{name}")))
    assert heading.startswith(f"corpus {name} in ") and "\n".join(rest) in page
