"""Protocols: which utterances train, which choose, which score, and a proof that they share no group."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from ...cache.recipe import canonical_json
from ...cache.recordings import components
from ..config.sections import Protocol
from ..data.examples import Example, sides
from .grouping import group_of, joined, known_group, natural, plural

Rows = npt.NDArray[np.int64]

_PARTS = ("train", "valid", "test")
_PAIRS = (("train", "test"), ("valid", "test"), ("train", "valid"))


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers of the examples in each part, ascending."""

    train: Rows
    valid: Rows
    test: Rows


def make_folds(examples: Sequence[Example], protocol: Protocol) -> list[Fold]:
    """The folds of a protocol (models.md 4); the order of the examples does not change who is where.

    `leave_one_out`, `group_folds` and `random_folds` test every example once, `official` the owner's test part, and
    `transfer` all that `test_on` selects; under `validation = "half"` half of each held-out part validates, so that
    only the other half of these is ever tested. All examples are in some part of every fold, except those that are in
    no part of the owner's split or on no side of the transfer.

    What validates is the next fold; or whole groups (`fraction`), or single utterances (`random_utterance`), drawn from
    the training part; or half of the held-out part; or all of it (`test`). The single folds of `official` and
    `transfer` have no next one: there it is the owner's validation part, or else a fraction in whole groups, together
    with those they share a session with.

    No two parts share a speaker or a group, except as the protocol declares by its nature: `random_folds` in all
    parts; `random_utterance` and a `validation_group` in train and valid; `half` and `test` in valid and test.

    Nor, whatever the protocol, do utterances of one recording (`Example.recordings`) lie in two parts: groups that
    share one are one group, and what is drawn is drawn together. Where the parts are given, by `official` and
    `transfer`, what is tested is left out of validation and training, and what validates out of training. Only
    `protocol.overlap` lets them be.

    Raises:
        EmocacheError: too few groups, an example without one, an official split without train or test utterances, a
            part without utterances, `stratify` without classes, parts that share a group when the protocol does not
            declare it, or see `examples.sides`.
    """
    if protocol.validation_group and not _draws_groups(protocol):
        raise EmocacheError("protocol.validation_group is what validation = 'fraction' keeps together; it has no use"
                            f" with validation = {protocol.validation!r}; leave it out")  # fmt: skip
    order = np.array(sorted(range(len(examples)), key=lambda row: examples[row].key), np.int64)
    ordered = [examples[row] for row in order]
    cut = {"official": _official, "transfer": _transfer}.get(protocol.name, _rotating)
    folds = cut(ordered, protocol, np.random.default_rng(protocol.seed))
    for number, fold in enumerate(folds):
        _check(ordered, fold, number, protocol)
    return [Fold(*(np.sort(order[rows]) for rows in (fold.train, fold.valid, fold.test))) for fold in folds]


def overlap(examples: Sequence[Example], fold: Fold, kind: str) -> dict[str, list[str]]:
    """Groups that two parts share: {"train and test": [...], ...}, without what is unknown."""
    groups = {part: {group_of(examples[row], kind) for row in getattr(fold, part)} - {None} for part in _PARTS}
    return {f"{a} and {b}": sorted(g for g in groups[a] & groups[b] if g) for a, b in _PAIRS}


def split_sha256(examples: Sequence[Example], folds: Sequence[Fold]) -> str:
    """Hash (hex) of who is where in all folds."""
    parts = [[sorted(examples[row].key for row in part) for part in (f.train, f.valid, f.test)] for f in folds]
    return sha256(canonical_json(parts)).hexdigest()


def _rotating(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    if protocol.folds == 2 and protocol.validation == "next":
        raise EmocacheError("2 folds leave nothing to train on when the next fold validates; use 3 or more, or"
                            " protocol.validation = 'fraction'")  # fmt: skip
    everyone = np.arange(len(examples))
    tests = _held_out(examples, protocol, generator)
    folds = []
    for k, test in enumerate(tests):
        following = tests[(k + 1) % len(tests)] if protocol.validation == "next" else None
        folds.append(_validate(examples, np.setdiff1d(everyone, test), test, following, protocol, generator))
    return folds


def _held_out(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Rows]:
    """What each fold holds out."""
    if protocol.name == "random_folds":
        everyone = np.arange(len(examples))
        return _deal(
            examples, everyone, _shuffled(examples, everyone, protocol, generator), protocol.folds or 0, protocol
        )
    own = [known_group(example, protocol.group, protocol.name) for example in examples]
    members = joined(own, _recordings(examples, protocol))
    names = sorted(set(members), key=natural)
    count = len(names) if protocol.name == "leave_one_out" else protocol.folds or 0
    needed = max(count, 3 if protocol.validation == "next" else 2)
    if len(names) < needed:
        remedy = "use fewer folds" if protocol.folds else "give more, or use protocol.validation = 'random_utterance'"
        if apart := len(set(own)) - len(names):
            remedy = (f"{apart} more count as one with another, whose recordings they share: take the copies out of the"
                      f" corpus, {remedy}, or declare it with protocol.overlap = true")  # fmt: skip
        raise EmocacheError(f"{protocol.name} needs at least {needed} {plural(protocol.group)}, there are {len(names)};"
                            f" {remedy}")  # fmt: skip
    assigned = _assign(examples, members, names, count, protocol.assignment)
    return [np.array([r for r, m in enumerate(members) if assigned[m] == k], np.int64) for k in range(count)]


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


def _official(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    parts = {
        name: np.array([r for r, e in enumerate(examples) if e.split == name], np.int64)
        for name in ("train", "valid", "test")
    }
    for name in ("train", "test"):
        if not len(parts[name]):
            raise EmocacheError(f"the official split has no {name} utterance; use another protocol.name")
    parts = _without_copies(examples, parts, protocol)
    if not len(parts["valid"]):
        return [_validate(examples, parts["train"], parts["test"], None, protocol, generator)]
    if protocol.validation != "next":
        raise EmocacheError(
            f"the official split has a validation part of its own, which protocol.validation = {protocol.validation!r}"
            " would leave unused; leave it out, or use protocol.name = 'transfer' with train_on = 'split=train'"
        )
    return [Fold(**parts)]


def _transfer(examples: Sequence[Example], protocol: Protocol, generator: np.random.Generator) -> list[Fold]:
    train, test = (np.flatnonzero(side) for side in sides(examples, protocol))
    parts = _without_copies(examples, {"train": train, "test": test}, protocol)
    return [_validate(examples, parts["train"], parts["test"], None, protocol, generator)]


def _without_copies(examples: Sequence[Example], parts: dict[str, Rows], protocol: Protocol) -> dict[str, Rows]:
    """The parts of a given split, without what another utterance of the same recording tests, or else validates."""
    held = _recordings(examples, protocol)
    kept = dict(parts)
    later: set[str] = set()
    for name in (part for part in reversed(_PARTS) if part in parts):
        kept[name] = np.array([row for row in parts[name] if later.isdisjoint(held[row])], np.int64)
        later |= {recording for row in parts[name] for recording in held[row]}
    return kept


def _validate(
    examples: Sequence[Example],
    train: Rows,
    test: Rows,
    following: Rows | None,
    protocol: Protocol,
    generator: np.random.Generator,
) -> Fold:
    """The fold of a training and a held-out part. `following`: what the next fold holds out, where it validates."""
    if protocol.validation == "test":
        return Fold(train, test, test)
    if protocol.validation == "half":
        tested, valid = _deal(examples, test, _shuffled(examples, test, protocol, generator), 2, protocol)
        return Fold(train, valid, tested)
    if following is not None:
        valid = following
    elif protocol.validation == "random_utterance":
        order = _shuffled(examples, train, protocol, generator)
        count = max(1, round(protocol.validation_fraction * len(train)))
        # Evenly spaced, so that of stratified rows every class gives its share.
        valid = order[np.arange(count) * len(train) // count]
        valid = train[_together(examples, train, np.isin(train, valid).astype(np.int64), protocol) == 1]
    else:
        valid = _draw(train, _kept_together(examples, train, protocol), protocol, generator)
    return Fold(np.setdiff1d(train, valid), np.sort(valid), test)


def _deal(examples: Sequence[Example], rows: Rows, order: Rows, count: int, protocol: Protocol) -> list[Rows]:
    """The ascending rows dealt out in an order, one to each of `count` parts in turn."""
    place = np.empty(len(examples), np.int64)
    place[order] = np.arange(len(order)) % count
    dealt = _together(examples, rows, place[rows], protocol)
    return [rows[dealt == k] for k in range(count)]


def _together(examples: Sequence[Example], rows: Rows, places: Rows, protocol: Protocol) -> Rows:
    """The place of each row, which for all of one recording is that of the first of them."""
    held = _recordings([examples[row] for row in rows], protocol)
    if not any(held):
        return places
    _, first, number = np.unique(components(held), return_index=True, return_inverse=True)
    return places[first[number]]


def _recordings(examples: Sequence[Example], protocol: Protocol) -> list[tuple[str, ...]]:
    """What may not be in two parts."""
    return [() if protocol.overlap else example.recordings for example in examples]


def _shuffled(
    examples: Sequence[Example], rows: Rows, protocol: Protocol, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rows in random order; of `stratify` one class after the other, so that every n-th row has all of them alike."""
    order = generator.permutation(rows)
    if not protocol.stratify:
        return order
    classes = [examples[row].reference for row in order]
    if not all(isinstance(number, int) for number in classes):
        raise EmocacheError("protocol.stratify needs classes, and the references are numbers; leave it out")
    return order[np.argsort(np.array(classes), kind="stable")]


def _kept_together(examples: Sequence[Example], rows: Rows, protocol: Protocol) -> list[str]:
    """The group of each row that validates as a whole or not at all."""
    own = [examples[row] for row in rows]
    if protocol.validation_group:
        groups = [known_group(example, protocol.validation_group, "protocol.validation_group") for example in own]
    elif protocol.name == "random_folds":
        groups = [example.key for example in own]
    else:
        groups = [group_of(example, protocol.group) or example.key for example in own]
        if protocol.name in ("official", "transfer"):
            for kind in ("session", "speaker"):  # conversations, and those whose speakers meet again, stay together
                named = [group_of(example, kind) for example in own]
                groups = joined(groups, [() if name is None else (name,) for name in named])
    return joined(groups, _recordings(own, protocol))


def _draw(rows: Rows, groups: Sequence[str], protocol: Protocol, generator: np.random.Generator) -> Rows:
    """Whole groups, drawn until they hold the fraction of the rows; one group at least stays."""
    sizes = Counter(groups)
    names = sorted(sizes, key=natural)
    if len(names) < 2:
        kind = protocol.validation_group or protocol.group
        raise EmocacheError(f"{protocol.name}: no {kind} can validate, since all that could train belongs together, to"
                            f" {names[0]!r}; set protocol.validation_group to what divides it, or"
                            " protocol.validation = 'random_utterance'")  # fmt: skip
    chosen: set[str] = set()
    held = 0
    for at in generator.permutation(len(names))[: len(names) - 1]:
        if chosen and held >= protocol.validation_fraction * len(rows):
            break
        chosen.add(names[at])
        held += sizes[names[at]]
    return np.array([row for row, group in zip(rows, groups, strict=True) if group in chosen], np.int64)


def _draws_groups(protocol: Protocol) -> bool:
    single = protocol.name in ("official", "transfer")
    return protocol.validation == "fraction" or (single and protocol.validation == "next")


def _declared(protocol: Protocol) -> set[str]:
    """Pairs of parts that may share groups, by the nature of the protocol or because it says so."""
    if protocol.overlap or protocol.name == "random_folds":
        return {f"{a} and {b}" for a, b in _PAIRS}
    if protocol.validation == "random_utterance" or protocol.validation_group:
        return {"train and valid"}
    return {"valid and test"} if protocol.validation in ("half", "test") else set()


def _check(examples: Sequence[Example], fold: Fold, number: int, protocol: Protocol) -> None:
    """Refuse an empty part, and parts that share what the protocol does not declare."""
    for part in _PARTS:
        if not len(getattr(fold, part)):
            remedy = "use fewer folds" if protocol.folds else "use another protocol.validation"
            raise EmocacheError(f"{protocol.name}: fold {number} has no {part} utterance; {remedy}")
    remedies = {"official": "use protocol.name = 'group_folds'", "transfer": "narrow train_on or test_on"}
    remedy = remedies.get(protocol.name, "use protocol.group = 'speaker'")
    declared = _declared(protocol)
    for kind in dict.fromkeys(("speaker", protocol.group)):
        for parts, shared in overlap(examples, fold, kind).items():
            if shared and parts not in declared:
                raise EmocacheError(
                    f"{protocol.name}: {parts} of fold {number} share {len(shared)} {plural(kind)}, such as"
                    f" {shared[0]!r}; {remedy}, or declare it with protocol.overlap = true"
                )
    _check_recordings(examples, fold, number, protocol)


def _check_recordings(examples: Sequence[Example], fold: Fold, number: int, protocol: Protocol) -> None:
    """Refuse undeclared parts that share a recording under the names of two corpora."""
    corpora = {example.corpus for example in examples}
    held = {p: {(m, examples[r].corpus): r for r in getattr(fold, p) for m in examples[r].media} for p in _PARTS}
    for a, b in _PAIRS:
        if f"{a} and {b}" in _declared(protocol):
            continue
        for (medium, corpus), row in held[a].items():
            for other in (held[b].get((medium, name)) for name in sorted(corpora - {corpus})):
                if other is not None:
                    raise EmocacheError(
                        f"{protocol.name}: {examples[row].key!r} in {a} and {examples[other].key!r} in {b} of fold"
                        f" {number} are of one recording; name only one of their corpora, or declare it with"
                        " protocol.overlap = true"
                    )
