"""Which utterances an epoch trains on, and in what order before batches are cut."""

import numpy as np
import numpy.typing as npt

from ..config.sections import Training


def draw(
    rows: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64] | None,
    training: Training,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """The rows of one epoch, shuffled.

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
    share = 1 / np.bincount(own)[own]
    return generator.choice(rows, count, p=share / share.sum())
