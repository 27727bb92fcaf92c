"""The folds of a fold file."""

from collections.abc import Iterator, Sequence

import numpy as np

from ...cache import EmocacheError
from ..config.sections import Protocol
from ..data.example import Example
from .dealing import without_copies
from .folds import PARTS, Fold, Rows
from .grouping import natural
from .validating import validate


def listed_folds(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    """Take the folds of the file, in the natural order of their names.

    Args:
        examples: in the order of their keys, with their places in the file.
        protocol: says who validates where the file does not.
        generator: decides who validates where that is drawn.

    Returns:
        As many folds as the file has. One that names the tested fold of everyone trains on all others.

    Raises:
        EmocacheError: a fold without utterances that train or are tested; a single fold of which the others train; or
            a validation part of the file, or `validation_group`, that `protocol.validation` would leave unused.
    """
    names = sorted({fold for example in examples for fold, _ in example.places}, key=natural)
    given = any(part for example in examples for _, part in example.places)
    folds = []
    for name, parts in _given(examples, names) if given else _tested(examples, names, protocol):
        for part in ("train", "test"):
            if not len(parts[part]):
                raise EmocacheError(f"protocol.file: fold {name} has no {part} utterance with a label in these corpora;"
                                    " take the fold out of the file, or add what it lists")  # fmt: skip
        parts = without_copies(examples, parts, protocol)
        if not len(parts.get("valid", ())):
            folds.append(validate(examples, parts["train"], parts["test"], None, protocol, generator))
        elif given and protocol.validation != "next":
            raise EmocacheError(f"fold {name} of protocol.file has a validation part of its own, which"
                                f" protocol.validation = {protocol.validation!r} would leave unused; leave it"
                                " out")  # fmt: skip
        else:
            folds.append(Fold(parts["train"], parts["valid"], parts["test"]))
    return folds


def _given(examples: Sequence[Example], names: Sequence[str]) -> Iterator[tuple[str, dict[str, Rows]]]:
    """Yield the parts of each fold as they are listed."""
    rows: dict[tuple[str, str], list[int]] = {(name, part): [] for name in names for part in PARTS}
    for row, example in enumerate(examples):
        for place in example.places:
            rows[place].append(row)
    yield from ((name, {part: np.array(rows[name, part], np.int64) for part in PARTS}) for name in names)


def _tested(
    examples: Sequence[Example], names: Sequence[str], protocol: Protocol
) -> Iterator[tuple[str, dict[str, Rows]]]:
    """Yield for each fold who is tested in it; of the others the next fold validates, where that is asked for."""
    if protocol.validation == "next" and protocol.validation_group:
        raise EmocacheError("protocol.validation_group has no use where the next fold of protocol.file validates; leave"
                            " it out, or use protocol.validation = 'fraction'")  # fmt: skip
    if len(names) < (needed := 3 if protocol.validation == "next" else 2):
        raise EmocacheError(f"protocol.file: {needed} folds are needed with protocol.validation ="
                            f" {protocol.validation!r}, and these corpora are in {len(names)}: {', '.join(names)}; add"
                            " what the others list, or a column `part`")  # fmt: skip
    numbers = {name: number for number, name in enumerate(names)}
    fold = np.array([numbers[example.places[0][0]] for example in examples])
    for number, name in enumerate(names):
        parts = {"train": np.flatnonzero(fold != number), "test": np.flatnonzero(fold == number)}
        if protocol.validation == "next":
            following = (number + 1) % len(names)
            parts["train"] = np.flatnonzero((fold != number) & (fold != following))
            parts["valid"] = np.flatnonzero(fold == following)
        yield name, parts
