"""Figure 2 of the Emotion Share paper: predicted against true values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from emocache.evaluate.output.figures.scatter import MOST_TARGETS, limits, panels, save_scatters
from emocache.evaluate.report import evaluate_runs, write_report


@pytest.fixture
def regression(write_run: Any) -> Any:
    """Write a fold of six utterances; returns their true and predicted values, (6, targets) each."""

    def write(targets: Sequence[str], *, fold: int = 0, seed: int = 0, **fields: Any) -> Any:
        true = np.random.default_rng(fold).normal(size=(6, len(targets)))
        predicted = true + np.random.default_rng([fold, seed]).normal(size=true.shape)
        rows = [
            {"id": f"u{fold}{i}", "speaker": f"s{fold}{i}", "group": f"s{fold}{i}"}
            | {f"reference.{target}": true[i, k] for k, target in enumerate(targets)}
            | {f"prediction.{target}": predicted[i, k] for k, target in enumerate(targets)}
            for i in range(6)
        ]
        rows.append({**rows[0], "id": "valid", "part": "valid", f"prediction.{targets[0]}": 99.0})
        own = {"task": "regression", "targets": list(targets), "classes": None, "prior": dict.fromkeys(targets, 0.0)}
        write_run(rows, fold=fold, seed=seed, **{**own, **fields})
        return true, predicted

    return write


def test_panels_hold_every_fold_and_seed_and_the_rho_of_the_tables(tmp_path: Path, regression: Any) -> None:
    config = {"seeds": [0, 1]}
    cells = {(f, s): regression(["anger", "joy"], fold=f, seed=s, config=config) for f in (0, 1) for s in (0, 1)}
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    made = panels(evaluation)
    assert [panel.target for panel in made] == ["anger", "joy"]
    for k, panel in enumerate(made):
        points = [pair for true, predicted in cells.values() for pair in zip(true[:, k], predicted[:, k], strict=True)]
        assert sorted(zip(panel.reference, panel.prediction, strict=True)) == sorted(points)
        by_seed = []
        for seed in (0, 1):
            true, predicted = (np.concatenate([cells[f, seed][i][:, k] for f in (0, 1)]) for i in (0, 1))
            by_seed.append(np.corrcoef(rankdata(true), rankdata(predicted))[0, 1])
        assert panel.rho == pytest.approx(np.mean(by_seed))
    values = [values for cell in cells.values() for values in cell]
    low, high = limits(made)
    margin = 0.03 * (np.max(values) - np.min(values))
    assert (low, high) == pytest.approx((np.min(values) - margin, np.max(values) + margin))


def test_a_figure_for_each_regression_of_few_targets(tmp_path: Path, regression: Any, grid: Any) -> None:
    regression(["$anger_{"], folds=1, experiment="a")
    regression([f"t{k}" for k in range(MOST_TARGETS)], folds=1, experiment="b")
    regression([f"t{k}" for k in range(MOST_TARGETS + 1)], folds=1, experiment="c")
    regression(["anger", "joy"], folds=1, experiment="d", task="distribution")
    grid(seeds=[0])
    evaluations = evaluate_runs([tmp_path / "runs"])
    written = [path for path in write_report(tmp_path / "out", evaluations, []) if path.name.startswith("scatter-")]
    assert [path.name.split("-")[1] for path in written] == ["a", "b"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written)
    again = save_scatters(tmp_path, evaluations)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_values_of_frames_are_left_out(tmp_path: Path, write_run: Any) -> None:
    row = {"id": "u", "speaker": "s", "group": "s", "reference.v": [0.1, 0.2], "prediction.v": [0.1, 0.3]}
    write_run([row], task="frame_regression", targets=["v"], classes=None, prior={"v": 0.0}, folds=1)
    assert save_scatters(tmp_path, evaluate_runs([tmp_path / "runs"])) == []


def test_constant_and_infinite_values_can_be_drawn(tmp_path: Path, write_run: Any) -> None:
    rows = [
        {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.v": 0.5, "prediction.v": p}
        for i, p in enumerate((0.5, np.inf, 0.5))
    ]
    write_run(rows, task="regression", targets=["v"], classes=None, prior={"v": 0.0}, folds=1)
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    assert limits(panels(evaluation)) == (0.0, 1.0)
    assert len(save_scatters(tmp_path, [evaluation])) == 1
