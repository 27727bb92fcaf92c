"""The registry of losses. A new one is a function in train/fit/losses.py and an entry here."""

from collections.abc import Mapping
from dataclasses import dataclass

NUMBERS = ("regression", "frame_regression")
"""The tasks whose targets have a unit."""


@dataclass(frozen=True)
class LossKind:
    """The facts about a loss that an experiment is checked by.

    Attributes:
        function: its name in train/fit/losses.py.
        tasks: those that it fits; the first entry of a task is its default.
        pooled: it is one figure of a whole step, so that a step needs many utterances, of mixed lengths.
        weighs_classes: it takes class weights and label smoothing.
    """

    function: str
    tasks: tuple[str, ...]
    pooled: bool = False
    weighs_classes: bool = False


LOSS_KINDS: Mapping[str, LossKind] = {
    "cross_entropy": LossKind("cross_entropy", ("classification",), weighs_classes=True),
    "sigmoid": LossKind("sigmoid_cross_entropy", ("classification",)),  # element-wise on one-hot classes (MDRE)
    "soft_cross_entropy": LossKind("soft_cross_entropy", ("distribution",)),
    "mse": LossKind("mean_squared_error", NUMBERS),
    "mae": LossKind("mean_absolute_error", NUMBERS),
    "ccc": LossKind("concordance_loss", NUMBERS, pooled=True),
    "mse_ccc": LossKind("squared_error_and_concordance", NUMBERS, pooled=True),
}
