"""Folds of whole groups: one group each, or several."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...cache import EmocacheError
from ..config.sections import Protocol
from ..data.example import Example
from .dealing import recordings
from .folds import Fold, Rows
from .grouping import joined, known_group, natural, plural
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
    names = sorted(set(members), key=natural)
    count = len(names) if asked is None else asked
    needed = max(count, 3 if protocol.validation == "next" else 2)
    if len(names) < needed:
        remedy = "use fewer folds" if protocol.folds else "give more, or use protocol.validation = 'random_utterance'"
        if apart := len(set(own)) - len(names):
            remedy = (f"{apart} more count as one with another, whose recordings they share: take the copies out of the"
                      f" corpus, {remedy}, or declare it with protocol.overlap = true")  # fmt: skip
        raise EmocacheError(f"{protocol.name} needs at least {needed} {plural(protocol.group)}, there are {len(names)};"
                            f" {remedy}")  # fmt: skip
    assigned = _assign(examples, members, names, count, protocol.assignment)
    return [np.array([r for r, m in enumerate(members) if assigned[m] == k], np.int64) for k in range(count)]


def _assign(
    examples: Sequence[Example], members: Sequence[str], names: Sequence[str], count: int, how: str
) -> dict[str, int]:
    """Assign groups to folds: contiguous in sorted order, or greedily by gender and size."""
    if how == "sorted":
        return {str(name): k for k, part in enumerate(np.array_split(np.array(names), count)) for name in part}
    sizes = Counter(members)
    genders = {member: example.gender or "" for member, example in zip(members, examples, strict=True)}
    total = [0] * count
    of_gender: list[Counter[str]] = [Counter() for _ in range(count)]
    assigned = {}
    for name in sorted(names, key=lambda n: (genders[n], -sizes[n], natural(n))):
        # The fold with the fewest groups of this gender, then with the fewest utterances; its number settles ties.
        fold = min(range(count), key=lambda k: (of_gender[k][genders[name]], total[k], k))
        assigned[name] = fold
        total[fold] += sizes[name]
        of_gender[fold][genders[name]] += 1
    return assigned
