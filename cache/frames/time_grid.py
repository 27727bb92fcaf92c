"""Streams and label tracks on one time grid: by time stamps, with a mask where no source frame is near."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import EmocacheError
from ..stream import Stream

_SLACK = 1e-9  # seconds; the end of one frame and the start of the next differ by rounding


class Aligned(NamedTuple):
    """Several streams of one utterance, side by side.

    Attributes:
        times: (G,) float64, seconds from the utterance's start.
        frames: (G, sum of D) float32, the streams in the order they were given; zeros where one is absent.
        present: (G, S) bool, which streams have something there.
    """

    times: npt.NDArray[np.float64]
    frames: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]


def time_grid(duration: float, rate: float = 50.0) -> npt.NDArray[np.float64]:
    """(G,) seconds: (k + 0.5) / rate for all k that lie before `duration`, at least one; 15 s at 50 Hz are 750.

    Args:
        duration: seconds.
        rate: Hz.

    Raises:
        ValueError: one of them is not a positive number.
    """
    if not (0 < duration < math.inf and 0 < rate < math.inf):
        raise ValueError(f"a grid of {duration} s at {rate} Hz; expected positive numbers")
    steps = np.arange(max(1, math.ceil(duration * rate - 0.5)), dtype=np.float64)
    return (steps + 0.5) / rate


def resample(
    frames: npt.NDArray[Any],
    times: npt.NDArray[np.float64],
    grid: npt.NDArray[np.float64],
    *,
    where: npt.NDArray[np.bool_] | None = None,
    reach: float | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Interpolate frames linearly between their centres.

    A frame is near every point of its own interval, and every point within `reach` of its centre. Two neighbours are
    interpolated if there is no hole between what they are near to; on the edge of a hole the nearer one is held. So a
    value depends on nothing beyond a hole. Frames without times (special tokens) are left out, and frames with the
    same centre (the tokens of one word) count as one, their mean.

    Args:
        frames: (T, D), in any order.
        times: (T, 2) seconds, start and end of every frame.
        grid: (G,) seconds.
        where: (T,) which frames to use, such as those with a face; None for all.
        reach: seconds; None for the source's own period, which is the median distance of neighbouring centres, used
            or not: 0 where there is one frame only.

    Returns:
        values: (G, D) float32, zeros in holes; mask: (G,) whether a frame is near.

    Raises:
        ValueError: the shapes do not fit.
    """
    if frames.ndim != 2 or times.shape != (len(frames), 2) or (where is not None and where.shape != (len(frames),)):
        raise ValueError(f"frames {frames.shape}, times {times.shape}; expected (T, D), (T, 2) and a mask of (T,)")
    centres = times.mean(axis=1)
    used = np.isfinite(centres)
    reach = _period(centres[used]) if reach is None else reach
    used = used if where is None else used & where
    if not used.any():
        return np.zeros((len(grid), frames.shape[1]), np.float32), np.zeros(len(grid), np.bool_)
    at, values, since, until = _sources(frames[used], times[used], centres[used], reach)

    after = np.searchsorted(at, grid, side="right")
    left, right = np.maximum(after - 1, 0), np.minimum(after, len(at) - 1)
    near_left = (after > 0) & (grid <= until[left])
    near_right = (after < len(at)) & (grid >= since[right])
    between = (after > 0) & (after < len(at)) & (since[right] <= until[left])
    weight = np.where(between, (grid - at[left]) / np.where(between, at[right] - at[left], 1), near_right)
    weight = weight.astype(np.float32)[:, None]
    mask = between | near_left | near_right
    weight[~mask] = 0
    out = values[left] * ((1 - weight) * mask[:, None])
    out += values[right] * weight
    return out, mask


def resample_track(
    times: npt.NDArray[np.float64],
    values: npt.NDArray[Any],
    grid: npt.NDArray[np.float64],
    *,
    reach: float | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """`resample` for values at instants: labels to the grid, or predictions on the grid to the labels' own stamps.

    Beyond the first and the last stamp the value is held for `reach` seconds (None: one period) and masked after that.

    Args:
        times: (N,) seconds.
        values: (N,).
        grid: (G,) seconds.
        reach: as for `resample`.

    Returns:
        values: (G,) float32; mask: (G,) bool.
    """
    resampled, mask = resample(values[:, None], np.stack([times, times], axis=1), grid, reach=reach)
    return resampled[:, 0], mask


def on_grid(
    streams: Sequence[Stream],
    utterance_id: str,
    *,
    rate: float = 50.0,
    duration: float | None = None,
    where: str | None = None,
) -> Aligned:
    """One utterance's frames of several streams on one grid.

    A stream in which the utterance failed is absent throughout, as is one whose frames have no place in time.

    Args:
        streams: in the order in which their dimensions are concatenated.
        utterance_id: the utterance.
        rate: of the grid, in Hz.
        duration: of the grid, in seconds; None: to the end of the last frame of any stream.
        where: name of a bool auxiliary array, such as "face_found": streams that have it count only frames where it is
            true.

    Raises:
        EmocacheError: the utterance is not extracted yet, failed in every stream, or has no frame with a place in time.
        ValueError: no streams.
    """
    sources = _read(streams, utterance_id, where)
    if duration is None:
        ends = np.concatenate([times[:, 1] for _, times, _ in sources])
        duration = float(ends[np.isfinite(ends)].max(initial=0))
    if duration <= 0:
        names = ", ".join(stream.name for stream in streams)
        raise EmocacheError(
            f"{streams[0].corpus}: utterance {utterance_id!r} has no frame with a place in time in {names}; add a"
            " stream of frames with times, or leave the utterance out"
        )
    grid = time_grid(duration, rate)
    resampled = [resample(frames, times, grid, where=used) for frames, times, used in sources]
    frames = np.concatenate([values for values, _ in resampled], axis=1)
    return Aligned(grid, frames, np.stack([mask for _, mask in resampled], axis=1))


def align_index(streams: Sequence[Stream], utterance_id: str, *, where: str | None = None) -> Aligned:
    """Frame i of one stream beside frame i of the others, cut to the shortest; times are the first stream's centres.

    Wrong by design, and only for reproducing "Cross Culture Emotion Recognition" (CATS-Transformer) as published: where
    the rates differ, what stands side by side is not simultaneous: the last of 15 s of audio at 50 Hz stands beside a
    picture 10 s later in video at 30 fps. Use `on_grid`.

    Args:
        streams: in the order in which their dimensions are concatenated; those in which the utterance failed do not
            count towards the shortest.
        utterance_id: the utterance.
        where: as for `on_grid`; the frames stay, and `present` is false where the array is.

    Raises:
        EmocacheError: the utterance is not extracted yet, or failed in every stream.
        ValueError: no streams.
    """
    sources = _read(streams, utterance_id, where)
    count = min(len(frames) for frames, _, _ in sources if len(frames))
    aligned = np.zeros((count, sum(frames.shape[1] for frames, _, _ in sources)), np.float32)
    present = np.zeros((count, len(sources)), np.bool_)
    first = 0
    for s, (frames, _, used) in enumerate(sources):
        if len(frames):
            aligned[:, first : first + frames.shape[1]] = frames[:count]
            present[:, s] = True if used is None else used[:count]
        first += frames.shape[1]
    clock = next(times for frames, times, _ in sources if len(frames))
    return Aligned(clock[:count].mean(axis=1), aligned, present)


_Source = tuple[npt.NDArray[Any], npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]


def _read(streams: Sequence[Stream], utterance_id: str, where: str | None) -> list[_Source]:
    """Frames, times and mask of each stream; no frames where the utterance failed."""
    if not streams:
        raise ValueError("no streams to align")
    failed = [utterance_id in stream.failures for stream in streams]
    if all(failed):
        streams[0].read(utterance_id)  # raises, and says why it failed
    sources: list[_Source] = []
    for stream, absent in zip(streams, failed, strict=True):
        if absent:
            sources.append((np.zeros((0, stream.dim), np.float32), np.zeros((0, 2)), None))
            continue
        used = stream.aux(utterance_id).get(where) if where else None
        sources.append((stream.read(utterance_id), stream.times(utterance_id), used))
    return sources


def _period(centres: npt.NDArray[np.float64]) -> float:
    hops = np.diff(np.unique(centres))
    return float(np.median(hops)) if hops.size else 0.0


def _sources(
    frames: npt.NDArray[Any], times: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], reach: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distinct centres (N,) in order, the frames there (N, D), and from when until when they are near, each (N,).

    A frame is near as long as any before it is, so that a long frame is not cut short by a short one inside it.
    """
    order = np.argsort(centres, kind="stable")
    centres = centres[order]
    first = np.flatnonzero(np.diff(centres, prepend=-np.inf) > 0)
    values = frames[order].astype(np.float32)
    if len(first) < len(order):
        count = np.diff(first, append=len(order)).astype(np.float32)
        values = np.add.reduceat(values, first, axis=0)
        values /= count[:, None]
    since = np.minimum.reduceat(np.minimum(times[order, 0], centres - reach), first) - _SLACK
    until = np.maximum.reduceat(np.maximum(times[order, 1], centres + reach), first) + _SLACK
    return centres[first], values, np.minimum.accumulate(since[::-1])[::-1], np.maximum.accumulate(until)
