"""Rows put in a random order, dealt out and kept together by recording; groups assigned to parts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from ...cache.recordings import components
from ..config.sections import Protocol
from ..data.example import Example
from .folds import PARTS, Rows
from .grouping import natural


def deal(examples: Sequence[Example], rows: Rows, order: Rows, count: int, protocol: Protocol) -> list[Rows]:
    """Return the ascending rows dealt out in an order, one to each of `count` parts in turn."""
    place = np.empty(len(examples), np.int64)
    place[order] = np.arange(len(order)) % count
    dealt = together(examples, rows, place[rows], protocol)
    return [rows[dealt == k] for k in range(count)]


def assign(examples: Sequence[Example], groups: Sequence[str], count: int, how: str) -> dict[str, int]:
    """Assign groups to parts.

    Args:
        examples: any.
        groups: that of each.
        count: number of parts, no more than there are groups.
        how: "sorted", contiguous in the order of their names; or "balanced", greedily by gender and size.

    Returns:
        {group: number of its part}.
    """
    names = sorted(set(groups), key=natural)
    if how == "sorted":
        return {str(name): k for k, part in enumerate(np.array_split(np.array(names), count)) for name in part}
    sizes = Counter(groups)
    genders = {group: example.gender or "" for group, example in zip(groups, examples, strict=True)}
    total = [0] * count
    of_gender: list[Counter[str]] = [Counter() for _ in range(count)]
    assigned = {}
    for name in sorted(names, key=lambda n: (genders[n], -sizes[n], natural(n))):
        # The part with the fewest groups of this gender, then with the fewest utterances; its number settles ties.
        part = min(range(count), key=lambda k: (of_gender[k][genders[name]], total[k], k))
        assigned[name] = part
        total[part] += sizes[name]
        of_gender[part][genders[name]] += 1
    return assigned


def shuffled(
    examples: Sequence[Example], rows: Rows, protocol: Protocol, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return rows in random order; of `stratify` class by class, so that every n-th row has all of them alike."""
    order = generator.permutation(rows)
    if not protocol.stratify:
        return order
    classes = [examples[row].reference for row in order]
    if not all(isinstance(number, int) for number in classes):
        raise EmocacheError("protocol.stratify needs classes, and the references are numbers; leave it out")
    return order[np.argsort(np.array(classes), kind="stable")]


def together(examples: Sequence[Example], rows: Rows, places: Rows, protocol: Protocol) -> Rows:
    """Return the place of each row, which for all of one recording is that of the first of them."""
    held = recordings([examples[row] for row in rows], protocol)
    if not any(held):
        return places
    _, first, number = np.unique(components(held), return_index=True, return_inverse=True)
    return places[first[number]]


def recordings(examples: Sequence[Example], protocol: Protocol) -> list[tuple[str, ...]]:
    """Return the recordings of each example that may not be in two parts; none where overlap is declared."""
    return [() if protocol.overlap else example.recordings for example in examples]


def without_copies(examples: Sequence[Example], parts: dict[str, Rows], protocol: Protocol) -> dict[str, Rows]:
    """Return the parts of a given split, without those whose recording is tested or else validates elsewhere."""
    held = recordings(examples, protocol)
    kept = dict(parts)
    # From the test part backwards: what is tested is never given up for the sake of what trains.
    later: set[str] = set()
    for name in (part for part in reversed(PARTS) if part in parts):
        kept[name] = np.array([row for row in parts[name] if later.isdisjoint(held[row])], np.int64)
        later |= {recording for row in parts[name] for recording in held[row]}
    return kept
