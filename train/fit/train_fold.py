"""One fold with one seed: search, train, choose on validation, refit, predict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ...cache import EmocacheError
from ..config.search import search_points
from ..config.sections import Augmentation, FeatureSettings, Training
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.labels import binarise, limit
from ..heads import Head, Learned, Shape, build_head
from ..heads.head import FixedPooling, Segments
from ..inputs.batches import Batches
from ..inputs.joining import JoinedStreams
from ..inputs.prepared import Prepared
from ..inputs.transforms import prepare
from ..protocols.folds import Fold, Rows
from ..records.run_record import FoldRecord, SelectionRecord, TriedRecord
from . import cautions
from .closed_form import fit_closed_form
from .fold_result import FoldResult, coverage, only, side_by_side, without_features
from .loop import Trained, Watch, adding, seeded, train_head
from .losses import Loss, make_loss
from .predict import predict, validation_score
from .predicted import Predicted
from .prediction_table import check_kept, kept_table, prediction_table, prior


def train_fold(
    dataset: Dataset,
    settings: Settings,
    fold: Fold,
    seed: int,
    device: torch.device,
    streams: JoinedStreams | None = None,
    watch: Watch = lambda _: None,
) -> FoldResult:
    """Train one fold with one seed.

    The same arguments give the same result on one kind of device, with one number of threads. The settings of a
    search, and the epoch, are those with the best validation score in this fold and seed, the first ones among equals.
    Test features are looked at by what the settings call transductive only, test labels never.

    Args:
        dataset: everything that training reads.
        settings: the whole experiment.
        fold: rows that train, validate and test.
        seed: decides everything that is random.
        device: trains.
        streams: of the dataset, where several runs share them; None: joined for this run.
        watch: takes each epoch's line of the history as it is over, with its `phase`, and where there are several its
            `trial` of a search and its `target`.

    Returns:
        Predictions of the validation and the test part, the weights, and what run.json records of the training.

    Raises:
        EmocacheError: see `transforms.prepare`, `loop.train_head` and `prediction_table.prediction_table`.
    """
    started = time.perf_counter()
    streams = streams or JoinedStreams(dataset)
    if settings.targets_apart and len(settings.targets) > 1:
        targets = range(len(settings.targets))
        parts = [
            _train_one(
                *only(dataset, settings, fold, k), seed, device, streams, adding(watch, target=settings.targets[k])
            )
            for k in targets
        ]
        result, boundary = side_by_side(parts, settings.targets), None
    else:
        labelled, boundary = with_classes(dataset, settings, fold)
        result = _train_one(labelled, settings, fold, seed, device, streams, watch)
    of_all = {
        "coverage": coverage(dataset, settings, fold.test),  # of utterances that have a single target, too
        "without_features": without_features(dataset, fold),
        "threshold": boundary,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return replace(result, record=result.record.model_copy(update=of_all))


def with_classes(dataset: Dataset, settings: Settings, fold: Fold) -> tuple[Dataset, float | None]:
    """Turn the numbers of a dataset into the classes low and high, where the settings name a threshold.

    Args:
        dataset: with one number an utterance.
        settings: `threshold`; the training part decides it, or everyone does where `features.fit_scope` is "all".
        fold: names the training part.

    Returns:
        The dataset with classes, and the limit between them; without a threshold the dataset as it is, and None.
    """
    if settings.threshold is None:
        return dataset, None
    values = np.array([np.asarray(example.reference)[0] for example in dataset.examples])
    seen = np.arange(len(values)) if settings.features.fit_scope == "all" else fold.train
    classes = binarise(values, seen, settings.threshold)
    examples = [replace(e, reference=int(c)) for e, c in zip(dataset.examples, classes, strict=True)]
    return replace(dataset, examples=examples, classes=("low", "high")), limit(values, seen, settings.threshold)


def _train_one(
    dataset: Dataset,
    settings: Settings,
    fold: Fold,
    seed: int,
    device: torch.device,
    streams: JoinedStreams,
    watch: Watch,
) -> FoldResult:
    train, valid = (rows[dataset.present[rows]] for rows in (fold.train, fold.valid))
    for name, rows in (("training", train), ("validation", valid)):
        if not len(rows):
            raise EmocacheError(f"no {name} utterance of a fold has features; extract the failed ones again")
    # From here on a part's rows with features train and validate; the tables also tell of those without.
    run = FoldRun(dataset, streams, seed, device, watch)
    candidates = [
        (chosen, point, run.train(point, train, valid, phase="search", trial=chosen))
        for chosen, point in search_points(settings)
    ]
    chosen, point, trained = max(candidates, key=lambda candidate: candidate[2].score)
    metric = settings.selection.metric
    best_epoch, best_value = trained.epoch, trained.score.value(metric)
    scores = [line[f"valid_{metric}"] for line in trained.history]
    told = cautions.of_features(run.prepared(point, train), train, point)
    told += cautions.of_search(settings, chosen) + cautions.of_epochs(point, best_epoch, scores)
    tables = [run.tables("valid", trained, point, train, fold.valid, run.prior(point, fold.train))]
    history: list[dict[str, Any]] = [{"phase": "search", **line} for line in trained.history]
    fitted, known_rows = train, fold.train
    if settings.selection.refit:
        # Nothing is left to validate on: the refit repeats the rates, and so the number, of the epochs that were best.
        rates = [line["learning_rate"] for line in trained.history[: trained.epoch]]
        fitted, known_rows = np.union1d(train, valid), np.union1d(fold.train, fold.valid)
        trained = run.train(point, fitted, None, rates, phase="refit")
        history += [{"phase": "refit", **line} for line in trained.history]
    known = run.prior(point, known_rows)
    tables.append(run.tables("test", trained, point, fitted, fold.test, known))
    record = FoldRecord(
        coverage=coverage(dataset, settings, fold.test),
        prior=known,
        selection=SelectionRecord(
            metric=metric,
            best_epoch=best_epoch,
            chosen=chosen,
            refit=settings.selection.refit,
            value=best_value,
            tried=tuple(TriedRecord(settings=c, epoch=t.epoch, value=t.score.value(metric)) for c, _, t in candidates),
        ),
        parameters=sum(p.numel() for p in trained.head.parameters()),
        warnings=tuple(told),
    )
    kept = pa.concat_tables([k for _, k in tables]) if settings.keep else None
    predictions = pa.concat_tables([p for p, _ in tables])
    return FoldResult(record, predictions, kept, stored_weights(trained.head), run.fitted(point, fitted), history)


def stored_weights(head: Head) -> dict[str, torch.Tensor]:
    """Return the weights of a head as they are stored."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}


@dataclass(frozen=True)
class _PreparedKey:
    """Everything that decides the prepared inputs of a point."""

    inputs: tuple[tuple[str, tuple[str, ...], FeatureSettings, FixedPooling | None], ...]
    segments: Segments | None
    rows: tuple[int, ...]


@dataclass(frozen=True)
class _BatchesKey:
    """Everything further that decides the batches, of what a search may vary."""

    loss: str
    training: Training
    augment: Augmentation
    targets_scale: str | None
    bounds: tuple[float, float] | None


class FoldRun:
    """The points of a search in one fold, which share features fitted on the same rows under the same settings."""

    def __init__(self, dataset: Dataset, streams: JoinedStreams, seed: int, device: torch.device, watch: Watch) -> None:
        self.dataset = dataset
        self.streams = streams
        self.seed = seed
        self.device = device
        self.watch = watch
        self._prepared: tuple[_PreparedKey, Prepared] | None = None
        self._batches: tuple[_BatchesKey, Batches] | None = None

    def train(
        self, point: Settings, rows: Rows, valid: Rows | None, rates: list[float] | None = None, **told: Any
    ) -> Trained:
        """Train one head; its score comes from `valid`. `told` stands in every line that is watched."""
        prepared, batches = self.prepared(point, rows), self.batches(point, rows)
        loss, watch = self._loss(point, rows), adding(self.watch, **told)
        with seeded(self.seed, self.device):
            outputs = len(self.dataset.classes) or len(point.targets)
            shape = Shape(batches.dims, outputs, point.per_frame, len(self.dataset.auxiliary))
            head = build_head(point.head, shape, learned(prepared, point)).to(self.device)
            if point.targets_scale == "none" and batches.targets.fitted is not None:
                head.start_at(torch.from_numpy(batches.targets.fitted.mean))
            if point.keep:  # told before training, not after it
                check_kept(predict(head, batches, rows[:1]), point)
            validate: Callable[[Head], Any] | None = None
            if valid is not None:
                validate = partial(validation_score, batches=batches, loss=loss, rows=valid)
            if point.training.closed_form:
                return fit_closed_form(head, batches, rows, self.dataset, point, loss, validate, watch)
            return train_head(head, batches, rows, point, loss, self.seed, validate, rates, watch)

    def tables(
        self, part: str, trained: Trained, point: Settings, fitted: Rows, rows: Rows, known: dict[str, float]
    ) -> tuple[pa.Table, pa.Table]:
        """Return the rows that one part adds to predictions.parquet and to kept.parquet."""
        batches = self.batches(point, fitted)
        predicted: Predicted = predict(trained.head, batches, rows[self.dataset.present[rows]])
        table = prediction_table(part, predicted, batches.targets.stamped, self.dataset, point, rows, known)
        return table, kept_table(part, predicted, self.dataset, point, rows) if point.keep else pa.table({})

    def fitted(self, point: Settings, rows: Rows) -> dict[str, Any]:
        """Return everything fitted as transforms.safetensors stores it."""
        scale = self.batches(point, rows).targets.scale
        prepared = self.prepared(point, rows)
        padding = prepared.padding() if point.masking == "none" else {}
        return {**prepared.tensors(), **padding, **({} if scale is None else scale.tensors())}

    def prior(self, point: Settings, rows: Rows) -> dict[str, float]:
        """Return what is known of the targets without features."""
        return prior(self.dataset, point, rows)

    def prepared(self, point: Settings, rows: Rows) -> Prepared:
        """Return the features with everything fitted on the rows."""
        inputs = tuple(
            (role, names, point.features.of(role), point.head.fixed_pooling(role, point.per_frame))
            for role, names in point.streams.items()
        )
        key = _PreparedKey(inputs, point.head.segments(), tuple(rows.tolist()))
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = self._batches = None  # frees the old ones before the new ones are made
            self._prepared = (key, prepare(self.dataset, point, rows, self.streams))
        return self._prepared[1]

    def batches(self, point: Settings, rows: Rows) -> Batches:
        """Return batches of those features."""
        prepared = self.prepared(point, rows)
        key = _BatchesKey(point.loss.kind, point.training, point.augment, point.targets_scale, point.head.bounds())
        if self._batches is None or self._batches[0] != key:
            self._batches = (key, Batches(self.dataset, point, prepared, self.device))
        return self._batches[1]

    def _loss(self, point: Settings, rows: Rows) -> Loss:
        if point.task != "classification":
            return make_loss(point.loss, None)
        labels = np.array([self.dataset.examples[row].reference for row in rows])
        return make_loss(point.loss, torch.from_numpy(np.bincount(labels, minlength=len(self.dataset.classes))))


def learned(prepared: Prepared, settings: Settings) -> dict[str, Learned]:
    """Return the parameters to be learned at each input: weights of layers, vectors of words."""
    return {
        role: Learned(
            one.layers,
            None if one.vocabulary is None else torch.from_numpy(one.vocabulary.vectors),
            settings.features.of(role).trainable_words == "unk",
        )
        for role, one in prepared.inputs.items()
    }
