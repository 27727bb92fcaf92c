"""Masked batches, gathered from frames that are held once, in memory or on disk."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..config.sections import Training
from ..config.settings import Settings
from ..data.dataset import Dataset
from .augmentation import augment
from .batch import Batch
from .gathering import Gatherer, Read, read_ahead, send
from .prepared import Prepared
from .targets import Targets, frame_rows, make_targets

_WINDOW = 50  # batches within which utterances are sorted by length
_MIN_CCC_CLIPS = 8  # fewer in a step give no estimate of a pooled CCC


class Batches:
    """Masked batches of any rows of a dataset.

    Args:
        dataset: examples and their labels; needed here only, later steps ask `targets`. And the room for frames.
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
        self._memory = dataset.memory
        self.dims = {role: one.dim for role, one in prepared.inputs.items()}
        unmasked = settings.masking == "none"
        least = padded_to or {}
        self._inputs = [Gatherer(one, device, unmasked, least.get(role, 0)) for role, one in prepared.inputs.items()]
        self.offsets, self.lengths = self._inputs[0].offsets, self._inputs[0].lengths
        self._longest = np.max([one.lengths for one in self._inputs], axis=0)
        self.targets = make_targets(dataset, settings, prepared) if targets is None else targets
        self._classes = self.targets.values.numpy() if settings.task == "classification" else None
        self._values, self._mask = self.targets.values.to(device), self.targets.mask.to(device)
        self._second = None if self.targets.auxiliary is None else self.targets.auxiliary.to(device)

    def gather(
        self, rows: npt.NDArray[np.int64], extra_padding: int = 0, read: Sequence[Read | None] | None = None
    ) -> Batch:
        """Gather one batch.

        Args:
            rows: (B,) utterances with features.
            extra_padding: further padded frames; changes no result, which tests hold.
            read: the frames of these rows for each input on disk, read before; None: read now.

        Returns:
            Inputs and targets on the device. Without masks (`masking = "none"`) padding counts as frames.
        """
        at = send(torch.from_numpy(rows), self.device)
        if read is None:
            read = [one.read(rows, extra_padding) for one in self._inputs]
        gathered = [one.gather(rows, at, extra_padding, own) for one, own in zip(self._inputs, read, strict=True)]
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
        # All cuts are drawn before the first batch, whatever is read ahead: what augmentation draws comes after them.
        for batch in self._gathered(list(self._cuts(order, size, generator))):
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
        """Return batches for evaluation, sorted by length, longest first."""
        order = _by_length(rows, self._longest)[::-1]
        return self._gathered(order[start : start + size].copy() for start in range(0, len(order), size))

    def _gathered(self, each: Iterable[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        """Gather one batch after the other; those from the disk are read ahead by a thread."""
        if not any(one.on_disk for one in self._inputs):
            yield from map(self.gather, each)
            return
        for rows, read in read_ahead(each, lambda rows: [one.read(rows) for one in self._inputs], self._memory):
            yield self.gather(rows, read=read)

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
