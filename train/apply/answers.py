"""The answers of a stored head: probabilities, values, or values over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer for one utterance.

    Attributes:
        names: K classes, or targets.
        values: (K,) probabilities or values, or (T, K) values over time.
        times: (T,) seconds, the middle of each frame; None where there is one answer for all of it.
    """

    names: tuple[str, ...]
    values: Floats
    times: Floats | None = None


def side_by_side(parts: Sequence[Answer | None]) -> Answer | None:
    """Return the answers of heads for single targets as one; None where any lacks features. Times: see `average`."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    names = tuple(name for part in known for name in part.names)
    return Answer(names, np.concatenate(_together(known), axis=-1), known[0].times)


def average(models: Sequence[Answer | None]) -> Answer | None:
    """Return the mean of what several models give for one utterance; None where any lacks features.

    Values over time are those at the times of the first, in between linearly interpolated.
    """
    known = [one for one in models if one is not None]
    if len(known) < len(models):
        return None
    return Answer(known[0].names, np.mean(_together(known), axis=0), known[0].times)


def _together(answers: Sequence[Answer]) -> list[Floats]:
    """The values of each answer, those over time at the times of the first."""
    first = answers[0].times
    return [
        one.values
        if first is None or one.times is None or np.array_equal(first, one.times)
        else np.stack([np.interp(first, one.times, column) for column in one.values.T], axis=1)
        for one in answers
    ]


def joined(windows: Sequence[tuple[float, float, Answer]]) -> Answer:
    """Return the answers for the windows of one clip as one.

    Args:
        windows: (start, end, answer) of each, in seconds, in the order of time.

    Returns:
        Values over time one after the other; of single answers the mean, each as long as it is.
    """
    first = windows[0][2]
    if first.times is None:
        weights = [end - start for start, end, _ in windows]
        return Answer(first.names, np.average([one.values for _, _, one in windows], axis=0, weights=weights))
    times = [start + one.times for start, _, one in windows if one.times is not None]
    return Answer(first.names, np.concatenate([one.values for _, _, one in windows]), np.concatenate(times))
