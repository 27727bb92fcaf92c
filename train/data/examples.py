"""The utterances of a protocol, each with its label and with the columns that folds and tables ask for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, Manifest
from ...cache.expression import chosen, parse_expression
from ...cache.recordings import shared_recordings
from ..config.sections import Protocol
from ..config.settings import Settings
from .example import OWN, Example
from .labels import labels_of
from .lists.fold_file import read_fold_file
from .lists.placing import Listing, place

_SPLITS = ("train", "valid", "test")

Side = Literal["train_on", "test_on"]
Mask = npt.NDArray[np.bool_]


class Examples(NamedTuple):
    """Every utterance of the protocol with a label.

    Attributes:
        rows: in the order of corpora and ids. classes: sorted; empty where the task has none. auxiliary: classes of
            the second target. dropped: {label: utterances} left out by the label map. unlabelled: utterances without
            a label. listing: of the protocol's fold file.
    """

    rows: list[Example]
    classes: tuple[str, ...]
    auxiliary: tuple[str, ...]
    dropped: dict[str, int]
    unlabelled: int
    listing: Listing | None = None


def make_examples(manifests: Sequence[Manifest], settings: Settings) -> Examples:
    """Keep the utterances that have a label and a place in the protocol.

    Args:
        manifests: of every corpus.
        settings: targets, label map, second target and protocol.

    Returns:
        Them in the order of corpora and ids, with the classes, and the counts of those left out.

    Raises:
        EmocacheError: no utterance has one, no corpus has a column that the settings name, or see `sides`,
            `fold_file.read_fold_file` and `placing.place`.
    """
    dropped: Counter[str] = Counter()
    found = [labels_of(manifest, settings, dropped) for manifest in manifests]
    everyone, listing = _placed(_described(manifests, settings), manifests, settings.protocol)
    pairs = [(e, ref) for e, ref in zip(everyone, (r for refs in found for r in refs), strict=True) if ref is not None]
    unlabelled = len(everyone) - len(pairs) - sum(dropped.values())
    where = " + ".join(manifest.corpus for manifest in manifests)
    if not pairs:
        reason = f"; the label map drops {dict(dropped)}; name these labels in [labels]" if dropped else ""
        raise EmocacheError(f"no utterance of {where} has {' and '.join(settings.targets)}{reason}")
    used = _used([example for example, _ in pairs], settings.protocol)
    listing = listing and replace(listing, unlisted=int((~used).sum()))
    pairs = [pair for pair, kept in zip(pairs, used, strict=True) if kept]
    if not pairs:
        split = f"protocol.file {listing.name}" if listing else "an official split (train, valid or test)"
        raise EmocacheError(f"no labelled utterance of {where} is in {split}; use another protocol.name")
    # Sorted names, so that class numbers do not depend on which utterance comes first.
    labels = sorted({ref for _, ref in pairs if isinstance(ref, str)})
    classes = tuple(sorted(settings.labels)) if settings.labels else tuple(labels)
    second = [example.column(settings.auxiliary) if settings.auxiliary else None for example, _ in pairs]
    auxiliary = tuple(sorted({name for name in second if name is not None}))
    if settings.auxiliary and len(auxiliary) < 2:
        raise EmocacheError(f"auxiliary = {settings.auxiliary!r} has the classes {list(auxiliary)}; a head cannot learn"
                            " it from fewer than 2; leave auxiliary out, with a head of one task")  # fmt: skip
    rows = [
        replace(
            example,
            reference=classes.index(ref) if isinstance(ref, str) else ref,
            auxiliary=None if name is None else auxiliary.index(name),
        )
        for (example, ref), name in zip(pairs, second, strict=True)
    ]
    return Examples(rows, classes, auxiliary, dict(sorted(dropped.items())), unlabelled, listing)


def terms(protocol: Protocol, side: Side) -> list[tuple[str, dict[str, set[str]]]]:
    """Parse the expression that selects one side of a transfer.

    Args:
        protocol: holds the expression, and codes that stand for values.
        side: "train_on" or "test_on".

    Returns:
        (column, {value as it is written: values that its code stands for}) of each term.

    Raises:
        EmocacheError: a malformed expression.
    """
    parsed = _terms(f"protocol.{side}", getattr(protocol, side) or "all")
    return [(column, {v: set(protocol.codes.get(v, (v,))) for v in sorted(values)}) for column, values in parsed]


def _terms(key: str, expression: str) -> list[tuple[str, set[str]]]:
    try:
        return parse_expression(expression)
    except EmocacheError as error:
        raise EmocacheError(f"{key}: {error}") from None


def sides(examples: Sequence[Example], protocol: Protocol) -> tuple[Mask, Mask]:
    """Select the utterances of the two sides of a transfer.

    Args:
        examples: U utterances.
        protocol: names them with `train_on` and `test_on`.

    Returns:
        Two (U,) bool: those that train, those that test.

    Raises:
        EmocacheError: a malformed expression, a value that selects nothing, or an utterance on both sides.
    """
    train, test = _selected(examples, protocol, "train_on"), _selected(examples, protocol, "test_on")
    # Trained and tested at once would be a leak; the message names the values that both sides share.
    both = np.flatnonzero(train & test)
    if len(both):
        shared = [
            f"{column} {value}"
            for column, wanted in terms(protocol, "train_on")
            for other, unwanted in terms(protocol, "test_on")
            if column == other
            for value in sorted(set().union(*wanted.values()) & set().union(*unwanted.values()))
        ]
        told = f" (both name {', '.join(shared)})" if shared else ""
        raise EmocacheError(
            f"protocol.train_on = {protocol.train_on!r} and protocol.test_on = {protocol.test_on!r} both select"
            f" {len(both)} utterances, such as {examples[both[0]].key!r}{told}; leave them out of one side"
        )
    return train, test


def _selected(examples: Sequence[Example], protocol: Protocol, side: Side) -> Mask:
    try:
        kept = chosen(
            terms(protocol, side),
            lambda column: [example.cell(column) for example in examples],
            "utterance with a reference",
            ", or name it in protocol.codes",
        )
    except EmocacheError as error:
        raise EmocacheError(f"protocol.{side} = {getattr(protocol, side)!r}: {error}") from None
    return np.ones(len(examples), bool) if kept is None else np.array(kept, bool)


def _used(examples: Sequence[Example], protocol: Protocol) -> Mask:
    if protocol.entry.has_sides:
        return np.logical_or(*sides(examples, protocol))
    if protocol.file is not None:
        return np.array([bool(example.places) for example in examples], bool)
    used = np.array([not protocol.entry.parts_given or example.split in _SPLITS for example in examples], bool)
    if protocol.test_on is not None:
        tested = np.array([example.split == "test" for example in examples], bool)
        used[tested] = _selected([example for example in examples if example.split == "test"], protocol, "test_on")
    return used


def _described(manifests: Sequence[Manifest], settings: Settings) -> list[Example]:
    """Describe every utterance; its label is a placeholder until the classes of the protocol are known."""
    extra = {name: _column(manifests, name, key) for name, key in _named_columns(settings).items()}
    found = []
    for k, manifest in enumerate(manifests):
        own = {name: manifest.column(name) for name in OWN if name != "corpus"}
        # Hashes are compared between corpora only, so one corpus alone need not read them.
        media = manifest.column("media") if len(manifests) > 1 else [None] * len(manifest)
        shared = shared_recordings(manifest)
        for row, id_ in enumerate(manifest.ids):
            known = {name: values[row] for name, values in own.items()}
            columns = {name: values[k][row] for name, values in extra.items()}
            hashes = tuple(medium["sha256"] for medium in media[row] or ())
            held = tuple(f"{manifest.corpus}/{recording}" for recording in shared[row])
            found.append(
                Example(manifest.corpus, id_, reference=-1, columns=columns, media=hashes, recordings=held, **known)
            )
    return found


def _placed(
    examples: list[Example], manifests: Sequence[Manifest], protocol: Protocol
) -> tuple[list[Example], Listing | None]:
    """Give each utterance its places in the protocol's fold file, where there is one."""
    if protocol.file is None:
        return examples, None
    places, listing = place(manifests, read_fold_file(protocol.file))
    return [replace(example, places=own) for example, own in zip(examples, places, strict=True)], listing


def _named_columns(settings: Settings) -> dict[str, str]:
    """Find the columns that are no field of `Example`, each with a setting that names it."""
    protocol = settings.protocol
    enrolling = (settings.enrolment and settings.enrolment[1]) or "all"
    named: dict[str, list[str | None]] = {
        "protocol.group": [protocol.group],
        "protocol.validation_group": [protocol.validation_group],
        "protocol.resample": [protocol.resample],
        "vote": [settings.vote],
        "auxiliary": [settings.auxiliary],
        "protocol.train_on": [column for column, _ in terms(protocol, "train_on")],
        "protocol.test_on": [column for column, _ in terms(protocol, "test_on")],
        "features.enrolment_where": [column for column, _ in _terms("features.enrolment_where", enrolling)],
    }
    return {name: key for key, names in named.items() for name in names if name and name not in OWN}


def _column(manifests: Sequence[Manifest], name: str, key: str) -> list[list[str | float | None]]:
    """Read a column of every corpus; where one lacks it, it is unknown there; that all lack it is an error."""
    columns: list[list[str | float | None]] = []
    errors = []
    for manifest in manifests:
        try:
            columns.append(manifest.column(name))
        except EmocacheError as error:
            errors.append(str(error))
            columns.append([None] * len(manifest))
    if len(errors) == len(manifests):
        raise EmocacheError(f"{key}: {'; '.join(errors)}")
    return columns
