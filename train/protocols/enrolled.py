"""Folds whose test parts lack the utterances that enrol their speakers."""

from collections.abc import Sequence
from dataclasses import replace

from ...cache import EmocacheError
from ..data.enrolment import Enrolment
from .folds import Fold


def enrolled_folds(folds: Sequence[Fold], enrolment: Enrolment | None) -> list[Fold]:
    """Leave what enrols out of the test parts. Validation parts keep it: it is not scored, but a refit trains on it.

    Args:
        folds: of a protocol.
        enrolment: None where nobody is enrolled.

    Returns:
        The folds.

    Raises:
        EmocacheError: a speaker who is trained and validated, or trained and tested, whom there is no need to enrol; or
            a part of which nothing is left to score.
    """
    if enrolment is None:
        return list(folds)
    for number, fold in enumerate(folds):
        for one in fold.rounds:
            _check(one, number, enrolment)
    return [_tested(fold, enrolment) for fold in folds]


def _tested(fold: Fold, enrolment: Enrolment) -> Fold:
    nested = tuple(_tested(one, enrolment) for one in fold.nested)
    return replace(fold, test=enrolment.scored(fold.test), nested=nested)


def _check(fold: Fold, number: int, enrolment: Enrolment) -> None:
    for part, how in (("valid", "validated"), ("test", "tested")):
        rows = getattr(fold, part)
        shared = {enrolment.speakers[row] for row in fold.train} & {enrolment.speakers[row] for row in rows}
        if shared:
            raise EmocacheError(
                f"features.enrolment is for speakers whom training has not heard, and {min(shared)!r} is trained and"
                f" {how} in fold {number}; use protocol.name = 'group_folds' with group = 'speaker' and"
                " protocol.validation = 'next', 'fraction' or 'nested', or leave enrolment out"
            )
        if not len(enrolment.scored(rows)):
            raise EmocacheError(
                f"features.enrolment = {enrolment.clips} leaves nothing of the {part} part of fold {number} to score;"
                " enrol with fewer"
            )
