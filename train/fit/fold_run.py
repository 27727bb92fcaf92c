"""The settings of a search in one fold with one seed: each trained, validated and predicted with."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from ..config.sections import Augmentation, FeatureSettings, Training
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.enrolment import Enrolment
from ..heads import Head, Learned, Shape, build_head
from ..heads.head import FixedPooling, Segments
from ..inputs.batches import Batches
from ..inputs.joining import JoinedStreams
from ..inputs.prepared import Prepared
from ..inputs.transforms import prepare
from ..protocols.folds import Fold, Rows
from ..records.run_record import TriedRecord
from .closed_form import fit_closed_form
from .loop import Trained, Watch, adding, seeded, train_head
from .losses import Loss, make_loss
from .predict import Compared, Predicted, compared, pooled, predict, score_of, validation_score
from .prediction_table import check_kept, kept_table, prediction_table, prior
from .selection import Score


@dataclass(frozen=True, eq=False)
class Round:
    """One training of a setting, and what its head gives for the part that validated it.

    Attributes:
        fold: the rows with features that trained and validated.
        trained: the head. compared: what it gives for the rows that validated.
    """

    fold: Fold
    trained: Trained
    compared: Compared


@dataclass(frozen=True, eq=False)
class Candidate:
    """One setting of a search, trained once, or once for each part that validates in turn.

    Attributes:
        chosen: the values of what is searched. point: the settings with these.
        rounds: its trainings.
    """

    chosen: dict[str, Any]
    point: Settings
    rounds: tuple[Round, ...]

    @cached_property
    def compared(self) -> Compared:
        """All that validated, as one part: an utterance weighs the same in any round."""
        return pooled([one.compared for one in self.rounds])

    @cached_property
    def score(self) -> Score:
        """The validation score: of what all rounds gave, together."""
        return self.usual.score if len(self.rounds) == 1 else score_of(self.point, self.compared)

    @property
    def usual(self) -> Trained:
        """The training whose best epoch is the (lower) median of all rounds, of equal ones the first."""
        epoch = statistics.median_low(one.trained.epoch for one in self.rounds)
        return next(one.trained for one in self.rounds if one.trained.epoch == epoch)

    @property
    def rates(self) -> list[float]:
        """The learning rates up to that epoch, one an epoch: those that a training without validation repeats."""
        return [line["learning_rate"] for line in self.usual.history[: self.usual.epoch]]

    def told(self, metric: str) -> TriedRecord:
        """Return what run.json says of it."""
        return TriedRecord(settings=self.chosen, epoch=self.usual.epoch, value=self.score.value(metric))


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

    def __init__(
        self,
        dataset: Dataset,
        streams: JoinedStreams,
        seed: int,
        device: torch.device,
        watch: Watch,
        enrolment: Enrolment | None = None,
    ) -> None:
        self.dataset = dataset
        self.streams = streams
        self.seed = seed
        self.device = device
        self.watch = watch
        self.enrolment = enrolment
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
                # One thread of NumPy's, so that the numbers do not depend on how many there are; theirs would also wait
                # in the way of torch's.
                with threadpool_limits(1, "blas"):
                    return fit_closed_form(head, batches, rows, self.dataset, point, loss, validate, watch)
            return train_head(head, batches, rows, point, loss, self.seed, validate, rates, watch)

    def validated(self, chosen: dict[str, Any], point: Settings, fold: Fold, **told: Any) -> Round:
        """Train one head on a fold's rows with features, and compare what it gives for those that validate it."""
        valid = self.scored(fold.valid)
        trained = self.train(point, fold.train, valid, phase="search", trial=chosen, **told)
        batches = self.batches(point, fold.train)
        predicted = predict(trained.head, batches, valid, self._loss(point, fold.train))
        return Round(fold, trained, compared(predicted, batches, valid))

    def scored(self, rows: Rows) -> Rows:
        """Return the rows of a part that does not train, without those that enrol its speakers."""
        return rows if self.enrolment is None else self.enrolment.scored(rows)

    def tables(
        self, part: str, trained: Trained, point: Settings, fitted: Rows, rows: Rows, known: dict[str, float]
    ) -> tuple[pa.Table, pa.Table]:
        """Return the rows that one part adds to predictions.parquet and to kept.parquet."""
        batches, rows = self.batches(point, fitted), self.scored(rows)
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
