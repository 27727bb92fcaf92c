"""Which runs make up a result, and what tells results apart."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import EmocacheError
from emocache.evaluate.output.printed_tables import result_tables
from emocache.evaluate.output.spreadsheet import to_csv
from emocache.evaluate.report import evaluate_runs
from emocache.evaluate.scoring.result_groups import Result, group
from emocache.evaluate.scoring.stored_runs import discover


def results(tmp_path: Path) -> list[Result]:
    """Everything below runs/."""
    return group(discover([tmp_path / "runs"]))


def test_folds_and_seeds_make_one_result(tmp_path: Path, grid: Any) -> None:
    grid()
    (result,) = results(tmp_path)
    assert (result.corpus, result.streams, result.folds, result.seeds) == ("demo", ["logmel"], [0, 1], [0, 1])
    assert result.difference == "" and result.marks == [] and result.missing_runs == []
    assert result.coverage.model_dump() == {"test": 12, "predicted": 12, "missing": (), "enrolled": 0}


def test_layers_side_by_side_are_told_in_few_words_for_people_only(tmp_path: Path, grid: Any) -> None:
    names = [*(f"wavlm-large.L{layer}" for layer in range(24)), "wavlm-large"]
    grid(streams=[{"corpus": "demo", "name": name, "fingerprint": f"{i:064x}"} for i, name in enumerate(names)])
    (result,) = results(tmp_path)
    assert result.streams == names and result.streams_told == "wavlm-large (L0-L23, last)"
    evaluated = evaluate_runs([tmp_path / "runs"])
    told = {row[table.headings.index("streams")] for table in result_tables(evaluated) for row in table.rows}
    assert told == {"wavlm-large (L0-L23, last)", ""}  # none of a baseline
    assert "+".join(names) in to_csv(evaluated)


def test_settings_are_told_apart_by_what_differs(tmp_path: Path, grid: Any) -> None:
    def config(**changes: Any) -> dict[str, Any]:
        head = {"kind": "gru", "layers": 1}
        return {"streams": {"frames": ["logmel"]}, "head": head, "seeds": [0], "description": "x"} | changes

    grid(seeds=[0], config=config())
    grid(seeds=[0], config=config(streams={"frames": ["mfcc", "logmel"]}))
    grid(seeds=[0], config=config(head={"kind": "gru", "layers": 2}, description="y"))
    assert sorted(result.difference for result in results(tmp_path)) == [
        "streams.frames=logmel head.layers=1",
        "streams.frames=logmel head.layers=2",
        "streams.frames=mfcc,logmel head.layers=1",
    ]


def test_streams_of_one_name_are_told_apart_by_fingerprint(tmp_path: Path, grid: Any) -> None:
    for digit in "ab":
        grid(seeds=[0], streams=[{"corpus": "demo", "name": "logmel", "fingerprint": digit * 64}])
    assert [result.difference for result in results(tmp_path)] == [
        "demo/logmel=aaaaaaaaaaaa",
        "demo/logmel=bbbbbbbbbbbb",
    ]


def test_settings_that_differ_in_nothing_known_are_told_apart_by_their_hash(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0], setting="aaaaaaaaaaaa")
    grid(seeds=[0], setting="bbbbbbbbbbbb")
    assert [result.difference for result in results(tmp_path)] == ["setting=aaaaaaaaaaaa", "setting=bbbbbbbbbbbb"]


def test_the_grid_lists_what_is_missing(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0, 2])
    (result,) = results(tmp_path)
    shutil.rmtree(result.runs[1, 2].folder)
    (result,) = results(tmp_path)
    assert result.missing_runs == [(1, 2)] and result.marks == ["3 of 4 runs"]
    shutil.rmtree(result.runs[1, 0].folder)
    (result,) = results(tmp_path)
    assert result.missing_runs == [(1, 0), (1, 2)] and result.folds == [0]


def test_seeds_asked_for_but_not_run_are_missing(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0], config={"seeds": [0, 1]})
    assert results(tmp_path)[0].missing_runs == [(0, 1), (1, 1)]


def test_marks_come_from_any_run(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0], incomplete=True, transductive=True)
    assert results(tmp_path)[0].marks == ["incomplete", "transductive"]


def test_marks_of_the_runs_come_after_and_once(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0, 1], transductive=True, marks=["unmasked", "validated on test"])
    assert results(tmp_path)[0].marks == ["transductive", "unmasked", "validated on test"]


def test_a_search_tells_how_many_settings_it_tried(tmp_path: Path, grid: Any) -> None:
    one, *searched = ({"settings": {"head.width": w}, "epoch": 1, "value": 0.5} for w in (4, 8, 16, 32))
    grid(seeds=[0], experiment="fixed", selection={"metric": "accuracy", "tried": [one]})
    grid(seeds=[0], experiment="older", selection={"metric": "accuracy"})
    grid(seeds=[0], experiment="searched", selection={"tried": searched})
    told = {result.first.experiment: (result.trials, result.selection) for result in results(tmp_path)}
    assert told == {
        "fixed": (1, ""),
        "older": (1, ""),
        "searched": (3, "chosen among 3 settings on validation"),
    }


def test_file_names_are_unique_and_no_paths(tmp_path: Path, grid: Any) -> None:
    names = ["paper1/cats", "paper1.cats", "paper1_cats", "paper1%2Fcats", "../cats", "ca ts", "情感"]
    for number, name in enumerate(names):
        grid(seeds=[0], experiment=name, setting="aaaaaaaaaaaa", root=tmp_path / "runs" / str(number) / "x")
    found = [result.file_name for result in results(tmp_path)]
    assert len(set(found)) == len(names) and "paper1.cats-aaaaaaaaaaaa" in found
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]+", name) for name in found)


def test_coverage_counts_each_fold_once(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0, 1], coverage={"test": 7, "predicted": 6, "missing": ["u99"]})
    assert results(tmp_path)[0].coverage.model_dump() == {
        "test": 14, "predicted": 12, "missing": ("u99",), "enrolled": 0}  # fmt: skip


def test_the_same_run_twice_is_an_error(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0])
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    with pytest.raises(EmocacheError, match="are the same run twice; delete one or name only one"):
        group(discover([tmp_path / "runs", tmp_path / "copy"]))


def test_runs_that_contradict_each_other_are_named(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    rows = [utterance("a", "s", "sad", "sad")]
    write_run(rows, fold=0, setting="aaaaaaaaaaaa")
    write_run(rows, fold=1, folds=3, setting="aaaaaaaaaaaa")
    with pytest.raises(EmocacheError, match=r"fold1-seed0: folds is 3, but 2 in .*fold0-seed0"):
        results(tmp_path)
