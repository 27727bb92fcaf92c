"""Mean and spread of frames: of groups of utterances, fitted on some of them, or of each utterance by itself."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.dataset import Features
from ..data.memory import Memory
from .prepared import Joined, Normaliser

Rows = Sequence[int] | npt.NDArray[np.int64]


def fit_normaliser(features: Features, groups: Sequence[str], rows: Rows) -> Normaliser:
    """Fit the mean and standard deviation of each group and channel over all frames of the rows.

    Args:
        features: U utterances.
        groups: U names.
        rows: the utterances to fit on.

    Returns:
        Computed in float64, kept in float32; channels that are constant have standard deviation 1.
    """
    names = sorted(set(groups))
    number = {name: k for k, name in enumerate(names)}
    group_of = np.array([number[group] for group in groups], np.int64)
    valid = features.valid if isinstance(features, Joined) else None
    widths = features.widths if isinstance(features, Joined) else ()
    # Squares are of distances to a nearby value: of large numbers the variance would be lost in rounding.
    pilot = features.of(rows[0]).mean(axis=0, dtype=np.float64)
    total = np.zeros((len(names), features.frames.shape[1]))
    n, squares = np.zeros_like(total), np.zeros_like(total)
    for row, clip in zip(rows, features.each(rows), strict=True):
        centred = clip.astype(np.float64) - pilot
        if valid is None:
            n[group_of[row]] += len(centred)
        else:
            there = np.repeat(features.valid_rows(row), widths, axis=1)  # type: ignore[attr-defined]
            centred *= there
            n[group_of[row]] += there.sum(axis=0)
        total[group_of[row]] += centred.sum(axis=0)
        squares[group_of[row]] += (centred**2).sum(axis=0)
    n = np.maximum(n, 1)
    mean, variance = pilot + total / n, np.maximum(squares / n - (total / n) ** 2, 0)
    return Normaliser(tuple(names), mean.astype(np.float32), spread(mean, variance).astype(np.float32), group_of)


def spread(mean: npt.NDArray[np.float64], variance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return standard deviations; 1 for channels that are constant up to rounding, which would be blown up to noise.

    Rounding is relative to the mean and, because frames are stored in float16, whose numbers near zero are 6e-8 apart,
    absolute as well: what varies by less than 1e-5 stays as it is.
    """
    return np.where(variance > 1e-10 * (1 + mean**2), np.sqrt(variance), 1.0)


def normalise_utterances(features: Joined, l2: bool, memory: Memory) -> npt.NDArray[np.float32]:
    """Normalise each utterance by itself: channels of mean 0 and variance 1 (CMVN); with `l2`, of norm 1 over time."""
    rows = np.flatnonzero(features.lengths)
    clips = (_normalised(features, row, own, l2) for row, own in zip(rows, features.each(rows), strict=True))
    return memory.stack(clips, features.offsets[-1], features.frames.shape[1], np.float32)


def _normalised(
    features: Joined, row: int | np.integer[Any], own: npt.NDArray[Any], l2: bool
) -> npt.NDArray[np.float32]:
    out = np.zeros(own.shape, np.float32)
    for number, (left, right) in enumerate(pairwise(np.cumsum((0, *features.widths)))):
        at = np.flatnonzero(features.valid_of(row, number))
        clip = own[at, left:right].astype(np.float64)
        if l2:
            out[at, left:right] = clip / np.maximum(np.linalg.norm(clip, axis=0), 1e-12)
        elif len(at):
            mean = clip.mean(axis=0)
            out[at, left:right] = (clip - mean) / spread(mean, clip.var(axis=0))
    return out
