"""One fold with one seed: search, train, choose on validation, refit, predict."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ...cache import EmocacheError
from ..config.search import WIDENINGS, search_points, wider
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.enrolment import enrolment_of
from ..data.labels import binarise, limit
from ..inputs.joining import JoinedStreams
from ..protocols.folds import Fold
from ..records.columns import Columns
from ..records.run_record import Caution, FoldRecord, SelectionRecord
from . import cautions
from .closed_form import penalties_of
from .fold_result import FoldResult, averaged, coverage, only, side_by_side, without_features
from .fold_run import Candidate, FoldRun, Round, stored_weights
from .loop import Diverged, Watch, adding
from .predict import mean_score


def train_fold(
    dataset: Dataset,
    settings: Settings,
    fold: Fold,
    seed: int,
    device: torch.device,
    streams: JoinedStreams | None = None,
    watch: Watch = lambda _: None,
) -> FoldResult:
    """Train one fold with one seed.

    The same arguments give the same result on one kind of device, with one number of threads. The settings of a
    search, and the epoch, are those with the best validation score in this fold and seed, the first ones among equals.
    Test features are looked at by what the settings call transductive only, test labels never.

    Args:
        dataset: everything that training reads.
        settings: the whole experiment.
        fold: rows that train, validate and test.
        seed: decides everything that is random.
        device: trains.
        streams: of the dataset, where several runs share them; None: joined for this run.
        watch: takes each epoch's line of the history as it is over, with its `phase`, and where there are several its
            `trial` of a search and its `target`.

    Returns:
        Predictions of the validation and the test part, the weights, and what run.json records of the training.

    Raises:
        EmocacheError: see `transforms.prepare`, `loop.train_head` and `prediction_table.prediction_table`.
    """
    started = time.perf_counter()
    streams = streams or JoinedStreams(dataset)
    if settings.targets_apart and len(settings.targets) > 1:
        targets = range(len(settings.targets))
        parts = [
            _train_one(
                *only(dataset, settings, fold, k), seed, device, streams, adding(watch, target=settings.targets[k])
            )
            for k in targets
        ]
        result, boundary = side_by_side(parts, settings.targets), None
    else:
        labelled, boundary = with_classes(dataset, settings, fold)
        result = _train_one(labelled, settings, fold, seed, device, streams, watch)
    of_all = {
        "coverage": coverage(dataset, settings, fold.test),  # of utterances that have a single target, too
        "without_features": without_features(dataset, fold),
        "threshold": boundary,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return replace(result, record=result.record.model_copy(update=of_all))


def with_classes(dataset: Dataset, settings: Settings, fold: Fold) -> tuple[Dataset, float | None]:
    """Turn the numbers of a dataset into the classes low and high, where the settings name a threshold.

    Args:
        dataset: with one number an utterance.
        settings: `threshold`; the training part decides it, or everyone does where `features.fit_scope` is "all".
        fold: names the training part.

    Returns:
        The dataset with classes, and the limit between them; without a threshold the dataset as it is, and None.
    """
    if settings.threshold is None:
        return dataset, None
    values = np.array([np.asarray(example.reference)[0] for example in dataset.examples])
    seen = np.arange(len(values)) if settings.features.fit_scope == "all" else fold.train
    classes = binarise(values, seen, settings.threshold)
    examples = [replace(e, reference=int(c)) for e, c in zip(dataset.examples, classes, strict=True)]
    return replace(dataset, examples=examples, classes=("low", "high")), limit(values, seen, settings.threshold)


def _train_one(
    dataset: Dataset,
    settings: Settings,
    fold: Fold,
    seed: int,
    device: torch.device,
    streams: JoinedStreams,
    watch: Watch,
) -> FoldResult:
    # From here on a part's rows with features train and validate; the tables also tell of those without.
    seen = fold.each(lambda rows: rows[dataset.present[rows]])
    for one in seen.rounds:
        for name, rows in (("training", one.train), ("validation", one.valid)):
            if not len(rows):
                raise EmocacheError(f"no {name} utterance of a fold has features; extract the failed ones again")
    run = FoldRun(dataset, streams, seed, device, watch, enrolment_of(dataset, settings))
    candidates, searched = _searched(run, settings, seen)
    heads = sorted(candidates, key=lambda one: one.score, reverse=True)[: settings.selection.average]
    best, metric = heads[0], settings.selection.metric
    edge = cautions.of_search(searched, best.chosen)
    results = [_of_head(run, settings, one, fold, seen, edge if one is best else []) for one in heads]
    result, value = results[0], best.score
    if len(heads) > 1:
        result = averaged(results, Columns(settings.task, tuple(dataset.classes) or settings.targets))
        value = mean_score(settings, [one.compared for one in heads])
    selection = SelectionRecord(
        metric=metric,
        best_epoch=best.usual.epoch,
        chosen=best.chosen,
        refit=settings.selection.refit or bool(fold.nested),
        value=value.value(metric),
        tried=tuple(one.told(metric) for one in candidates),
        averaged=tuple(one.told(metric) for one in heads) if len(heads) > 1 else (),
        parts=len(fold.rounds),
        grid={} if searched is settings else dict(searched.search),
    )
    return replace(result, record=result.record.model_copy(update={"selection": selection}))


def _searched(run: FoldRun, settings: Settings, fold: Fold) -> tuple[list[Candidate], Settings]:
    """Try every point of the search, and of its grids as they are widened; also return the settings with those."""
    candidates = _tried(run, list(search_points(settings)), fold)
    for _ in range(WIDENINGS if settings.selection.widen else 0):
        best = max(candidates, key=lambda one: one.score)
        wide = wider(settings, best.chosen)
        if wide is None:
            break
        known = [one.chosen for one in candidates]
        new = [(chosen, point) for chosen, point in search_points(wide) if chosen not in known]
        found = _tried(run, new, fold, beyond=True)
        candidates, settings = [*candidates, *found], wide
        if len(found) < len(new):
            break
    return candidates, settings


def _tried(
    run: FoldRun, points: Sequence[tuple[dict[str, Any], Settings]], fold: Fold, beyond: bool = False
) -> list[Candidate]:
    """Train points in every round of a fold; of those beyond a grid, the ones that diverge are left out."""
    rounds: list[list[Round]] = [[] for _ in points]
    # Point by point within a round: they share what is fitted on its rows.
    for number, one in enumerate(fold.rounds, 1):
        told = {"inner": number} if fold.nested else {}
        for (chosen, point), own in zip(points, rounds, strict=True):
            try:
                own.append(run.validated(chosen, point, one, **told))
            except Diverged:
                if not beyond:
                    raise
    whole = [len(own) == len(fold.rounds) for own in rounds]
    return [Candidate(*point, tuple(own)) for point, own, there in zip(points, rounds, whole, strict=True) if there]


def _of_head(
    run: FoldRun, settings: Settings, candidate: Candidate, fold: Fold, seen: Fold, edge: list[Caution]
) -> FoldResult:
    """Predict by one setting that was chosen; where all validated in turn, or a refit is asked for, train it anew."""
    point, trained, fitted, known_rows = candidate.point, candidate.usual, seen.train, fold.train
    tables = [
        run.tables("valid", one.trained, point, one.fold.train, whole.valid, run.prior(point, whole.train))
        for one, whole in zip(candidate.rounds, fold.rounds, strict=True)
    ]
    last = candidate.rounds[-1].fold.train  # whose features are still there
    scores = [line[f"valid_{settings.selection.metric}"] for line in trained.history]
    told = cautions.of_features(run.prepared(point, last), last, point)
    told += edge + cautions.of_epochs(point, trained.epoch, scores)
    if point.training.closed_form:
        told += cautions.of_penalty(point, trained.history[-1]["penalty"], penalties_of(point))
    history = [
        {"phase": "search", **({"inner": number} if fold.nested else {}), **line}
        for number, one in enumerate(candidate.rounds, 1)
        for line in one.trained.history
    ]
    if settings.selection.refit or fold.nested:
        # Nothing is left to validate on: the refit repeats the rates, and so the number, of the epochs that were best.
        fitted, known_rows = np.union1d(seen.train, seen.valid), np.union1d(fold.train, fold.valid)
        trial = candidate.chosen if settings.selection.average > 1 else None
        trained = run.train(point, fitted, None, candidate.rates, phase="refit", trial=trial)
        history += [{"phase": "refit", **line} for line in trained.history]
    known = run.prior(point, known_rows)
    tables.append(run.tables("test", trained, point, fitted, fold.test, known))
    record = FoldRecord(
        coverage=coverage(run.dataset, settings, fold.test),
        prior=known,
        parameters=sum(p.numel() for p in trained.head.parameters()),
        warnings=tuple(told),
    )
    kept = pa.concat_tables([k for _, k in tables]) if settings.keep else None
    predictions = pa.concat_tables([p for p, _ in tables])
    return FoldResult(record, predictions, kept, stored_weights(trained.head), run.fitted(point, fitted), history)
