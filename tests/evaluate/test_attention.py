"""Attention weights that heads kept: the right utterances, every weight in the CSV, a picture of any shape."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emocache.cache import EmocacheError
from emocache.evaluate.papers.attention_figure import MOST, draw, save_attention
from emocache.evaluate.papers.attention_weights import read_attention
from emocache.evaluate.report import evaluate_runs

CLASSES = ("angry", "happy", "sad")


def attended(write_run: Any, utterance: Any, n: int, heads: int, kind: str, seed: int = 0) -> dict[str, Any]:
    """A run with n test utterances of 1 to 9 words: {id: (true, predicted, weights (L, heads))}."""
    random = np.random.default_rng(seed)
    made = {}
    for i in range(n):
        weights = random.dirichlet(np.ones(int(random.integers(1, 10))), size=heads).T
        made[f"u{i:02}"] = (CLASSES[i % 3], CLASSES[int(random.integers(3))], weights)
    rows = [utterance(name, f"s{name}", true, guess) for name, (true, guess, _) in made.items()]
    rows.append(utterance("v", "v", "sad", "sad", part="valid"))
    folder = write_run(
        rows, folds=1, seed=seed, config={"head": {"kind": kind}, "keep": ["attention"], "seeds": [seed]}
    )
    kept = [
        {"part": "test", "corpus": "demo", "id": name, "culture": None, "attention": weights.ravel().tolist(),
         "attention.shape": list(weights.shape)} for name, (_, _, weights) in reversed(made.items())
    ]  # fmt: skip
    kept.append({**kept[0], "part": "valid", "id": "v"})
    pq.write_table(pa.Table.from_pylist(kept), folder / "kept.parquet")
    return made


@pytest.mark.parametrize(("kind", "heads", "channels"), [("can", 8, ("text", "audio")), ("mha2", 1, ("",))])
def test_every_weight_is_written(
    tmp_path: Path, write_run: Any, utterance: Any, kind: str, heads: int, channels: tuple[str, ...]
) -> None:
    made = attended(write_run, utterance, 10, heads, kind)
    evaluations = evaluate_runs([tmp_path / "runs"])
    table, picture = save_attention(tmp_path, evaluations)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    order = list(dict.fromkeys(line["utterance"] for line in lines))
    assert order == [f"demo/{name}" for name in sorted(made, key=lambda name: (made[name][0], name))]
    for name, (true, guess, weights) in made.items():
        own = [line for line in lines if line["utterance"] == f"demo/{name}"]
        assert {(line["true"], line["predicted"]) for line in own} == {(true, guess)}
        halves = np.split(weights, len(channels), axis=1)
        for channel, half in zip(channels, halves, strict=True):
            written = [float(line["weight"]) for line in own if line["channel"] == channel]
            assert written == pytest.approx([float(np.mean(row)) for row in half]) and sum(written) == pytest.approx(1)
    assert [line["position"] for line in lines if line["utterance"] == order[0]][-1] == str(len(made[order[0][5:]][2]))


@pytest.mark.parametrize("n", [1, MOST, 3 * MOST])
def test_a_picture_has_rows_of_every_class(tmp_path: Path, write_run: Any, utterance: Any, n: int) -> None:
    attended(write_run, utterance, n, 2, "can")
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    found = read_attention(evaluation.result)
    assert found is not None
    axes = draw(found).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len(set(labels)) == min(n, MOST)
    assert {label.split(": ")[1].split(" ")[0] for label in labels} == set(CLASSES[:n])


def test_what_kept_none_is_passed_over_and_a_damaged_file_is_told(
    tmp_path: Path, write_run: Any, utterance: Any, grid: Any
) -> None:
    grid(seeds=[0])
    assert save_attention(tmp_path, evaluate_runs([tmp_path / "runs"])) == []
    attended(write_run, utterance, 3, 2, "can", seed=7)
    (path,) = tmp_path.glob("runs/**/kept.parquet")
    path.write_bytes(b"no Parquet")
    with pytest.raises(EmocacheError, match=r"kept\.parquet: .*; delete the run's folder and train it again"):
        save_attention(tmp_path, evaluate_runs([path.parent]))
