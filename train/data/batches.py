"""Masked batches, gathered from frames that lie in memory once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...cache import EmocacheError
from ..config.settings import NUMBERS, Settings
from ..heads.head import Frames
from .augmentation import augment
from .batch import Batch
from .dataset import Dataset
from .labels import Stamps, on_grid
from .sampling import draw
from .target_scale import TargetScale, check_bounds, fit_scale
from .transforms import Prepared, PreparedInput

_WINDOW = 50  # batches within which utterances are sorted by length
_MIN_CCC_CLIPS = 8  # fewer in a step give no estimate of a pooled CCC


class _Gatherer:
    """Gathers one input. Frames stay in their storage dtype, on the device if they fit there."""

    def __init__(self, one: PreparedInput, device: torch.device, unmasked: bool) -> None:
        self.device = device
        features = one.features
        frames = torch.from_numpy(features.frames)
        if device.type == "cuda" and 2 * frames.nbytes < torch.cuda.mem_get_info(device)[0]:
            frames = frames.to(device)
        self._frames = frames
        self.offsets, self.lengths = features.offsets, features.lengths
        self._valid = None if features.valid is None else torch.from_numpy(features.valid)
        self._widths = torch.tensor(features.widths)
        self._pieces = one.pieces
        self._words = None if one.vocabulary is None else torch.from_numpy(one.vocabulary.words)
        self._normaliser = one.normaliser
        self._pooled = one.pooled
        self._padded_to = int(self.lengths.max()) if unmasked else 0
        if one.normaliser is not None:
            self._mean = torch.from_numpy(one.normaliser.mean).to(device)
            self._std = torch.from_numpy(one.normaliser.std).to(device)

    def gather(self, rows: npt.NDArray[np.int64], extra_padding: int) -> tuple[Frames, torch.Tensor]:
        """The input of some rows, and where each of its frames lies in `frames`: (B, T) int64, 0 for padding."""
        lengths = torch.from_numpy(self.lengths[rows])
        longest = max(int(lengths.max()), self._padded_to, 1) + (0 if self._pooled else extra_padding)
        steps = torch.arange(longest)
        mask = steps < lengths.unsqueeze(1)
        where = torch.where(mask, torch.from_numpy(self.offsets[rows]).unsqueeze(1) + steps, 0)
        flat = where.flatten()
        values = self._frames.index_select(0, flat.to(self._frames.device)).to(self.device).float()
        values = values.view(*where.shape, values.shape[-1])
        on_device = mask.to(self.device)
        if self._normaliser is not None:
            group = torch.from_numpy(self._normaliser.group_of[rows]).to(self.device)
            values = (values - self._mean[group].unsqueeze(1)).div_(self._std[group].unsqueeze(1))
        valid = None
        if self._valid is not None:
            there = self._valid.index_select(0, flat).repeat_interleave(self._widths, dim=1)
            valid = there.view(values.shape).to(self.device) & on_device.unsqueeze(-1)
            values.masked_fill_(~valid, 0.0)
        values.masked_fill_(~on_device.unsqueeze(-1), 0.0)
        words = None
        if self._words is not None:
            words = torch.where(mask, self._words[where], -1).to(self.device)
        if self._padded_to:
            on_device = torch.ones_like(on_device)
        return Frames(values, on_device, self._segments(rows), words, valid), where

    def _segments(self, rows: npt.NDArray[np.int64]) -> torch.Tensor | None:
        if self._pieces is None:
            return None
        own = [self._pieces.bounds[self._pieces.offsets[row] : self._pieces.offsets[row + 1]] for row in rows]
        held = torch.zeros(len(rows), max(1, *(len(bounds) for bounds in own)), 2, dtype=torch.int64)
        for at, bounds in enumerate(own):
            held[at, : len(bounds)] = torch.from_numpy(bounds)
        return held.to(self.device)


class Batches:
    """Gathers batches of any rows.

    Args:
        dataset: examples and their references.
        settings: task, masking, augmentation, sampling, label delay, and the scale of targets.
        prepared: the inputs, and the training part.
        device: where batches go.

    Attributes:
        fitted: mean and standard deviation of numbers over what counts of the training part; None for other targets.
        scale: the same where targets are standardised, else None.

    Raises:
        EmocacheError: frames without a place in time; or numbers that a bounded head cannot give.
    """

    def __init__(self, dataset: Dataset, settings: Settings, prepared: Prepared, device: torch.device) -> None:
        self.device = device
        self.settings = settings
        self.dims = {role: one.dim for role, one in prepared.inputs.items()}
        unmasked = settings.masking == "none"
        self._inputs = [_Gatherer(one, device, unmasked) for one in prepared.inputs.values()]
        first = next(iter(prepared.inputs.values())).features
        self.offsets, self.lengths = first.offsets, first.lengths
        self._longest = np.max([one.lengths for one in self._inputs], axis=0)
        self._centres = first.times.mean(axis=1)
        self._there = np.ones(len(self._centres), bool) if first.valid is None else np.any(first.valid, axis=1)
        self._per_frame = settings.per_frame
        targets, mask = self._make_targets(dataset, settings)
        self.fitted: TargetScale | None = None
        if settings.task in NUMBERS:
            seen = self._of(prepared.rows[dataset.present[prepared.rows]])
            values = targets[seen][mask[seen].all(axis=1)]  # (N, K), of the training part
            check_bounds(values, settings.targets, settings.head)
            self.fitted = fit_scale(values)
        self.scale = self.fitted if settings.targets_scale == "train" else None
        if self.scale is not None:
            # What is not known is taken for the mean: the zero of the unit may be far away.
            targets = np.where(mask, self.scale.standardised(targets), 0.0)
        self._targets = torch.from_numpy(targets if targets.dtype == np.int64 else targets.astype(np.float32))
        self._target_mask = torch.from_numpy(mask)
        self._classes = self._targets.numpy() if settings.task == "classification" else None
        self._auxiliary = None
        if settings.auxiliary:
            known = [-1 if example.auxiliary is None else example.auxiliary for example in dataset.examples]
            self._auxiliary = torch.tensor(known)

    def gather(self, rows: npt.NDArray[np.int64], extra_padding: int = 0) -> Batch:
        """One batch.

        Args:
            rows: (B,) utterances with features.
            extra_padding: further padded frames; changes no result, which tests hold.
        """
        gathered = [one.gather(rows, extra_padding) for one in self._inputs]
        inputs = tuple(frames for frames, _ in gathered)
        chosen = gathered[0][1] if self._per_frame else torch.from_numpy(rows)
        targets = self._targets[chosen].to(self.device)
        target_mask = self._target_mask[chosen].to(self.device)
        if self._per_frame:
            # Without masks padding counts, with the value zero.
            real = torch.arange(targets.shape[1]) < torch.from_numpy(self.lengths[rows]).unsqueeze(1)
            real = real.to(self.device).unsqueeze(-1)
            targets = targets.masked_fill(~real, 0.0)
            target_mask = target_mask & real if self.settings.masking == "proper" else target_mask | ~real
        auxiliary = None if self._auxiliary is None else self._auxiliary[torch.from_numpy(rows)].to(self.device)
        return Batch(inputs, targets, target_mask, rows, auxiliary)

    def epoch(self, rows: npt.NDArray[np.int64], size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Shuffled batches: all rows once, or those that `training.sampling` draws; augmented as `[augment]` says.

        Similar lengths go together: shuffle, sort within windows of 50 batches, shuffle the batches. Not so for a
        loss that is pooled over the step (CCC), which a batch of equal lengths would bias: those batches are drawn
        at random and hold at least 8 clips.

        Args:
            rows: the training part. size: utterances a batch. generator: decides everything that is random.
        """
        order = draw(rows, self._classes, self.settings.training, generator)
        for chosen in self._cuts(order, size, generator):
            batch = self.gather(chosen)
            yield augment(batch, self.settings.augment, generator) if self.settings.augment.active else batch

    def _cuts(
        self, order: npt.NDArray[np.int64], size: int, generator: np.random.Generator
    ) -> Iterator[npt.NDArray[np.int64]]:
        if self.settings.loss.entry.pooled:
            cuts = list(range(0, len(order), size))
            if len(cuts) > 1 and len(order) - cuts[-1] < _MIN_CCC_CLIPS:
                cuts.pop()  # the last clips join the batch before
            for start, end in zip(cuts, [*cuts[1:], len(order)], strict=True):
                yield order[start:end]
            return
        window = _WINDOW * size
        order = np.concatenate([_by_length(order[s : s + window], self._longest) for s in range(0, len(order), window)])
        for start in size * generator.permutation(-(-len(order) // size)):
            yield order[start : start + size]

    def in_order(self, rows: npt.NDArray[np.int64], size: int) -> Iterator[Batch]:
        """Batches for evaluation, sorted by length, longest first."""
        order = _by_length(rows, self._longest)[::-1]
        for start in range(0, len(order), size):
            yield self.gather(order[start : start + size].copy())

    def targets(self, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Targets, what counts of them, and the second target, on the CPU: one row an utterance, or one a frame."""
        if not self._per_frame:
            second = None if self._auxiliary is None else self._auxiliary[torch.from_numpy(rows)]
            return self._targets[rows], self._target_mask[rows], second
        own = self._of(rows)
        return self._targets[own], self._target_mask[own], None

    def native(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What a head learns, or gave, in the unit of the corpus."""
        return values if self.scale is None else self.scale.native(values)

    def _of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the targets of some utterances are: one each, or one for each of their frames."""
        if not self._per_frame:
            return rows
        return np.concatenate([np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows])

    def centres_of(self, row: int) -> npt.NDArray[np.float64]:
        """(T,) centres of one utterance's frames in seconds."""
        return np.asarray(self._centres[self.offsets[row] : self.offsets[row + 1]])

    def there_of(self, row: int) -> npt.NDArray[np.bool_]:
        """(T,) whether any stream has something at a frame of one utterance."""
        return np.asarray(self._there[self.offsets[row] : self.offsets[row + 1]])

    def _make_targets(self, dataset: Dataset, settings: Settings) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Per utterance, or in frame-wise tasks per frame of the first input, in the order of its frames; what counts.

        A frame at which no stream has anything counts only where nothing is masked.
        """
        if not self._per_frame:
            targets = np.array([example.reference for example in dataset.examples])
            return targets, np.ones(targets.shape, bool)
        values = np.zeros((self.offsets[-1], len(settings.targets)))
        valid = np.zeros(values.shape, bool)
        for row, example in enumerate(dataset.examples):
            own = slice(self.offsets[row], self.offsets[row + 1])
            if not np.isfinite(self._centres[own]).all():
                raise EmocacheError(f"{example.key}: frames without a place in time, such as special tokens, have no"
                                    " label in time; set features.words, or train on another stream")  # fmt: skip
            if (np.diff(self._centres[own]) < 0).any():
                raise EmocacheError(f"{example.key}: frames are not in the order of time, so that no label in time can"
                                    " be given to them; store them in order, or set features.grid_hz")  # fmt: skip
            if isinstance(example.reference, Stamps) and self.lengths[row]:
                values[own], near = on_grid(example.reference, self.centres_of(row), settings.label_delay_s)
                valid[own] = near[:, None]
        if settings.masking == "proper":
            valid &= self._there[:, None]
        return values, valid


def _by_length(rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[np.argsort(lengths[rows], kind="stable")]
