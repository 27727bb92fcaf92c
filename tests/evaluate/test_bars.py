"""Figure 3 of the Emotion Share paper: mean correlations by feature and architecture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.evaluate.papers.emotion_share import BASELINE, Pair
from emocache.evaluate.papers.share_bars import draw, save_share_bars
from emocache.evaluate.report import evaluate_runs


def test_bars_are_the_means_and_the_line_is_the_quoted_baseline() -> None:
    arch1, arch2 = dict.fromkeys(BASELINE, 0.3), {target: k / 10 for k, target in enumerate(BASELINE)}
    pairs = [Pair("a", arch1, arch2), Pair("b", {"joy": -0.2}, {}, ("dead",)), Pair("c", {"anger": 0.1}, {})]
    (axes,) = draw(pairs).axes
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert np.allclose(heights, [[0.3, -0.2, 0.1], [0.4, 0.0, 0.0]])
    assert [text.get_text() for text in axes.texts] == ["0.300", "-0.200", "0.100", "0.400", "–", "–"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b *", "c"]
    (lines,) = axes.collections
    places = [np.asarray(path.vertices) for path in lines.get_paths()]
    assert [float(ends[0, 1]) for ends in places if np.isfinite(ends).all()] == pytest.approx(
        [np.mean(list(BASELINE.values())), BASELINE["anger"]]
    )


def test_without_a_baseline_there_is_no_line() -> None:
    (axes,) = draw([Pair("other", {"joy": 0.4}, {"joy": 0.5})]).axes
    assert len(axes.collections) == 0


def test_it_is_written_where_there_are_pairs(tmp_path: Path, write_run: Any, grid: Any) -> None:
    grid(seeds=[0])
    assert save_share_bars(tmp_path, evaluate_runs([tmp_path / "runs"])) == []
    rows = [
        {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.anger": y, "prediction.anger": y * y}
        for i, y in enumerate((0.1, 0.5, 0.9))
    ]
    fields = {"task": "regression", "targets": ["anger"], "classes": None, "prior": {"anger": 0.5}, "folds": 1}
    config = {"head": {"kind": "emotion_share", "attention": False}}
    write_run(rows, experiment="paper2/mfcc-arch1", config=config, **fields)
    (path,) = save_share_bars(tmp_path, evaluate_runs([tmp_path / "runs"]))
    assert path == tmp_path / "emotion-share.png" and path.read_bytes()[:4] == b"\x89PNG"
