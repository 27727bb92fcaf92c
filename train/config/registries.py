"""The registries of losses and protocols: the facts about each that an experiment is checked by.

A new loss is a function in train/fit/losses.py, a new protocol one in a file of train/protocols, and an entry here.
"""

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


@dataclass(frozen=True)
class ProtocolKind:
    """The facts about a protocol that its settings are checked by, before there is anything to cut.

    Attributes:
        cut: `module:function` in train/protocols; the function gives the folds.
        settings: those of `[protocol]` that only some protocols know, and this one does.
        whole_groups: each fold holds out whole groups by `group`.
        parts_given: train and test may be given, so that there need be no next fold to validate.
        shares_groups: any two parts may share a group, by the nature of the protocol.
        tells_shared: parts that share a speaker or a group are told of and marked, not refused.
        remedy: told where two parts share a group that they must not share.
    """

    cut: str
    settings: tuple[str, ...] = ()
    whole_groups: bool = False
    parts_given: bool = False
    shares_groups: bool = False
    tells_shared: bool = False
    remedy: str = "use protocol.group = 'speaker'"

    @property
    def has_sides(self) -> bool:
        """True where expressions select who trains and who tests."""
        return "train_on" in self.settings


PROTOCOLS: Mapping[str, ProtocolKind] = {
    "leave_one_out": ProtocolKind("group_folds:leave_one_out", whole_groups=True),
    "group_folds": ProtocolKind("group_folds:group_folds", ("folds",), whole_groups=True),
    "random_folds": ProtocolKind("random_folds:random_folds", ("folds", "stratify"), shares_groups=True),
    "official": ProtocolKind(
        "official:official", ("test_on",), parts_given=True, remedy="use protocol.name = 'group_folds'"
    ),
    "transfer": ProtocolKind(
        "transfer:transfer", ("train_on", "test_on"), parts_given=True, remedy="narrow train_on or test_on"
    ),
    "file": ProtocolKind("listed_folds:listed_folds", ("file",), parts_given=True, tells_shared=True),
}


def owners(setting: str) -> list[str]:
    """Return the protocols that know a setting which others do not; none where all know it."""
    return [name for name, kind in PROTOCOLS.items() if setting in kind.settings]
