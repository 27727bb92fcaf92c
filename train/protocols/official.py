"""The split that the owner of a corpus gives."""

from collections.abc import Sequence

import numpy as np

from ...cache import EmocacheError
from ..config.sections import Protocol
from ..data.example import Example
from .dealing import without_copies
from .folds import PARTS, Fold
from .validating import validate


def official(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    """Take the owner's parts as the only fold; without a validation part, draw one from training.

    Of the test part `test_on` has left what it selects, see `examples.make_examples`.

    Args:
        examples: in the order of their keys.
        protocol: says who validates where the owner does not.
        generator: decides who validates.

    Returns:
        One fold.

    Raises:
        EmocacheError: no utterance trains or is tested, or the owner's validation part would be left unused.
    """
    parts = {name: np.array([r for r, e in enumerate(examples) if e.split == name], np.int64) for name in PARTS}
    for name in ("train", "test"):
        if not len(parts[name]):
            raise EmocacheError(f"the official split has no {name} utterance; use another protocol.name")
    parts = without_copies(examples, parts, protocol)
    if not len(parts["valid"]):
        return [validate(examples, parts["train"], parts["test"], None, protocol, generator)]
    if protocol.validation != "next":
        raise EmocacheError(
            f"the official split has a validation part of its own, which protocol.validation = {protocol.validation!r}"
            " would leave unused; leave it out, or use protocol.name = 'transfer' with train_on = 'split=train'"
        )
    return [Fold(parts["train"], parts["valid"], parts["test"])]
