"""The frames of one role before anything is fitted to them: selected, joined in time, averaged.

It is the same in every fold, so it is done once.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from ...cache.frames.time_grid import resample, time_grid
from ..config.sections import FeatureSettings
from ..config.settings import Settings
from ..data.dataset import Dataset, Features
from ..data.memory import Memory
from ..heads.head import FixedPooling
from .prepared import Joined
from .vectors import pool

# Settings that change nothing here.
_FITTED = {"combine", "trainable_words", "pca", "normalise", "enrolment", "enrolment_where", "fit_scope"}


@dataclass(frozen=True, slots=True)
class _JoinKey:
    """Everything that decides the joined frames of a role."""

    names: tuple[str, ...]
    how: FeatureSettings


class JoinedStreams:
    """The joined frames of each role of one dataset, and their means, made when first asked for, once for all folds.

    Of each role the last ones are held. They are large, so whoever trains the runs owns this and frees it with them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._held: dict[str, tuple[_JoinKey, Joined]] = {}
        self._vectors: dict[str, tuple[Joined, FixedPooling, Joined]] = {}

    def of(self, settings: Settings, role: str) -> Joined:
        """Return the frames of one role.

        Args:
            settings: names the role's streams, and how they are joined.
            role: an input of the head.

        Returns:
            Those held from before where nothing that decides them has changed.

        Raises:
            EmocacheError: streams of different lengths that no grid joins, or frames without a place in time where one
                is needed.
        """
        key = _key(settings, role)
        if role in self._held and self._held[role][0] == key:
            return self._held[role][1]
        self._held.pop(role, None)  # frees the old ones before the new ones are made
        joined = join_streams(self._dataset, key.names, key.how)
        self._held[role] = (key, joined)
        return joined

    def pooled(self, settings: Settings, role: str, pooling: FixedPooling) -> Joined:
        """Return the frames of one role pooled to a vector each, see `vectors.pool`; EmocacheError as of `of`."""
        joined = self.of(settings, role)
        held = self._vectors.get(role)
        if held is None or held[0] is not joined or held[1] != pooling:
            held = self._vectors[role] = joined, pooling, pool(joined, pooling)
        return held[2]

    def put(self, settings: Settings, role: str, joined: Joined) -> None:
        """Hold frames of one role that another process has made under the same settings."""
        self._held[role] = (_key(settings, role), joined)


def _key(settings: Settings, role: str) -> _JoinKey:
    # Fitted settings change nothing here: with their defaults, points of a search that differ in them share frames.
    unfitted = {name: FeatureSettings.model_fields[name].default for name in _FITTED}
    return _JoinKey(settings.streams[role], settings.features.of(role).model_copy(update=unfitted))


def join_streams(dataset: Dataset, names: Sequence[str], how: FeatureSettings) -> Joined:
    """Select, join and average the frames of some streams."""
    joined = _join(dataset, names, how)
    return average(joined, how.average_frames, dataset.memory) if how.average_frames > 1 else joined


def average(features: Joined, count: int, memory: Memory) -> Joined:
    """Average blocks of `count` frames, and at the end of an utterance those that are left.

    Args:
        features: of one role.
        count: frames of a block.
        memory: the room for the result.

    Returns:
        One frame a block, from the start of its first frame to the end of its last; what a stream lacks in a block
        is not counted.
    """
    lengths = -(-features.lengths // count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    times = np.empty((offsets[-1], 2))
    valid = None if features.valid is None else np.empty((offsets[-1], features.valid.shape[1]), bool)

    def clips() -> Iterator[npt.NDArray[np.floating]]:
        each = features.each(np.flatnonzero(features.lengths))
        for row, (start, end) in enumerate(pairwise(offsets)):
            if start == end:
                continue
            clip = next(each)
            blocks = np.arange(0, len(clip), count)
            counts = np.diff([*blocks, len(clip)])[:, None]
            if valid is not None and features.valid is not None:
                there = features.valid[features.offsets[row] : features.offsets[row + 1]]
                # Absent frames are zeros: dividing by the number of present ones leaves them out of the mean.
                held = np.add.reduceat(there.astype(np.int64), blocks, axis=0)
                valid[start:end] = held > 0
                counts = np.maximum(np.repeat(held, features.widths, axis=1), 1)
            own = features.times_of(row)
            times[start:end, 0] = own[blocks, 0]
            times[start:end, 1] = own[np.append(blocks[1:], len(own)) - 1, 1]
            yield np.add.reduceat(clip.astype(np.float32), blocks, axis=0) / counts

    frames = memory.stack(clips(), offsets[-1], features.frames.shape[1], features.frames.dtype)
    return Joined(frames, offsets, times, None, features.widths, valid)


def _join(dataset: Dataset, names: Sequence[str], how: FeatureSettings) -> Joined:
    parts = [dataset.features[name] for name in names]
    widths = tuple(part.frames.shape[1] for part in parts)
    # The short ways: frames that nothing changes are shared with the stream, or put side by side in one step.
    selects = how.where is not None or how.words or how.crop_s is not None or how.max_frames is not None
    if len(parts) == 1 and not selects and how.grid_hz is None:
        only = parts[0]
        return Joined(only.frames, only.offsets, only.times, None, widths, stored=only.stored)
    everywhere = all(np.array_equal(part.lengths > 0, parts[0].lengths > 0) for part in parts)
    if not selects and how.grid_hz is None and how.align == "time" and everywhere:
        _check_lengths(dataset, names, parts)
        rows = range(len(dataset.examples))
        beside = (np.concatenate(clips, axis=1) for clips in zip(*(part.each(rows) for part in parts), strict=True))
        dtype = np.result_type(*(part.frames.dtype for part in parts))
        frames = dataset.memory.stack(beside, parts[0].offsets[-1], sum(widths), dtype)
        return Joined(frames, parts[0].offsets, parts[0].times, None, widths)
    times_of: list[npt.NDArray[np.float64]] = []
    valid_of: list[npt.NDArray[np.bool_]] = []

    def clips() -> Iterator[npt.NDArray[np.floating]]:
        for row in range(len(dataset.examples)):
            clip = _clip(dataset, names, parts, how, row)
            times_of.append(clip.times)
            valid_of.append(clip.valid)
            yield clip.frames

    frames = dataset.memory.stack(clips(), _most(parts, how), sum(widths), _dtype(parts, how))
    offsets = np.concatenate([[0], np.cumsum([len(times) for times in times_of])])
    times, valid = np.concatenate(times_of), np.concatenate(valid_of)
    return Joined(frames, offsets, times, None, widths, None if valid.all() else valid)


def _dtype(parts: Sequence[Features], how: FeatureSettings) -> npt.DTypeLike:
    """The dtype of what `_clip` joins: frames on a grid are float32, and means over a word's tokens float64."""
    if how.grid_hz is not None:
        return np.float32
    return np.result_type(*(part.frames.dtype for part in parts), *([np.float64] if how.words else []))


def _most(parts: Sequence[Features], how: FeatureSettings) -> int:
    """The most frames that all utterances can have together once they are joined."""
    if how.grid_hz is None:
        return int(np.max([part.lengths for part in parts], axis=0).sum())
    ends = [[np.fmax.reduce(part.times_of(row)[:, 1], initial=0.0) for row in range(len(part.lengths))]
            for part in parts]  # fmt: skip
    return sum(math.ceil(end * how.grid_hz) + 1 for end in np.max(ends, axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class _Clip:
    frames: npt.NDArray[np.floating]
    times: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]


def _clip(dataset: Dataset, names: Sequence[str], parts: Sequence[Features], how: FeatureSettings, row: int) -> _Clip:
    """Select and join the frames of one utterance; what a stream lacks of it is zeros and not valid."""
    key = dataset.examples[row].key
    chosen = [_select(part, how, row) for part in parts]
    widths = [part.frames.shape[1] for part in parts]
    if not any(len(frames) for frames, _, _ in chosen):
        return _Clip(
            np.zeros((0, sum(widths)), parts[0].frames.dtype), np.zeros((0, 2)), np.zeros((0, len(parts)), bool)
        )
    if how.grid_hz is not None:
        ends = np.concatenate([times[:, 1] for _, times, _ in chosen])
        if not np.isfinite(ends).any():
            raise EmocacheError(
                f"{key}: no frame of {', '.join(names)} has a place in time; leave out features.grid_hz"
            )
        duration = float(np.nanmax(ends)) if how.crop_s is None else min(how.crop_s, float(np.nanmax(ends)))
        grid = time_grid(duration, how.grid_hz)
        resampled = [resample(frames, times, grid, where=used) for frames, times, used in chosen]
        # Points of the grid are centres of frames, each of which takes one period.
        half = 0.5 / how.grid_hz
        return _Clip(
            np.concatenate([values for values, _ in resampled], axis=1),
            np.stack([grid - half, grid + half], axis=1),
            np.stack([mask for _, mask in resampled], axis=1),
        )
    kept = [(f, t) if used is None else (f[used], t[used]) for f, t, used in chosen]
    lengths = [len(frames) for frames, _ in kept]
    if len({length for length in lengths if length}) > 1 and how.align == "time":
        _differ(names, lengths, key, 1)
    count = max(lengths)
    blocks = [np.pad(frames, ((0, count - len(frames)), (0, 0))) for frames, _ in kept]
    longest = kept[int(np.argmax(lengths))][1]
    return _Clip(np.concatenate(blocks, axis=1), longest, np.arange(count)[:, None] < np.array(lengths))


def _select(
    part: Features, how: FeatureSettings, row: int
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]:
    """Select frames, times and stored mask of one utterance: its words, the first seconds, the first frames."""
    frames, times = part.of(row), part.times_of(row)
    masked = how.where is not None and part.used is not None
    used = part.used[part.offsets[row] : part.offsets[row + 1]] if masked and part.used is not None else None
    if how.words:
        frames, times, used = *_words(frames, times), None
    keep = np.ones(len(frames), bool)
    if how.crop_s is not None:
        # What has no place in time stays, and so does one frame that stands for a long utterance as a whole.
        keep = ~(times.mean(axis=1) >= how.crop_s)
        keep[:1] = True
    if how.max_frames is not None:
        keep &= np.cumsum(keep if used is None else keep & used) <= how.max_frames
    return frames[keep], times[keep], None if used is None else used[keep]


def _words(
    frames: npt.NDArray[np.floating], times: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]:
    """Average neighbouring frames with the same times, which are the tokens of one word."""
    placed = np.isfinite(times).all(axis=1)
    frames, times = frames[placed], times[placed]
    if not len(frames):
        return frames, times
    # A word begins where the times differ from those of the token before.
    first = np.flatnonzero(np.append(True, (times[1:] != times[:-1]).any(axis=1)))
    counts = np.diff(np.append(first, len(frames)))
    return (np.add.reduceat(frames.astype(np.float32), first, axis=0) / counts[:, None]), times[first]


def _check_lengths(dataset: Dataset, names: Sequence[str], parts: Sequence[Features]) -> None:
    lengths = np.stack([part.lengths for part in parts])
    differ = np.flatnonzero((lengths != lengths[0]).any(axis=0))
    if len(differ):
        _differ(names, lengths[:, differ[0]].tolist(), dataset.examples[differ[0]].key, len(differ))


def _differ(names: Sequence[str], lengths: Sequence[int], key: str, count: int) -> None:
    told = ", ".join(f"{name} {length}" for name, length in zip(names, lengths, strict=True))
    raise EmocacheError(
        f"the streams of one input have different numbers of frames in {key!r} ({told}; {count} utterances differ);"
        " set features.grid_hz, such as 50, to join them by their times, or train on one of them"
    )
