"""The frames of one input, gathered by row: from memory, from the device, or read from the disk ahead of their use."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ...cache.device import room_on
from ..data.memory import Memory
from ..heads.head import Frames
from .prepared import PreparedInput

_AHEAD = 2  # batches that are read while one is trained on

Rows = npt.NDArray[np.int64]
Read = npt.NDArray[Any]
"""(B, T, D) frames of some rows in storage dtype; behind the end of an utterance is anything."""
T = TypeVar("T")


class Gatherer:
    """The frames of one input, gathered by row. They stay in their storage dtype, on the device if they fit there.

    What says where they are is on the device in any case: a batch costs one small copy, of its rows.

    Args:
        one: the input.
        device: where its batches go.
        unmasked: padding counts, and every batch is as long as the longest utterance.
        padded_to: the least number of frames where padding counts.

    Attributes:
        offsets, lengths: of the utterances.
    """

    def __init__(self, one: PreparedInput, device: torch.device, unmasked: bool, padded_to: int) -> None:
        self.device = device
        features = one.features
        frames = torch.from_numpy(features.frames)
        self._frames = frames if features.stored else _placed(frames, device)
        self._on_host = self._frames.device.type != device.type
        # A file of our own that went to the device is read no more.
        self._on_disk = features if features.on_disk and self._frames is frames else None
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

    @property
    def on_disk(self) -> bool:
        """True where every batch is read from the disk."""
        return self._on_disk is not None

    def read(self, rows: Rows, extra_padding: int = 0) -> Read | None:
        """Read the frames of some rows, in any thread; None where they are held already."""
        if self._on_disk is None:
            return None
        frames = self._on_disk.frames
        found = np.empty((len(rows), self._longest(rows, extra_padding), frames.shape[1]), frames.dtype)
        for at, clip in enumerate(self._on_disk.each(rows)):
            found[at, : len(clip)] = clip
        return found

    def gather(
        self, rows: Rows, at: torch.Tensor, extra_padding: int, read: Read | None
    ) -> tuple[Frames, torch.Tensor, torch.Tensor]:
        """Gather the input of some rows.

        Args:
            rows: (B,) utterances.
            at: the same, on the device.
            extra_padding: see `Batches.gather`.
            read: what `read` gave for these rows.

        Returns:
            The input; the place of each of its frames among all, (B, T) int64, 0 for padding; and which are frames of
            its own, (B, T) bool.
        """
        longest = self._longest(rows, extra_padding)
        steps = torch.arange(longest, device=self.device)
        mask = steps < self._count.index_select(0, at).unsqueeze(1)
        where = torch.where(mask, self._first.index_select(0, at).unsqueeze(1) + steps, 0)
        flat = self._flat_on_host(rows, longest) if self._on_host else where.flatten()
        # All rows are taken at once from the flat frames; padding reads frame 0 and is zeroed below.
        taken = self._frames.index_select(0, flat) if read is None else torch.from_numpy(read)
        values = send(taken, self.device).float()
        values = values.view(*where.shape, values.shape[-1])
        if self._normalised:
            group = self._group.index_select(0, at)
            values.sub_(self._mean[group].unsqueeze(1)).div_(self._std[group].unsqueeze(1))  # a copy in any case
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

    def _longest(self, rows: Rows, extra_padding: int) -> int:
        return max(int(self.lengths[rows].max()), self._padded_to, 1) + (0 if self._pooled else extra_padding)

    def _flat_on_host(self, rows: Rows, longest: int) -> torch.Tensor:
        """The places of the frames again, for frames that the device has no room for."""
        steps = np.arange(longest)
        inside = steps < self.lengths[rows][:, None]
        return torch.from_numpy(np.where(inside, self.offsets[rows][:, None] + steps, 0).ravel())

    def _segments(self, rows: Rows) -> torch.Tensor | None:
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


def read_ahead(
    each: Iterable[Rows], read: Callable[[Rows], T], memory: Memory
) -> Generator[tuple[Rows, T], None, None]:
    """Yield the rows of each batch with what is read of them, by a thread that is some batches ahead.

    Args:
        each: rows of the batches.
        read: reads those of one.
        memory: is told how long each was waited for.
    """
    started, waited = perf_counter(), 0.0
    coming: deque[tuple[Rows, Future[T]]] = deque()
    pool = ThreadPoolExecutor(1, "read-ahead")

    def first() -> tuple[Rows, T]:
        nonlocal waited
        rows, future = coming.popleft()
        since = perf_counter()
        found = future.result()
        waited += perf_counter() - since
        return rows, found

    try:
        for rows in each:
            coming.append((rows, pool.submit(read, rows)))
            if len(coming) > _AHEAD:
                yield first()
        while coming:
            yield first()
        memory.tell_waits(waited, perf_counter() - started)
    finally:
        pool.shutdown(cancel_futures=True)
