"""Hand-made run folders, as training would leave them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Rows = Sequence[Mapping[str, Any]]
WriteRun = Callable[..., Path]

STREAM = {"corpus": "demo", "name": "logmel", "fingerprint": "ab" * 32}


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write one run from its rows; any field of run.json can be given by name."""

    def write(rows: Rows, *, fold: int = 0, seed: int = 0, root: Path = tmp_path / "runs", **fields: Any) -> Path:
        record: dict[str, Any] = _record(rows, fold, seed) | fields
        setting = hashlib.sha256(json.dumps([record["config"], record["streams"]]).encode()).hexdigest()[:12]
        record.setdefault("setting", setting)
        corpora = "+".join(record["corpora"])
        folder: Path = root / record["experiment"] / corpora / record["setting"] / f"fold{fold}-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        defaults = {"part": "test", "corpus": "demo", "missing": False, "session": None}
        pq.write_table(pa.Table.from_pylist([{**defaults, **row} for row in rows]), folder / "predictions.parquet")
        return folder

    return write


def _record(rows: Rows, fold: int, seed: int) -> dict[str, Any]:
    ids = [row["id"] for row in rows if row.get("part", "test") == "test"]
    absent = [row["id"] for row in rows if row.get("missing")]
    return {
        "format": 1,
        "experiment": "probe",
        "corpora": ["demo"],
        "streams": [STREAM],
        "task": "classification",
        "targets": ["emotion"],
        "classes": ["angry", "happy", "sad"],
        "protocol": {"name": "group_folds", "folds": 2, "validation": "next", "transductive": False},
        "fold": fold,
        "folds": 2,
        "seed": seed,
        "config": {"streams": {"frames": ["logmel"]}, "head": {"kind": "probe"}, "seeds": [0]},
        "manifests": {"demo": "cd" * 32},
        "item_digest": "ef" * 32,
        "split_sha256": "01" * 32,
        "incomplete": False,
        "transductive": False,
        "missing_policy": "prior",
        "coverage": {"test": len(ids), "predicted": len(ids) - len(absent), "missing": absent},
        "dropped_classes": {},
        "selection": {"metric": "accuracy", "best_epoch": 3, "chosen": {}, "refit": False},
        "prior": {"angry": 0.2, "happy": 0.5, "sad": 0.3},
        "versions": {},
        "seconds": 1.0,
    }


@pytest.fixture
def utterance() -> Callable[..., dict[str, Any]]:
    """One row of a classification's predictions."""

    def row(name: str, speaker: str, reference: str, prediction: str, **fields: Any) -> dict[str, Any]:
        probabilities = {f"prob.{c}": float(c == prediction) for c in ("angry", "happy", "sad")}
        labels = {"reference": reference, "prediction": prediction}
        return {"id": name, "speaker": speaker, "group": speaker, **labels, **probabilities, **fields}

    return row


@pytest.fixture
def grid(write_run: WriteRun, utterance: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Write a classification's runs: two folds of six utterances of three speakers each, a run for every seed.

    `right` is how many of a fold's utterances are right, or a function of (fold, seed) that says so.
    """

    def write(right: Any = 4, *, seeds: Sequence[int] = (0, 1), folds: int = 2, **fields: Any) -> None:
        for fold in range(folds):
            for seed in seeds:
                correct = right(fold, seed) if callable(right) else right
                rows = []
                for i in range(6):
                    truth = ("angry", "happy", "sad")[i % 3]
                    guess = truth if i < correct else "happy" if truth != "happy" else "sad"
                    rows.append(utterance(f"u{fold}{i}", f"s{fold}{i // 2}", truth, guess))
                config = fields.get("config", {"streams": {"frames": ["logmel"]}, "seeds": list(seeds)})
                write_run(rows, fold=fold, seed=seed, **{"folds": folds, **fields, "config": config})

    return write
