"""Cautions: things to know when one reads a number. Told in training, kept in run.json, marked in every table."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config.search import end_of
from ..config.sections import Protocol
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.enrolment import Enrolment
from ..data.example import Example, Stamps
from ..data.lists.placing import Listing
from ..inputs.prepared import Joined, Prepared
from ..protocols.folds import Fold, Rows, overlap
from ..protocols.grouping import draws, natural, plural
from ..records.metrics import FEWEST_GROUPS
from ..records.run_record import Caution

_NAMED = 6  # folds that a line names
_EXAMPLES = 3  # names of many
_SAME = 1e-5  # what differs by less, relative to 1 + its size, is rounding; see `transforms.spread`


class Warned(str):
    """A line for people that goes to standard error."""

    __slots__ = ()


def warned(found: Mapping[Any, Sequence[Caution]], what: str) -> Iterator[Warned]:
    """Yield a line for each caution, whatever the number of folds or runs it is true of.

    Args:
        found: the cautions of each fold (a number) or run (fold, seed).
        what: "fold" or "run".
    """
    where: dict[Caution, list[Any]] = {}
    for place, those in found.items():
        for caution in those:
            where.setdefault(caution, []).append(place)
    for caution, places in where.items():
        told = f"{len(places)} of {len(found)} {what}s"
        if len(places) == len(found):
            told = f"all {len(found)} {what}s" if len(found) > 1 else f"the only {what}"
        elif what == "fold":
            told += f": {', '.join(map(str, places[:_NAMED]))}{', ...' if len(places) > _NAMED else ''}"
        yield Warned(f"warning: {caution.kind} ({told}): {caution.text}")


def of_parts(dataset: Dataset, settings: Settings, fold: Fold, folds: int) -> list[Caution]:
    """Find what the parts of a fold lack of the classes, or of the spread of the values.

    Args:
        dataset: with classes, see `train_fold.with_classes`.
        settings: of the experiment.
        fold: whose parts are looked at.
        folds: number of folds of the protocol.

    Returns:
        The cautions, of groups and copies that parts share first; of a distribution no others.
    """
    present = dataset.present
    train, valid = (rows[present[rows]] for rows in (fold.train, fold.valid))
    test = fold.test[present[fold.test]] if settings.missing == "intersect" else fold.test
    learned = np.union1d(train, valid) if settings.selection.refit else train
    parts = {"training": learned, "validation": valid}
    found = [*_of_shared(dataset.examples, fold, settings.protocol), *_of_copies(dataset.examples, fold)]
    if settings.task == "classification":
        return [*found, *_of_classes(dataset, parts, test, folds)]
    return [*found, *([] if settings.task == "distribution" else _of_values(dataset.examples, settings.targets, parts))]


def _of_shared(examples: Sequence[Example], fold: Fold, protocol: Protocol) -> list[Caution]:
    """Speakers and groups that a fold file has on two sides, where other protocols refuse it."""
    found = []
    parts = {"train": "trained", "valid": "validated"}
    if protocol.validation in ("half", "test"):  # which asks for it by name
        del parts["valid"]
    for kind in dict.fromkeys(("speaker", protocol.group)) if protocol.entry.tells_shared else ():
        shared, who = overlap(examples, fold, kind), plural(kind)
        for part, how in parts.items():
            if shared[f"{part} and test"]:
                found.append(Caution(f"{who} {how} and tested", f"{who} of the test part are {how} on as well, as the"
                                     f" fold file has it, so that the score is not of unseen {who};"
                                     " protocol.name = 'group_folds' keeps them apart"))  # fmt: skip
    return found


def _of_copies(examples: Sequence[Example], fold: Fold) -> list[Caution]:
    """Recordings that are trained and tested, which only a declared overlap lets be."""
    trained, tested = ({one for row in rows for one in examples[row].recordings} for rows in (fold.train, fold.test))
    if not trained & tested:
        return []
    return [Caution("copies trained and tested", "recordings of the test part are trained on under another id, as"
                    " protocol.overlap = true declares; leave it out, and they stay together")]  # fmt: skip


def _of_classes(dataset: Dataset, parts: Mapping[str, Rows], test: Rows, folds: int) -> list[Caution]:
    references = np.array([example.reference for example in dataset.examples])
    held = {part: set(references[rows].tolist()) for part, rows in parts.items()}
    tested = set(references[test].tolist())
    found = []
    for number in sorted(tested - held["training"]):
        found.append(Caution("class never trained", f"class {dataset.classes[number]!r} is tested but never trained, so"
                             " that its recall is 0; use another protocol or fewer folds, or leave the class out with"
                             " labels"))  # fmt: skip
    for part, classes in held.items():
        if len(classes) == 1:
            name = dataset.classes[classes.pop()]
            found.append(Caution(f"one class in {part}", f"the {part} part has class {name!r} only, from which nothing"
                                 " can be learned or chosen; use fewer folds, or another"
                                 " protocol.validation"))  # fmt: skip
    means = "test on utterances that have it, or leave it out with labels"
    if folds > 1:
        means = ("even a constant guess then scores high there, and in the mean over folds; read the pooled score, use"
                 " fewer folds, or random_folds with protocol.stratify")  # fmt: skip
    for number in sorted(set(range(len(dataset.classes))) - tested):
        found.append(Caution("class not tested", f"class {dataset.classes[number]!r} is not in the test part, and"
                             f" balanced_accuracy (UA) is over the other classes; {means}"))  # fmt: skip
    return found


def _of_values(examples: Sequence[Example], targets: Sequence[str], parts: Mapping[str, Rows]) -> list[Caution]:
    ends = np.array([_ends(example) for example in examples])  # (U, 2, K)
    found = []
    for part, rows in parts.items():
        own = ends[rows]
        for k, target in enumerate(targets):
            known = own[~np.isnan(own[:, 0, k]), :, k]
            if len(known) and known[:, 0].min() == known[:, 1].max():
                found.append(Caution(f"constant {part}", f"{target} is {known[0, 0]:g} in all of the {part} part, from"
                                     " which nothing can be learned or chosen; use fewer folds, or another"
                                     " protocol.validation"))  # fmt: skip
    return found


def _ends(example: Example) -> npt.NDArray[np.float64]:
    """Least and greatest reference of an utterance, (2, K)."""
    values = example.reference.values if isinstance(example.reference, Stamps) else example.reference
    rows = np.atleast_2d(np.asarray(values, np.float64))
    return np.stack([rows.min(axis=0), rows.max(axis=0)])


def of_groups(examples: Sequence[Example], folds: Sequence[Fold], protocol: Protocol) -> list[Caution]:
    """Tell where there are too few groups for an interval."""
    names = draws(examples, protocol)
    count = len({(examples[row].corpus, names[row]) for fold in folds for row in fold.test})
    if count >= FEWEST_GROUPS:
        return []
    return [Caution(f"fewer than {FEWEST_GROUPS} groups", f"intervals are drawn from {count} groups (speakers, or what"
                    f" protocol.resample names); below {FEWEST_GROUPS} they are approximate and mostly too narrow; test"
                    " on more of them, or draw smaller ones that do not depend on each other")]  # fmt: skip


def of_listing(listing: Listing | None) -> list[Caution]:
    """Tell of a fold file that lists more than the corpora have."""
    if listing is None or not listing.absent:
        return []
    lacking = f"{len(listing.absent)} of {listing.listed} {listing.kind}"
    some = ", ".join(listing.absent[:_EXAMPLES]) + (", ..." if len(listing.absent) > _EXAMPLES else "")
    return [Caution("not all of the fold file", f"the corpora lack {lacking} that {listing.name} lists ({some}), so"
                    " that its folds are smaller here; compare with no number on all of them")]  # fmt: skip


def of_enrolment(enrolment: Enrolment | None, fold: Fold) -> list[Caution]:
    """Tell of speakers of a test part who have too few utterances to be enrolled as asked for."""
    tested = {enrolment.speakers[row] for row in fold.test} if enrolment is not None else set()
    if enrolment is None or not (few := sorted(tested & enrolment.fewer.keys(), key=natural)):
        return []
    some = ", ".join(f"{speaker} with {enrolment.fewer[speaker]}" for speaker in few[:_EXAMPLES])
    return [Caution("fewer clips enrolled", f"{len(few)} of {len(tested)} speakers of the test part have fewer than the"
                    f" {enrolment.clips} utterances of features.enrolment beside one to score ({some}"
                    f"{', ...' if len(few) > _EXAMPLES else ''}); enrol with fewer, or test on others")]  # fmt: skip


def of_features(prepared: Prepared, rows: Rows, settings: Settings) -> list[Caution]:
    """Streams that are the same in every frame of the training part, as the head is given them."""
    found = []
    for role, one in prepared.inputs.items():
        names, widths = settings.streams[role], one.features.widths
        named = names if len(names) == len(widths) else ["+".join(names)] * len(widths)
        for number in _constant(one.features, rows):
            found.append(Caution("constant features", f"stream {named[number]!r}: all {widths[number]} channels are the"
                                 " same in every frame of the training part, so that nothing can be learned of them;"
                                 " look at [features] (normalise = 'per_utterance' leaves nothing of one frame), or"
                                 " extract the stream anew"))  # fmt: skip
    return found


def _constant(features: Joined, rows: Rows) -> list[int]:
    """Find the streams that never change over some utterances' frames. Of a stream that does, little is looked at."""
    edges = list(pairwise(np.cumsum([0, *features.widths])))
    first: dict[int, npt.NDArray[np.float64]] = {}
    seen = np.zeros(len(edges), np.int64)
    constant = list(range(len(edges)))
    for row in rows:
        for stream in constant.copy():
            left, right = edges[stream]
            block = features.of(row)[features.valid_of(row, stream), left:right].astype(np.float64)
            if not len(block):
                continue
            seen[stream] += len(block)
            start = first.setdefault(stream, block[0])
            if (np.abs(block - start) > _SAME * (1 + np.abs(start))).any():
                constant.remove(stream)
        if not constant:
            break
    return [stream for stream in constant if seen[stream] > 1]


def of_search(settings: Settings, chosen: Mapping[str, Any]) -> list[Caution]:
    """Chosen numbers at an end of the three or more that were tried, unless nothing lies beyond."""
    found = []
    for key, values in settings.search.items():
        if end := end_of(values, chosen[key]):
            which, more = ("largest", "larger") if end > 0 else ("smallest", "smaller")
            found.append(Caution("search at its edge", f"{key} = {chosen[key]:g} is the {which} value tried; try"
                                 f" {more} ones as well, in [search] or with --sweep"))  # fmt: skip
    return found


def of_penalty(settings: Settings, penalty: float, tried: Sequence[float]) -> list[Caution]:
    """Find a penalty of a fit in closed form at an end of the three or more that were tried; 1 is the last of lda's."""
    last = settings.training.optimiser == "lda" and penalty == 1
    if len(tried) < 3 or last or penalty not in (min(tried), max(tried)):
        return []
    end, more = ("largest", "larger") if penalty == max(tried) else ("smallest", "smaller")
    return [Caution("search at its edge", f"{penalty:g} is the {end} of the penalties tried; try {more} ones as well,"
                    " in training.penalties")]  # fmt: skip


def of_epochs(settings: Settings, best: int, scores: Sequence[float]) -> list[Caution]:
    """Find the best epoch at an end of those that were trained.

    L-BFGS takes many steps in an epoch and stops where it has converged, and a cosine schedule is meant to end at its
    best; there neither end tells anything. Nor does a last epoch whose score an earlier one had as well.

    Args:
        settings: of the experiment.
        best: epoch, from 1.
        scores: of every epoch on validation, by `selection.metric`.

    Returns:
        One caution, or none.
    """
    training = settings.training
    if training.optimiser == "lbfgs" or settings.selection.epoch == "last" or len(scores) == 1:
        return []
    if best == 1:
        return [Caution("best epoch first", "no epoch after the first was better on validation; lower"
                        " training.learning_rate, and look at the scale of the targets and at"
                        " [features] normalise")]  # fmt: skip
    first = scores.index(scores[best - 1]) + 1
    if first == training.epochs and training.schedule != "cosine":
        return [Caution("best epoch last", f"validation was still getting better in the last of training.epochs ="
                        f" {training.epochs}; train longer")]  # fmt: skip
    return []
