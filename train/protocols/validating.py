"""The choice of who validates: the next fold, a part of training, all of it in turn, or (part of) what is held out."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...cache import EmocacheError
from ..config.sections import Protocol
from ..data.example import Example
from .dealing import assign, deal, recordings, shuffled, together
from .folds import Fold, Rows
from .grouping import group_of, joined, known_group, natural, plural


def rotate(
    examples: Sequence[Example], tests: Sequence[Rows], protocol: Protocol, generator: np.random.Generator
) -> list[Fold]:
    """Make the folds of parts that are held out in turn, each of which may validate for the fold before it.

    Args:
        examples: in the order of their keys.
        tests: what each fold holds out.
        protocol: says who validates.
        generator: decides who validates where that is drawn.

    Returns:
        As many folds as there are held-out parts, in their order.
    """
    everyone = np.arange(len(examples))
    folds = []
    for k, test in enumerate(tests):
        following = tests[(k + 1) % len(tests)] if protocol.validation == "next" else None
        folds.append(validate(examples, np.setdiff1d(everyone, test), test, following, protocol, generator))
    return folds


def validate(
    examples: Sequence[Example],
    train: Rows,
    test: Rows,
    following: Rows | None,
    protocol: Protocol,
    generator: np.random.Generator,
) -> Fold:
    """Make the fold of a training and a held-out part. `following`: held out next, where that validates."""
    if protocol.validation == "test":
        return Fold(train, test, test)
    if protocol.validation == "half":
        tested, valid = deal(examples, test, shuffled(examples, test, protocol, generator), 2, protocol)
        return Fold(train, valid, tested)
    if protocol.validation == "nested":
        parts = _in_turn(examples, train, protocol, generator)
        nested = tuple(Fold(np.setdiff1d(train, part), part, test) for part in parts)
        return Fold(train, train, test, nested=nested)
    if following is not None:
        valid = following
    elif protocol.validation == "random_utterance":
        order = shuffled(examples, train, protocol, generator)
        count = max(1, round(protocol.validation_fraction * len(train)))
        # Evenly spaced, so that of stratified rows every class gives its share.
        valid = order[np.arange(count) * len(train) // count]
        valid = train[together(examples, train, np.isin(train, valid).astype(np.int64), protocol) == 1]
    else:
        valid = _draw(train, _kept_together(examples, train, protocol), protocol, generator)
    return Fold(np.setdiff1d(train, valid), np.sort(valid), test)


def _in_turn(
    examples: Sequence[Example], train: Rows, protocol: Protocol, generator: np.random.Generator
) -> list[Rows]:
    """Cut a training part as the protocol cuts everyone: into whole groups, or at random where those are shared."""
    count = protocol.validation_folds
    if protocol.entry.shares_groups and not protocol.validation_group:
        return deal(examples, train, shuffled(examples, train, protocol, generator), count, protocol)
    groups = _kept_together(examples, train, protocol)
    if (there := len(set(groups))) < count:
        kind = plural(protocol.validation_group or protocol.group)
        raise EmocacheError(f"{protocol.name}: {count} parts that validate in turn need as many {kind} in a training"
                            f" part, and there are {there}; set protocol.validation_folds to"
                            f" {'at most ' if there > 2 else ''}{max(there, 2)}, or protocol.validation ="
                            " 'fraction'")  # fmt: skip
    assigned = assign([examples[row] for row in train], groups, count, protocol.assignment)
    return [train[[assigned[group] == k for group in groups]] for k in range(count)]


def _kept_together(examples: Sequence[Example], rows: Rows, protocol: Protocol) -> list[str]:
    """Return the group of each row that validates as a whole or not at all."""
    own = [examples[row] for row in rows]
    if protocol.validation_group:
        groups = [known_group(example, protocol.validation_group, "protocol.validation_group") for example in own]
    elif protocol.entry.shares_groups:
        groups = [example.key for example in own]
    else:
        groups = [group_of(example, protocol.group) or example.key for example in own]
        if protocol.entry.parts_given:
            for kind in ("session", "speaker"):  # conversations, and those whose speakers meet again, stay together
                named = [group_of(example, kind) for example in own]
                groups = joined(groups, [() if name is None else (name,) for name in named])
    return joined(groups, recordings(own, protocol))


def _draw(rows: Rows, groups: Sequence[str], protocol: Protocol, generator: np.random.Generator) -> Rows:
    """Draw whole groups until they hold the fraction of the rows; one group at least stays."""
    sizes = Counter(groups)
    names = sorted(sizes, key=natural)
    if len(names) < 2:
        kind = protocol.validation_group or protocol.group
        raise EmocacheError(f"{protocol.name}: no {kind} can validate, since all that could train belongs together, to"
                            f" {names[0]!r}; set protocol.validation_group to what divides it, or"
                            " protocol.validation = 'random_utterance'")  # fmt: skip
    # The last of the permutation is never reached, so that something is left to train on.
    chosen: set[str] = set()
    held = 0
    for at in generator.permutation(len(names))[: len(names) - 1]:
        if chosen and held >= protocol.validation_fraction * len(rows):
            break
        chosen.add(names[at])
        held += sizes[names[at]]
    return np.array([row for row, group in zip(rows, groups, strict=True) if group in chosen], np.int64)
