"""Corpora in others' formats: what their own libraries wrote is read, and what could run code or mislead is refused."""

import gzip
import hashlib
import json
import os
import pickle
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import EmocacheError, Manifest, Word
from emocache.extract.corpora import MediaHasher, audformat_table, huggingface, lhotse

Change = Callable[[dict[str, Any]], None]


def write_wav(path: Path, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(len(path.name).to_bytes(2, "little") * round(16000 * seconds))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with audio/a.wav (1 s) and audio/bb.wav (2 s), and room for a corpus around them."""
    write_wav(tmp_path / "audio" / "a.wav")
    write_wav(tmp_path / "audio" / "bb.wav", 2.0)
    return tmp_path


class Canary:
    """A pickle of this makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


# audformat


@pytest.fixture
def database(root: Path) -> Any:
    """An audformat database of those files: who speaks, the emotions by split, and segments; not saved yet."""
    audformat = pytest.importorskip("audformat")
    import pandas as pd

    db = audformat.Database("mini", languages=["de"])
    db.schemes["emotion"] = audformat.Scheme(labels=["happy", "sad"])
    people = {"s1": {"gender": "female", "age": 31}, "s2": {"gender": "male", "age": 40}}
    db.schemes["speaker"] = audformat.Scheme(labels=people)
    db["sentences"] = audformat.MiscTable(pd.Index(["s01", "s02"], name="code"))
    db["sentences"]["text"] = audformat.Column()
    db["sentences"]["text"].set(["Guten Tag", "Auf Wiedersehen"])
    db.schemes["sentence"] = audformat.Scheme("str", labels="sentences")
    db["files"] = audformat.Table(audformat.filewise_index(["audio/a.wav", "audio/bb.wav"]))
    for name, values in (("speaker", ["s1", "s2"]), ("sentence", ["s01", "s02"])):
        db["files"][name] = audformat.Column(scheme_id=name)
        db["files"][name].set(values)
    for split, file, emotion in (("train", "audio/a.wav", "happy"), ("dev", "audio/bb.wav", "sad")):
        db.splits[split] = audformat.Split(split)
        table = audformat.Table(audformat.filewise_index([file]), split_id=split)
        db[f"emotion.{split}"] = table
        table["emotion"] = audformat.Column(scheme_id="emotion")
        table["emotion"].set([emotion])
    starts, ends = ["0s", "0.25s", "0s"], ["0.25s", "1.5s", pd.NaT]
    db["turns"] = audformat.Table(
        audformat.segmented_index(["audio/bb.wav", "audio/bb.wav", "audio/a.wav"], starts, ends)
    )
    db.schemes["pause"] = audformat.Scheme("time")
    db["turns"]["pause"] = audformat.Column(scheme_id="pause")
    db["turns"]["pause"].set(pd.to_timedelta(["1s", "0.5s", None]))
    return db


def load_audformat(root: Path, **mapping: str) -> Manifest:
    named = {key.replace("__", "."): column for key, column in mapping.items()}
    return audformat_table.load(root, named, MediaHasher())


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_audformat_tables_are_put_together(root: Path, database: Any, storage: str) -> None:
    database.save(str(root), storage_format=storage)
    manifest = load_audformat(root, table="emotion.train|emotion.dev|files")
    assert manifest.corpus == "audformat"
    one, two = manifest
    assert (one.id, one.speaker, one.gender, one.language, one.split) == ("audio/a.wav", "s1", "female", "de", "train")
    assert (two.id, two.speaker, two.gender, two.language, two.split) == ("audio/bb.wav", "s2", "male", "de", "valid")
    assert one.labels == {"emotion": "happy", "age": 31.0, "sentence": "s01"}
    assert (one.text, two.text) == ("Guten Tag", "Auf Wiedersehen")
    assert (one.duration, two.duration) == (1.0, 2.0)


def test_audformat_segments_take_what_is_said_of_their_files(root: Path, database: Any) -> None:
    database.save(str(root), storage_format="csv")
    manifest = load_audformat(root, table="turns|files", label__pause="pause", corpus="mini")
    assert manifest.corpus == "mini"
    found = {u.id: (u.start, u.end, u.duration, u.speaker, u.labels.get("pause")) for u in manifest}
    assert found == {
        "audio/a.wav": (0.0, None, 1.0, "s1", None),
        "audio/bb.wav:0-0.25": (0.0, 0.25, 0.25, "s2", 1.0),
        "audio/bb.wav:0.25-1.5": (0.25, 1.5, 1.25, "s2", 0.5),
    }


def test_audformat_takes_the_only_table(root: Path, database: Any) -> None:
    for name in ("turns", "emotion.dev", "emotion.train"):
        database.drop_tables(name)
    database.save(str(root), storage_format="csv")
    assert load_audformat(root, id="sentence").ids == ["s01", "s02"]


def test_audformat_never_unpickles(root: Path, database: Any, tmp_path: Path) -> None:
    database.save(str(root), storage_format="csv")
    canary = tmp_path / "ran"
    (root / "db.files.pkl").write_bytes(pickle.dumps(Canary(canary)))
    later = (root / "db.files.csv").stat().st_mtime + 60
    os.utime(root / "db.files.pkl", (later, later))  # audformat would take the newer
    assert load_audformat(root, table="files").column("speaker") == ["s1", "s2"]
    (root / "db.files.csv").unlink()
    with pytest.raises(EmocacheError, match=r"neither db\.files\.parquet nor db\.files\.csv .*pickles are not read"):
        load_audformat(root, table="files")
    assert not canary.exists()


def test_audformat_headers_run_no_code(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("audformat")
    canary = tmp_path / "ran"
    (root / "db.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{canary}']\nsource: x\nusage: other\n")
    with pytest.raises(EmocacheError, match=r"db\.yaml is no audformat header: .*python/object/apply") as caught:
        load_audformat(root)
    assert not canary.exists()
    assert "\n" not in str(caught.value)


FILES, TURNS = "file,speaker,sentence\n", "file,start,end,pause\n"


@pytest.mark.parametrize(
    ("table", "file", "text", "message"),
    [
        (None, None, "", r"lists emotion\.dev, emotion\.train, files, turns; choose with --map table=NAME"),
        ("nothing", None, "", r"--map table=nothing: db\.yaml lists no table 'nothing'; there are: emotion\.dev"),
        ("sentences", None, "", r"lists no table 'sentences'"),
        ("files", "db.yaml", "a: [", r"db\.yaml is no audformat header: while parsing"),
        ("files", "db.yaml", "- 1\n- 2\n", r"db\.yaml is no audformat header"),
        ("files", "db.yaml", "name: x\nsource: y\nusage: other\n", r"there are: no tables"),
        ("files", "db.sentences.csv", "code,text\ns01,x,y\ns02\n", r"db\.sentences\.csv cannot be read"),
        ("files", "db.files.csv", f"{FILES}audio/a.wav\nx,s1,s01,y\n", r"db\.files\.csv cannot be read: .*Expected 3"),
        ("files", "db.files.csv", f"{FILES}audio/a.wav,s1,\naudio/bb.wav,s3,s01\n", r"row 2: speaker 's3' is no label"),
        ("files", "db.files.csv", "file,sentence,speaker\naudio/a.wav,s01,s1\n", r"has the columns file, sentence,"),
        ("files", "db.files.csv", "file,speaker\naudio/a.wav,s1\n", r"cannot be read: Usecols"),
        ("files", "db.files.csv", f"{FILES}../a.wav,s1,s01\n", r"db\.files, row 1: '\.\./a\.wav' leaves"),
        ("files", "db.files.csv", f"{FILES}/a.wav,s1,s01\n", r"row 1: '/a\.wav' leaves"),
        ("files", "db.files.csv", f"{FILES}c.wav,s1,s01\n", r"1 of its media files are not in .*c\.wav"),
        ("turns", "db.turns.csv", f"{TURNS}audio/a.wav,x,y,1s\n", r"db\.turns\.csv cannot be read"),
        ("turns", "db.turns.csv", f"{TURNS}audio/a.wav,0 days 00:00:02,0 days 00:00:01,\n", r"row 1: end 1 s is not"),
    ],
)  # fmt: skip
def test_audformat_says_what_is_wrong(
    root: Path, database: Any, table: str | None, file: str | None, text: str, message: str
) -> None:
    database.save(str(root), storage_format="csv")
    if file is not None:
        (root / file).write_text(text)
    with pytest.raises(EmocacheError, match=message) as caught:
        load_audformat(root, **({"table": table} if table else {}))
    assert "\n" not in str(caught.value)


def test_audformat_tables_that_contradict_each_other(root: Path, database: Any) -> None:
    audformat = pytest.importorskip("audformat")
    database["other"] = audformat.Table(audformat.filewise_index(["audio/a.wav"]))
    database["other"]["emotion"] = audformat.Column(scheme_id="emotion")
    database["other"]["emotion"].set(["sad"])
    database.save(str(root), storage_format="csv")
    with pytest.raises(EmocacheError, match=r"emotion\.train\|other in .*: .*overlap"):
        load_audformat(root, table="emotion.train|other")


# Hugging Face datasets


@pytest.fixture
def datasets() -> Iterator[Any]:
    """The library, without its progress bars."""
    library = pytest.importorskip("datasets")
    library.disable_progress_bars()
    yield library
    library.enable_progress_bars()


def embedded(library: Any, root: Path, names: tuple[str, ...] = ("a.wav", "bb.wav"), **columns: list[Any]) -> Any:
    """A Dataset with an Audio column that holds those files, and columns."""
    audio = [{"bytes": (root / "audio" / name).read_bytes(), "path": name} for name in names]
    dataset = library.Dataset.from_dict({"audio": audio, **columns})
    return dataset.cast_column("audio", library.Audio(decode=False))


def load_datasets(root: Path, **mapping: str) -> Manifest:
    named = {key.replace("__", "."): column for key, column in mapping.items()}
    return huggingface.load(root, named, MediaHasher())


def test_embedded_media_are_exported_when_asked(root: Path, datasets: Any, tmp_path: Path) -> None:
    dataset = embedded(datasets, root, emotion=[1, -1], speaker_id=["f", "m"], text=["x", None])
    dataset = dataset.cast_column("emotion", datasets.ClassLabel(names=["sad", "happy"]))
    folder = tmp_path / "saved"
    datasets.DatasetDict({"train": dataset, "validation": dataset.select([0])}).save_to_disk(str(folder))
    before = sorted(folder.rglob("*"))
    with pytest.raises(EmocacheError, match=r"train holds its media inside Arrow files \(0\.1 MB\).*--map export=yes"):
        load_datasets(folder)
    assert sorted(folder.rglob("*")) == before

    manifest = load_datasets(folder, export="yes", speaker="speaker_id", label="emotion")
    assert manifest.ids == ["train-000000", "train-000001", "validation-000000"]
    assert manifest.column("emotion") == ["happy", None, "happy"]
    assert manifest.column("split") == ["train", "train", "valid"]
    assert manifest.column("speaker") == ["f", "m", "f"]
    assert manifest.column("text") == ["x", None, "x"]
    assert manifest.column("duration") == [1.0, 2.0, 1.0]
    wanted = {hashlib.sha256((root / "audio" / n).read_bytes()).hexdigest() for n in ("a.wav", "bb.wav")}
    assert {p.stem for p in (folder / "emocache-media").iterdir()} == wanted
    assert {m.path for u in manifest for m in u.media} == {f"emocache-media/{sha}.wav" for sha in wanted}
    assert load_datasets(folder, speaker="speaker_id", label="emotion") == manifest  # once is enough


def test_an_exported_file_that_changed_is_found(root: Path, datasets: Any, tmp_path: Path) -> None:
    embedded(datasets, root).save_to_disk(str(tmp_path / "saved"))
    manifest = load_datasets(tmp_path / "saved", export="yes")
    assert manifest.ids == ["000000", "000001"]
    write_wav(tmp_path / "saved" / manifest["000000"].media[0].path, 0.5)
    with pytest.raises(EmocacheError, match=r"\.wav was changed; delete it and export it again"):
        load_datasets(tmp_path / "saved")


def test_the_format_of_embedded_media_without_a_name(root: Path, datasets: Any, tmp_path: Path) -> None:
    good = {"bytes": (root / "audio" / "a.wav").read_bytes(), "path": None}
    for name, cells in (("good", [good]), ("bad", [good, {"bytes": b"????", "path": "x.txt"}])):
        dataset = datasets.Dataset.from_dict({"audio": cells}).cast_column("audio", datasets.Audio(decode=False))
        dataset.save_to_disk(str(tmp_path / name))
    assert load_datasets(tmp_path / "good", export="yes")["000000"].media[0].path.endswith(".wav")
    with pytest.raises(EmocacheError, match=r"bad, row 2: audio has no file name that tells its format, and is no WAV"):
        load_datasets(tmp_path / "bad", export="yes")


def test_a_column_of_paths(root: Path, datasets: Any) -> None:
    columns = {"path": ["audio/a.wav", "audio/bb.wav"], "votes": [[1, 2], [3]], "start": [None, 0.5], "id": ["x", "y"]}
    datasets.Dataset.from_dict(columns).save_to_disk(str(root))
    x, y = load_datasets(root, file="path", corpus="mine")
    assert (x.id, x.start, y.id, y.start, y.duration) == ("x", None, "y", 0.5, 1.5)
    assert x.labels == {}


def test_datasets_that_cannot_be_read(root: Path, datasets: Any, tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"cannot be read as a folder of save_to_disk: .*neither a `Dataset`"):
        load_datasets(root)
    two = embedded(datasets, root).add_column("again", [None, None]).cast_column("again", datasets.Audio(decode=False))
    two.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(EmocacheError, match=r"two has several columns of media \(audio, again\).*--map file=COLUMN"):
        load_datasets(tmp_path / "two")
    datasets.Dataset.from_dict({"file": ["audio/a.wav", "../a.wav"]}).save_to_disk(str(root))
    with pytest.raises(EmocacheError, match=r"row 2: '\.\./a\.wav' leaves"):
        load_datasets(root)
    datasets.DatasetDict({"fold1": embedded(datasets, root)}).save_to_disk(str(tmp_path / "folds"))
    with pytest.raises(EmocacheError, match=r"fold1, row 1: split 'fold1' is none of train, valid, test"):
        load_datasets(tmp_path / "folds", export="yes")
    (root / "state.json").write_text("{")
    for mapping, message in (
        ({}, r"cannot be read as a folder of save_to_disk"),
        ({"table": "x"}, r"--map table=x: a dataset has no tables"),
        ({"export": "maybe"}, r"--map export=maybe: say yes"),
    ):
        with pytest.raises(EmocacheError, match=message):
            load_datasets(root, **mapping)


def test_a_class_that_is_not_there(root: Path, datasets: Any) -> None:
    import pyarrow as pa

    features = datasets.Features({"file": datasets.Value("string"), "emotion": datasets.ClassLabel(names=["sad"])})
    table = pa.table({"file": ["audio/a.wav", "audio/bb.wav"], "emotion": [0, 1]})
    datasets.Dataset(table, info=datasets.DatasetInfo(features=features)).save_to_disk(str(root))
    with pytest.raises(EmocacheError, match=r"row 2: emotion 1 is none of its classes"):
        load_datasets(root)


@pytest.mark.parametrize(
    ("library", "load"),
    [("audformat", audformat_table.load), ("datasets", huggingface.load)],
    ids=["audformat", "datasets"],
)
def test_a_missing_library_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, library: str, load: Callable[..., Manifest]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    extra = {"datasets": "huggingface"}.get(library, library)
    with pytest.raises(EmocacheError, match=rf"needs the library {library} .*pip install 'emocache\[{extra}\]'"):
        load(root, {}, MediaHasher())


# Lhotse


def a_cut(id_: str = "c1", start: float = 0.5, duration: float = 1.0) -> dict[str, Any]:
    """A cut as Lhotse's CutSet.to_jsonl writes it, with an alignment in seconds of the recording."""
    return {
        "id": id_,
        "start": start,
        "duration": duration,
        "channel": 0,
        "supervisions": [
            {
                "id": f"{id_}-sup", "recording_id": "bb", "start": 0.0, "duration": duration, "channel": 0,
                "text": "so what", "language": "English", "speaker": "spk7", "gender": "female",
                "custom": {"emotion": "happy", "valence": 0.25},
                "alignment": {"word": [["", 0.5, 0.1, None], ["so", 0.45, 0.3, 0.9], ["what", 0.8, 0.9]]},
            }
        ],
        "recording": {
            "id": "bb",
            "sources": [{"type": "file", "channels": [0], "source": "audio/bb.wav"}],
            "sampling_rate": 16000, "num_samples": 32000, "duration": 2.0, "channel_ids": [0],
            "transforms": [{"name": "Resample", "kwargs": {"source_sampling_rate": 8000}}],
        },
        "custom": {"split": "dev", "emotion": "unheard", "snr": {"array": [1]}},
        "type": "MonoCut",
    }  # fmt: skip


def write_cuts(root: Path, *cuts: dict[str, Any], name: str = "cuts.jsonl") -> None:
    text = "".join(json.dumps(cut) + "\n" for cut in cuts)
    (root / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def load_lhotse(root: Path, **mapping: str) -> Manifest:
    named = {key.replace("__", "."): column for key, column in mapping.items()}
    return lhotse.load(root, named, MediaHasher())


@pytest.mark.parametrize("name", ["cuts.jsonl", "mini_cuts_train.jsonl.gz"])
def test_lhotse_cuts(root: Path, name: str) -> None:
    bare = {key: value for key, value in a_cut("c0").items() if key not in ("supervisions", "custom")}
    bare["recording"]["sources"][0]["source"] = str((root / "audio" / "bb.wav").absolute())
    write_cuts(root, a_cut(), bare, name=name)
    manifest = load_lhotse(root)
    assert manifest.corpus == "lhotse"
    c0, c1 = manifest
    assert (c1.start, c1.end, c1.duration, c1.split) == (0.5, 1.5, 1.0, "valid")
    assert (c1.speaker, c1.gender, c1.language, c1.text) == ("spk7", "female", "English", "so what")
    assert c1.labels == {"emotion": "happy", "valence": 0.25}
    assert c1.words == (Word("so", 0.0, 0.25), Word("what", 0.3, 1.0))
    assert c1.words_source == "corpus"
    assert (c0.start, c0.end, c0.speaker, c0.words, c0.words_source, c0.labels) == (0.5, 1.5, None, (), None, {})
    assert c0.media == c1.media
    assert c0.media[0].path == "audio/bb.wav"


def test_lhotse_leaves_hidden_files_out(root: Path) -> None:
    write_cuts(root, a_cut())
    (root / "._cuts.jsonl").write_bytes(b"\x00\x05\x16\x07")  # as macOS leaves them beside each file
    assert load_lhotse(root).ids == ["c1"]


def test_lhotse_fields_are_mapped(root: Path) -> None:
    write_cuts(root, a_cut(), name="my_cuts.jsonl")
    write_cuts(root, name="other_cuts.jsonl")
    (u,) = load_lhotse(root, table="my_cuts.jsonl", label__felt="emotion", culture="language", corpus="mine")
    assert (u.labels, u.culture) == ({"felt": "happy"}, "English")
    with pytest.raises(
        EmocacheError, match=r"there: my_cuts\.jsonl, other_cuts\.jsonl\); choose with --map table=FILE"
    ):
        load_lhotse(root)
    with pytest.raises(EmocacheError, match=r"no such file in .*; cut manifests there: my_cuts\.jsonl, other"):
        load_lhotse(root, table="cuts.jsonl")
    with pytest.raises(EmocacheError, match=r"other_cuts\.jsonl has no cuts"):
        load_lhotse(root, table="other_cuts.jsonl")


def test_lhotse_alignments_before_1_8_were_objects(root: Path) -> None:
    cut = a_cut()
    cut["supervisions"][0]["alignment"]["word"] = [{"symbol": "so", "start": 0.5, "duration": 0.25, "score": None}]
    write_cuts(root, cut)
    assert load_lhotse(root)["c1"].words == (Word("so", 0.0, 0.25),)


def source(cut: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cut["recording"]["sources"][0]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(type="MixedCut", tracks=[]), r'"MixedCut" instead of MonoCut; .*save_audios'),
        (lambda c: c.update(type="MultiCut"), r'"MultiCut" instead'),
        (lambda c: c.update(type="PaddingCut"), r'"PaddingCut" instead'),
        (lambda c: c.pop("type"), r"null instead"),
        (lambda c: source(c).update(type="command", source="touch ran"), r'is a "command", not a file; commands are'),
        (lambda c: source(c).update(type="url", source="https://example.org/a.wav"), r'is a "url", not a file'),
        (lambda c: source(c).update(type="memory"), r'is a "memory", not a file'),
        (lambda c: c["recording"].update(sources=[]), r"the recording has 0 sources instead of one file"),
        (lambda c: c["recording"].update(sources=[{}, {}]), r"has 2 sources"),
        (lambda c: c["recording"].update(transforms=[{"name": "Speed"}]), r'Lhotse would apply "Speed" to the'),
        (lambda c: c.pop("recording"), r"recording is null, not an object"),
        (lambda c: source(c).update(channels=[0, 1]), r"one of 2 channels, but emocache hears the mean"),
        (lambda c: source(c).update(source="../a.wav"), r"'\.\./a\.wav' leaves"),
        (lambda c: source(c).update(source="/etc/passwd"), r"'/etc/passwd' leaves"),
        (lambda c: source(c).update(source="audio/c.wav"), r"1 of its media files are not in .*audio/c\.wav"),
        (lambda c: c.update(supervisions=[{}, {}]), r"2 supervisions instead of at most one; .*trim_to_supervisions"),
        (lambda c: c.update(supervisions={"a": 1}), r'supervisions is \{"a": 1\}, not a list'),
        (lambda c: c.update(id=7), r"id is 7, not text"),
        (lambda c: c.update(start=-0.5), r"start is -0\.5, not a number of seconds"),
        (lambda c: c.update(start=float("nan")), r"start is NaN, not a number"),
        (lambda c: c.update(duration="1"), r'duration is "1", not a number'),
        (lambda c: c.update(duration=True), r"duration is true, not a number"),
        (lambda c: c.update(duration=0, supervisions=[]), r"end 0\.5 s is not after start 0\.5 s"),
        (lambda c: c.update(custom=[1]), r"custom is \[1\], not an object"),
        (lambda c: c["supervisions"][0].update(text=["x"] * 100), r"text is .{60}\.\.\., not text"),
        (lambda c: c["supervisions"][0].update(alignment=[]), r"alignment is \[\], not an object"),
        (
            lambda c: c["supervisions"][0].update(alignment={"word": ["so"]}),
            r'aligned word "so" is not \[symbol, start',
        ),
        (lambda c: c["supervisions"][0].update(alignment={"word": [[1, 2, 3]]}), r"aligned word \[1, 2, 3\] is not"),
        (lambda c: c["supervisions"][0].update(alignment={"word": [["a", None, 1]]}), r"start of 'a' is null, not a"),
        (
            lambda c: c["supervisions"][0].update(alignment={"word": [["a", 0.1, 0.2]]}),
            r"word 'a' at 0\.1 s lies outside its cut, 0\.5 to 1\.5 s; alignments count from the start of",
        ),
    ],
)
def test_lhotse_cuts_that_are_refused(root: Path, change: Change, message: str) -> None:
    cut = a_cut("c2")
    change(cut)
    write_cuts(root, a_cut(), cut)
    with pytest.raises(EmocacheError, match=message) as caught:
        load_lhotse(root)
    assert str(caught.value).startswith(("cuts.jsonl, line 2: ", "cuts.jsonl, row 2: ", "cuts.jsonl: 1 of"))
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in root.iterdir()) == ["audio", "cuts.jsonl"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}\n\n", r"line 1: null instead of MonoCut"),
        (b"\n", r"line 1: not a JSON object \(Expecting value"),
        (b"[1]\n", r"line 1: list instead of a JSON object"),
        (b"\xff\xfe\n", r"line 1: not a JSON object"),
        (b"[" * 100_000 + b"\n", r"line 1: not a JSON object \("),
        (b" " * 101 + b"\n", r"line 1: longer than 100 bytes"),
    ],
)  # fmt: skip
def test_lhotse_lines_that_are_no_cuts(root: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str) -> None:
    if b" " in data:
        monkeypatch.setattr(lhotse, "MAX_LINE", 100)
    (root / "cuts.jsonl").write_bytes(data)
    with pytest.raises(EmocacheError, match=message):
        load_lhotse(root)


def test_lhotse_manifests_that_are_cut_short(root: Path) -> None:
    write_cuts(root, *(a_cut(f"c{i}") for i in range(50)), name="cuts.jsonl.gz")
    whole = (root / "cuts.jsonl.gz").read_bytes()
    for data in (whole[:-4], whole[: len(whole) // 2], b"no gzip", whole[:20] + b"\0" * 40):
        (root / "cuts.jsonl.gz").write_bytes(data)
        with pytest.raises(EmocacheError, match=r"cuts\.jsonl\.gz cannot be read after line \d+: .*; write or copy"):
            load_lhotse(root)
