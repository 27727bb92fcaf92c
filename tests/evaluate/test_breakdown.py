"""Scores of each culture and corpus, and sessions as what the bootstrap draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.evaluate.report import evaluate_runs
from emocache.evaluate.scoring.scored import Evaluation, Part

FRAMES = {"task": "frame_regression", "targets": ["arousal"], "classes": None, "prior": {"arousal": 0.5}, "folds": 1}
TRANSFER = {"name": "transfer", "group": "session", "codes": {"C2": ["hu"], "C3": ["de"]}}


def only(tmp_path: Path) -> Evaluation:
    """The one result below runs/."""
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    return evaluation


def parts(evaluation: Evaluation, column: str) -> dict[str, Part]:
    """The parts of one column by value."""
    return {part.value: part for part in evaluation.breakdown if part.column == column}


def conversations(
    culture: str | None, count: int, seed: int, offset: float = 0.0, unit: str = "session"
) -> list[dict[str, Any]]:
    """Clips of two speakers in each of `count` sessions, which are drawn by the unit."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(2 * count):
        y = (generator.normal(size=5) + offset).tolist()
        p = (0.5 * np.array(y) + generator.normal(size=5)).tolist()
        who = {"speaker": f"{culture}-s{i}", "session": f"{culture}-d{i // 2}"}
        rows.append(
            {
                "id": f"{culture}{i}",
                **who,
                "group": who[unit],
                "culture": culture,
                "reference.arousal": y,
                "prediction.arousal": p,
            }
        )
    return rows


def test_cultures_are_scored_as_if_they_were_alone(tmp_path: Path, write_run: Any) -> None:
    hungarian, german = conversations("hu", 4, 0), conversations("de", 3, 1, offset=2.0)
    german[0]["missing"] = True
    for seed in (0, 1):
        write_run([*hungarian, *german], seed=seed, protocol=TRANSFER, **FRAMES)
    evaluation = only(tmp_path)
    found = parts(evaluation, "culture")
    assert list(found) == ["C2", "C3"] and parts(evaluation, "corpus") == {}
    assert (found["C2"].groups, found["C3"].groups, evaluation.groups) == (4, 3, 7)
    assert {part.unit for part in (evaluation, *found.values())} == {"session"}
    assert [(part.predicted, part.utterances) for part in found.values()] == [(8, 8), (5, 6)]

    for seed in (0, 1):
        write_run(german, seed=seed, protocol=TRANSFER, experiment="alone", **FRAMES)
    alone = next(e for e in evaluate_runs([tmp_path / "runs"]) if e.result.first.experiment == "alone")
    assert alone.breakdown == []
    numbers = [repr((scored.metrics, scored.sanity)) for scored in (found["C3"], alone)]  # NaN is unequal to NaN
    assert numbers[0] == numbers[1]
    # The spread of the references is each culture's own.
    std = {value: part.metrics["reference_std.arousal"].pooled for value, part in found.items()}
    truth = np.concatenate([row["reference.arousal"] for row in hungarian])
    assert std["C2"] == pytest.approx(truth.std())
    assert evaluation.metrics["reference_std.arousal"].pooled > max(std.values())


def test_speakers_are_drawn_where_folds_go_by_speaker(tmp_path: Path, write_run: Any) -> None:
    write_run(conversations("hu", 4, 0, unit="speaker"), **FRAMES)
    evaluation = only(tmp_path)
    assert (evaluation.groups, evaluation.unit) == (8, "speaker")


def test_unknown_sessions_leave_the_speaker(tmp_path: Path, write_run: Any) -> None:
    rows = conversations("hu", 2, 0)
    rows[0] |= {"session": None, "group": rows[0]["speaker"]}
    write_run(rows, protocol=TRANSFER, **FRAMES)
    evaluation = only(tmp_path)
    assert (evaluation.groups, evaluation.unit) == (3, "group")


def test_accuracy_and_confusion_by_culture_and_corpus(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    rows = [
        utterance("a", "s1", "sad", "sad", culture="x"),
        utterance("b", "s2", "happy", "sad", culture="y", corpus="other"),
        utterance("c", "s3", "happy", "happy", culture="y", corpus="other"),
        utterance("d", "s4", "angry", "sad", culture=None),
    ]
    write_run(rows, corpora=["demo", "other"], folds=1)
    evaluation = only(tmp_path)
    by_culture, by_corpus = parts(evaluation, "culture"), parts(evaluation, "corpus")
    accuracy = {value: part.metrics["accuracy"].pooled for value, part in by_culture.items()}
    assert accuracy == {"unknown": 0.0, "x": 1.0, "y": 0.5}
    assert {value: part.metrics["accuracy"].pooled for value, part in by_corpus.items()} == {"demo": 0.5, "other": 0.5}
    confusion = by_culture["y"].confusion
    assert confusion is not None and confusion.tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert sum(part.confusion.sum() for part in by_culture.values() if part.confusion is not None) == 4


def test_a_culture_that_only_some_folds_test(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    for fold, culture in enumerate("xy"):
        rows = [utterance(f"{culture}{i}", f"{culture}{i}", "sad", "sad", culture=culture) for i in range(2)]
        write_run(rows, fold=fold, folds=2)
    found = parts(only(tmp_path), "culture")
    assert found["x"].metrics["accuracy"].reasons["std"] == "one fold"
    assert found["x"].metrics["accuracy"].mean == 1.0


def test_older_runs_have_no_cultures(tmp_path: Path, grid: Any) -> None:
    grid()
    assert only(tmp_path).breakdown == []
