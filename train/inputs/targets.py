"""The targets of training: the examples' labels as arrays, in the unit and at the times that a head learns them in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...cache import EmocacheError
from ..config.settings import NUMBERS, Settings
from ..data.dataset import Dataset
from ..data.example import Example, Stamps, is_near, on_grid, on_stamps, stamps_of, usual_distance
from ..heads import HeadSettings
from .prepared import Prepared

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TargetScale:
    """Mean and standard deviation (divisor n; 1 where a target is constant) of K targets, (K,) float64 each."""

    mean: Floats
    std: Floats

    def standardised(self, values: npt.NDArray[np.floating]) -> Floats:
        """Return (..., K) values of the corpus with mean 0 and standard deviation 1 over the training part."""
        return np.asarray((values - self.mean) / self.std)

    def native(self, outputs: npt.NDArray[np.floating]) -> Floats:
        """Return (..., K) outputs of a head in the unit of the corpus."""
        return np.asarray(outputs * self.std + self.mean)

    def tensors(self) -> dict[str, Floats]:
        """Return the scale as transforms.safetensors stores it."""
        return {"targets.mean": self.mean, "targets.std": self.std}


def fit_scale(values: Floats) -> TargetScale:
    """Fit the scale of (N, K) values; 0 and 1 where there are none."""
    if not len(values):
        return TargetScale(np.zeros(values.shape[1]), np.ones(values.shape[1]))
    # The mean of equal values may be rounded away from them; what is left must be zero, and not be blown up.
    mean = np.clip(values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    std = values.std(axis=0)
    return TargetScale(mean, np.where(std > 1e-12 * np.abs(mean), std, 1.0))


def check_bounds(values: Floats, targets: Sequence[str], head: HeadSettings) -> None:
    """Refuse (N, K) values of the training part that the head cannot give, with an EmocacheError."""
    bounds = head.bounds()
    if bounds is None or not len(values):
        return
    for target, column in zip(targets, values.T, strict=True):
        low, high = float(column.min()), float(column.max())
        if low < bounds[0] - 1e-6 or high > bounds[1] + 1e-6:
            raise EmocacheError(f"target {target!r} goes from {low:g} to {high:g} in the training part, and head"
                                f" {head.kind!r} gives values from {bounds[0]:g} to {bounds[1]:g} only; choose a"
                                " head.output without bounds, or bring the labels to that range")  # fmt: skip


@dataclass(frozen=True, eq=False)
class StampedLabels:
    """Labels with times of their own, and the frames of a head's first input, on which it is trained and scored.

    Attributes:
        examples: U utterances; in frame-wise tasks each label is `Stamps`.
        offsets: (U + 1,) int64, the frames of each utterance.
        centres: (N,) float64, the middle of each frame in seconds.
        there: (N,) bool, true where any stream has something at the frame.
        delay: seconds that the labels lag behind the frames.
    """

    examples: Sequence[Example]
    offsets: npt.NDArray[np.int64]
    centres: npt.NDArray[np.float64]
    there: npt.NDArray[np.bool_]
    delay: float

    def frames_of(self, row: int | np.integer[Any]) -> slice:
        """Return the place of one utterance's frames among all."""
        return slice(self.offsets[row], self.offsets[row + 1])

    def values_of(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return the (S, K) native labels of some utterances, one after the other."""
        return np.concatenate([stamps_of(self.examples[row]).values for row in rows])

    def outputs_at(self, outputs: Sequence[npt.NDArray[Any]], rows: npt.NDArray[np.int64]) -> list[Floats]:
        """Bring frame-wise outputs of `rows` to their native label stamps, each (S, K)."""
        return [
            on_stamps(output, self.centres[self.frames_of(row)], stamps_of(self.examples[row]), self.delay)
            for output, row in zip(outputs, rows, strict=True)
        ]

    def present_at(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.bool_]]:
        """Tell, (S,) for each of `rows`, whether the input has something within one frame of each label stamp."""
        found = []
        for row in rows:
            own = self.frames_of(row)
            centres, times = self.centres[own], stamps_of(self.examples[row]).times
            found.append(is_near(times - self.delay, centres[self.there[own]], usual_distance(centres)))
        return found

    def on_frames(self, targets: int, proper: bool) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Give every frame its label.

        Args:
            targets: their number, K.
            proper: frames at which no stream has anything do not count.

        Returns:
            (N, K) values, zero where there is no label near, and (N, K) bool, what counts of them.

        Raises:
            EmocacheError: frames without a place in time, or out of its order.
        """
        values = np.zeros((self.offsets[-1], targets))
        valid = np.zeros(values.shape, bool)
        for row, example in enumerate(self.examples):
            own = self.frames_of(row)
            _check_times(example.key, self.centres[own])
            if isinstance(example.reference, Stamps) and own.stop > own.start:
                values[own], near = on_grid(example.reference, self.centres[own], self.delay)
                valid[own] = near[:, None]
        if proper:
            valid &= self.there[:, None]
        return values, valid


def _check_times(key: str, centres: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(centres).all():
        raise EmocacheError(f"{key}: frames without a place in time, such as special tokens, have no"
                            " label in time; set features.words, or train on another stream")  # fmt: skip
    if (np.diff(centres) < 0).any():
        raise EmocacheError(f"{key}: frames are not in the order of time, so that no label in time can"
                            " be given to them; store them in order, or set features.grid_hz")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Targets:
    """Everything that a head is trained towards: one row an utterance, or in frame-wise tasks one a frame.

    Attributes:
        values: (U,) int64 classes, or (U, K) or (N, K) float32 numbers in the unit that the head learns.
        mask: bool, of the shape of `values`: what counts.
        auxiliary: (U,) int64, the second target, -1 where unknown; None without one.
        stamped: labels with their own times, which frame-wise tasks are scored on.
        fitted: scale of numbers over what counts of the training part; None for other targets.
        scale: the same where targets are standardised, else None.
    """

    values: torch.Tensor
    mask: torch.Tensor
    auxiliary: torch.Tensor | None
    stamped: StampedLabels
    fitted: TargetScale | None
    scale: TargetScale | None


def make_targets(dataset: Dataset, settings: Settings, prepared: Prepared) -> Targets:
    """Make the targets of all utterances, with a scale that is fitted on the training part.

    Args:
        dataset: examples and their labels.
        settings: task, masking, label delay, and the scale of targets.
        prepared: the inputs, the first of which gives frame-wise labels their frames, and the training part.

    Returns:
        One row an utterance, or in frame-wise tasks one a frame of the first input.

    Raises:
        EmocacheError: frames without a place in time; or numbers that a bounded head cannot give.
    """
    first = next(iter(prepared.inputs.values())).features
    there = np.ones(len(first.times), bool) if first.valid is None else np.any(first.valid, axis=1)
    delay = settings.label_delay_s
    stamped = StampedLabels(dataset.examples, first.offsets, first.times.mean(axis=1), there, delay)
    if settings.per_frame:
        values, mask = stamped.on_frames(len(settings.targets), settings.masking == "proper")
    else:
        values = np.array([example.reference for example in dataset.examples])
        mask = np.ones(values.shape, bool)
    fitted = None
    if settings.task in NUMBERS:
        seen = prepared.rows[dataset.present[prepared.rows]]
        if settings.per_frame:
            seen = frame_rows(first.offsets, seen)
        learned = values[seen][mask[seen].all(axis=1)]  # (N, K), of the training part
        check_bounds(learned, settings.targets, settings.head)
        fitted = fit_scale(learned)
    scale = fitted if settings.targets_scale == "train" else None
    if scale is not None:
        # What is not known is taken for the mean: the zero of the unit may be far away.
        values = np.where(mask, scale.standardised(values), 0.0)
    auxiliary = None
    if settings.auxiliary:
        auxiliary = torch.tensor([-1 if one.auxiliary is None else one.auxiliary for one in dataset.examples])
    # The scale is computed in float64; heads learn in float32.
    numbers = torch.from_numpy(values if values.dtype == np.int64 else values.astype(np.float32))
    return Targets(numbers, torch.from_numpy(mask), auxiliary, stamped, fitted, scale)


def without_targets(settings: Settings, prepared: Prepared, scale: TargetScale | None) -> Targets:
    """Make targets of utterances whose labels nobody knows: nothing of them counts.

    Args:
        settings: task and targets.
        prepared: the inputs.
        scale: that a head's outputs are in; None where they are in the unit of the corpus.

    Returns:
        Zeros.
    """
    first = next(iter(prepared.inputs.values())).features
    rows = first.offsets[-1] if settings.per_frame else len(prepared.rows)
    there = np.ones(len(first.times), bool) if first.valid is None else np.any(first.valid, axis=1)
    values = torch.zeros((rows, len(settings.targets)))
    stamped = StampedLabels((), first.offsets, first.times.mean(axis=1), there, settings.label_delay_s)
    return Targets(values, torch.zeros(values.shape, dtype=torch.bool), None, stamped, None, scale)


def frame_rows(offsets: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the numbers of all the frames of some utterances, one utterance after the other."""
    return np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in rows])
