"""One vector in the place of an utterance's frames."""

import numpy as np
import numpy.typing as npt

from ..heads.head import POOLED_PARTS, FixedPooling
from .prepared import Joined


def pool(features: Joined, pooling: FixedPooling) -> Joined:
    """Pool each utterance to one vector.

    Args:
        features: of one role.
        pooling: "mean"; "mean_std" for the standard deviation (divisor n) beside it; "mean_std_delta" for mean and
            standard deviation of the steps from each frame to the next as well.

    Returns:
        Of each stream these moments of the frames where it has something; where it has nothing at all, its part is
        zeros and not valid. A step counts where both of its frames do; without any, as in a clip of one frame, the
        moments of steps are zeros.
    """
    factor = POOLED_PARTS[pooling]
    present = np.flatnonzero(features.lengths)
    vectors = np.empty((len(present), features.frames.shape[1] * factor), np.float32)
    times = np.empty((len(present), 2))
    valid = np.ones((len(present), len(features.widths)), bool)
    edges = np.cumsum(features.widths)[:-1]
    for out, row in enumerate(present):
        moments: list[npt.NDArray[np.float64]] = []
        for number, stream in enumerate(np.split(features.of(row).astype(np.float64), edges, axis=1)):
            there = features.valid_of(row, number)
            valid[out, number] = there.any()
            moments += _moments(stream[there])[:factor]
            if pooling == "mean_std_delta":
                moments += _moments(np.diff(stream, axis=0)[there[1:] & there[:-1]])
        vectors[out] = np.concatenate(moments)
        own = features.times_of(row)
        times[out] = own[0, 0], own[-1, 1]
    offsets = np.concatenate([[0], np.cumsum(features.lengths > 0)])
    return Joined(vectors, offsets, times, None, tuple(w * factor for w in features.widths),
                  None if features.valid is None else valid)  # fmt: skip


def _moments(values: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Mean and standard deviation of (N, D) over its rows; zeros without any."""
    held = values if len(values) else np.zeros((1, values.shape[1]))
    return [held.mean(axis=0), held.std(axis=0)]
