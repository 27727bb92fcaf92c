"""What utterances are grouped by, and the order of such names."""

import re
from collections.abc import Sequence

from ..cache import EmocacheError
from .examples import Example
from .tables import Protocol

_EVERYWHERE = ("corpus", "culture", "language", "gender")  # mean the same in every corpus; speaker 3 does not


def group_of(example: Example, kind: str) -> str | None:
    """The group of an utterance by a column of its manifest, unique over corpora; None where it is unknown."""
    name = example.column(kind)
    return name if name is None or kind in _EVERYWHERE else f"{example.corpus}/{name}"


def plural(kind: str) -> str:
    """Several groups by a column, for people."""
    return "corpora" if kind == "corpus" else f"{kind}s"


def known_group(example: Example, kind: str, needs: str) -> str:
    """`group_of`, or an EmocacheError that says what needs it."""
    group = group_of(example, kind)
    if group is None:
        raise EmocacheError(f"utterance {example.key!r} has no {kind}, which {needs} needs; give one in the corpus, or"
                            " use another protocol.name or group")  # fmt: skip
    return group


def drawn(example: Example, protocol: Protocol) -> str:
    """What a bootstrap draws an utterance by, within its corpus: see `protocol.resample`.

    Where nobody knows the session or the speaker it is the other of the two, else the utterance.

    Raises:
        EmocacheError: the column that `protocol.resample` names says nothing of the utterance.
    """
    if protocol.resample:
        known_group(example, protocol.resample, "protocol.resample")
    kinds = [protocol.resample, *(["session"] if protocol.group == "session" else []), "speaker", "session"]
    return next((name for kind in kinds if kind and (name := example.column(kind))), example.id)


def joined(groups: Sequence[str], sessions: Sequence[str | None]) -> list[str]:
    """Groups that share a session as one, which is named after the first of them."""
    leaders = {group: group for group in groups}

    def leader(group: str) -> str:
        while leaders[group] != group:
            group = leaders[group]
        return group

    met: dict[str, str] = {}
    for group, session in zip(groups, sessions, strict=True):
        if session is not None:
            first, second = sorted((leader(met.setdefault(session, group)), leader(group)), key=natural)
            leaders[second] = first
    return [leader(group) for group in groups]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which Actor_2 comes before Actor_10, and no two names are equal."""
    parts = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
    return [*parts, (-2, name)]
