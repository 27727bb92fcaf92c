"""Checks of the labels before training: something must be there to learn, and parts of one unit must agree."""

from collections import Counter
from collections.abc import Collection

import numpy as np

from ...cache import EmocacheError
from ...cache.hints import nearest
from ..config.settings import Settings
from .example import Stamps
from .examples import Examples

_MISSPELT = 0.8  # from this likeness on (difflib's ratio); what is less alike may be a label of another corpus


def check_targets(examples: Examples, settings: Settings) -> None:
    """Refuse labels that training would accept without an error although nothing can be learned from them.

    Args:
        examples: of the protocol.
        settings: task, targets, label map and vote.

    Raises:
        EmocacheError: a class without an utterance, fewer than two classes, a number that is the same everywhere, or
            units of a vote whose parts have different labels.
    """
    if settings.task == "classification" and settings.threshold is None:
        _check_classes(examples, settings)
    elif settings.task != "classification":
        _check_values(examples, settings)
    if settings.vote:
        _check_units(examples, settings.vote)


def check_members(settings: Settings, present: Collection[str | None], dropped: Collection[str]) -> None:
    """Refuse a label map that misspells a label beside a right one.

    A member that no utterance has is none by itself: one map may serve corpora with names of their own.

    Args:
        settings: with the label map.
        present: the labels there are. dropped: those of them that belong to no class.

    Raises:
        EmocacheError: no utterance has a member, and one that belongs to no class is written almost like it.
    """
    for name, members in settings.labels.items():
        for member in members:
            near = None if member in present else nearest(member, dropped, _MISSPELT)
            if near:
                raise EmocacheError(f"labels.{name}: no utterance has {settings.targets[0]} {member!r}; did you mean"
                                    f" {near!r}, which belongs to no class?")  # fmt: skip


def _check_classes(examples: Examples, settings: Settings) -> None:
    counts = Counter(examples.classes[int(e.reference)] for e in examples.rows)  # type: ignore[arg-type]
    for name, members in settings.labels.items():
        if not counts[name]:
            others = ", ".join(examples.dropped) or "none"
            raise EmocacheError(
                f"labels.{name}: no utterance has {settings.targets[0]} {' or '.join(map(repr, members)) or 'nothing'};"
                f" labels that belong to no class: {others}"
            )
    if len(counts) < 2:
        raise EmocacheError(f"target {settings.targets[0]!r} is {next(iter(counts))!r} in every utterance; a"
                            " classification needs two classes")  # fmt: skip


def _check_values(examples: Examples, settings: Settings) -> None:
    found = [e.reference.values if isinstance(e.reference, Stamps) else e.reference for e in examples.rows]
    columns = np.concatenate([np.atleast_2d(np.asarray(one)) for one in found]).T
    for target, column in zip(settings.targets, columns, strict=True):
        known = column[~np.isnan(column)]
        if not len(known):
            raise EmocacheError(f"no utterance has {target}; leave it out of targets")
        if len(known) > 1 and np.ptp(known) == 0:
            raise EmocacheError(f"target {target!r} is {known[0]:g} in every utterance; nothing can be learned of it:"
                                " leave it out of targets")  # fmt: skip


def _check_units(examples: Examples, column: str) -> None:
    held: dict[tuple[str, str], int] = {}
    for example in examples.rows:
        unit = example.column(column)
        if unit is None:
            continue
        first = held.setdefault((example.corpus, unit), int(example.reference))  # type: ignore[arg-type]
        if first != example.reference:
            raise EmocacheError(
                f"vote = {column!r}: the parts of {unit!r} are {examples.classes[first]!r} and"
                f" {examples.classes[int(example.reference)]!r}; name the column that tells what a row"  # type: ignore[arg-type]
                " is a part of"
            )
