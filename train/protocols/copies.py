"""The record of recordings that several utterances of a corpus share, and lines about it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...cache.recordings import components
from ..config.sections import Protocol
from ..data.example import Example
from .folds import Fold
from .grouping import drawn, draws, group_of, joined, natural, plural

_TOLD = 5  # of a list that could be long


def merged(examples: Sequence[Example], protocol: Protocol) -> list[list[str]]:
    """Return the speakers (or whatever folds and intervals go by) that count as one, since they share a recording."""
    names = [f"{example.corpus}/{drawn(example, protocol)}" for example in examples]
    if protocol.entry.whole_groups:
        names = [group_of(example, protocol.group) or name for example, name in zip(examples, names, strict=True)]
    found: dict[str, set[str]] = {}
    for name, leader in zip(names, joined(names, [example.recordings for example in examples]), strict=True):
        found.setdefault(leader, set()).add(name)
    return [sorted(those, key=natural) for those in found.values() if len(those) > 1]


def joined_draws(examples: Sequence[Example], protocol: Protocol) -> list[list[str]]:
    """List [utterance, group] of those that intervals draw under another name than their own."""
    named = zip(examples, draws(examples, protocol), strict=True)
    return sorted([example.key, group] for example, group in named if group != drawn(example, protocol))


def record(examples: Sequence[Example], folds: Sequence[Fold], protocol: Protocol) -> dict[str, Any]:
    """Gather for run.json the number of shared recordings, the groups that count as one, and who is left out."""
    sizes = Counter(components([example.recordings for example in examples]))
    if max(sizes.values()) == 1:
        return {"shared": 0, "one_group": [], "left_out": []}
    left_out = {row for fold in folds for row in _in_no_part(examples, fold)}
    return {
        "shared": sum(count > 1 for count in sizes.values()),
        "one_group": merged(examples, protocol),
        "left_out": [examples[row].key for row in sorted(left_out)],
    }


def lines(found: Mapping[str, Any], protocol: Protocol) -> Iterator[str]:
    """Yield lines on what `record` found; none where no recording is shared."""
    if not found["shared"]:
        return
    how = "they may lie in two parts of a fold, as protocol.overlap = true declares"
    if not protocol.overlap:
        how = "each lies in one part of a fold"
    yield f"recordings that several utterances have: {found['shared']}; {how}"
    if found["one_group"]:
        groups = [" = ".join(name.partition("/")[2] or name for name in those) for those in found["one_group"]]
        kind = plural(protocol.group if protocol.entry.whole_groups else "group")
        yield f"{kind} that share a recording, which count as one: {_listed(groups)}"
    if found["left_out"]:
        yield (
            f"left out of training or validation: {len(found['left_out'])} utterances whose recording is tested or"
            f" validates under another id: {_listed(found['left_out'])}"
        )


def _in_no_part(examples: Sequence[Example], fold: Fold) -> list[int]:
    held = np.zeros(len(examples), bool)
    for part in (fold.train, fold.valid, fold.test):
        held[part] = True
    return np.flatnonzero(~held).tolist()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_TOLD]) + (", ..." if len(names) > _TOLD else "")
