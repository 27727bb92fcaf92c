"""The papers' tables beside ours: golden miniatures, what is not run, what must not be compared, and the formats.

The golden files are rewritten by `EMOCACHE_GOLDEN=write pytest tests/evaluate/test_published_tables.py`.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import emocache
from emocache.cache import EmocacheError
from emocache.cli import app
from emocache.evaluate.output.headlines import headlines
from emocache.evaluate.output.paper_formats import FORMATS, escape_latex
from emocache.evaluate.output.paper_table import Line, PaperTable
from emocache.evaluate.papers.emotion_share import BASELINE
from emocache.evaluate.papers.published import paper_results, published_tables
from emocache.evaluate.papers.published.published_scores import published_text
from emocache.evaluate.papers.published.published_tables import DIFFERENCE, OURS, tables_with_runs, wanted_tables
from emocache.evaluate.report import evaluate_runs, write_report
from emocache.train.records.published import read_papers
from emocache.train.records.systems import Row

GOLDEN = Path(emocache.__file__).parent / "tests" / "data" / "paper-tables"
CODES = {"C2": ["hu"], "C3": ["de"], "C5": ["sr"], "C6": ["el"]}
PINS = {paper.paper: paper.weights for paper in read_papers()}
Train = Callable[..., None]


@pytest.fixture
def train(write_run: Any, utterance: Any) -> Train:
    """Write the runs of one experiment: a regression where it is given targets, else a classification in two folds."""

    def write(
        experiment: str,
        corpus: str,
        stream: str,
        targets: tuple[str, ...] = (),
        cultures: str = "",
        **fields: Any,
    ) -> None:
        streams = [{"corpus": corpus, "name": stream, "fingerprint": "ab" * 32}]
        if "weights" not in fields:
            fields["weights"] = PINS[int(experiment[5])].get(stream)
        weights = fields.pop("weights")
        streams[0] |= {} if weights is None else {"weights": weights}
        own: dict[str, Any] = {"experiment": experiment, "corpora": [corpus], "streams": streams, **fields}
        if not targets:
            for fold in range(2):
                rows = [
                    utterance(f"u{fold}{i}", f"s{i // 2}", ("angry", "sad", "happy")[i % 3], "sad") for i in range(6)
                ]
                write_run(rows, fold=fold, folds=2, **own)
            return
        seed = np.random.default_rng(0)
        rows = []
        for culture in (cultures.split() or CODES) if corpus.startswith("sewa") else [""]:
            for i in range(4):
                values: dict[str, float] = {}
                for target in targets:
                    y = float(seed.normal())
                    values |= {f"reference.{target}": y, f"prediction.{target}": y / 2 + 0.1 * float(seed.normal())}
                who = f"{culture}{i // 2}"
                named = CODES[culture][0] if culture else None
                rows.append({"id": f"{culture}{i}", "speaker": who, "group": who, "culture": named, **values})
        regression = {
            "task": "regression",
            "targets": list(targets),
            "classes": None,
            "prior": dict.fromkeys(targets, 0),
        }
        write_run(rows, folds=1, protocol={"name": "transfer", "codes": CODES}, **{**regression, **own})

    return write


def table_of(tmp_path: Path, name: str) -> PaperTable:
    """The one table of this name."""
    (table,) = [table for table in wanted_tables(evaluate_runs([tmp_path / "runs"]), name) if table.name == name]
    return table


def line(table: PaperTable, row: str, whose: str, part: str = "") -> Line:
    """The one line of a table."""
    (found,) = [one for one in table.lines if (one.row, one.whose, one.part) == (row, whose, part)]
    return found


def shown(table: PaperTable, row: str, whose: str, part: str = "") -> list[str]:
    return [cell.shown() for cell in line(table, row, whose, part).cells]


def miniature(train: Train) -> None:
    """Runs of every paper."""
    for target in ("valence", "arousal"):
        train(f"paper1/video-rnn-{target}", "sewa-basic", "vgg-face", (target,))
    for name in ("faithful-hubert-base-arch1", "hubert-base-arch1", "hubert-base-arch2"):
        attention = name.endswith("arch2")
        config = {"head": {"kind": "emotion_share", "attention": attention}}
        train(f"paper2/{name}", "emotionshare", "hubert-base", EMOTIONS, config=config)
    for name in ("paper3/text", "paper3/faithful-self-mha"):
        train(name, "iemocap", "roberta-large")
    train("paper4/whisper-base", "ravdess", "whisper-base")
    train("paper4/iemocap-whisper-base", "iemocap", "whisper-base")
    train("paper5/can", "iemocap", "mfcc")


EMOTIONS = tuple(BASELINE)


@pytest.mark.parametrize("name", ["paper1/table2", "paper2/table1", "paper2/table2", "paper3/table2", "paper4/table1",
                                  "paper5/table2"])  # fmt: skip
def test_golden(name: str, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    # The sentences on deviations are written and tested elsewhere.
    monkeypatch.setattr(published_tables, "_deviations", lambda layout: {})
    monkeypatch.setattr(paper_results, "_ENOUGH", 0.0)  # a miniature is no corpus
    miniature(train)
    text = FORMATS["markdown"]([table_of(tmp_path, name)])
    file = GOLDEN / f"{name.replace('/', '-')}.md"
    if os.environ.get("EMOCACHE_GOLDEN") == "write":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_cells_are_what_evaluation_scores(tmp_path: Path, train: Train) -> None:
    miniature(train)
    (evaluation,) = [e for e in evaluate_runs([tmp_path / "runs"]) if "rnn-valence" in e.result.first.experiment]
    table = table_of(tmp_path, "paper1/table2")
    for part in evaluation.breakdown:
        rmse, ccc, *_ = line(table, "RNN", OURS, part.value).cells
        assert (rmse.value, ccc.value) == (part.metrics["rmse.valence"].mean, part.metrics["ccc.valence"].mean)
        assert rmse.ci95 == part.metrics["rmse.valence"].ci95
        assert line(table, "RNN", DIFFERENCE, part.value).cells[0].value == pytest.approx(
            rmse.value - float(shown(table, "RNN", "published", part.value)[0])
        )


def test_the_summary_names_the_published_number(tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    train("paper4/whisper-base", "ravdess", "whisper-base")
    (evaluation,) = evaluations = evaluate_runs([tmp_path / "runs"])
    printed = "0.593"  # WA on RAVDESS
    few = f"{printed} (paper4/table1), not compared: "
    assert published_text(evaluations)(evaluation, "accuracy").startswith(few)
    monkeypatch.setattr(paper_results, "_ENOUGH", 0.0)
    ours = evaluation.metrics["accuracy"].mean
    assert (
        published_text(evaluations)(evaluation, "accuracy") == f"{printed} (paper4/table1), mean over folds {ours:.3f}"
    )
    assert f"; published {printed} (paper4/table1)" in headlines(evaluations, published_text(evaluations))[1]
    assert published_text(evaluations)(evaluation, "macro_f1") == ""


def test_a_benchmark_has_a_table_by_its_own_name(tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    (emobox,) = [paper for paper in read_papers() if paper.place == "emobox"]
    name = "benchmarks/emobox-hubert-base"
    train(name, "ravdess", "hubert-base", weights=emobox.weights["hubert-base"])
    table = table_of(tmp_path, "emobox/intra-corpus")
    assert shown(table, "HuBERT base", "published (not comparable)") == ["0.6543"]
    assert "HuBERT base: not compared with the paper: 12 of 1440 utterances of ravdess are tested." in table.notes
    assert "not run, WavLM base (ours): `emocache train --corpus ravdess benchmarks/emobox-wavlm-base`" in table.notes
    assert any("The learning rate stays as it is" in note for note in table.notes)
    monkeypatch.setattr(paper_results, "_ENOUGH", 0.0)
    assert line(table_of(tmp_path, "emobox/intra-corpus"), "HuBERT base", DIFFERENCE).cells[0].experiment == name


def test_a_row_that_is_not_run_is_empty_and_tells_its_command(tmp_path: Path, train: Train) -> None:
    train("paper1/video-rnn-valence", "sewa-basic", "vgg-face", ("valence",))
    table = table_of(tmp_path, "paper1/table2")
    assert shown(table, "LSTM", OURS, "C2") == [""] * 4 and shown(table, "LSTM", "published", "C2")[0] == "0.4444"
    command = "emocache train --corpus sewa-basic paper1/video-lstm-valence paper1/video-lstm-arousal"
    assert f"not run, LSTM (ours): `{command}`" in table.notes
    assert line(table, "LSTM", OURS, "C2").cells[0].command == command
    # Of a row that is run in part, the rest.
    assert shown(table, "RNN", OURS, "C3")[2:] == ["", ""]
    assert "not run, RNN (ours): `emocache train --corpus sewa-basic paper1/video-rnn-arousal`" in table.notes


def test_another_corpus_is_marked_and_nothing_is_compared(tmp_path: Path, train: Train) -> None:
    train("paper3/text", "ravdess", "roberta-large")
    evaluations = evaluate_runs([tmp_path / "runs"])
    named = {table.name: table for table in wanted_tables(evaluations, "paper3/table2")}
    other = named["paper3/table2-on-ravdess"]
    assert "on ravdess, and the paper's numbers are of iemocap" in other.title and other.marked
    assert other.notes[0].startswith("Not comparable with the paper")
    assert {one.whose for one in other.lines} <= {"ours", "faithful"}
    assert "" not in shown(other, "Text", OURS) and "0.506" not in FORMATS["markdown"]([other])
    # The paper's own is there, empty; without being asked for it is not.
    assert shown(named["paper3/table2"], "Text", OURS) == [""] * 4
    assert [table.name for table in tables_with_runs(evaluations)] == ["paper3/table2-on-ravdess"]


def test_columns_of_the_papers_corpora_show_another_one_once(tmp_path: Path, train: Train) -> None:
    train("paper4/whisper-base", "mine", "whisper-base")
    table = table_of(tmp_path, "paper4/table1-on-mine")
    assert table.columns == ["WA", "WF1"] and "" not in shown(table, "Whisper-Base", OURS)


@pytest.mark.parametrize(
    ("weights", "told"),
    [(None, "weights not recorded for roberta-large"), ("folder roberta-large", "other weights for roberta-large"),
     ("FacebookAI/roberta-large@" + "0" * 40, "other weights for roberta-large")],
)  # fmt: skip
def test_other_weights_are_marked_and_nothing_is_compared(
    weights: str | None, told: str, tmp_path: Path, train: Train
) -> None:
    train("paper3/text", "iemocap", "roberta-large", weights=weights)
    table = table_of(tmp_path, "paper3/table2")
    assert any(note.startswith(f"Text: not compared with the paper: {told}") for note in table.notes)
    whose = [one.whose for one in table.lines if one.row == "Text"]
    assert whose == ["ours", "published (not comparable)"]


def test_the_pinned_weights_are_compared(tmp_path: Path, train: Train) -> None:
    train("paper3/text", "iemocap", "roberta-large")
    train("paper2/wav2vec2-large-arch1", "emotionshare", "wav2vec2-large", EMOTIONS,
          weights="facebook/wav2vec2-large@" + "1" * 40)  # fmt: skip
    assert any(one.whose == DIFFERENCE for one in table_of(tmp_path, "paper3/table2").lines)
    # No revision is known of this one, so any will do.
    assert any(one.whose == DIFFERENCE for one in table_of(tmp_path, "paper2/table1").lines)


def test_a_stream_that_the_paper_does_not_read_is_marked(tmp_path: Path, train: Train) -> None:
    train("paper3/text", "iemocap", "whisper-tiny", weights="openai/whisper-tiny@" + "2" * 40)
    assert "which the paper's experiments do not read" in "".join(table_of(tmp_path, "paper3/table2").notes)


def test_missing_runs_are_not_compared(tmp_path: Path, train: Train) -> None:
    train("paper3/text", "iemocap", "roberta-large", config={"seeds": [0, 1]})
    table = table_of(tmp_path, "paper3/table2")
    assert not any(one.whose == DIFFERENCE for one in table.lines)
    assert "Text: not compared with the paper: paper3/text lacks runs." in table.notes


def test_a_part_of_the_corpus_is_not_compared(tmp_path: Path, train: Train) -> None:
    train("paper4/whisper-base", "ravdess", "whisper-base")
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    tested = len({str(id_) for run in evaluation.result.runs.values() for id_ in ids_in_test(run.folder)})
    table = table_of(tmp_path, "paper4/table1")
    assert not any(one.whose == DIFFERENCE for one in table.lines)
    told = f"Whisper-Base: not compared with the paper: {tested} of 1440 utterances of ravdess are tested."
    assert told in table.notes


def ids_in_test(folder: Path) -> list[object]:
    predictions = pq.read_table(folder / "predictions.parquet")
    rows = zip(predictions["part"].to_pylist(), predictions["id"].to_pylist(), strict=True)
    return [id_ for part, id_ in rows if part == "test"]


def test_a_variant_has_a_table_of_its_own(tmp_path: Path, train: Train) -> None:
    train("paper3/loso-text", "iemocap", "roberta-large")
    (table,) = tables_with_runs(evaluate_runs([tmp_path / "runs"]))
    assert table.name == "paper3/table2-loso" and table.marked.startswith("one session left out")
    whose = [one.whose for one in table.lines if one.row == "Text"]
    assert whose == ["ours", "published (not comparable)"]


def test_the_avec_variant_has_the_cultures_it_tests(tmp_path: Path, train: Train) -> None:
    """Those experiments are not shipped yet; the table is there as soon as they have runs."""
    train("paper1/avec-video-rnn-valence", "sewa", "vgg-face", ("valence",), "C2 C3")
    table = table_of(tmp_path, "paper1/table2-avec")
    assert "AVEC packaging: the official training part trains, the development part tests" in table.title
    assert {one.part for one in table.lines} == {"C2", "C3"} and table.columns == ["valence RMSE", "valence CCC"]


def test_settings_of_one_experiment_have_lines_of_their_own(tmp_path: Path, train: Train) -> None:
    for layers in (1, 2):
        train("paper3/text", "iemocap", "roberta-large", config={"head": {"layers": layers}})
    table = table_of(tmp_path, "paper3/table2")
    ours = [one.whose for one in table.lines if one.row == "Text" and one.whose.startswith("ours")]
    assert ours == ["ours (head.layers=1)", "ours (head.layers=2)"]


def test_deviations_are_told_once_with_their_rows(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    deviating = [
        Row(number=10, paper=3, row=row, table="Table 2", test="t", deviations=("No specaugment.",))
        for row in ("Text", "Audio")
    ]
    monkeypatch.setattr(paper_results.Layout, "systems", lambda layout: {row.row: row for row in deviating})
    train("paper3/text", "iemocap", "roberta-large")
    notes = table_of(tmp_path, "paper3/table2").notes
    assert [note for note in notes if "specaugment" in note] == ["Audio, Text: No specaugment."]


def test_csv_and_json_hold_every_cell(tmp_path: Path, train: Train) -> None:
    miniature(train)
    table = table_of(tmp_path, "paper2/table1")
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"]([table]))))
    (document,) = json.loads(FORMATS["json"]([table]))["tables"]
    assert len(rows) == len(table.lines) * len(table.columns)
    flat = [cell for one in document["lines"] for cell in one["cells"]]
    for row, cell, own in zip(rows, flat, (cell for one in table.lines for cell in one.cells), strict=True):
        number = float(row["value"]) if row["value"] else None
        assert number == cell["value"] and (number is None) == bool(np.isnan(own.value))
        assert (row["text"], row["command"], row["experiment"]) == (own.text, own.command, own.experiment)
        assert number is None or number == own.value
    assert document["columns"] == list(table.columns) and document["marked"] == ""


def test_latex_has_the_shape_of_a_table(tmp_path: Path, train: Train) -> None:
    miniature(train)
    for name in ("paper1/table2", "paper4/table1"):
        table = table_of(tmp_path, name)
        text = FORMATS["latex"]([table])
        assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
        lines = [row for row in text.splitlines() if row.endswith(r"\\")]
        assert len(lines) == len(table.lines) + 1
        columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
        assert columns is not None
        assert {len(re.findall(r"(?<!\\)&", row)) for row in lines} == {len(columns[1]) - 1}
        body = text.partition("\n")[2]
        assert not re.search(r"(?<!\\)[%_#]|±", body) and body.count("{") == body.count("}")


def test_latex_escapes() -> None:
    assert escape_latex("50 % of a_b & c^2 {x} ± 1 # $ ~ \\") == (
        r"50 \% of a\_b \& c\textasciicircum{}2 \{x\} $\pm$ 1 \# \$ \textasciitilde{} \textbackslash{}"
    )


def test_the_command_prints_one_table_and_writes_nothing(tmp_path: Path, train: Train) -> None:
    train("paper3/text", "iemocap", "roberta-large")
    runs = [str(tmp_path / "runs"), "--table", "paper3/table2"]
    printed = CliRunner().invoke(app, ["evaluate", *runs])
    assert printed.exit_code == 0 and printed.output.startswith("## Paper 3, Table 2: ")
    printed = CliRunner().invoke(app, ["evaluate", *runs, "--format", "json"])
    assert json.loads(printed.output)["tables"][0]["name"] == "paper3/table2"
    assert not (tmp_path / "runs" / "evaluation").exists()
    for wrong in ([runs[0], "--format", "csv"], [*runs, "--json"], [*runs, "--out", str(tmp_path)]):
        assert CliRunner().invoke(app, ["evaluate", *wrong]).exit_code == 2


def test_an_unknown_table_is_refused(tmp_path: Path, train: Train) -> None:
    train("paper3/text", "iemocap", "roberta-large")
    with pytest.raises(
        EmocacheError, match=r"--table 'paper3/table9': no such table; did you mean .* there are paper1/table1, "
    ):
        table_of(tmp_path, "paper3/table9")


def test_the_report_has_the_tables_of_papers_with_runs(tmp_path: Path, train: Train) -> None:
    miniature(train)
    write_report(tmp_path / "out", evaluate_runs([tmp_path / "runs"]), [])
    names = {file.name for file in (tmp_path / "out" / "tables").iterdir()}
    assert {"paper1-table2.md", "paper2-table1.md", "paper2-table2.md", "paper5-table4.md"} <= names
    assert "paper1-table3.md" not in names
