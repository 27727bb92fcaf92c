"""An experiment in words before it is carried out; `--dry-run` prints all of it."""

from collections import Counter
from collections.abc import Iterator

import torch

from ..config.search import search_points
from ..data.examples import Side, terms
from ..fit.cautions import warned
from ..fit.fold_result import has_target
from ..fit.train_fold import train_fold, with_classes
from ..protocols import copies
from ..protocols.folds import PARTS, Fold, Rows, overlap
from ..protocols.grouping import natural, plural
from .experiment_plan import Plan
from .trainings_told import parts_of, refits_of

_TOLD = 8  # names in one line


def summary(plan: Plan) -> Iterator[str]:
    """Lines on what is read, left out and declared."""
    dataset, settings = plan.dataset, plan.settings
    streams = ", ".join(f"{s.corpus}/{s.name}@{s.fingerprint[:12]}" for s in dataset.sources)
    yield (
        f"{plan.experiment} on {' + '.join(plan.corpora)}: {settings.protocol.name}, folds x seeds {len(plan.folds)} x"
        f" {len(settings.seeds)}, {settings.head.kind} on {streams}"
    )
    if settings.protocol.entry.has_sides:
        yield f"{settings.protocol.name}: trains on {_side(plan, 'train_on')}; tests on {_side(plan, 'test_on')}"
    elif settings.protocol.test_on is not None:
        yield f"{settings.protocol.name}: tests on {_side(plan, 'test_on')}"
    if listing := dataset.listing:
        there = listing.listed - len(listing.absent)
        yield (
            f"fold file {listing.name} (sha256 {listing.sha256[:12]}): {there} of {listing.listed} {listing.kind} are"
            f" in the corpora; {listing.unlisted} utterances that it does not list are left out"
        )
    if dataset.dropped:
        told = ", ".join(f"{label} ({count})" for label, count in dataset.dropped.items())
        yield f"dropped by the label map: {told}"
    if dataset.unlabelled:
        yield f"without {' and '.join(settings.targets)}: {dataset.unlabelled} utterances, left out"
    if settings.targets_apart and settings.task != "classification":
        counts = {t: int(has_target(dataset.examples, k).sum()) for k, t in enumerate(settings.targets)}
        if min(counts.values()) < len(dataset.examples):
            told = ", ".join(f"{target} {count}" for target, count in counts.items())
            yield f"each head trains on the utterances that have its target, of {len(dataset.examples)}: {told}"
    absent = [example.key for example, there in zip(dataset.examples, dataset.present, strict=True) if not there]
    if absent:
        told = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        yield f"without features: {len(absent)} utterances ({told}); in the test part: {settings.missing}"
    if dataset.incomplete:
        yield "INCOMPLETE: the streams lack utterances that were never extracted; the runs are marked"
    if plan.transductive:
        yield "TRANSDUCTIVE: something fitted sees test features; the runs are marked"
    for mark in plan.marks:
        yield f"MARKED: {mark}"
    yield from copies.lines(plan.recordings, settings.protocol)
    yield f"shared between train, valid and test: {_shared(plan)}"


def fold_lines(plan: Plan) -> Iterator[str]:
    """Lines on each fold: sizes, what the test part holds, and how columns with several values are spread."""
    columns = ["corpus", "culture"]
    if plan.settings.protocol.entry.has_sides:
        columns += [column for side in ("train_on", "test_on") for column, _ in terms(plan.settings.protocol, side)]
    spread = [c for c in dict.fromkeys(columns) if len({e.column(c) for e in plan.dataset.examples}) > 1]
    for number in plan.only or range(len(plan.folds)):
        fold = plan.folds[number]
        sizes = f"{len(fold.train)} train, {len(fold.valid)} valid, {len(fold.test)} test"
        if fold.nested:
            parts = ", ".join(str(len(one.valid)) for one in fold.nested)
            sizes = f"{len(fold.train)} train, of which {parts} validate in turn, {len(fold.test)} test"
        yield f"fold {number}: {sizes}{_test(plan, fold)}"
        if plan.enrolment is not None:
            each = "" if fold.nested else f", {len(plan.enrolment.of(fold.valid))} of valid"
            beside = len(plan.enrolment.of(fold.test))
            yield f"  enrol their speakers, and are not scored: {beside} beside test{each}"
        for column in spread:
            named = {part: getattr(fold, part) for part in PARTS if part != "valid" or not fold.nested}
            told = "; ".join(f"{part} {_counts(plan, rows, column)}" for part, rows in named.items())
            yield f"  {column}: {told}"


def cost(plan: Plan, jobs: int) -> Iterator[str]:
    """Memory, and the time that all epochs would take, from one that is really trained."""
    features, limit = plan.dataset.features.values(), plan.dataset.memory.limit
    stays = any(one.stored is not None for one in features)
    where = f", more than --memory {limit / 1e9:g}: read from the cache in every epoch" if stays else ""
    yield f"memory: {sum(one.nbytes for one in features) / 1e6:.0f} MB of frames{where}"
    todo = plan.to_train()
    stored = len(plan.all_runs()) - len(todo)
    yield f"runs: {len(todo)} to train, {stored} stored already, in {plan.folder(0, 0).parent}"
    if not todo:
        return
    points = list(search_points(plan.settings))
    point = points[0][1]
    short = point.model_copy(update={"training": point.training.model_copy(update={"epochs": 1})})
    result = train_fold(plan.dataset, short, plan.folds[todo[0][0]], todo[0][1], torch.device(plan.device))
    yield from warned({todo[0]: result.record.warnings}, "run")
    epoch = sum(float(line["seconds"]) for line in result.history if line["phase"] == "search")  # of all targets
    epoch /= parts_of(plan.settings)
    rounds = parts_of(plan.settings) * len(points) + refits_of(plan.settings)
    once = result.record.seconds + rounds * plan.settings.training.epochs * epoch
    total = len(todo) * once / min(jobs, len(todo))
    yield (
        f"time: about {total / 60:.1f} min at most with --jobs {jobs} ({epoch:.2f} s an epoch; epochs"
        f" {point.training.epochs}, settings to choose from {len(points)}; early stopping makes it shorter)"
    )


def _shared(plan: Plan) -> str:
    """Overlap of groups over all folds; declared, or it would have been an error."""
    told = []
    protocol = plan.settings.protocol
    for kind in dict.fromkeys(("speaker", "session", protocol.group, protocol.validation_group or "speaker")):
        if all(example.column(kind) is None for example in plan.dataset.examples):
            told.append(f"{plural(kind)} unknown")
            continue
        found: Counter[str] = Counter()
        for one in (one for fold in plan.folds for one in fold.rounds):
            found.update({parts: len(shared) for parts, shared in overlap(plan.dataset.examples, one, kind).items()})
        shared = [f"{count} in {parts}" for parts, count in found.items() if count]
        told.append(f"{plural(kind)} {', '.join(shared)} (over all folds)" if shared else f"no {kind}")
    return "; ".join(told)


def _side(plan: Plan, side: Side) -> str:
    """The expression of one side, with what its codes stand for."""
    protocol = plan.settings.protocol
    values = [(written, meant) for _, wanted in terms(protocol, side) for written, meant in wanted.items()]
    codes = [f"{written} is {' or '.join(sorted(meant))}" for written, meant in values if written in protocol.codes]
    told = f" ({', '.join(codes)})" if codes else ""
    return f"{getattr(protocol, side)}{told}"


def _counts(plan: Plan, rows: Rows, column: str) -> str:
    """Count the rows of each value: "120 zh, 98 de"; the most frequent ones where they are many."""
    counts = Counter(plan.dataset.examples[row].column(column) or "unknown" for row in rows)
    told = sorted(counts.most_common(_TOLD), key=lambda pair: natural(pair[0]))
    return ", ".join(f"{count} {name}" for name, count in told) + (", ..." if len(counts) > _TOLD else "")


def _test(plan: Plan, fold: Fold) -> str:
    """Who speaks in the test part, and how often it has each class."""
    examples = [plan.dataset.examples[row] for row in fold.test]
    speakers = sorted({example.speaker for example in examples if example.speaker is not None}, key=natural)
    who = f" of {', '.join(speakers[:4])}{', ...' if len(speakers) > 4 else ''}" if speakers else ""
    if plan.settings.task != "classification":
        return who
    dataset, boundary = with_classes(plan.dataset, plan.settings, fold)
    train, test = (Counter(int(dataset.examples[row].reference) for row in rows) for rows in (fold.train, fold.test))
    told = ", ".join(f"{test[number]} {name}" for number, name in enumerate(dataset.classes))
    unseen = [name for number, name in enumerate(dataset.classes) if test[number] and not train[number]]
    return f"{who}: {told}{_above(plan, boundary)}" + (f"; never trained: {', '.join(unseen)}" if unseen else "")


def _above(plan: Plan, boundary: float | None) -> str:
    """Tell the limit between low and high in a fold; nothing without a threshold."""
    if boundary is None:
        return ""
    settings = plan.settings
    where = f", the {settings.threshold} of {settings.features.fit_scope}" if settings.threshold != "zero" else ""
    return f" (high above {boundary:g}{where})"
