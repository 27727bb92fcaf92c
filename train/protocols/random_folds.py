"""Folds of utterances dealt at random, whoever speaks."""

from collections.abc import Sequence

import numpy as np

from ..config.sections import Protocol
from ..data.example import Example
from .dealing import deal, shuffled
from .folds import Fold
from .validating import rotate


def random_folds(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    """Deal the utterances, in random order, to `folds` parts that are held out in turn."""
    everyone = np.arange(len(examples))
    order = shuffled(examples, everyone, protocol, generator)
    return rotate(examples, deal(examples, everyone, order, protocol.folds or 0, protocol), protocol, generator)
