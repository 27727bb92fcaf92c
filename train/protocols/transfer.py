"""Training on one selection of utterances and testing on another, such as two languages."""

from collections.abc import Sequence

import numpy as np

from ..config.sections import Protocol
from ..data.example import Example
from ..data.examples import sides
from .dealing import without_copies
from .folds import Fold
from .validating import validate


def transfer(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    """Train on what `train_on` selects and test on what `test_on` does, as the only fold."""
    train, test = (np.flatnonzero(side) for side in sides(examples, protocol))
    parts = without_copies(examples, {"train": train, "test": test}, protocol)
    return [validate(examples, parts["train"], parts["test"], None, protocol, generator)]
