"""Masked batches, gathered from frames that lie in memory once."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...cache.device import room_on
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
    """The frames of one input, gathered by row. They stay in their storage dtype, on the device if they fit there.

    What says where they are is on the device in any case: a batch costs one small copy, of its rows.
    """

    def __init__(self, one: PreparedInput, device: torch.device, unmasked: bool, padded_to: int) -> None:
        self.device = device
        features = one.features
        self._frames = _placed(torch.from_numpy(features.frames), device)
        self._on_host = self._frames.device.type != device.type
        self.offsets, self.lengths = features.offsets, features.lengths
        self._first = torch.from_numpy(features.offsets[:-1]).to(device)
        self._count = torch.from_numpy(features.lengths).to(device)
        there = features.valid
        self._valid = None if there is None else torch.from_numpy(there).to(self._frames.device)
        self._widths = torch.tensor(features.widths).to(self._frames.device)
        self._pieces = one.pieces
        self._words = None if one.vocabulary is None else torch.from_numpy(one.vocabulary.words).to(device)
        self._pooled = one.pooled
        self._padded_to = max(int(self.lengths.max()), padded_to) if unmasked else 0
        self._normalised = one.normaliser is not None
        if one.normaliser is not None:
            self._group = torch.from_numpy(one.normaliser.group_of).to(device)
            self._mean = torch.from_numpy(one.normaliser.mean).to(device)
            self._std = torch.from_numpy(one.normaliser.std).to(device)

    def gather(
        self, rows: npt.NDArray[np.int64], at: torch.Tensor, extra_padding: int
    ) -> tuple[Frames, torch.Tensor, torch.Tensor]:
        """Gather the input of some rows.

        Args:
            rows: (B,) utterances.
            at: the same, on the device.
            extra_padding: see `Batches.gather`.

        Returns:
            The input; the place of each of its frames among all, (B, T) int64, 0 for padding; and which are frames of
            its own, (B, T) bool.
        """
        longest = max(int(self.lengths[rows].max()), self._padded_to, 1) + (0 if self._pooled else extra_padding)
        steps = torch.arange(longest, device=self.device)
        mask = steps < self._count.index_select(0, at).unsqueeze(1)
        where = torch.where(mask, self._first.index_select(0, at).unsqueeze(1) + steps, 0)
        # All rows are taken at once from the flat frames; padding reads frame 0 and is zeroed below.
        flat = self._flat_on_host(rows, longest) if self._on_host else where.flatten()
        values = send(self._frames.index_select(0, flat), self.device).float()
        values = values.view(*where.shape, values.shape[-1])
        if self._normalised:
            group = self._group.index_select(0, at)
            values = (values - self._mean[group].unsqueeze(1)).div_(self._std[group].unsqueeze(1))
        valid = None
        if self._valid is not None:
            there = self._valid.index_select(0, flat).repeat_interleave(
                self._widths, dim=1, output_size=values.shape[-1]
            )
            valid = send(there, self.device).view(values.shape) & mask.unsqueeze(-1)
            values.masked_fill_(~valid, 0.0)
        # After normalisation, or padding would be minus the mean instead of zero.
        values.masked_fill_(~mask.unsqueeze(-1), 0.0)
        words = None if self._words is None else torch.where(mask, self._words[where], -1)
        counted = torch.ones_like(mask) if self._padded_to else mask
        return Frames(values, counted, self._segments(rows), words, valid), where, mask

    def _flat_on_host(self, rows: npt.NDArray[np.int64], longest: int) -> torch.Tensor:
        """The places of the frames again, for frames that the device has no room for."""
        steps = np.arange(longest)
        inside = steps < self.lengths[rows][:, None]
        return torch.from_numpy(np.where(inside, self.offsets[rows][:, None] + steps, 0).ravel())

    def _segments(self, rows: npt.NDArray[np.int64]) -> torch.Tensor | None:
        if self._pieces is None:
            return None
        own = [self._pieces.bounds[self._pieces.offsets[row] : self._pieces.offsets[row + 1]] for row in rows]
        # Utterances have different numbers of pieces; those that are padded are empty, from 0 to 0.
        held = torch.zeros(len(rows), max(1, *(len(bounds) for bounds in own)), 2, dtype=torch.int64)
        for at, bounds in enumerate(own):
            held[at, : len(bounds)] = torch.from_numpy(bounds)
        return send(held, self.device)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to a device without waiting for it; what is there already stays."""
    # From memory that is not pinned the copy would wait for all that the device still has to do.
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


def _placed(frames: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Put frames on the device if they take no more than half of its room: the rest is for the head."""
    if device.type == "cuda" and 2 * frames.nbytes < room_on(device):
        with contextlib.suppress(torch.OutOfMemoryError):  # another process took it meanwhile
            return frames.to(device)
    return frames


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
        self._values, self._mask = self.targets.values.to(device), self.targets.mask.to(device)
        self._second = None if self.targets.auxiliary is None else self.targets.auxiliary.to(device)

    def gather(self, rows: npt.NDArray[np.int64], extra_padding: int = 0) -> Batch:
        """Gather one batch.

        Args:
            rows: (B,) utterances with features.
            extra_padding: further padded frames; changes no result, which tests hold.

        Returns:
            Inputs and targets on the device. Without masks (`masking = "none"`) padding counts as frames.
        """
        at = send(torch.from_numpy(rows), self.device)
        gathered = [one.gather(rows, at, extra_padding) for one in self._inputs]
        inputs = tuple(frames for frames, _, _ in gathered)
        _, where, real = gathered[0]
        chosen = where if self.settings.per_frame else at
        targets, target_mask = self._values[chosen], self._mask[chosen]
        if self.settings.per_frame:
            # Without masks padding counts, with the value zero.
            real = real.unsqueeze(-1)
            targets = targets.masked_fill(~real, 0.0)
            target_mask = target_mask & real if self.settings.masking == "proper" else target_mask | ~real
        auxiliary = None if self._second is None else self._second[at]
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
