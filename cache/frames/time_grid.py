"""Frames on a time grid: by time stamps, with a mask where no source frame is near."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_SLACK = 1e-9  # seconds; the end of one frame and the start of the next differ by rounding


def time_grid(duration: float, rate: float = 50.0) -> npt.NDArray[np.float64]:
    """Make a grid of evenly spaced points, half a step from the start: 15 s at 50 Hz are 750.

    Args:
        duration: seconds.
        rate: Hz.

    Returns:
        (G,) float64 seconds: (k + 0.5) / rate for all k that lie before `duration`, at least one.

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

    # The neighbours of each point of the grid; at the ends one of them is missing and the other stands for both.
    after = np.searchsorted(at, grid, side="right")
    left, right = np.maximum(after - 1, 0), np.minimum(after, len(at) - 1)
    near_left = (after > 0) & (grid <= until[left])
    near_right = (after < len(at)) & (grid >= since[right])
    between = (after > 0) & (after < len(at)) & (since[right] <= until[left])
    # Of the right neighbour: its share between two, all of it where it alone is near, none where the left one is.
    weight = np.where(between, (grid - at[left]) / np.where(between, at[right] - at[left], 1), near_right)
    weight = weight.astype(np.float32)[:, None]
    mask = between | near_left | near_right
    weight[~mask] = 0
    out = values[left] * ((1 - weight) * mask[:, None])
    out += values[right] * weight
    return out, mask


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
    # Sorted by centres, the ends need not be in order: a long frame may reach beyond later, shorter ones.
    since = np.minimum.reduceat(np.minimum(times[order, 0], centres - reach), first) - _SLACK
    until = np.maximum.reduceat(np.maximum(times[order, 1], centres + reach), first) + _SLACK
    return centres[first], values, np.minimum.accumulate(since[::-1])[::-1], np.maximum.accumulate(until)
