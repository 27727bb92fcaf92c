"""One fold with one seed: search, train, choose on validation, refit, predict."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from ..cache import EmocacheError
from .batches import Batches
from .dataset import Dataset
from .folds import Fold, Rows
from .heads import Head, build_head
from .loop import Trained, train_head
from .losses import Loss, make_loss
from .predictions import prediction_table, prior, validation_score
from .reading import search_points
from .settings import Settings
from .transforms import Prepared, prepare


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What one run stores.

    Attributes:
        record: the part of run.json that training decides.
        predictions: see `predictions.prediction_table`; validation rows, then test rows.
        weights, transforms: for safetensors. history: a line an epoch.
    """

    record: dict[str, Any]
    predictions: pa.Table
    weights: dict[str, torch.Tensor]
    transforms: dict[str, npt.NDArray[np.floating]]
    history: list[dict[str, Any]]


def train_fold(dataset: Dataset, settings: Settings, fold: Fold, seed: int, device: torch.device) -> FoldResult:
    """Train one fold with one seed; the same arguments give the same result on one kind of device.

    The settings of a search, and the epoch, are those with the best validation score in this fold and seed, the first
    ones among equals. Test features are looked at by what the settings call transductive only, test references never.

    Raises:
        EmocacheError: see `transforms.prepare`, `loop.train_head` and `predictions.prediction_table`.
    """
    started = time.perf_counter()
    train, valid = (rows[dataset.present[rows]] for rows in (fold.train, fold.valid))
    for name, rows in (("training", train), ("validation", valid)):
        if not len(rows):
            raise EmocacheError(f"no {name} utterance of a fold has features; extract the failed ones again")
    run = _Run(dataset, seed, device)
    candidates = [(chosen, point, run.train(point, train, valid)) for chosen, point in search_points(settings)]
    chosen, point, trained = max(candidates, key=lambda candidate: candidate[2].score)
    metric = settings.selection.metric
    best_epoch, best_value = trained.epoch, trained.score.value(metric)
    validated = prior(dataset, point, fold.train)
    tables = [prediction_table("valid", trained.head, run.batches(point, train), dataset, point, fold.valid, validated)]
    history: list[dict[str, Any]] = [{"phase": "search", **line} for line in trained.history]
    fitted = train
    if settings.selection.refit:
        rates = [line["learning_rate"] for line in trained.history[: trained.epoch]]
        fitted = np.union1d(train, valid)
        trained = run.train(point, fitted, None, rates)
        history += [{"phase": "refit", **line} for line in trained.history]
    known = prior(dataset, point, np.union1d(fold.train, fold.valid) if settings.selection.refit else fold.train)
    tables.append(prediction_table("test", trained.head, run.batches(point, fitted), dataset, point, fold.test, known))
    absent = [dataset.examples[row].key for row in fold.test if not dataset.present[row]]
    record = {
        "coverage": {"test": len(fold.test), "predicted": len(fold.test) - len(absent), "missing": absent},
        "without_features": {"train": len(fold.train) - len(train), "valid": len(fold.valid) - len(valid)},
        "prior": known,
        "selection": {
            "metric": metric,
            "best_epoch": best_epoch,
            "chosen": chosen,
            "refit": settings.selection.refit,
            "value": best_value,
            "tried": [{"settings": c, "epoch": t.epoch, "value": t.score.value(metric)} for c, _, t in candidates],
        },
        "parameters": sum(p.numel() for p in trained.head.parameters()),
        "seconds": round(time.perf_counter() - started, 3),
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.head.state_dict().items()}
    return FoldResult(record, pa.concat_tables(tables), weights, run.prepared(point, fitted).tensors(), history)


class _Run:
    """What the points of a search share: features fitted on the same rows under the same settings."""

    def __init__(self, dataset: Dataset, seed: int, device: torch.device) -> None:
        self.dataset = dataset
        self.seed = seed
        self.device = device
        self._last: tuple[str, Prepared, Batches] | None = None

    def train(self, point: Settings, rows: Rows, valid: Rows | None, rates: list[float] | None = None) -> Trained:
        """Train one head; its score comes from `valid`."""
        batches = self.batches(point, rows)
        loss = self._loss(point, rows)
        with _seeded(self.seed, self.device):
            outputs = len(self.dataset.classes) or len(point.targets)
            head = build_head(point.head, batches.dim, outputs, point.per_frame).to(self.device)
            validate: Callable[[Head], Any] | None = None
            if valid is not None:
                validate = partial(
                    validation_score, batches=batches, dataset=self.dataset, settings=point, loss=loss, rows=valid
                )
            return train_head(head, batches, rows, point, loss, self.seed, validate, rates)

    def prepared(self, point: Settings, rows: Rows) -> Prepared:
        """Features with everything fitted on the rows."""
        return self._both(point, rows)[0]

    def batches(self, point: Settings, rows: Rows) -> Batches:
        """Batches of those features."""
        return self._both(point, rows)[1]

    def _both(self, point: Settings, rows: Rows) -> tuple[Prepared, Batches]:
        pooling = point.head.fixed_pooling(point.per_frame)
        key = json.dumps([point.streams, point.features.model_dump(), pooling, rows.tolist()])
        if self._last is None or self._last[0] != key:
            self._last = None  # frees the old ones before the new ones are made
            prepared = prepare(self.dataset, point, rows)
            self._last = (key, prepared, Batches(self.dataset, point, prepared, self.device))
        return self._last[1:]

    def _loss(self, point: Settings, rows: Rows) -> Loss:
        if point.task != "classification":
            return make_loss(point.loss, None)
        labels = np.array([self.dataset.examples[row].reference for row in rows])
        return make_loss(point.loss, torch.from_numpy(np.bincount(labels, minlength=len(self.dataset.classes))))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Weights, dropout and kernels decided by the seed inside, the caller's random state as before outside."""
    # cuBLAS is deterministic only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
