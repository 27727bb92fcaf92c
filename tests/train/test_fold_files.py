"""Fold files: what is read of them, whom they mean, the folds that they give, and what runs say of them."""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from emocache import cli
from emocache.cache import Cache, EmocacheError, Manifest, Media, Utterance
from emocache.evaluate.output.results_table import results_table
from emocache.evaluate.scoring.result_groups import group
from emocache.evaluate.scoring.scored import evaluate_result
from emocache.evaluate.scoring.stored_runs import discover
from emocache.extract.corpora import load
from emocache.extract.corpora.files import MediaHasher
from emocache.train.config.experiment_names import EXPERIMENTS
from emocache.train.config.loading import load_settings
from emocache.train.data.lists.fold_file import read_fold_file
from emocache.train.data.lists.placing import place
from emocache.train.protocols.folds import make_folds
from emocache.train.run.experiment_plan import Plan, make_plan
from emocache.train.run.today import setting_today
from emocache.train.stored.run_folders import read_record

from .conftest import EXPERIMENT, Toy

PARTS = ("train", "valid", "test")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], str]:
    """Function from the content of a fold file to its path."""
    numbers = count()

    def written(content: str | bytes) -> str:
        path = tmp_path / f"folds{next(numbers)}.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return written


def manifest(ids: Sequence[str], corpus: str = "toys", folder: str = "wav", speakers: Sequence[str] = ()) -> Manifest:
    """A corpus with a file of its own for each utterance."""
    rows = [Utterance(one, (Media("audio", f"{folder}/{one}.flac", sha256(one.encode()).hexdigest()),),
                      speaker=speaker) for one, speaker in zip(ids, speakers or ids, strict=True)]  # fmt: skip
    return Manifest.from_utterances(corpus, rows)


def placed(file: str, *manifests: Manifest) -> dict[str, tuple[tuple[str, str], ...]]:
    """{corpus/id: its places}."""
    keys = [f"{one.corpus}/{id_}" for one in manifests for id_ in one.ids]
    return dict(zip(keys, place(manifests, read_fold_file(file))[0], strict=True))


def emobox(folder: Path, corpus: str, lists: Mapping[tuple[int, str], Sequence[str]]) -> str:
    """A folder as EmoBox has it: lists of (fold, part), of stems."""
    for (fold, part), stems in lists.items():
        path = folder / f"fold_{fold}" / f"{corpus}_{part}_fold_{fold}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [{"key": f"{corpus}-{stem.replace('_', '-')}", "dataset": corpus, "emo": "anger",
                    "wav": f"downloads/{corpus}/wav/{stem}.wav"} for stem in stems]  # fmt: skip
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "label_map.json").write_text("{}")
    return str(folder)


# --- what is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [
    "id,fold\na,1\nb,2\nc,3\n",
    "\ufeffid,fold\r\na,1\r\nb,2\r\nc,3\r\n",
    "# from somewhere\n\nID ; Fold\n a ; 1\nb;2\n# the last\n  c;3",
    "fold\tid\textra\n1\ta\tx\n2\tb\t\n3\tc\ty\n",
    '"speaker","id","fold"\r"9","a","1"\r"9","b","2"\r"9","c","3"\r',
], ids=["plain", "bom-crlf", "comments-spaces", "tabs", "quotes-cr"])  # fmt: skip
def test_tables_of_any_kind_say_the_same(write: Callable[[str | bytes], str], content: str) -> None:
    file = read_fold_file(write(content))
    assert [(row.names, row.fold, row.part) for row in file.rows] == [(("a",), "1", ""), (("b",), "2", ""),
                                                                        (("c",), "3", "")]  # fmt: skip
    assert not file.of_speakers and file.sha256 == sha256(content.encode()).hexdigest()


def test_parts_are_read_in_any_spelling_and_one_fold_needs_no_name(write: Callable[[str | bytes], str]) -> None:
    file = read_fold_file(write("FileName,angry,SpkrID,Split_Set\na.wav,.9,1,Train\nb.wav,.1,2,Development\n"
                                "c.wav,.1,3,Test\n"))  # fmt: skip
    assert [(row.names[0], row.fold, row.part) for row in file.rows] == [
        ("a.wav", "1", "train"), ("b.wav", "1", "valid"), ("c.wav", "1", "test")]  # fmt: skip


def test_folders_of_emobox_and_of_emo_superb_are_read_as_they_are(tmp_path: Path) -> None:
    emobox(tmp_path / "box", "toys", {(1, "train"): "ab", (1, "test"): "c", (2, "train"): "bc", (2, "valid"): "a"})
    rows = read_fold_file(str(tmp_path / "box")).rows
    assert {(row.names[1][-5:], row.fold, row.part) for row in rows} == {
        ("a.wav", "1", "train"), ("b.wav", "1", "train"), ("c.wav", "1", "test"), ("b.wav", "2", "train"),
        ("c.wav", "2", "train"), ("a.wav", "2", "valid")}  # fmt: skip
    (tmp_path / "superb").mkdir()
    for fold, parts in ((1, ("Train", "Test")), (10, ("Test", "Train"))):
        rows_of = "".join(f"{name}.wav,{part}\n" for name, part in zip("ab", parts, strict=True))
        (tmp_path / "superb" / f"labels_consensus_{fold}.csv").write_text("FileName,Split_Set\n" + rows_of)
    rows = read_fold_file(str(tmp_path / "superb")).rows
    assert [(row.names[0], row.fold, row.part) for row in rows] == [
        ("a.wav", "1", "train"), ("b.wav", "1", "test"), ("a.wav", "10", "test"), ("b.wav", "10", "train")]  # fmt: skip


WRONG = {
    "": "first row of folds0.csv must name the columns id (or speaker), and fold or part or both; it has nothing",
    "a,1\nb,2\n": "first row of folds0.csv must name the columns",
    "id\na\n": "it has id",
    "id,fold\n": "folds0.csv has no rows below its first one",
    "id,filename,fold\na,a,1\n": "has two columns id and filename; take one out",
    "id,fold\na\n": "line 2 of folds0.csv has 1 cells, and the first row has 2",
    "id,fold\na,1\n,2\n": "line 3 of folds0.csv has no id",
    "id,fold,part\na,1,\n": "line 2 of folds0.csv has no part",
    "id,fold,part\na,1,tset\n": "line 2 of folds0.csv has the part 'tset'; it can be train, valid or test",
    'id,fold\n"a,1\n': "folds0.csv is no table",
    'id,fold\n"a\nb",1\n': "folds0.csv has a cell of several lines",
    "id,fold\n" + "".join(f"a{n},{n}\n" for n in range(1001)): "1001 folds, such as '0' and '1000', and at most 1000",
    "id,fold\nä,1\n".encode("latin-1"): "folds0.csv is not UTF-8",
}


@pytest.mark.parametrize("content", WRONG, ids=range(len(WRONG)))
def test_a_file_that_is_none_says_why(write: Callable[[str | bytes], str], content: str | bytes) -> None:
    file = write(content)
    with pytest.raises(EmocacheError, match=re.escape(WRONG[content])) as error:
        read_fold_file(file)
    assert str(error.value).startswith(f"protocol.file: {file}: ")


def test_what_is_no_fold_file_says_what_is_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmocacheError, match="does not exist; give its path from the experiment's file"):
        read_fold_file(str(tmp_path / "no.csv"))
    with pytest.raises(EmocacheError, match=r"a folder without fold lists; expected fold_1/CORPUS_train_fold_1.jsonl"):
        read_fold_file(str(tmp_path))
    (tmp_path / "one.jsonl").write_text("{}")
    with pytest.raises(EmocacheError, match=r"one list of several; give the folder that holds fold_1/"):
        read_fold_file(str(tmp_path / "one.jsonl"))
    emobox(tmp_path, "toys", {(1, "train"): "a"})
    (tmp_path / "fold_1" / "toys_test_fold_1.jsonl").write_text('{"key": "toys-b"}\n{"wav": "x.wav"}\n')
    with pytest.raises(EmocacheError, match=r'line 2 of fold_1/toys_test_fold_1.jsonl is no JSON object with a "key"'):
        read_fold_file(str(tmp_path))
    (tmp_path / "fold_1" / "toys_test_fold_1.jsonl").write_text("\n")
    with pytest.raises(EmocacheError, match=r"fold_1/toys_test_fold_1.jsonl is empty"):
        read_fold_file(str(tmp_path))
    emobox(tmp_path, "games", {(1, "train"): "a"})
    with pytest.raises(EmocacheError, match="lists of several kinds, games and toys; give a folder with those of one"):
        read_fold_file(str(tmp_path))
    monkeypatch.setattr("emocache.train.data.lists.fold_file._LARGEST", 10)
    (tmp_path / "large.csv").write_text("id,fold\na,1\n")
    with pytest.raises(EmocacheError, match=r"large\.csv: 0 MB; no fold file is larger than 0 MB"):
        read_fold_file(str(tmp_path / "large.csv"))


# --- whom it means ------------------------------------------------------------------------------------------------


def test_a_name_is_an_id_or_else_a_file_and_never_a_guess(write: Callable[[str | bytes], str]) -> None:
    own = manifest(["a", "b_1", "c.5", "d"])
    names = ["a", "b_1.wav", "x\\wav\\c.5.wav", "toys-d"]
    file = write("id,fold\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names)))
    assert list(placed(file, own).values()) == [(("0", ""),), (("1", ""),), (("2", ""),), (("3", ""),)]
    # "c" is a file's stem only for those who drop more than an ending, and "A" is no "a".
    listing = place([own], read_fold_file(write("id,fold\nc,1\nA,1\nother-a,1\nd,2\n")))[1]
    assert listing.absent == ("c", "A", "other-a") and listing.listed == 4


def test_stems_that_several_files_have_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    media = [Media("audio", f"{part}/dia0_utt{n}.mp4", f"{part}{n}".encode().hex() * 8) for part in ("dev", "test")
             for n in (0, 1)]  # fmt: skip
    own = Manifest.from_utterances("meld", [Utterance(f"{n}", (one,)) for n, one in enumerate(media)])
    folder = tmp_path / "fold_1"
    folder.mkdir()
    for part, name in (("valid", "dev"), ("test", "test")):
        lines = [{"key": f"meld-dia0_utt{n}-{name}", "wav": f"downloads/meld/{name}/dia0_utt{n}.mp4"} for n in (0, 1)]
        (folder / f"meld_{part}_fold_1.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = placed(str(tmp_path), own)
    assert list(found.values()) == [(("1", "valid"),)] * 2 + [(("1", "test"),)] * 2


def test_what_cannot_be_told_is_an_error_that_counts(write: Callable[[str | bytes], str]) -> None:
    one, other = manifest(["a", "b"], "one"), manifest(["a", "c"], "two")
    with pytest.raises(EmocacheError, match=r"1 names mean several utterances each: 'a' \(2\); write CORPUS/NAME"):
        placed(write("id,fold\na,1\nb,2\n"), one, other)
    assert placed(write("id,fold\none/a,1\ntwo/a,2\nb,3\n"), one, other) == {
        "one/a": (("1", ""),), "one/b": (("3", ""),), "two/a": (("2", ""),), "two/c": ()}  # fmt: skip
    with pytest.raises(EmocacheError, match=r"none of its 4 utterances is in one: it lists 'k', 'l', 'm', \.\.\.; one"
                       r" has 'one/a', 'one/b'"):  # fmt: skip
        placed(write("id,fold\nk,1\nl,2\nm,3\nn,4\n"), one)
    with pytest.raises(EmocacheError, match=r"none of its 1 speakers is in one: it lists '1'; one has 'one/01'; give"):
        placed(write("speaker,fold\n1,1\n"), manifest(["a"], "one", speakers=["01"]))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("id,fold\na,1\na,1\n", "'toys/a' is twice in fold 1 (line 2 of folds0.csv; line 3 of folds0.csv)"),
        ("id,fold\na,1\na.wav,2\n", "'toys/a' is tested in fold 1 and in fold 2, and so would count twice"),
        ("id,fold,part\na,1,train\na,1,test\n", "'toys/a' is in train and in test of fold 1"),
        ("id,fold,part\na,1,test\nb,1,train\na,2,test\n", "'toys/a' is tested in fold 1 and in fold 2"),
        ("id,fold\nb,1\nz,1\nz,1\n", "'z' is twice in fold 1"),
        ("speaker,fold\na,1\na,2\n", "'toys/a' is tested in fold 1 and in fold 2"),
    ],
)
def test_nobody_is_listed_twice(write: Callable[[str | bytes], str], content: str, told: str) -> None:
    with pytest.raises(EmocacheError, match=re.escape(told)):
        placed(write(content), manifest(["a", "b"]))


def test_training_in_many_folds_is_no_repetition(write: Callable[[str | bytes], str]) -> None:
    file = write("id,fold,part\n" + "".join(f"a,{n},train\nb,{n},{'test' if n == 1 else 'valid'}\n" for n in (1, 2)))
    assert placed(file, manifest(["a", "b"]))["toys/a"] == (("1", "train"), ("2", "train"))


# --- the folds of the real lists, and of the real corpora ---------------------------------------------------------


def folds_of(plan: Plan) -> list[list[set[str]]]:
    """The ids in train, valid and test of each fold."""
    return [[{plan.dataset.examples[r].id for r in getattr(fold, part)} for part in PARTS] for fold in plan.folds]


@pytest.mark.parametrize("corpus", ["ravdess", "emodb"])
@pytest.mark.parametrize("form", ["table", "folder"])
def test_emobox_s_folds_hold_those_that_it_lists(
    toy: Toy, shared: Callable[[str], Path], tmp_path: Path, corpus: str, form: str
) -> None:
    released = shared(f"data/folds/emobox-{corpus}.csv")
    own = load(corpus, shared(f"data/{corpus}"), mapping={}, hasher=MediaHasher())
    with released.open(newline="") as file:
        rows = [(row["id"], int(row["fold"])) for row in csv.DictReader(file)]
    path = str(released)
    if form == "folder":  # as EmoBox itself has it: who is not tested trains
        lists = {(k, part): [i for i, fold in rows if (fold == k) == (part == "test")]
                 for k in {fold for _, fold in rows} for part in ("train", "test")}  # fmt: skip
        path = emobox(tmp_path / "box", corpus, lists)
    places, listing = place([own], read_fold_file(path))
    assert (listing.listed, len(listing.absent)) == (len(rows), len(rows) - len(own))
    tested = {i: fold for i, fold in rows if i in set(own.ids)}
    assert {i: int(fold) for i, those in zip(own.ids, places, strict=True) for fold, part in those
            if part in ("", "test")} == tested  # fmt: skip

    cache = Cache(toy.root)
    cache.put_manifest(own)
    toy.commit(cache, corpus, "toy", {i: np.zeros((1, 2), np.float32) for i in own.ids})
    changes = ["protocol.name=file", f"protocol.file={path}", "protocol.validation=fraction"]
    plan = make_plan(cache, [corpus], tmp_path / "runs", "x", toy.settings(*changes))
    speaker = dict(zip(own.ids, own.column("speaker"), strict=True))
    assert len(plan.folds) == max(tested.values())
    for k, (train, valid, test) in enumerate(folds_of(plan), 1):
        # Of two files with the same bytes, both of actor 7, neither is anywhere else than the other.
        assert test == {i for i, fold in tested.items() if fold == k}
        assert train | valid == set(tested) - test
        assert train and valid and not {speaker[i] for i in train} & {speaker[i] for i in valid}
    shares = any({speaker[i] for i in test} & {speaker[i] for i in train} for train, _, test in folds_of(plan))
    kinds = {caution.kind for k in range(len(plan.folds)) for caution in plan.cautions(k)}
    assert shares == (corpus == "emodb") == ("speakers trained and tested" in kinds)
    assert "not all of the fold file" in kinds


def test_the_shipped_speakers_are_those_of_emobox_s_list(shared: Callable[[str], Path]) -> None:
    with shared("data/folds/emobox-ravdess.csv").open(newline="") as file:
        released = {(row["id"][-2:], row["fold"]) for row in csv.DictReader(file)}
    shipped = read_fold_file("benchmarks/emobox-ravdess.csv")
    assert shipped.of_speakers and {(row.names[0], row.fold) for row in shipped.rows} == released
    assert len(shipped.rows) == 24


def test_ten_folds_of_speakers_are_what_paper_4_has_on_ravdess() -> None:
    """All 24 actors, a clip of each emotion of each: no actor on two sides, twelve of either gender in ten folds."""
    from emocache.train.data.example import Example

    examples = [Example("ravdess", f"{actor:02}-{emotion}", f"{actor:02}", None, "male" if actor % 2 else "female",
                        None, emotion) for actor in range(1, 25) for emotion in range(8)]  # fmt: skip
    for name in ("paper4/camulenet", "paper4/whisper-base", "paper4/whisper-base-probe"):
        settings = load_settings(name)[1]
        folds = make_folds(examples, settings.protocol)
        assert "ravdess" in settings.corpora and len(folds) == 10
        tested = [{examples[row].speaker for row in fold.test} for fold in folds]
        assert sorted(who for those in tested for who in those) == [f"{n:02}" for n in range(1, 25)]


# --- folds of small corpora, against a reference of a few lines ----------------------------------------------------


def plan_of(toy: Toy, content: str, *changes: str, cache: Cache | None = None) -> Plan:
    """The plan of the toys, of 6 speakers with 6 clips each, with a fold file beside the experiment."""
    (toy.folder / "folds.csv").write_text(content)
    text = re.sub(r'name = "group_folds"\nfolds = 3', 'name = "file"\nfile = "folds.csv"', EXPERIMENT)
    settings = load_settings(toy.experiment(text, "listed"), changes)[1]
    return make_plan(cache or toy.cache(), ["toys"], toy.folder / "runs", "listed", settings)


def test_a_list_of_tested_folds_trains_on_all_others_and_validates_on_the_next(toy: Toy) -> None:
    ids = [row.id for row in toy.corpus().rows]
    fold = {one: ("b", "a10", "a9")[n % 3] for n, one in enumerate(ids)}  # named, out of order
    content = "id,fold\n" + "".join(f"{one},{name}\n" for one, name in fold.items())
    order = ["a9", "a10", "b"]
    for k, (train, valid, test) in enumerate(folds_of(plan_of(toy, content))):
        held = [{one for one in ids if fold[one] == order[(k + step) % 3]} for step in range(3)]
        assert (test, valid, train) == tuple(held)


def test_parts_are_taken_as_they_are_and_who_is_not_listed_is_left_out(toy: Toy) -> None:
    ids = [row.id for row in toy.corpus().rows][:-4]
    random = np.random.default_rng(0)
    wanted = {}
    for fold, tested in enumerate(np.array_split(random.permutation(ids), 3)):
        rest = [one for one in ids if one not in set(tested)]
        wanted[str(fold)] = [set(rest[:15]), set(rest[15:]), set(map(str, tested))]
    rows = [f"{one},{fold},{part}\n" for fold, parts in wanted.items()
            for part, those in zip(PARTS, parts, strict=True) for one in sorted(those)]  # fmt: skip
    plan = plan_of(toy, "id,fold,part\n" + "".join(random.permutation(rows)))
    assert folds_of(plan) == list(wanted.values())
    assert plan.dataset.listing is not None and plan.dataset.listing.unlisted == 4
    kinds = [caution.kind for caution in plan.cautions(0)]
    assert kinds.count("speakers trained and tested") == kinds.count("speakers validated and tested") == 1


def test_parts_without_validation_draw_it_in_whole_groups(toy: Toy) -> None:
    trained = {"S1": ("S2", "S3"), "S4": ("S5", "S2")}
    rows = [f"{who},{fold},{'test' if who == fold else 'train'}\n" for fold, those in trained.items()
            for who in (fold, *those)]  # fmt: skip
    plan = plan_of(toy, "speaker,fold,part\n" + "".join(rows))
    speaker = {e.id: e.speaker for e in plan.dataset.examples}
    session = {e.id: e.session for e in plan.dataset.examples}
    for (train, valid, test), (first, others) in zip(folds_of(plan), trained.items(), strict=True):
        assert {speaker[i] for i in test} == {first} and {speaker[i] for i in train | valid} == set(others)
        assert not {session[i] for i in train} & {session[i] for i in valid}
    assert not [c for k in (0, 1) for c in plan.cautions(k) if c.kind.endswith("and tested")]


def test_a_recording_is_not_on_two_sides_unless_that_is_declared(toy: Toy) -> None:
    corpus = toy.corpus()
    twin = Media("audio", "a.wav", "a" * 64)
    rows = [row if n > 1 else Utterance(row.id, (twin,), duration=2.0, speaker=row.speaker, labels=row.labels)
            for n, row in enumerate(corpus.rows)]  # fmt: skip
    corpus.rows[:] = rows
    content = "id,fold\n" + "".join(f"{row.id},{n % 3}\n" for n, row in enumerate(rows))
    cache = toy.cache(corpus)
    first, second = rows[0].id, rows[1].id
    kept = folds_of(plan_of(toy, content, cache=cache))
    assert first in kept[0][2] and not any(second in part for part in kept[0])
    overlapping = folds_of(plan_of(toy, content, "protocol.overlap=true", cache=cache))
    assert first in overlapping[0][2] and second in overlapping[0][1]


REFUSED = {
    ("id,fold\nspk1_0,1\nspk2_1,2\n", ()): "3 folds are needed with protocol.validation = 'next', and these corpora are"
    " in 2: 1, 2",
    ("id,fold\nspk1_0,1\nspk1_1,1\n", ("protocol.validation=fraction",)): "2 folds are needed",
    ("id,fold,part\nspk1_0,1,train\nspk2_1,1,valid\n", ()): "fold 1 has no test utterance with a label",
    ("id,fold,part\nspk1_0,x,train\nspk2_1,x,valid\nspk3_0,x,test\n", ("protocol.validation=half",)): "fold x of"
    " protocol.file has a validation part of its own",
    ("id,fold\nspk1_0,1\nspk2_1,2\nspk3_0,3\n", ("protocol.validation_group=session",)): "protocol.validation_group has"
    " no use where the next fold",
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=range(len(REFUSED)))
def test_folds_that_cannot_be_trained_are_refused(toy: Toy, case: tuple[str, tuple[str, ...]]) -> None:
    with pytest.raises(EmocacheError, match=re.escape(REFUSED[case])):
        plan_of(toy, case[0], *case[1])


def test_settings_that_do_not_fit_name_the_remedy(toy: Toy) -> None:
    with pytest.raises(EmocacheError, match=r"name = 'file' needs protocol.file, the path of the fold file"):
        toy.settings("protocol.name=file")
    with pytest.raises(EmocacheError, match=r"protocol: file belongs to name = 'file', not to 'group_folds'"):
        toy.settings("protocol.file=x.csv")
    with pytest.raises(EmocacheError, match=r"protocol.file"):
        toy.settings("protocol.name=file", "protocol.file=3")


# --- paths, identity, runs ----------------------------------------------------------------------------------------


def test_a_path_is_beside_the_file_that_names_it_or_from_here_by_set(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "folds.csv").write_text("id,fold\n")
    toy.experiment(EXPERIMENT, "base")
    (inner / "listed.toml").write_text('extends = "../base"\n[protocol]\nname = "file"\nfile = "folds.csv"\n')
    (tmp_path / "outer.toml").write_text('extends = "inner/listed"\n')
    monkeypatch.chdir(tmp_path)
    for experiment in ("outer.toml", str(inner / "listed.toml")):
        assert load_settings(experiment)[1].protocol.file == str(inner / "folds.csv")
    by_hand = load_settings("outer.toml", ["protocol.file=other/folds.csv"])[1].protocol
    assert by_hand.file == str(tmp_path / "other" / "folds.csv")
    # A shipped one is named from the shipped experiments, wherever these are installed.
    shipped = load_settings("benchmarks/emobox-ravdess-probe")[1].protocol.file
    assert shipped == "benchmarks/emobox-ravdess.csv" and (EXPERIMENTS / shipped).is_file()
    assert load_settings("outer.toml", [f"protocol.file={shipped}"])[1].protocol.file == shipped


def train(toy: Toy, *more: str) -> tuple[str, str]:
    """What `emocache train` says on standard output and standard error."""
    where = ["--cache", str(toy.root), "--runs", str(toy.folder / "runs"), "--corpus", "toys", "--device", "cpu"]
    short = ["--set", "training.epochs=1", "--jobs", "1"]
    done = CliRunner().invoke(cli.app, ["train", str(toy.folder / "listed.toml"), *where, *short, *more])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


@pytest.mark.slow
def test_runs_are_pooled_and_say_what_the_file_has(toy: Toy) -> None:
    cache = toy.cache()
    ids = [row.id for row in toy.corpus().rows]
    content = "id,fold\n" + "".join(f"{one},{n % 3}\n" for n, one in enumerate(ids)) + "gone,1\n"
    setting = plan_of(toy, content, "training.epochs=1", cache=cache).setting
    out, err = train(toy)
    digest = sha256(content.encode()).hexdigest()
    assert f"fold file folds.csv (sha256 {digest[:12]}): 36 of 37 utterances are in the corpora; 0 utterances" in out
    assert "the corpora lack 1 of 37 utterances that folds.csv lists (gone)" in err
    assert "warning: speakers trained and tested (all 3 folds)" in err

    (result,) = group(discover([toy.folder / "runs"]))
    assert result.first.protocol.file_sha256 == digest and result.first.setting == setting
    assert {"speakers trained and tested", "not all of the fold file"} <= set(result.marks)
    evaluation = evaluate_result(result)
    tables = [pq.read_table(path).to_pylist() for path in (toy.folder / "runs").rglob("predictions.parquet")]
    tested = [row for table in tables for row in table if row["part"] == "test"]
    assert sorted(row["id"] for row in tested) == sorted(ids)
    right = [row["reference"] == row["prediction"] for row in tested]
    assert evaluation.metrics["accuracy"].pooled == pytest.approx(np.mean(right))
    notes = " ".join(results_table([evaluation], 200).notes)
    assert "file (3 folds)" in notes and "speakers trained and tested" in notes

    # Elsewhere it is the same file, and another content is another experiment, which supersedes the first.
    assert "0 trained, 3 reused" in train(toy)[0]
    (toy.folder / "elsewhere.csv").write_text(content)
    assert "0 trained, 3 reused" in train(toy, "--set", f"protocol.file={toy.folder / 'elsewhere.csv'}")[0]
    record = read_record(next((toy.folder / "runs").rglob("fold0-seed0")))
    assert setting_today(record, cache) == setting
    (toy.folder / "folds.csv").write_text(content + "another,2\n")
    assert setting_today(record, cache) != setting
    assert "3 trained, 0 reused" in train(toy)[0]
    listed = CliRunner().invoke(cli.app, ["runs", "ls", str(toy.folder / "runs")]).output
    assert [line.split()[0] for line in listed.splitlines()[1:3]] == ["current", "superseded"]
    (toy.folder / "folds.csv").unlink()
    with pytest.raises(EmocacheError, match=r"folds.csv: does not exist"):
        setting_today(record, cache)
