"""What an experiment is about to do, in words; `--dry-run` prints all of it."""

from collections import Counter
from collections.abc import Iterator

import torch

from .fold import train_fold
from .folds import Fold, overlap
from .reading import search_points
from .stage import Plan


def summary(plan: Plan) -> Iterator[str]:
    """Lines on what is read, left out and declared."""
    dataset, settings = plan.dataset, plan.settings
    streams = ", ".join(f"{s.corpus}/{s.name}@{s.fingerprint[:12]}" for s in dataset.sources)
    yield (
        f"{plan.experiment} on {' + '.join(plan.corpora)}: {settings.protocol.name}, folds x seeds {len(plan.folds)} x"
        f" {len(settings.seeds)}, {settings.head.kind} on {streams}"
    )
    if dataset.dropped:
        told = ", ".join(f"{label} ({count})" for label, count in dataset.dropped.items())
        yield f"dropped by the label map: {told}"
    if dataset.unlabelled:
        yield f"without {' and '.join(settings.targets)}: {dataset.unlabelled} utterances, left out"
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
    yield f"shared between train, valid and test: {_shared(plan)}"


def folds(plan: Plan) -> Iterator[str]:
    """A line on each fold: sizes, and what the test part holds."""
    for number, fold in enumerate(plan.folds):
        sizes = f"{len(fold.train)} train, {len(fold.valid)} valid, {len(fold.test)} test"
        yield f"fold {number}: {sizes}{_test(plan, fold)}"


def cost(plan: Plan, jobs: int) -> Iterator[str]:
    """Memory, and an upper bound of the time from one epoch that is really trained."""
    yield f"memory: {sum(f.frames.nbytes for f in plan.dataset.features.values()) / 1e6:.0f} MB of frames"
    todo = plan.to_train()
    stored = len(plan.all_runs()) - len(todo)
    yield f"runs: {len(todo)} to train, {stored} stored already, in {plan.folder(0, 0).parent}"
    if not todo:
        return
    points = list(search_points(plan.settings))
    point = points[0][1]
    short = point.model_copy(update={"training": point.training.model_copy(update={"epochs": 1})})
    result = train_fold(plan.dataset, short, plan.folds[todo[0][0]], todo[0][1], torch.device(plan.device))
    epoch = float(result.history[0]["seconds"])
    rounds = len(points) + plan.settings.selection.refit
    once = float(result.record["seconds"]) + rounds * plan.settings.training.epochs * epoch
    total = len(todo) * once / min(jobs, len(todo))
    yield (
        f"time: at most {total / 60:.1f} min with --jobs {jobs} ({epoch:.2f} s an epoch; epochs"
        f" {point.training.epochs}, settings to choose from {len(points)}; early stopping makes it shorter)"
    )


def _shared(plan: Plan) -> str:
    """Overlap of groups over all folds; declared, or it would have been an error."""
    told = []
    for kind in ("speaker", "session"):
        if all(getattr(example, kind) is None for example in plan.dataset.examples):
            told.append(f"{kind}s unknown")
            continue
        found: Counter[str] = Counter()
        for fold in plan.folds:
            found.update({parts: len(shared) for parts, shared in overlap(plan.dataset.examples, fold, kind).items()})
        shared = [f"{count} in {parts}" for parts, count in found.items() if count]
        told.append(f"{kind}s {', '.join(shared)} (over all folds)" if shared else f"no {kind}")
    return "; ".join(told)


def _test(plan: Plan, fold: Fold) -> str:
    examples = [plan.dataset.examples[row] for row in fold.test]
    speakers = sorted({example.speaker for example in examples if example.speaker is not None})
    who = f" of {', '.join(speakers[:4])}{', ...' if len(speakers) > 4 else ''}" if speakers else ""
    if plan.settings.task != "classification" or plan.settings.threshold:
        return who
    counts = Counter(plan.dataset.classes[int(example.reference)] for example in examples)
    return f"{who}: " + ", ".join(f"{counts[name]} {name}" for name in plan.dataset.classes)
