"""Figure 3 of the CAMuLeNet paper: a map of kept vectors, and how well classes lie apart."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emocache.cache import EmocacheError
from emocache.evaluate.papers.embedding_map import save_embedding_maps
from emocache.evaluate.papers.embeddings import nearest_neighbours_right, plane, read_embeddings, silhouettes
from emocache.evaluate.report import evaluate_runs, write_report

CLASSES = ("angry", "happy", "sad")
DIM = 7


@pytest.fixture
def embedded(write_run: Any, utterance: Any) -> Any:
    """Write a run of one fold that kept a vector of each of n test utterances and of one for validation."""

    def write(
        n: int = 12, *, fold: int = 0, seed: int = 0, name: str = "embedding", vectors: Any = None, **fields: Any
    ) -> Any:
        if vectors is None:
            vectors = np.random.default_rng([fold, seed]).normal(size=(n, DIM))
        truth = [CLASSES[i % len(CLASSES)] for i in range(n)]
        rows = [utterance(f"u{fold}{i}", f"s{i % 4}", truth[i], "sad") for i in range(n)]
        rows.append(utterance("v", "v", "sad", "sad", part="valid"))
        config = {"streams": {"frames": ["logmel"]}, "head": {"kind": "probe"}, "seeds": [0], "keep": [name]}
        folder = write_run(rows, fold=fold, seed=seed, **{"config": config, **fields})
        known = {"corpus": "demo", "culture": None}
        kept = [{"part": "valid", "id": "v", **known, name: [9.0] * np.shape(vectors)[1]}]
        kept += [{"part": "test", "id": f"u{fold}{i}", **known, name: list(vectors[i])} for i in reversed(range(n))]
        pq.write_table(pa.Table.from_pylist(kept), folder / "kept.parquet")
        return vectors, truth

    return write


def test_the_test_utterances_of_the_first_fold_with_their_classes(tmp_path: Path, embedded: Any) -> None:
    written = {(fold, seed): embedded(fold=fold, seed=seed) for fold in (0, 1) for seed in (0, 1)}
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    for fold, cell in ((None, (0, 0)), (1, (1, 0))):
        found = read_embeddings(evaluation.result, fold)
        assert found is not None and found.cell == cell
        vectors, truth = written[cell]
        assert np.allclose(found.vectors[::-1], vectors)
        assert [CLASSES[c] for c in found.classes[::-1]] == truth
    assert read_embeddings(evaluation.result, 2) is None


def neighbours(vectors: Any, classes: Any, i: int) -> list[int]:
    """The classes of the five nearest others."""
    distance = [(float(np.linalg.norm(vectors[i] - vectors[j])), j) for j in range(len(vectors)) if j != i]
    return [classes[j] for _, j in sorted(distance)[:5]]


def silhouette(vectors: Any, classes: Any, i: int) -> float:
    """(b - a) / max(a, b), and 0 for the only one of its class."""
    distances: dict[Any, list[float]] = {c: [] for c in set(classes)}
    for j in range(len(vectors)):
        if j != i:
            distances[classes[j]].append(float(np.linalg.norm(vectors[i] - vectors[j])))
    own = distances.pop(classes[i])
    if not own:
        return 0.0
    a, b = float(np.mean(own)), min(float(np.mean(others)) for others in distances.values())
    return (b - a) / max(a, b)


def test_numbers_against_loops() -> None:
    vectors = np.random.default_rng(1).normal(size=(20, 3))
    classes = np.array([0, 0, 1, 2, 1] * 3 + [0, 1, 1, 0, 5])  # none of 3 and 4, one of 5
    right = []
    for i in range(20):
        votes = neighbours(vectors, classes, i)
        right.append(max(sorted(set(votes)), key=votes.count) == classes[i])
    assert nearest_neighbours_right(vectors, classes).tolist() == right and 0 < sum(right) < 20
    assert np.allclose(silhouettes(vectors, classes), [silhouette(vectors, classes.tolist(), i) for i in range(20)])
    assert np.isnan(silhouettes(vectors, np.zeros(20, np.int64))).all()
    assert np.isnan(silhouettes(vectors, np.arange(20))).all()


def test_the_map_keeps_groups_apart_and_is_always_the_same() -> None:
    group = np.repeat([0, 1], 20)
    vectors = np.random.default_rng(0).normal(size=(40, 60)) + 30 * group[:, None]
    places = plane(vectors)
    assert places.shape == (40, 2) and np.array_equal(places, plane(vectors))
    assert nearest_neighbours_right(places, group).all()
    assert plane(vectors[:6]).shape == (6, 2) and plane(vectors[:6, :2]).shape == (6, 2)


def test_the_csv_has_all_and_each_class(tmp_path: Path, embedded: Any) -> None:
    vectors, truth = embedded(
        incomplete=True, classes=[*CLASSES, "absent"], prior=dict.fromkeys([*CLASSES, "absent"], 0)
    )
    written = write_report(tmp_path / "out", evaluate_runs([tmp_path / "runs"]), [])
    table, picture = (path for path in written if path.name.startswith("embedding-map-probe-"))
    assert picture.read_bytes()[:4] == b"\x89PNG" and table.suffix == ".csv"
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(x["class"], x["utterances"]) for x in lines] == [("", "12"), ("angry", "4"), ("happy", "4"), ("sad", "4")]
    assert {(x["fold"], x["seed"], x["marks"]) for x in lines} == {("0", "0", "incomplete; 1 of 2 runs")}
    apart = [silhouette(vectors, truth, i) for i in range(12)]
    right = [max(sorted(set(n)), key=n.count) == truth[i] for i in range(12) if (n := neighbours(vectors, truth, i))]
    for line in lines:
        own = [i for i in range(12) if line["class"] in ("", truth[i])]
        assert float(line["silhouette"]) == pytest.approx(np.mean([apart[i] for i in own]))
        assert float(line["5nn_accuracy"]) == pytest.approx(np.mean([right[i] for i in own]))


def test_nothing_is_drawn_of_what_makes_no_map(tmp_path: Path, embedded: Any, grid: Any, write_run: Any) -> None:
    grid(experiment="kept nothing")
    embedded(experiment="kept a gate", name="gate")
    embedded(5, experiment="few")
    embedded(experiment="one channel", vectors=np.arange(12.0)[:, None])
    embedded(experiment="all alike", vectors=np.ones((12, DIM)))
    embedded(experiment="not finite", vectors=np.full((12, DIM), np.nan))
    row = {"id": "u", "speaker": "s", "group": "s", "reference.v": 0.1, "prediction.v": 0.2}
    folder = write_run([row], experiment="values", task="regression", targets=["v"], classes=None, prior={"v": 0.0})
    kept = {"part": "test", "corpus": "demo", "id": "u", "culture": None, "embedding": [0.1, 0.2]}
    pq.write_table(pa.Table.from_pylist([kept]), folder / "kept.parquet")
    assert save_embedding_maps(tmp_path, evaluate_runs([tmp_path / "runs"])) == []


def test_parts_that_vote_for_their_utterance_have_no_map(tmp_path: Path, embedded: Any, utterance: Any) -> None:
    embedded()
    path = next(tmp_path.rglob("predictions.parquet"))
    rows = [
        {"part": "test", "corpus": "demo", "missing": False, "session": None, **utterance("whole", "s", "sad", "sad")}
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert save_embedding_maps(tmp_path, evaluate_runs([tmp_path / "runs"])) == []


def test_damaged_vectors_are_named(tmp_path: Path, embedded: Any) -> None:
    embedded()
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    next(tmp_path.rglob("kept.parquet")).write_bytes(b"PAR1")
    with pytest.raises(EmocacheError, match=r"kept\.parquet: .*train it again"):
        read_embeddings(evaluation.result)
