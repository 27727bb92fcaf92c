"""Masked batches, gathered from frames that lie in memory once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .dataset import Dataset
from .references import Stamps, on_grid
from .settings import Settings
from .transforms import Prepared

_WINDOW = 50  # batches within which utterances are sorted by length
_MIN_CCC_CLIPS = 8  # fewer in a step give no estimate of a pooled CCC


@dataclass(frozen=True, eq=False)
class Batch:
    """B utterances, padded to the longest.

    Attributes:
        frames: (B, T, D) float32, normalised; padding is zero. mask: (B, T) bool, the valid frames.
        targets: (B,) int64 classes; (B, K) float32 values; or (B, T, K) float32 frame-wise values.
        target_mask: bool, of the shape of `targets`: what counts in the loss.
        rows: (B,) row numbers of the examples.
    """

    frames: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor
    target_mask: torch.Tensor
    rows: npt.NDArray[np.int64]


class Batches:
    """Gathers batches of any rows. Frames stay in their storage dtype, on the device if they fit there.

    Args:
        dataset: examples and their references.
        settings: task and label delay.
        prepared: features and normaliser.
        device: where batches go.
    """

    def __init__(self, dataset: Dataset, settings: Settings, prepared: Prepared, device: torch.device) -> None:
        self.device = device
        features = prepared.features
        frames = torch.from_numpy(features.frames)
        if device.type == "cuda" and 2 * frames.nbytes < torch.cuda.mem_get_info(device)[0]:
            frames = frames.to(device)
        self._frames = frames
        self.dim = int(frames.shape[1])
        self.offsets = features.offsets
        self.lengths = features.lengths
        times = features.times
        self._centres = None if times is None else (times[:, 0] + times[:, 1]) / 2
        self._per_frame = settings.per_frame
        self._targets, self._target_mask = self._make_targets(dataset, settings)
        self._normaliser = prepared.normaliser
        if prepared.normaliser is not None:
            self._mean = torch.from_numpy(prepared.normaliser.mean).to(device)
            self._std = torch.from_numpy(prepared.normaliser.std).to(device)

    def gather(self, rows: npt.NDArray[np.int64], extra_padding: int = 0) -> Batch:
        """One batch.

        Args:
            rows: (B,) utterances with features.
            extra_padding: further padded frames; changes no result, which tests hold.
        """
        lengths = torch.from_numpy(self.lengths[rows])
        steps = torch.arange(int(lengths.max()) + extra_padding)
        mask = steps < lengths.unsqueeze(1)
        where = torch.where(mask, torch.from_numpy(self.offsets[rows]).unsqueeze(1) + steps, 0)
        flat = where.flatten().to(self._frames.device)
        frames = self._frames.index_select(0, flat).to(self.device).float().view(*where.shape, self.dim)
        mask = mask.to(self.device)
        if self._normaliser is not None:
            group = torch.from_numpy(self._normaliser.group_of[rows]).to(self.device)
            frames = (frames - self._mean[group].unsqueeze(1)).div_(self._std[group].unsqueeze(1))
        frames.masked_fill_(~mask.unsqueeze(-1), 0.0)
        chosen = where if self._per_frame else torch.from_numpy(rows)
        targets = self._targets[chosen].to(self.device)
        target_mask = self._target_mask[chosen].to(self.device)
        if self._per_frame:
            target_mask &= mask.unsqueeze(-1)
        return Batch(frames, mask, targets, target_mask, rows)

    def epoch(
        self, rows: npt.NDArray[np.int64], size: int, generator: np.random.Generator, pooled_loss: bool
    ) -> Iterator[Batch]:
        """Shuffled batches that cover the rows once.

        Similar lengths go together: shuffle, sort within windows of 50 batches, shuffle the batches. Not so for a
        loss that is pooled over the step (CCC), which a batch of equal lengths would bias: those batches are drawn
        at random and hold at least 8 clips.

        Args:
            rows: the training part. size: utterances a batch. generator: decides the order.
            pooled_loss: the loss is not a mean over utterances.
        """
        order = rows[generator.permutation(len(rows))]
        if pooled_loss:
            cuts = list(range(0, len(order), size))
            if len(cuts) > 1 and len(order) - cuts[-1] < _MIN_CCC_CLIPS:
                cuts.pop()  # the last clips join the batch before
            for start, end in zip(cuts, [*cuts[1:], len(order)], strict=True):
                yield self.gather(order[start:end])
            return
        window = _WINDOW * size
        order = np.concatenate([_by_length(order[s : s + window], self.lengths) for s in range(0, len(order), window)])
        for start in size * generator.permutation(-(-len(order) // size)):
            yield self.gather(order[start : start + size])

    def in_order(self, rows: npt.NDArray[np.int64], size: int) -> Iterator[Batch]:
        """Batches for evaluation, sorted by length, longest first."""
        order = _by_length(rows, self.lengths)[::-1]
        for start in range(0, len(order), size):
            yield self.gather(order[start : start + size].copy())

    def targets(self, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Targets and what counts of them, on the CPU: one row an utterance, or one a frame, in the order of rows."""
        if not self._per_frame:
            return self._targets[rows], self._target_mask[rows]
        own = torch.cat([torch.arange(self.offsets[row], self.offsets[row + 1]) for row in rows])
        return self._targets[own], self._target_mask[own]

    def centres_of(self, row: int) -> npt.NDArray[np.float64]:
        """(T,) centres of one utterance's frames in seconds."""
        if self._centres is None:
            raise ValueError("frame-wise targets need the frames' times")
        return self._centres[self.offsets[row] : self.offsets[row + 1]]

    def _make_targets(self, dataset: Dataset, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
        """Per utterance, or in frame-wise tasks per frame, in the order of `frames`."""
        if not self._per_frame:
            targets = torch.tensor(np.array([example.reference for example in dataset.examples]))
            targets = targets if targets.dtype == torch.int64 else targets.float()
            return targets, torch.ones_like(targets, dtype=torch.bool)
        values = np.zeros((self.offsets[-1], len(settings.targets)), np.float32)
        valid = np.zeros(values.shape, bool)
        for row, example in enumerate(dataset.examples):
            own = slice(self.offsets[row], self.offsets[row + 1])
            if isinstance(example.reference, Stamps) and self.lengths[row]:
                values[own], near = on_grid(example.reference, self.centres_of(row), settings.label_delay_s)
                valid[own] = near[:, None]
        return torch.from_numpy(values), torch.from_numpy(valid)


def _by_length(rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[np.argsort(lengths[rows], kind="stable")]
