"""Masked batches, gathered from frames that lie in memory once."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..config.sections import Training
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..heads.head import Frames
from .augmentation import augment
from .batch import Batch
from .prepared import Prepared, PreparedInput
from .targets import Targets, frame_rows, make_targets

_WINDOW = 50  # batches within which utterances are sorted by length
_MIN_CCC_CLIPS = 8  # fewer in a step give no estimate of a pooled CCC


class _Gatherer:
    """The frames of one input, gathered by row. They stay in their storage dtype, on the device if they fit there."""

    def __init__(self, one: PreparedInput, device: torch.device, unmasked: bool, padded_to: int) -> None:
        self.device = device
        features = one.features
        frames = torch.from_numpy(features.frames)
        # At most half of the free memory: the rest is for the head and its gradients.
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
        self._padded_to = max(int(self.lengths.max()), padded_to) if unmasked else 0
        if one.normaliser is not None:
            self._mean = torch.from_numpy(one.normaliser.mean).to(device)
            self._std = torch.from_numpy(one.normaliser.std).to(device)

    def gather(self, rows: npt.NDArray[np.int64], extra_padding: int) -> tuple[Frames, torch.Tensor]:
        """Gather the input of some rows, and the place of each of its frames among all: (B, T) int64, 0 for padding."""
        lengths = torch.from_numpy(self.lengths[rows])
        longest = max(int(lengths.max()), self._padded_to, 1) + (0 if self._pooled else extra_padding)
        steps = torch.arange(longest)
        mask = steps < lengths.unsqueeze(1)
        where = torch.where(mask, torch.from_numpy(self.offsets[rows]).unsqueeze(1) + steps, 0)
        # All rows are taken at once from the flat frames; padding reads frame 0 and is zeroed below.
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
        # After normalisation, or padding would be minus the mean instead of zero.
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
        # Utterances have different numbers of pieces; those that are padded are empty, from 0 to 0.
        held = torch.zeros(len(rows), max(1, *(len(bounds) for bounds in own)), 2, dtype=torch.int64)
        for at, bounds in enumerate(own):
            held[at, : len(bounds)] = torch.from_numpy(bounds)
        return held.to(self.device)


class Batches:
    """Masked batches of any rows of a dataset.

    Args:
        dataset: examples and their labels; needed here only, later steps ask `targets`.
        settings: task, masking, augmentation, sampling, label delay, and the scale of targets.
        prepared: the inputs, and the training part.
        device: where batches go.
        targets: of utterances without labels, see `targets.without_targets`; None: made of their labels.
        padded_to: {role: least number of frames}, where padding counts; none: those of the longest utterance.

    Attributes:
        dims: {role: D of its frames}.
        offsets: (U + 1,) int64, the frames of each utterance in the first input.
        lengths: (U,) int64, their number.
        targets: of all utterances, with the label stamps that frame-wise tasks are scored on.

    Raises:
        EmocacheError: frames without a place in time; or numbers that a bounded head cannot give.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: Settings,
        prepared: Prepared,
        device: torch.device,
        targets: Targets | None = None,
        padded_to: Mapping[str, int] | None = None,
    ) -> None:
        self.device = device
        self.settings = settings
        self.dims = {role: one.dim for role, one in prepared.inputs.items()}
        unmasked = settings.masking == "none"
        least = padded_to or {}
        self._inputs = [_Gatherer(one, device, unmasked, least.get(role, 0)) for role, one in prepared.inputs.items()]
        self.offsets, self.lengths = self._inputs[0].offsets, self._inputs[0].lengths
        self._longest = np.max([one.lengths for one in self._inputs], axis=0)
        self.targets = make_targets(dataset, settings, prepared) if targets is None else targets
        self._classes = self.targets.values.numpy() if settings.task == "classification" else None

    def gather(self, rows: npt.NDArray[np.int64], extra_padding: int = 0) -> Batch:
        """Gather one batch.

        Args:
            rows: (B,) utterances with features.
            extra_padding: further padded frames; changes no result, which tests hold.

        Returns:
            Inputs and targets on the device. Without masks (`masking = "none"`) padding counts as frames.
        """
        gathered = [one.gather(rows, extra_padding) for one in self._inputs]
        inputs = tuple(frames for frames, _ in gathered)
        chosen = gathered[0][1] if self.settings.per_frame else torch.from_numpy(rows)
        targets = self.targets.values[chosen].to(self.device)
        target_mask = self.targets.mask[chosen].to(self.device)
        if self.settings.per_frame:
            # Without masks padding counts, with the value zero.
            real = torch.arange(targets.shape[1]) < torch.from_numpy(self.lengths[rows]).unsqueeze(1)
            real = real.to(self.device).unsqueeze(-1)
            targets = targets.masked_fill(~real, 0.0)
            target_mask = target_mask & real if self.settings.masking == "proper" else target_mask | ~real
        second = self.targets.auxiliary
        auxiliary = None if second is None else second[torch.from_numpy(rows)].to(self.device)
        return Batch(inputs, targets, target_mask, rows, auxiliary)

    def epoch(self, rows: npt.NDArray[np.int64], size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield shuffled batches: all rows once, or those that `training.sampling` draws; augmented by `[augment]`.

        Similar lengths go together: shuffle, sort within windows of 50 batches, shuffle the batches. Not so for a
        loss that is pooled over the step (CCC), which a batch of equal lengths would bias: those batches are drawn
        at random and hold at least 8 clips.

        Args:
            rows: the training part.
            size: utterances a batch.
            generator: decides everything that is random.
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
        # Little padding, and yet random: lengths are sorted within windows only, and the batches are shuffled.
        window = _WINDOW * size
        order = np.concatenate([_by_length(order[s : s + window], self._longest) for s in range(0, len(order), window)])
        for start in size * generator.permutation(-(-len(order) // size)):
            yield order[start : start + size]

    def in_order(self, rows: npt.NDArray[np.int64], size: int) -> Iterator[Batch]:
        """Yield batches for evaluation, sorted by length, longest first."""
        order = _by_length(rows, self._longest)[::-1]
        for start in range(0, len(order), size):
            yield self.gather(order[start : start + size].copy())

    def targets_of(self, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return targets, what counts of them, and the second target, on the CPU: a row an utterance, or a frame."""
        held = self.targets
        if self.settings.per_frame:
            own = frame_rows(self.offsets, rows)
            return held.values[own], held.mask[own], None
        second = None if held.auxiliary is None else held.auxiliary[torch.from_numpy(rows)]
        return held.values[rows], held.mask[rows], second

    def native(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring what a head learns, or gave, to the unit of the corpus."""
        return values if self.targets.scale is None else self.targets.scale.native(values)


def _by_length(rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[np.argsort(lengths[rows], kind="stable")]


def draw(
    rows: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64] | None,
    training: Training,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Draw the rows of one epoch, shuffled.

    Args:
        rows: the training part.
        classes: (U,) class of every example, for "balanced"; None without classes.
        training: `sampling` and `epoch_share`.
        generator: decides.

    Returns:
        "shuffle": the rows, each at most once; "replacement": drawn with replacement; "balanced": so drawn that each
        class that the rows hold is as likely as any other.
    """
    count = max(1, round(training.epoch_share * len(rows)))
    if training.sampling == "shuffle":
        return rows[generator.permutation(len(rows))[:count]]
    if training.sampling == "replacement" or classes is None:
        return generator.choice(rows, count)
    own = classes[rows]
    # Each row weighs one over the size of its class, so that all classes together weigh the same.
    share = 1 / np.bincount(own)[own]
    return generator.choice(rows, count, p=share / share.sum())
