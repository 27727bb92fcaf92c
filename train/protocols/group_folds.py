"""Folds of whole groups: one group each, or several."""

from collections.abc import Sequence

import numpy as np

from ...cache import EmocacheError
from ..config.sections import Protocol
from ..data.example import Example
from .dealing import assign, recordings
from .folds import Fold, Rows
from .grouping import joined, known_group, plural
from .validating import rotate


def leave_one_out(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    """Hold out each group in turn."""
    return rotate(examples, _held_out(examples, protocol, None), protocol, generator)


def group_folds(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    """Hold out `folds` parts of whole groups in turn."""
    return rotate(examples, _held_out(examples, protocol, protocol.folds), protocol, generator)


def _held_out(examples: Sequence[Example], protocol: Protocol, asked: int | None) -> list[Rows]:
    """Return what each fold holds out, in as many folds as are asked for, or as there are groups."""
    own = [known_group(example, protocol.group, protocol.name) for example in examples]
    members = joined(own, recordings(examples, protocol))
    there = len(set(members))
    count = there if asked is None else asked
    needed = max(count, 3 if protocol.validation == "next" else 2)
    if there < needed:
        remedy = "use fewer folds" if protocol.folds else "give more, or use protocol.validation = 'random_utterance'"
        if apart := len(set(own)) - there:
            remedy = (f"{apart} more count as one with another, whose recordings they share: take the copies out of the"
                      f" corpus, {remedy}, or declare it with protocol.overlap = true")  # fmt: skip
        raise EmocacheError(f"{protocol.name} needs at least {needed} {plural(protocol.group)}, there are {there};"
                            f" {remedy}")  # fmt: skip
    assigned = assign(examples, members, count, protocol.assignment)
    return [np.array([r for r, m in enumerate(members) if assigned[m] == k], np.int64) for k in range(count)]
