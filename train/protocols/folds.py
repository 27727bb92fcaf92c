"""Protocols: which utterances train, which choose, which score, and a proof that they share no group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from ...cache.recipe import canonical_json
from ..config.registries import ProtocolKind
from ..config.sections import Protocol
from ..data.example import Example
from .grouping import group_of, plural

Rows = npt.NDArray[np.int64]

PARTS = ("train", "valid", "test")
PAIRS = (("train", "test"), ("valid", "test"), ("train", "valid"))


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers of the examples in each part, ascending.

    Attributes:
        train, valid, test: the parts. Where all that trains validates in turn, `valid` is `train`.
        nested: then, folds within the training part: each part of it validates once, and the others train.
    """

    train: Rows
    valid: Rows
    test: Rows
    nested: tuple["Fold", ...] = field(default=(), kw_only=True)

    @property
    def rounds(self) -> tuple["Fold", ...]:
        """The folds whose heads are validated, on parts that no two of them share: those within, or this one."""
        return self.nested or (self,)

    def each(self, change: Callable[[Rows], Rows]) -> "Fold":
        """Return the fold with every part of it, and of those within, changed."""
        parts = (change(getattr(self, part)) for part in PARTS)
        return Fold(*parts, nested=tuple(one.each(change) for one in self.nested))


Cut = Callable[[Sequence[Example], Protocol, np.random.Generator], list[Fold]]
"""A protocol: examples in the order of their keys, its settings, and what decides everything random -> folds."""


def make_folds(examples: Sequence[Example], protocol: Protocol) -> list[Fold]:
    """Cut examples into the folds of a protocol; the order of the examples does not change who is where.

    `leave_one_out`, `group_folds` and `random_folds` test every example once, `official` the owner's test part,
    `transfer` all that `test_on` selects, and `file` what the fold file says; under `validation = "half"` half of each
    held-out part validates, so that only the other half of these is ever tested. All examples are in some part of every
    fold, except those that are in no part of the owner's split or of a fold in the file, or on no side of the transfer.

    What validates is the next fold; or whole groups (`fraction`), or single utterances (`random_utterance`), drawn from
    the training part; or half of the held-out part; or all of it (`test`). The single folds of `official` and
    `transfer`, and those of a `file` with parts, have no next one: there it is the owner's validation part, or else a
    fraction in whole groups, together with those they share a session with. Under `nested` all of the training part
    validates in turn: it is cut into `validation_folds` parts of whole groups (`random_folds`: of utterances), by
    `assignment`, see `Fold.nested`.

    No two parts share a speaker or a group, except as the protocol declares by its nature: `random_folds` in all
    parts; `random_utterance` and a `validation_group` in train and valid; `half` and `test` in valid and test. A `file`
    may share what it likes, which cautions tell. The same holds of the folds within a training part.

    Nor, whatever the protocol, do utterances of one recording (`Example.recordings`) lie in two parts: groups that
    share one are one group, and what is drawn is drawn together. Where the parts are given, by `official`, `transfer`
    and `file`, what is tested is left out of validation and training, and what validates out of training. Only
    `protocol.overlap` lets them be.

    Args:
        examples: with a reference each.
        protocol: the `[protocol]` table.

    Returns:
        The folds, whose rows are numbers of `examples`.

    Raises:
        EmocacheError: too few groups, an example without one, an official split without train or test utterances, a
            part without utterances, `stratify` without classes, parts that share a group when the protocol does not
            declare it, or see `examples.sides`.
    """
    if protocol.validation_group and not _draws_groups(protocol):
        raise EmocacheError("protocol.validation_group is what validation = 'fraction' and 'nested' keep together; it"
                            f" has no use with validation = {protocol.validation!r}; leave it out")  # fmt: skip
    if protocol.folds == 2 and protocol.validation == "next":
        raise EmocacheError("2 folds leave nothing to train on when the next fold validates; use 3 or more, or"
                            " protocol.validation = 'fraction'")  # fmt: skip
    # Sorted first, so that what is drawn depends on who is there and not on the order of the corpora.
    order = np.array(sorted(range(len(examples)), key=lambda row: examples[row].key), np.int64)
    ordered = [examples[row] for row in order]
    folds = cut_of(protocol.entry)(ordered, protocol, np.random.default_rng(protocol.seed))
    for number, fold in enumerate(folds):
        for one in fold.rounds:
            _check(ordered, one, number, protocol)
    return [fold.each(lambda rows: np.sort(order[rows])) for fold in folds]


def cut_of(entry: ProtocolKind) -> Cut:
    """Return the function of a protocol's entry."""
    # Imported by name only now: the functions build on this module, and the registry on no code at all.
    module, _, function = entry.cut.partition(":")
    return getattr(import_module(f".{module}", __package__), function)  # type: ignore[no-any-return]


def overlap(examples: Sequence[Example], fold: Fold, kind: str) -> dict[str, list[str]]:
    """Find the groups that two parts share: {"train and test": [...], ...}, without what is unknown."""
    groups = {part: {group_of(examples[row], kind) for row in getattr(fold, part)} - {None} for part in PARTS}
    return {f"{a} and {b}": sorted(g for g in groups[a] & groups[b] if g) for a, b in PAIRS}


def split_sha256(examples: Sequence[Example], folds: Sequence[Fold]) -> str:
    """Hash (hex) who is where in all folds."""
    parts = [[sorted(examples[row].key for row in part) for part in (f.train, f.valid, f.test)]
             for fold in folds for f in (fold, *fold.nested)]  # fmt: skip
    return sha256(canonical_json(parts)).hexdigest()


def _draws_groups(protocol: Protocol) -> bool:
    """Tell whether whole groups are chosen to validate."""
    # Where the parts are given there is no next fold, and whole groups are drawn in its place.
    given = protocol.entry.parts_given and protocol.validation == "next"
    return protocol.validation in ("fraction", "nested") or given


def _declared(protocol: Protocol) -> set[str]:
    """Return the pairs of parts that may share groups, by the nature of the protocol or because it says so."""
    if protocol.overlap or protocol.entry.shares_groups:
        return {f"{a} and {b}" for a, b in PAIRS}
    if protocol.validation == "random_utterance" or protocol.validation_group:
        return {"train and valid"}
    return {"valid and test"} if protocol.validation in ("half", "test") else set()


def _check(examples: Sequence[Example], fold: Fold, number: int, protocol: Protocol) -> None:
    """Refuse an empty part, and parts that share what the protocol does not declare."""
    for part in PARTS:
        if not len(getattr(fold, part)):
            remedy = "use fewer folds" if protocol.folds else "use another protocol.validation"
            raise EmocacheError(f"{protocol.name}: fold {number} has no {part} utterance; {remedy}")
    declared = _declared(protocol)
    if protocol.entry.tells_shared:  # see `cautions.of_parts`
        declared = {f"{a} and {b}" for a, b in PAIRS}
    for kind in dict.fromkeys(("speaker", protocol.group)):
        for parts, shared in overlap(examples, fold, kind).items():
            if shared and parts not in declared:
                raise EmocacheError(
                    f"{protocol.name}: {parts} of fold {number} share {len(shared)} {plural(kind)}, such as"
                    f" {shared[0]!r}; {protocol.entry.remedy}, or declare it with protocol.overlap = true"
                )
    _check_recordings(examples, fold, number, protocol)


def _check_recordings(examples: Sequence[Example], fold: Fold, number: int, protocol: Protocol) -> None:
    """Refuse undeclared parts that share a recording under the names of two corpora."""
    # Ids differ between corpora, but the bytes of a medium tell that one file was taken into both.
    corpora = {example.corpus for example in examples}
    held = {p: {(m, examples[r].corpus): r for r in getattr(fold, p) for m in examples[r].media} for p in PARTS}
    for a, b in PAIRS:
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
