"""Protocols: which utterances train, which choose, which score, and a proof that they share no group."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from ..cache import EmocacheError
from ..cache.recipe import canonical_json
from .examples import Example
from .tables import Protocol

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers of the examples in each part, ascending."""

    train: Rows
    valid: Rows
    test: Rows


def make_folds(examples: Sequence[Example], protocol: Protocol) -> list[Fold]:
    """The folds of a protocol. Every example is in exactly one test part, except under `official`.

    Raises:
        EmocacheError: too few groups, an example without one, an official split without train or test utterances, or
            parts that share a group when the protocol does not declare it.
    """
    folds = [_official(examples, protocol)] if protocol.name == "official" else _rotating(examples, protocol)
    for number, fold in enumerate(folds):
        for part in ("train", "valid", "test"):
            if not len(getattr(fold, part)):
                raise EmocacheError(f"{protocol.name}: fold {number} has no {part} utterance; use fewer folds")
        declared = protocol.overlap or protocol.name == "random_folds"
        for kind in () if declared else dict.fromkeys(("speaker", protocol.group)):
            _check_overlap(examples, fold, number, kind, protocol.name)
    return folds


def overlap(examples: Sequence[Example], fold: Fold, kind: str) -> dict[str, list[str]]:
    """Groups that two parts share: {"train and test": [...], ...}, without what is unknown."""
    groups = {
        part: {_group(examples[row], kind) for row in getattr(fold, part)} - {None}
        for part in ("train", "valid", "test")
    }
    pairs = (("train", "test"), ("valid", "test"), ("train", "valid"))
    return {f"{a} and {b}": sorted(g for g in groups[a] & groups[b] if g) for a, b in pairs}


def split_sha256(examples: Sequence[Example], folds: Sequence[Fold]) -> str:
    """Hash (hex) of who is where in all folds."""
    parts = [[[examples[row].key for row in part] for part in (f.train, f.valid, f.test)] for f in folds]
    return sha256(canonical_json(parts)).hexdigest()


def _rotating(examples: Sequence[Example], protocol: Protocol) -> list[Fold]:
    generator = np.random.default_rng(protocol.seed)
    if protocol.name == "random_folds":
        members = [example.key for example in examples]
        count = protocol.folds or 0
        order = generator.permutation(len(examples))
        tests = [np.sort(part) for part in np.array_split(order, count)]
    else:
        members = [_known_group(example, protocol) for example in examples]
        names = sorted(set(members), key=natural)
        count = len(names) if protocol.name == "leave_one_out" else protocol.folds or 0
        needed = max(count, 3 if protocol.validation == "next" else 2)
        if len(names) < needed:
            raise EmocacheError(f"{protocol.name} needs at least {needed} {protocol.group}s, there are {len(names)}")
        assigned = _assign(examples, members, names, count, protocol.assignment)
        tests = [np.array([r for r, m in enumerate(members) if assigned[m] == k], np.int64) for k in range(count)]
    if protocol.validation == "next" and count < 3:
        raise EmocacheError(f"{count} folds leave nothing to train on when the next fold validates; use 3 or more, or"
                            " protocol.validation = 'fraction'")  # fmt: skip
    folds = []
    for k, test in enumerate(tests):
        rest = np.setdiff1d(np.arange(len(examples)), test)
        if protocol.validation == "next":
            valid = tests[(k + 1) % count]
        else:
            valid = _draw(rest, members, protocol.validation_fraction, generator)
        folds.append(Fold(np.setdiff1d(rest, valid), valid, test))
    return folds


def _assign(
    examples: Sequence[Example], members: Sequence[str], names: Sequence[str], count: int, how: str
) -> dict[str, int]:
    """Groups to folds: contiguous in sorted order, or greedily by gender and size."""
    if how == "sorted":
        return {str(name): k for k, part in enumerate(np.array_split(np.array(names), count)) for name in part}
    sizes = Counter(members)
    genders = {member: example.gender or "" for member, example in zip(members, examples, strict=True)}
    total = [0] * count
    of_gender: list[Counter[str]] = [Counter() for _ in range(count)]
    assigned = {}
    for name in sorted(names, key=lambda n: (genders[n], -sizes[n], natural(n))):
        fold = min(range(count), key=lambda k: (of_gender[k][genders[name]], total[k], k))
        assigned[name] = fold
        total[fold] += sizes[name]
        of_gender[fold][genders[name]] += 1
    return assigned


def _official(examples: Sequence[Example], protocol: Protocol) -> Fold:
    parts = {
        name: np.array([r for r, e in enumerate(examples) if e.split == name], np.int64)
        for name in ("train", "valid", "test")
    }
    for name in ("train", "test"):
        if not len(parts[name]):
            raise EmocacheError(f"the official split has no {name} utterance; use another protocol.name")
    if not len(parts["valid"]):
        members = [_group(example, protocol.group) or example.key for example in examples]
        generator = np.random.default_rng(protocol.seed)
        parts["valid"] = _draw(parts["train"], members, protocol.validation_fraction, generator)
        parts["train"] = np.setdiff1d(parts["train"], parts["valid"])
    return Fold(**parts)


def _draw(rows: Rows, members: Sequence[str], fraction: float, generator: np.random.Generator) -> Rows:
    """Whole groups, drawn until they hold the fraction of the rows; one group at least stays."""
    sizes = Counter(members[row] for row in rows)
    names = sorted(sizes, key=natural)
    chosen: set[str] = set()
    held = 0
    for at in generator.permutation(len(names))[: len(names) - 1]:
        if chosen and held >= fraction * len(rows):
            break
        chosen.add(names[at])
        held += sizes[names[at]]
    return np.array([row for row in rows if members[row] in chosen], np.int64)


def _known_group(example: Example, protocol: Protocol) -> str:
    group = _group(example, protocol.group)
    if group is None:
        raise EmocacheError(f"utterance {example.key!r} has no {protocol.group}, which {protocol.name} needs; give one"
                            " in the corpus, or use another protocol.name")  # fmt: skip
    return group


def _group(example: Example, kind: str) -> str | None:
    name = example.column(kind)
    return None if name is None else name if kind == "corpus" else f"{example.corpus}/{name}"


def _check_overlap(examples: Sequence[Example], fold: Fold, number: int, kind: str, protocol: str) -> None:
    for parts, shared in overlap(examples, fold, kind).items():
        if shared:
            raise EmocacheError(
                f"{protocol}: {parts} of fold {number} share {len(shared)} {kind}s, such as {shared[0]!r}; use"
                " protocol.name = 'group_folds', or declare it with protocol.overlap = true"
            )


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which Actor_2 comes before Actor_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
