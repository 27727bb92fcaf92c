"""The terminal: what is printed fits it, and says what results.json says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from emocache.evaluate.cli import evaluate
from emocache.evaluate.output.headlines import headlines
from emocache.evaluate.output.results_table import results_table
from emocache.evaluate.output.screen import Screen
from emocache.evaluate.output.text_table import Table
from emocache.evaluate.report import evaluate_runs, papers_text, tables_text

LONG = "paper1/faithful-last-av-cats-no-gate-arousal"
WIDTHS = (60, 80, 100, 200)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def app() -> typer.Typer:
    """The command alone."""
    app = typer.Typer()
    app.command()(evaluate)
    return app


@pytest.fixture
def several(tmp_path: Path, grid: Any, write_run: Any) -> Path:
    """Runs of two classifications, one on two cultures with a long name, and of a regression with two targets."""
    grid(4, experiment="probe")
    grid(5, experiment=LONG, incomplete=True, streams=[{"corpus": "demo", "name": "快" * 30, "fingerprint": "ab" * 32}])
    rows = [
        {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.v": i / 4, "prediction.v": i / 5,
         "reference.a": 1 - i / 4, "prediction.a": 0.5 - i / 9, "culture": "de" if i % 2 else "hu"}
        for i in range(4)
    ]  # fmt: skip
    known = {"v": 0.5, "a": 0.4}
    write_run(rows, experiment="values", folds=1, task="regression", targets=["v", "a"], classes=None, prior=known)
    return tmp_path / "runs"


@pytest.mark.parametrize("styled", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_screen(several: Path, width: int, styled: bool) -> None:
    evaluations, screen = evaluate_runs([several]), Screen(width, styled)
    texts = [tables_text(evaluations, [], screen, full=full) for full in (False, True)]
    texts += [screen.lines(headlines(evaluations))]
    texts += [papers_text(evaluations, screen)]
    for text in texts:
        assert max((cell_len(ANSI.sub("", line)) for line in text.splitlines()), default=0) <= width
        assert styled or "\x1b" not in text


def test_numbers_are_not_broken_where_there_is_room(several: Path) -> None:
    text = Screen(80).table(results_table(evaluate_runs([several]), 80))
    evaluations = evaluate_runs([several])
    for e in evaluations:
        for name in ("accuracy", "ccc.v"):
            if name in e.metrics:
                low, high = e.metrics[name].ci95
                assert f"[{low:.3f}, {high:.3f}]" in text


def test_the_summary_says_what_results_json_says(several: Path, app: typer.Typer) -> None:
    done = CliRunner().invoke(app, [str(several)])
    document = json.loads((several / "evaluation" / "results.json").read_text(encoding="utf-8"))
    results = {result["experiment"]: result for result in document["results"]}
    best = max((r for r in results.values() if "accuracy" in r["metrics"] and not r["incomplete"]),
               key=lambda r: r["metrics"]["accuracy"]["pooled"])  # fmt: skip
    score = best["metrics"]["accuracy"]
    chance = max(guess["accuracy"]["pooled"] for guess in best["sanity"].values())
    text = " ".join(done.stdout.split())
    assert f"demo, emotion: best of 2 systems is {best['experiment']} (logmel)" in text
    told = f"accuracy (WA) {score['pooled']:.3f}, 95 % interval {score['ci95'][0]:.3f} to {score['ci95'][1]:.3f} over 6"
    assert told in text and f"by chance {chance:.3f} (" in text
    for target in "va":
        assert f"ccc {results['values']['metrics'][f'ccc.{target}']['pooled']:.3f}, 95 %" in text
    # No system stands for the best that has not all its utterances; its row says so.
    assert f"{LONG} [1]  " in Screen(200).table(results_table(evaluate_runs([several]), 200))
    assert "[1] incomplete" in text and f"written to {several}/evaluation" in text


def test_guesses_stand_once_and_what_all_share_in_the_legend(tmp_path: Path, grid: Any) -> None:
    for number, experiment in enumerate("abc"):
        grid(number + 2, experiment=experiment, seeds=[0])
    table = results_table(evaluate_runs([tmp_path / "runs"]), 100)
    assert [row[0] for row in table.rows] == ["c", "b", "a", "majority", "uniform"]
    assert table.headings[:2] == ["experiment", "accuracy (WA)"] and table.numbers == 1
    assert table.strong == (0,) and table.faint == (3, 4)
    assert "corpus demo; target emotion; streams logmel; protocol group_folds (2 folds)" in table.notes[0]


def test_columns_are_sorted_as_numbers(tmp_path: Path, grid: Any, app: typer.Typer, write_run: Any) -> None:
    rights = {"a": 3, "b": 6, "c": 4}
    for experiment, right in rights.items():
        grid(right, experiment=experiment, seeds=[0])
    evaluations = evaluate_runs([tmp_path / "runs"])
    for column in ("accuracy", "macro_f1", "score"):
        rows = results_table(evaluations, 200, column).rows
        assert [row[0] for row in rows if row[0] in rights] == ["b", "c", "a"]
    table = results_table(evaluations, 60, "macro_f1")  # a narrow screen shows what is sorted by, if it shows any
    assert [row[0] for row in results_table(evaluations, 100, "experiment").rows][:3] == ["a", "b", "c"]
    assert len(table.rows) == 5
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [str(tmp_path / "runs"), "--out", str(out), "--sort", "macro-f1"])
    assert "did you mean 'macro_f1'" in str(done.exception) and not out.exists()


def test_errors_are_sorted_from_the_least(tmp_path: Path, write_run: Any) -> None:
    for name, off in (("far", 12.0), ("near", 0.1), ("middle", 2.0)):
        rows = [{"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.v": float(i), "prediction.v": i + off}
                for i in range(4)]  # fmt: skip
        write_run(rows, experiment=name, folds=1, task="regression", targets=["v"], classes=None, prior={"v": 1.5})
    names = [row[0] for row in results_table(evaluate_runs([tmp_path / "runs"]), 200, "rmse").rows]
    assert [name for name in names if name != "training_mean"] == ["near", "middle", "far"]


def test_breakdowns_are_printed_on_request(several: Path, app: typer.Typer) -> None:
    short, long = (CliRunner().invoke(app, [str(several), *more]).stdout for more in ((), ("--full",)))
    assert "by culture" not in short and "by culture" in long and short.count("majority") < long.count("majority")
    assert "--table paper1/table" not in short  # these runs belong to none
    # As `make demo` ends: two classifications and one of valence and arousal are one screen.
    assert len(short.splitlines()) <= 45 and max(map(cell_len, short.splitlines())) <= 100


def test_a_wide_cell_is_folded_and_nothing_is_lost() -> None:
    table = Table("", ["name", "n"], [["a" * 150, "1.000"]], 1, [])
    lines = Screen(40).table(table).splitlines()
    assert "".join(lines).count("a") == 150 + 1 and max(map(len, lines)) <= 40
