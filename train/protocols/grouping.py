"""The groups of utterances by a column, those that count as one, and the order of their names."""

import re
from collections.abc import Sequence

from ...cache import EmocacheError
from ...cache.recordings import components
from ..config.sections import Protocol
from ..data.example import Example

_EVERYWHERE = ("corpus", "culture", "language", "gender")  # mean the same in every corpus; speaker 3 does not


def group_of(example: Example, kind: str) -> str | None:
    """Return the group of an utterance by a column of its manifest, unique over corpora; None where it is unknown."""
    name = example.column(kind)
    return name if name is None or kind in _EVERYWHERE else f"{example.corpus}/{name}"


def plural(kind: str) -> str:
    """Name several groups by a column, for people."""
    return "corpora" if kind == "corpus" else f"{kind}s"


def known_group(example: Example, kind: str, needs: str) -> str:
    """Return `group_of`, or raise an EmocacheError that says what needs it."""
    group = group_of(example, kind)
    if group is None:
        raise EmocacheError(f"utterance {example.key!r} has no {kind}, which {needs} needs; give one in the corpus, or"
                            " use another protocol.name or group")  # fmt: skip
    return group


def drawn(example: Example, protocol: Protocol) -> str:
    """Return the name that a bootstrap draws an utterance by, within its corpus: see `protocol.resample`.

    Args:
        example: an utterance.
        protocol: its `resample` and its `group`.

    Returns:
        A session or a speaker; where nobody knows it the other of the two, else the utterance itself.

    Raises:
        EmocacheError: the column that `protocol.resample` names says nothing of the utterance.
    """
    if protocol.resample:
        known_group(example, protocol.resample, "protocol.resample")
    kinds = [protocol.resample, *(["session"] if protocol.group == "session" else []), "speaker", "session"]
    return next((name for kind in kinds if kind and (name := example.column(kind))), example.id)


def draws(examples: Sequence[Example], protocol: Protocol) -> list[str]:
    """Return `drawn` of every utterance, where groups that share a recording, being no independent samples, are one."""
    groups = [f"{example.corpus}/{drawn(example, protocol)}" for example in examples]
    found = joined(groups, [example.recordings for example in examples])
    return [group.removeprefix(f"{example.corpus}/") for group, example in zip(found, examples, strict=True)]


def joined(groups: Sequence[str], held: Sequence[Sequence[str]]) -> list[str]:
    """Make groups whose rows hold something in common one, which is named after the first of them."""
    if not any(held):
        return list(groups)
    # The group is one more thing that its rows hold, so that whole groups are connected and not only rows.
    number = components([(("group", group), *own) for group, own in zip(groups, held, strict=True)])
    leaders: dict[int, str] = {}
    for group in sorted(set(zip(groups, number, strict=True)), key=lambda pair: natural(pair[0])):
        leaders.setdefault(group[1], group[0])
    return [leaders[one] for one in number]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which Actor_2 comes before Actor_10, and no two names are equal."""
    parts = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
    return [*parts, (-2, name)]
