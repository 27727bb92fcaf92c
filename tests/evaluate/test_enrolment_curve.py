"""The score against the number of clips that enrol a speaker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.evaluate.output.figures.look import SCREEN
from emocache.evaluate.papers.enrolment_curve import curves, draw, enrolment_tables, save_curves
from emocache.evaluate.report import evaluate_runs, write_report
from emocache.evaluate.scoring.scored import Evaluation

CLASSES = ("angry", "happy", "sad")


@pytest.fixture
def known(write_run: Callable[..., Path], utterance: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Write the runs of a curve: two folds of three speakers with twelve clips, the first of which enrol."""

    def write(name: str, right: int, features: dict[str, Any], left_out: int = 0, **fields: Any) -> None:
        for fold in range(2):
            rows = []
            for clip in range(left_out, 12):
                for speaker in ("a", "b", "c"):
                    truth = CLASSES[clip % 3]
                    guess = truth if clip >= 12 - right else CLASSES[(clip + 1) % 3]
                    rows.append(utterance(f"{speaker}{fold}{clip}", f"{speaker}{fold}", truth, guess))
            coverage = {"test": len(rows), "predicted": len(rows), "missing": [], "enrolled": 3 * left_out}
            config = {"streams": {"frames": ["logmel"]}, "features": features, "description": name, "seeds": [0]}
            told = {"experiment": name, "report": ["enrolment"], "config": config, "split_sha256": f"{left_out:064}"}
            write_run(rows, fold=fold, **{**told, "coverage": coverage, **fields})

    return write


@pytest.fixture
def curve(known: Callable[..., None], tmp_path: Path) -> list[Evaluation]:
    speaker = {"normalise": "per_speaker"}
    known("none", 6, {"normalise": "train"})
    known("all", 9, speaker, transductive=True)
    known("k-10", 1, {**speaker, "enrolment": 10}, 10, marks=["enrolled with 10 clips"])
    known("k-4", 8, {**speaker, "enrolment": 4}, 4, marks=["enrolled with 4 clips"])
    chosen = {**speaker, "enrolment": 4, "enrolment_where": "emotion=sad"}
    known("sad", 3, chosen, 8, marks=["enrolled with 4 clips of emotion=sad"])
    return evaluate_runs([tmp_path / "runs"])


def test_rows_stand_by_the_number_of_clips(curve: list[Evaluation]) -> None:
    (table,) = enrolment_tables(curve)
    assert [row[:3] for row in table.rows] == [
        ["no clip", "none", "72"],
        ["4 clips", "k-4", "48"],
        ["10 clips", "k-10", "12"],
        ["all clips [transductive]", "all", "72"],
        ["4 clips of emotion=sad", "sad", "24"],
    ]
    assert [row[3][:5] for row in table.rows] == ["0.500", "1.000", "0.500", "0.750", "0.750"]
    # The last two clips of each speaker are scored by all: right in all but k-10, where one of the two is.
    assert [row[4][:5] for row in table.rows] == ["1.000", "1.000", "0.500", "1.000", "–"]


def test_results_that_differ_in_more_make_no_curve(known: Callable[..., None], tmp_path: Path) -> None:
    known("none", 6, {"normalise": "train"})
    known("other", 6, {"normalise": "per_speaker", "pca": 3}, transductive=True)
    assert curves(evaluate_runs([tmp_path / "runs"])) == []


def test_the_picture_has_every_point_with_its_interval(curve: list[Evaluation], tmp_path: Path) -> None:
    (points,) = curves(curve)
    (axes,) = draw(points, "accuracy").axes
    texts = [tick.get_text() for tick in axes.get_xticklabels()]
    assert texts == ["0", "4", "10", "all", "4\nemotion=sad"]
    drawn = [np.asarray(one.lines[0].get_ydata()).tolist() for one in axes.containers]  # type: ignore[attr-defined]
    assert drawn == [[0.5, 1.0, 0.5, 0.75], [0.75], [1.0, 1.0, 0.5, 1.0]]
    with SCREEN.drawing():
        assert [path.name for path in save_curves(tmp_path, curve)] == ["enrolment-demo-1.png"]


def test_the_report_tells_what_is_not_scored(curve: list[Evaluation], tmp_path: Path) -> None:
    write_report(tmp_path / "out", curve, [])
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "k-4 (logmel): 24 utterances more of the speakers tested enrol them, and are not scored." in text
    assert "k-4 [enrolled with 4 clips" in text and "by clips that enrol a speaker" in text
    assert (tmp_path / "out" / "enrolment-demo-1.png").is_file()
