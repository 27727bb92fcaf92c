"""Tables, documents and figures, and the command that writes them."""

import csv
import io
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from emocache.cache import EmocacheError
from emocache.evaluate.cli import evaluate
from emocache.evaluate.output.documents import document, to_json
from emocache.evaluate.output.figures.confusion_matrix import ConfusionFigure
from emocache.evaluate.output.figures.drawing import save
from emocache.evaluate.output.figures.look import FORMATS, Look, parse_formats
from emocache.evaluate.output.printed_tables import comparison_tables, result_tables
from emocache.evaluate.output.screen import Screen
from emocache.evaluate.output.spreadsheet import to_csv
from emocache.evaluate.output.text_table import Table
from emocache.evaluate.report import evaluate_runs, write_report
from emocache.evaluate.scoring.ranking.comparison import compare

RESULT_KEYS = [
    "experiment", "corpus", "streams", "setting", "difference", "marks", "task", "targets", "auxiliary", "protocol",
    "seeds", "folds", "trials", "trainings", "selection", "coverage", "incomplete", "transductive", "missing_runs",
    "warnings", "n_groups", "group_unit", "approximate", "metrics", "sanity", "confusion", "diagnostics", "breakdown",
    "fingerprints", "config",
]  # fmt: skip
METRIC_KEYS = ["mean", "std", "std_ddof1", "std_seeds", "pooled", "ci95", "reasons", "notes"]

BASELINES = ("majority", "uniform")


@pytest.fixture
def app() -> typer.Typer:
    """The command alone."""
    app = typer.Typer()
    app.command()(evaluate)
    return app


def parsed(markdown: str) -> list[list[str]]:
    """The cells of a Markdown table, without its rule."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[:1] + lines[2:]]


def test_the_keys_of_the_document(tmp_path: Path, grid: Any) -> None:
    grid()
    grid(3, experiment="bigru")
    evaluations = evaluate_runs([tmp_path / "runs"])
    found = json.loads(to_json(document(evaluations, compare(evaluations, "bigru", "probe"))))
    assert list(found) == ["results", "comparisons"] and len(found["results"]) == 2
    result = found["results"][1]
    assert list(result) == RESULT_KEYS
    assert (result["experiment"], result["corpus"], result["streams"]) == ("probe", "demo", ["logmel"])
    assert (result["protocol"], result["seeds"], result["folds"]) == ("group_folds", [0, 1], 2)
    assert result["coverage"] == {"test": 12, "predicted": 12, "missing": [], "enrolled": 0}
    assert list(result["metrics"]) == ["accuracy", "balanced_accuracy", "weighted_f1", "macro_f1"]
    assert list(result["metrics"]["accuracy"]) == METRIC_KEYS
    assert len(result["metrics"]["accuracy"]["ci95"]) == 2
    assert list(result["sanity"]["majority"]["accuracy"]) == METRIC_KEYS
    assert result["confusion"]["classes"] == ["angry", "happy", "sad"]
    comparison = found["comparisons"][0]
    assert list(comparison) == ["a", "b", "utterances", "n_groups", "group_unit", "approximate", "metrics", "left_out"]
    assert list(comparison["metrics"]["accuracy"]) == [
        "difference", "ci95", "wilcoxon", "wilcoxon_holm", "reasons", "notes", "folds",
    ]  # fmt: skip
    assert list(document(evaluations)) == ["results"]


def test_undefined_numbers_are_null_with_a_reason(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0])
    found = json.loads(to_json(document(evaluate_runs([tmp_path / "runs"]))))["results"][0]["metrics"]["accuracy"]
    assert found["std_seeds"] is None and found["reasons"] == {"std_seeds": "one seed"}


def test_markdown_and_csv_hold_the_numbers(tmp_path: Path, grid: Any) -> None:
    grid()
    grid(6, experiment="a|b")
    evaluations = evaluate_runs([tmp_path / "runs"])
    over_folds, pooled = result_tables(evaluations)
    rows = parsed(over_folds.markdown())
    assert rows[0] == [
        "experiment", "streams", "folds x seeds", "coverage", "accuracy (WA)", "balanced_accuracy (UA)", "weighted_f1",
        "macro_f1",
    ]  # fmt: skip
    assert [row[0] for row in rows[1:]] == ["a\\|b", "probe", "majority", "uniform"]
    assert rows[1][2:5] == ["2 x 2", "12/12", "1.000 ± 0.000"]
    summary = evaluations[1].metrics["accuracy"]
    assert rows[2][4] == f"{summary.mean:.3f} ± {summary.std:.3f}"
    assert parsed(pooled.markdown())[2][2] == f"{summary.pooled:.3f} [{summary.ci95[0]:.3f}, {summary.ci95[1]:.3f}]"
    assert "over 6 speakers; approximate, as there are fewer than 20" in pooled.markdown()

    lines = list(csv.DictReader(io.StringIO(to_csv(evaluations))))
    assert len(lines) == 2 * 3 * 4
    found = next(x for x in lines if (x["experiment"], x["row"], x["metric"]) == ("probe", "result", "accuracy"))
    for name in ("mean", "std", "std_ddof1", "std_seeds", "pooled"):
        assert float(found[name]) == getattr(summary, name)
    assert (float(found["ci95_low"]), float(found["ci95_high"])) == summary.ci95
    assert (found["predicted"], found["test"], found["n_groups"]) == ("12", "12", "6")


def test_every_table_marks_what_is_not_as_it_should_be(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0], incomplete=True, transductive=True, config={"seeds": [0, 1]})
    evaluations = evaluate_runs([tmp_path / "runs"])
    marks = "probe [incomplete, transductive, 2 of 4 runs]"
    for table in result_tables(evaluations):
        assert marks in table.markdown() and marks in Screen(1000).table(table)
    assert "probe (logmel): no run of fold 0 seed 1, fold 1 seed 1." in result_tables(evaluations)[0].notes
    assert "incomplete; transductive; 2 of 4 runs" in to_csv(evaluations)
    found = document(evaluations)["results"][0]
    assert found["missing_runs"] == [{"fold": 0, "seed": 1}, {"fold": 1, "seed": 1}]
    assert found["incomplete"] and found["transductive"]


def test_what_training_warned_of_stands_beside_every_number(tmp_path: Path, grid: Any) -> None:
    few = {"kind": "fewer than 20 groups", "text": "intervals are approximate"}
    rare = {"kind": "class not tested", "text": "class 'x' is not in the test part"}
    other = {**rare, "text": "class 'y' is not in the test part"}
    grid(experiment="warned", seeds=[0], marks=["unmasked"], warnings=[few])
    grid(5, seeds=[0])  # as runs were stored before
    path = next((tmp_path / "runs/warned").rglob("fold1-seed0/run.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "warnings": [few, rare, other]}))
    evaluations = evaluate_runs([tmp_path / "runs"])
    marked = "warned [unmasked, fewer than 20 groups, class not tested 1/2]"
    for table in result_tables(evaluations):
        assert {row[0] for row in table.rows[:2]} == {marked, "probe"}
    notes = result_tables(evaluations)[0].notes
    assert "warned (logmel): fewer than 20 groups: intervals are approximate." in notes
    assert "warned (logmel) in 1 of 2 runs: class not tested: class 'x' is not in the test part." in notes
    assert sum("class not tested" in note for note in notes) == 2
    (comparison,) = comparison_tables(compare(evaluations, "warned", "probe"))
    assert comparison.title == f"demo: {marked} (logmel) minus probe (logmel)"
    lines = {line["experiment"]: line["marks"] for line in csv.DictReader(io.StringIO(to_csv(evaluations)))
             if line["row"] == "result"}  # fmt: skip
    assert lines == {"probe": "", "warned": "unmasked; fewer than 20 groups; class not tested 1/2"}
    found = {result["experiment"]: result["warnings"] for result in document(evaluations)["results"]}
    assert found == {"probe": [], "warned": [{**few, "runs": 2}, {**rare, "runs": 1}, {**other, "runs": 1}]}


def test_marks_of_training_stand_beside_every_number(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0], marks=["unmasked", "validated on test"], experiment="paper1/a")
    grid(5, seeds=[0])
    evaluations = evaluate_runs([tmp_path / "runs"])
    comparisons = compare(evaluations, "paper1/a", "probe")
    marked = "paper1/a [unmasked, validated on test]"
    for table in result_tables(evaluations):
        assert [row[0] for row in table.rows[:2]] == [marked, "probe"]
    assert comparison_tables(comparisons)[0].title == f"demo: {marked} (logmel) minus probe (logmel)"
    lines = csv.DictReader(io.StringIO(to_csv(evaluations)))
    by_row = {(line["experiment"], line["row"]): line["marks"] for line in lines}
    assert by_row["paper1/a", "result"] == "unmasked; validated on test" and by_row["probe", "result"] == ""
    found = document(evaluations, comparisons)
    assert found["results"][0]["marks"] == found["comparisons"][0]["a"]["marks"] == ["unmasked", "validated on test"]


def test_a_search_is_told_with_its_size(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0], selection={"tried": [{"settings": {"x": x}, "epoch": 1, "value": 0.5} for x in range(12)]})
    evaluations = evaluate_runs([tmp_path / "runs"])
    told = "chosen among 12 settings on validation"
    result = document(evaluations)["results"][0]
    assert (result["trials"], result["selection"]) == (12, told)
    assert {line["selection"] for line in csv.DictReader(io.StringIO(to_csv(evaluations)))} == {told}
    assert f"probe (logmel): {told}." in result_tables(evaluations)[0].notes


@pytest.mark.parametrize(
    ("tried", "more", "told"),
    [
        (6, {"parts": 5}, "chosen among 6 settings on 5 validation parts in turn (30 trainings)"),
        (0, {"parts": 5}, "epochs chosen on 5 validation parts in turn (5 trainings)"),
        (6, {"averaged": 3}, "mean of the 3 best of 6 settings on validation"),
        (
            6,
            {"averaged": 3, "parts": 4},
            "mean of the 3 best of 6 settings on 4 validation parts in turn (24 trainings)",
        ),
    ],
)
def test_nested_validation_and_means_count_as_trials(
    tmp_path: Path, grid: Any, tried: int, more: dict[str, int], told: str
) -> None:
    settings = [{"settings": {"x": x}, "epoch": 1, "value": 0.5} for x in range(tried)]
    grid(seeds=[0], selection={"tried": settings, **more, "averaged": settings[: more.get("averaged", 0)]})
    result = document(evaluate_runs([tmp_path / "runs"]))["results"][0]
    assert result["selection"] == told and result["trials"] == max(1, tried)
    assert result["trainings"] == max(1, tried) * more.get("parts", 1)


def test_cultures_have_rows_of_their_own(tmp_path: Path, write_run: Any) -> None:
    rows = [
        {"id": f"{culture}{i}", "speaker": f"{culture}{i}", "group": f"{culture}{i}", "culture": culture,
         "reference.v": [i / 4, 0.5], "prediction.v": [0.5, i / 8]}
        for culture in ("de", "hu") for i in range(3)
    ]  # fmt: skip
    fields = {"task": "frame_regression", "targets": ["v"], "classes": None, "prior": {"v": 0.5}, "folds": 1}
    write_run(rows, marks=["unmasked"], **fields)
    evaluations = evaluate_runs([tmp_path / "runs"])
    table = result_tables(evaluations)[2]
    assert table.title == "demo, group_folds (1 fold), v: by culture"
    assert table.headings[:6] == ["experiment", "streams", "culture", "target", "coverage", "groups"]
    assert table.headings[6:] == ["ccc", "ccc_per_clip", "pearson", "spearman", "rmse", "reference_std"]
    assert [row[:6] for row in table.rows] == [
        ["probe [unmasked]", "logmel", "de", "v", "3/3", "3 speakers"],
        ["probe [unmasked]", "logmel", "hu", "v", "3/3", "3 speakers"],
        *[[name, "", culture, "v", "", ""] for culture in ("de", "hu")
          for name in ("training_mean", "persistence [diagnostic]")],
    ]  # fmt: skip
    part = evaluations[0].breakdown[1]
    lines = [x for x in csv.DictReader(io.StringIO(to_csv(evaluations))) if x["part"] == "culture=hu"]
    rmse = next(x for x in lines if (x["row"], x["metric"]) == ("result", "rmse.v"))
    assert float(rmse["pooled"]) == part.metrics["rmse.v"].pooled and rmse["test"] == "3"
    assert next(x for x in lines if x["row"] == "persistence")["marks"] == "unmasked; diagnostic"
    result = document(evaluations)["results"][0]
    assert [(p["column"], p["value"], p["utterances"]) for p in result["breakdown"]] == [
        ("culture", "de", 3), ("culture", "hu", 3)
    ]  # fmt: skip
    assert list(result["breakdown"][0]["metrics"]["rmse.v"]) == METRIC_KEYS
    assert result["diagnostics"] == ["persistence"]


def test_a_second_target_and_a_distribution_in_tables(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    gender = {"auxiliary.reference.gender": "f", "auxiliary.prediction.gender": "f"}
    write_run([utterance("a", "s", "sad", "sad", **gender)], experiment="both", folds=1, auxiliary="gender")
    write_run([utterance("a", "s", "sad", "sad")], folds=1)
    shares = {"reference.x": 0.25, "reference.y": 0.75, "prediction.x": 0.5, "prediction.y": 0.5}
    fields = {"task": "distribution", "targets": ["x", "y"], "classes": None, "prior": {"x": 0.5, "y": 0.5}}
    write_run([{"id": "a", "speaker": "s", "group": "s", **shares}], experiment="shares", folds=1, **fields)
    classes, _, votes, _ = result_tables(evaluate_runs([tmp_path / "runs"]))
    assert classes.headings[-2:] == ["auxiliary_accuracy", "auxiliary_balanced_accuracy"]
    assert [row[-2:] for row in classes.rows[:3]] == [["1.000", "1.000"], ["", ""], ["", ""]]
    assert "auxiliary: gender, where it is known." in classes.notes
    assert [row[2] for row in votes.rows[:3]] == ["x", "y", "all"]
    assert votes.headings[-2:] == ["kl_divergence", "most_voted_accuracy"]
    assert votes.rows[0][-2:] == ["", ""] and votes.rows[2][-2:] == ["0.131", "0.000"]
    assert [row[0] for row in votes.rows[3:]] == ["training_mean", "uniform"] * 3


def test_settings_and_targets_get_a_column_where_there_are_some(tmp_path: Path, grid: Any, write_run: Any) -> None:
    for rate, stream in ((0.1, "logmel"), (0.2, "logmel"), (0.2, "mfcc")):  # streams have a column of their own
        read = [{"corpus": "demo", "name": stream, "fingerprint": "ab" * 32}]
        grid(seeds=[0], config={"streams": {"frames": [stream]}, "rate": rate}, streams=read)
    rows = [
        {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.v": i / 4, "prediction.v": 0.5}
        for i in range(4)
    ]
    write_run(rows, experiment="silent", folds=1, task="regression", targets=["v"], classes=None, prior={"v": 0.5})
    classification, _, regression, _ = result_tables(evaluate_runs([tmp_path / "runs"]))
    assert classification.headings[:3] == ["experiment", "streams", "setting"]
    told = [("logmel", "rate=0.1"), ("logmel", "rate=0.2"), ("mfcc", "rate=0.2"), ("", ""), ("", "")]
    assert [tuple(row[1:3]) for row in classification.rows] == told
    assert regression.headings[:3] == ["experiment", "streams", "target"]
    assert [row[:3] for row in regression.rows] == [["silent", "logmel", "v"], ["training_mean", "", "v"]]
    assert regression.rows[0][5:8] == ["0.000", "–", "–"]
    dead = "silent (logmel): pearson.v, spearman.v: no mean, pooled, ci95: dead_output: the prediction is constant."
    assert regression.notes[-1] == dead


def test_results_of_other_folds_have_a_table_of_their_own(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0], experiment="a")
    grid(seeds=[0], experiment="b")
    grid(seeds=[0], experiment="c", split_sha256="23" * 32, folds=3)
    tables = result_tables(evaluate_runs([tmp_path / "runs"]))
    assert [table.title for table in tables] == [
        "demo, group_folds (2 folds), emotion",
        "demo, group_folds (2 folds), emotion: pooled",
        "demo, group_folds (3 folds), emotion",
        "demo, group_folds (3 folds), emotion: pooled",
    ]
    assert [[row[0] for row in table.rows] for table in tables[::2]] == [["a", "b", *BASELINES], ["c", *BASELINES]]


def test_what_holds_of_several_lines_is_told_once(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    rows = [utterance(f"{c}{i}", c, "sad", "sad", culture=c) for c in "xyz" for i in range(2)]
    for experiment in ("a", "b"):
        write_run(rows, experiment=experiment, folds=1)
    by_culture = next(t for t in result_tables(evaluate_runs([tmp_path / "runs"])) if t.title.endswith("by culture"))
    few = [note for note in by_culture.notes if "needs at least two groups" in note]
    assert len(few) == 1 and all(f"{name} (logmel), {culture}" in few[0] for name in "ab" for culture in "xyz")
    assert [row[by_culture.headings.index("groups")] for row in by_culture.rows[:2]] == ["1 speaker"] * 2


def test_columns_line_up_in_a_terminal() -> None:
    table = Table("t", ["name", "n"], [["快乐", "1"], ["é", "100"]], 1, [])
    lines = Screen().table(table).splitlines()
    assert lines == ["t", "name    n", "─────────", "快乐    1", "é     100"]


def test_a_comparison_is_a_table(tmp_path: Path, grid: Any) -> None:
    grid(4, experiment="bigru")
    grid(3, experiment="probe")
    evaluations = evaluate_runs([tmp_path / "runs"])
    (table,) = comparison_tables(compare(evaluations, "bigru", "probe"))
    assert table.title == "demo: bigru (logmel) minus probe (logmel)"
    assert table.rows[0][:2] == ["accuracy", "+0.167"]
    assert "no Wilcoxon's test: 2 folds; Wilcoxon's test is made from 8 on." in table.notes


COUNTS = np.array([[3, 1], [0, 0]])


def test_a_figure_is_written_in_every_format_and_alike_each_time(tmp_path: Path) -> None:
    look = Look(formats=FORMATS)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        with look.drawing():
            save(ConfusionFigure(["$odd_{", "b"], look).filled(COUNTS, "a $ title"), folder / "probe.x", look)
    files = sorted((tmp_path / "a").iterdir())
    assert [file.name for file in files] == ["probe.x.pdf", "probe.x.png", "probe.x.svg"]
    assert [file.read_bytes()[:4] for file in files] == [b"%PDF", b"\x89PNG", b"<?xm"]
    assert [file.read_bytes() for file in files] == [(tmp_path / "b" / file.name).read_bytes() for file in files]
    assert "a $ title</text>" in files[2].read_text(encoding="utf-8")  # text is text
    assert b"/Subtype /Type0" in files[0].read_bytes() or b"/CIDFontType2" in files[0].read_bytes()  # fonts of type 42


@pytest.mark.parametrize("style", ["screen", "paper"])
def test_a_figure_that_is_drawn_over_is_the_one_that_is_made_anew(tmp_path: Path, style: Any) -> None:
    look, other = Look(style), np.array([[0, 4], [2, 2]])
    with look.drawing():
        one = ConfusionFigure(["low", "high"], look)
        for counts, title in ((other, "first"), (COUNTS, "second " * 30), (other, "third"), (COUNTS, "fourth")):
            save(one.filled(counts, title), tmp_path / "over", look)
        save(ConfusionFigure(["low", "high"], look).filled(COUNTS, "fourth"), tmp_path / "anew", look)
    over, anew = (tmp_path / f"{name}.png" for name in ("over", "anew"))
    assert over.read_bytes() == anew.read_bytes()


@pytest.mark.parametrize(("classes", "inches"), [(2, 3.3), (4, 3.3), (12, 6.9)])
def test_a_figure_for_a_paper_is_as_wide_as_a_column_or_a_page(tmp_path: Path, classes: int, inches: float) -> None:
    look = Look("paper", ("png",))
    with look.drawing():
        figure = ConfusionFigure([f"c{k}" for k in range(classes)], look).filled(np.eye(classes, dtype=int), "told")
        written = save(figure, tmp_path / "x", look)
    assert figure.get_figwidth() == inches and figure.get_figheight() <= 9
    assert [path.name for path in written] == ["x.png", "x.txt"]
    assert figure.get_suptitle() == "" and (tmp_path / "x.txt").read_text(encoding="utf-8") == "told\n"
    labels = [*figure.axes[0].get_xticklabels(), figure.axes[0].xaxis.label, figure.axes[0].yaxis.label]
    assert {text.get_fontsize() for text in labels} == {8.0}


def test_formats_are_read_from_a_list() -> None:
    assert parse_formats("png, SVG,png") == ("png", "svg")
    for text in ("", "png,", "jpg"):
        with pytest.raises(EmocacheError, match="is not one of png, pdf, svg"):
            parse_formats(text)


def test_the_report_is_written_inside_its_folder(tmp_path: Path, grid: Any) -> None:
    grid(experiment="../probe", root=tmp_path / "runs" / "x")
    written = write_report(tmp_path / "out", evaluate_runs([tmp_path / "runs"]), [])
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(written)
    assert [path.suffix for path in written] == [".md", ".tex", ".csv", ".json", ".png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(EmocacheError, match="name another folder with --out"):
        write_report(tmp_path / "file", [], [])


def test_experiments_in_folders_do_not_share_files(tmp_path: Path, grid: Any, utterance: Any, write_run: Any) -> None:
    grid(seeds=[0], experiment="paper1/cats")
    grid(seeds=[0], experiment="paper1_cats")
    rows = [utterance(c, c, "sad", "sad", culture=c) for c in ("a/b", "a_b")]
    write_run(rows, experiment="cultures", folds=1)
    written = write_report(tmp_path / "out", evaluate_runs([tmp_path / "runs"]), [])
    assert len(written) == len(set(written)) == 4 + 2 + 3
    assert all(path.is_file() and path.parent == tmp_path / "out" for path in written)
    assert any("confusion-paper1.cats-" in path.name for path in written)
    assert {path.name.partition("-culture-")[2] for path in written} == {
        "",
        f"a_b-{zlib.crc32(b'a/b'):08x}.png",
        "a_b.png",
    }


def test_both_architectures_of_a_feature_get_their_tables(tmp_path: Path, write_run: Any) -> None:
    values = [(0.1, 0.2), (0.5, 0.3), (0.9, 0.4)]
    rows = [
        {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.anger": y, "prediction.anger": p}
        for i, (y, p) in enumerate(values)
    ]
    for arch in ("arch1", "arch2"):
        fields = {"task": "regression", "targets": ["anger"], "classes": None, "prior": {"anger": 0.5}, "folds": 1}
        head = {"kind": "emotion_share", "attention": arch == "arch2"}
        write_run(rows, experiment=f"paper2/mfcc-{arch}", config={"head": head}, **fields)
    evaluations = evaluate_runs([tmp_path / "runs"])
    written = write_report(tmp_path / "out", evaluations, [])
    assert [path.name for path in written if not path.name.startswith("scatter-")] == [
        "table.md", "table.tex", "table.csv", "results.json", "emotion-share.csv", "emotion-share.png",
    ]  # fmt: skip
    assert "mean_best_of (test-selected)" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_json_prints_one_document_and_nothing_else(tmp_path: Path, grid: Any, app: typer.Typer) -> None:
    grid()
    runs = tmp_path / "runs"
    done = CliRunner().invoke(app, [str(runs), "--json"])
    assert done.exit_code == 0 and done.stderr == ""
    assert json.loads(done.stdout)["results"][0]["experiment"] == "probe"
    out = runs / "evaluation"
    assert (out / "results.json").read_text(encoding="utf-8") == done.stdout
    setting = json.loads(done.stdout)["results"][0]["setting"]
    assert {path.name for path in out.iterdir()} == {
        "table.md", "table.tex", "table.csv", "results.json", "report.html", f"confusion-probe-{setting}.png",
    }  # fmt: skip


def test_the_command_prints_tables_and_where_they_are(tmp_path: Path, grid: Any, app: typer.Typer) -> None:
    grid(4, experiment="bigru")
    grid(3)
    out = tmp_path / "elsewhere"
    done = CliRunner().invoke(app, [str(tmp_path / "runs"), "--out", str(out), "--compare", "bigru", "probe"])
    assert done.exit_code == 0
    assert (
        "demo, emotion: best of 2 systems is bigru" in done.stdout
        and "bigru (logmel) minus probe (logmel)" in done.stdout
    )
    assert f"written to {out}" in done.stdout and not (tmp_path / "runs" / "evaluation").exists()


def test_a_metric_can_be_asked_for_in_a_comparison(tmp_path: Path, grid: Any, app: typer.Typer) -> None:
    grid(4, experiment="bigru")
    grid(3)
    where = [str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--json"]
    for asked, metrics in (([], ["accuracy"]), (["--metric", "macro_f1"], ["macro_f1"])):
        done = CliRunner().invoke(app, [*where, "--compare", "bigru", "probe", *asked])
        assert list(json.loads(done.stdout)["comparisons"][0]["metrics"]) == metrics
    done = CliRunner().invoke(app, [*where, "--metric", "macro_f1"])
    assert done.exit_code == 2 and "name two experiments" in done.stderr and not done.stdout


def test_errors_reach_the_root_command_and_nothing_is_written(tmp_path: Path, app: typer.Typer) -> None:
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(done.exception, EmocacheError) and list(tmp_path.iterdir()) == []


def test_evaluating_twice_gives_the_same_files(tmp_path: Path, grid: Any) -> None:
    grid()
    first, second = (
        [p.read_bytes() for p in write_report(tmp_path / x, evaluate_runs([tmp_path / "runs"]), [])] for x in "ab"
    )
    assert first == second


def test_the_command_loads_nothing_heavy() -> None:
    code = "import sys, emocache.evaluate.cli; print({'sklearn', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
