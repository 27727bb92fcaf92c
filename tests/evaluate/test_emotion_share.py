"""The two tables of the emotion share paper, on its own numbers and on hand-made runs."""

import csv
import io
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from emocache.cache import EmocacheError
from emocache.evaluate.papers import OF_KEPT, PAPERS, asking, reports_of
from emocache.evaluate.papers.emotion_share import BASELINE, Pair, pairs, relative_change
from emocache.evaluate.papers.share_tables import emotion_share_csv, emotion_share_tables
from emocache.evaluate.report import evaluate_runs, write_report
from emocache.evaluate.scoring.shipped import shipped_report
from emocache.train.config.experiment_files import open_experiment
from emocache.train.config.experiment_names import experiment_names
from emocache.train.config.loading import load_settings
from emocache.train.config.sections import KEPT_FOR, Reports

PUBLISHED = {
    "wav2vec2-base": (
        (0.328, 0.466, 0.509, 0.459, 0.442, 0.382, 0.310, 0.394, 0.468),
        (0.339, 0.470, 0.520, 0.457, 0.462, 0.394, 0.329, 0.394, 0.468),
    ),
    "wav2vec2-large": (
        (0.138, 0.129, 0.266, 0.333, 0.311, 0.278, 0.156, 0.230, 0.407),
        (0.125, 0.261, 0.353, 0.392, 0.206, 0.235, 0.141, 0.097, 0.413),
    ),
    "hubert-base": (
        (0.418, 0.545, 0.566, 0.526, 0.526, 0.441, 0.403, 0.478, 0.544),
        (0.441, 0.552, 0.567, 0.526, 0.532, 0.455, 0.415, 0.485, 0.546),
    ),
    "hubert-large": (
        (0.450, 0.566, 0.583, 0.538, 0.539, 0.485, 0.427, 0.505, 0.560),
        (0.467, 0.575, 0.587, 0.542, 0.547, 0.476, 0.426, 0.518, 0.557),
    ),
    "acoustic": (
        (0.231, 0.358, 0.404, 0.290, 0.363, 0.301, 0.148, 0.125, 0.390),
        (0.180, 0.343, 0.379, -0.017, 0.327, 0.295, 0.162, 0.195, 0.342),
    ),
}
"""Table 1, Architectures 1 and 2."""


def published() -> list[Pair]:
    """The paper's Table 1 as it stands."""
    return [
        Pair(name, dict(zip(BASELINE, arch1, strict=True)), dict(zip(BASELINE, arch2, strict=True)))
        for name, (arch1, arch2) in PUBLISHED.items()
    ]


def test_the_averages_of_the_published_table() -> None:
    """Table 2 prints .425, .274, .502, .523 and .299: two are of the better architectures, and one is none of these.

    .425 and .502 are Architecture 2's (.4259 is cut off), .523 and .299 the best of both; .274 is neither.
    """
    found = {pair.name: [round(average, 3) for average in pair.averages.values()] for pair in published()}
    assert found == {
        "wav2vec2-base": [0.418, 0.426, 0.426],
        "wav2vec2-large": [0.250, 0.247, 0.281],
        "hubert-base": [0.494, 0.502, 0.502],
        "hubert-large": [0.517, 0.522, 0.523],
        "acoustic": [0.290, 0.245, 0.299],
    }
    assert published()[0].baseline == pytest.approx(4.497 / 9)


@pytest.mark.parametrize(
    ("average", "change"), [(0.425, -15), (0.274, -45.2), (0.502, 0.4), (0.523, 4.6), (0.299, -40.2), (0.522, 4.4)]
)
def test_the_changes_of_table_2_follow_from_its_averages(average: float, change: float) -> None:
    assert round(relative_change(average, 0.5), 1) == change


def test_the_tables_keep_the_three_averages_apart() -> None:
    by_target, averages = emotion_share_tables(published())
    assert by_target.headings[2:] == list(BASELINE)
    arch2 = (f"{value:.3f}" for value in PUBLISHED["wav2vec2-base"][1])
    assert by_target.rows[1] == ["wav2vec2-base", "2", *arch2]
    assert by_target.rows[-1] == ["baseline (quoted)", "", *(f"{value:.3f}" for value in BASELINE.values())]
    assert averages.headings[1:4] == ["mean_arch1", "mean_arch2", "mean_best_of (test-selected)"]
    # 100 (.5231 - .4997) / .4997, of numbers that are not rounded before.
    assert averages.rows[3] == ["hubert-large", "0.517", "0.522", "0.523", "0.500", "+3.5", "+4.4", "+4.7"]


def test_the_csv_has_every_target_and_the_means() -> None:
    lines = list(csv.DictReader(io.StringIO(emotion_share_csv(published()))))
    assert len(lines) == 5 * 10 and [line["target"] for line in lines[:10]] == [*BASELINE, "mean"]
    assert (lines[0]["arch1"], lines[0]["arch2"], lines[0]["best_of_test_selected"]) == ("0.328", "0.339", "0.339")
    assert float(lines[0]["change_arch1_percent"]) == pytest.approx(100 * (0.328 - 0.428) / 0.428)
    mean = lines[9]
    assert float(mean["arch1"]) == pytest.approx(np.mean(PUBLISHED["wav2vec2-base"][0]))
    assert float(mean["change_best_of_test_selected_percent"]) == pytest.approx(-14.72, abs=0.01)


def test_one_architecture_alone_has_no_best_of() -> None:
    pair = Pair("half", {"anger": 0.4, "boredom": 0.6}, {})
    assert pair.averages["mean_arch1"] == pytest.approx(0.5) and pair.best_of == {}
    _, averages = emotion_share_tables([pair])
    assert averages.rows == [["half", "0.500", "–", "–", "0.487", "+2.8", "–", "–"]]
    (line, *_) = csv.DictReader(io.StringIO(emotion_share_csv([pair])))
    assert line["arch2"] == line["best_of_test_selected"] == line["change_arch2_percent"] == ""


def test_targets_that_the_baseline_lacks_have_no_change() -> None:
    _, averages = emotion_share_tables([Pair("other", {"joy": 0.4}, {"joy": 0.5})])
    assert averages.rows == [["other", "0.400", "0.500", "0.500", "–", "–", "–", "–"]]
    assert emotion_share_tables([]) == []


def asked(tmp_path: Path) -> list[Pair]:
    """The pairs of all results that ask for them."""
    return pairs(asking("emotion_share", evaluate_runs([tmp_path / "runs"])))


def write(write_run: Any, experiment: str, anger: list[float], boredom: list[float], **fields: Any) -> None:
    """A run with four clips whose shares rise."""
    values = zip((0.1, 0.2, 0.3, 0.4), anger, boredom, strict=True)
    rows = [
        {
            "id": f"c{k}",
            "speaker": None,
            "group": f"c{k}",
            "reference.anger": share,
            "prediction.anger": a,
            "reference.boredom": share,
            "prediction.boredom": b,
        }
        for k, (share, a, b) in enumerate(values)
    ]
    own: dict[str, Any] = {
        "task": "regression",
        "targets": ["anger", "boredom"],
        "classes": None,
        "prior": {"anger": 0, "boredom": 0},
    }
    own |= {"report": ["emotion_share"], "config": {"head": head(attention=experiment.endswith("arch2"))}}
    write_run(rows, experiment=experiment, folds=1, **{**own, **fields})


def head(attention: bool) -> dict[str, Any]:
    """The settings that tell both architectures apart."""
    return {"kind": "emotion_share", "attention": attention}


def test_runs_are_paired_by_name_and_dead_outputs_count_as_zero(tmp_path: Path, write_run: Any) -> None:
    """1 2 3 4 against 1 2 4 3 has the correlation .8, against 2 1 4 3 .6."""
    write(write_run, "paper2/hubert-arch1", [1, 2, 4, 3], [0, 0, 0, 0])
    write(write_run, "paper2/hubert-arch2", [2, 1, 4, 3], [1, 2, 3, 4], incomplete=True)
    write(write_run, "paper2/faithful-hubert-arch2", [4, 3, 2, 1], [1, 2, 3, 4])
    write(write_run, "paper2/transformer", [1, 2, 3, 4], [1, 2, 3, 4], report=[])
    alone, hubert = sorted(asked(tmp_path), key=lambda pair: pair.name)
    assert hubert.name == "paper2/hubert (logmel)" and alone.name == "paper2/faithful-hubert (logmel)"
    assert hubert.arch1 == pytest.approx({"anger": 0.8, "boredom": 0.0})
    assert hubert.arch2 == pytest.approx({"anger": 0.6, "boredom": 1.0})
    assert [*hubert.averages.values()] == pytest.approx([0.4, 0.8, 0.9])
    assert alone.arch1 == {} and alone.arch2 == pytest.approx({"anger": -1.0, "boredom": 1.0})
    dead, marked = hubert.notes
    assert "dead_output" in dead and "arch1 boredom" in dead and marked == "arch2 is marked: incomplete"
    tables = emotion_share_tables([alone, hubert])
    assert f"paper2/hubert (logmel): {marked}." in tables[-1].notes


def test_an_architecture_whose_outputs_are_all_dead_is_told(tmp_path: Path, write_run: Any) -> None:
    write(write_run, "hubert-arch1", [1, 2, 4, 3], [1, 2, 3, 4])
    write(write_run, "hubert-arch2", [0, 0, 0, 0], [0, 0, 0, 0])
    (pair,) = asked(tmp_path)
    assert pair.averages["mean_arch1"] == pytest.approx(0.9)
    assert np.isnan(pair.averages["mean_arch2"]) and np.isnan(pair.averages["mean_best_of"])
    assert pair.notes == ("arch2 has no average: dead_output: the prediction is constant",)


RISING = ([1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 3.0, 4.0])


def test_no_name_switches_the_paper_on(tmp_path: Path, write_run: Any) -> None:
    """A regression called like an architecture has no tables; one that asks for them has, whatever it is called."""
    write(write_run, "arousal-arch1", *RISING, report=[])
    write(write_run, "mine-arch2", *RISING, report=None, config={"head": {"kind": "probe"}})
    write(write_run, "other", *RISING, config={"head": {"kind": "probe"}})
    evaluations = evaluate_runs([tmp_path / "runs"])
    assert asked(tmp_path) == []
    written = write_report(tmp_path / "out", evaluations, [])
    assert not any("emotion-share" in path.name for path in written)
    write(write_run, "with", *RISING, config={"head": head(attention=True)})
    write(write_run, "with-arch2", *RISING)
    write(write_run, "without", *RISING, config={"head": head(attention=False)})
    members = {name: {"head": head(attention=False)} for name in ("one", "two")}
    write(write_run, "fused", *RISING, config={"fusion": {}, "members": members})
    found = {pair.name: (bool(pair.arch1), bool(pair.arch2)) for pair in asked(tmp_path)}
    assert found == {
        "fused (logmel)": (True, False),
        "with (logmel)": (False, True),
        "with-arch2 (logmel)": (False, True),
        "without (logmel)": (True, False),
    }


@pytest.mark.parametrize(("experiment", "count"), [("hubert-base-arch1", 1), ("transformer", 0), ("../x-arch1", 0)])
def test_a_run_from_before_has_what_its_shipped_file_names(
    tmp_path: Path, write_run: Any, experiment: str, count: int
) -> None:
    write(write_run, f"paper2/{experiment}", *RISING, report=None)
    evaluations = evaluate_runs([tmp_path / "runs"])
    assert len(asked(tmp_path)) == count and reports_of(evaluations[0].result) == ["emotion_share"] * count


def test_shipped_files_are_read_as_training_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: open_experiment(name).values for name in experiment_names()}
    said = {name: own.get("report", []) for name, own in values.items()}
    assert {name: list(shipped_report(name)) for name in values} == said
    for name, own in values.items():
        kept = [own["keep"]] if isinstance(own.get("keep"), str) else own.get("keep", [])
        paper = ["emotion_share"] if own.get("head", {}).get("kind") == "emotion_share" else []
        curve = ["enrolment"] if name.startswith("ravdess/enrolment") else []
        assert said[name] == [*paper, *curve, *(OF_KEPT[one] for one in kept)]
    files = {"a": "report = 'one'", "b": "report = ['two']", "c": "", "d": "extends = 'c'"}
    files |= {"e": "extends = ['a', 'b', 'd']", "f": "extends = ['b', 'a']", "g": "extends = 'f'\nreport = []"}
    monkeypatch.setattr("emocache.evaluate.scoring.shipped.EXPERIMENTS", tmp_path)
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    for name in files:
        named = open_experiment(str(tmp_path / f"{name}.toml")).values.get("report", [])
        assert shipped_report(name) == tuple([named] if isinstance(named, str) else named)
    assert [shipped_report(name) for name in ("../a", "c/../a", "nowhere")] == [(), (), ()]


def test_what_training_takes_is_what_evaluation_knows() -> None:
    (of_names, _) = get_args(get_args(Reports)[0])
    assert get_args(of_names) == tuple(PAPERS)
    assert {kept: report for report, kept in KEPT_FOR.items()} == OF_KEPT
    with pytest.raises(EmocacheError, match=r"report\.0: Input should be 'emotion_share', .*'emotion_shares'\)"):
        load_settings("paper2/mfcc-arch1", ["report=emotion_shares"])
    with pytest.raises(EmocacheError, match=r"is head 'probe'; set report = \[\]"):
        load_settings("paper2/mfcc-arch1", ["head.kind=probe"])
    assert load_settings("paper2/mfcc-arch1", ["head.kind=probe", "report=[]"])[1].report == ()


@pytest.mark.parametrize(("report", "kept"), KEPT_FOR.items())
def test_a_report_of_what_is_not_kept_is_refused(report: str, kept: str) -> None:
    told = rf"report '{report}' is made of what keep = \['{kept}'\] stores; set that too, or take '{report}' out of"
    with pytest.raises(EmocacheError, match=told):
        load_settings("ravdess-probe", [f"report={report}"])
    assert load_settings("ravdess-probe", [f"report={report}", f"keep={kept}"])[1].report == (report,)


@pytest.mark.parametrize(("said", "expected"), [(None, ["gates"]), ([], ["gates"]), (["gates"], ["gates"])])
def test_what_a_run_keeps_asks_for_its_report(tmp_path: Path, write_run: Any, said: Any, expected: list[str]) -> None:
    """Or files and runs from before `report` named more than one paper would lose their figures."""
    write(write_run, "mine", *RISING, report=said, config={"head": {"kind": "cats"}, "keep": ["gate", "vectors"]})
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    assert reports_of(evaluation.result) == expected
