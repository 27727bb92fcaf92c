"""One run on all utterances: its settings by the votes of the folds, tested on nothing."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ...cache import EmocacheError
from ...cache.recipe import canonical_json
from ..config.search import chosen_settings
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..inputs.joining import JoinedStreams
from ..protocols.folds import Fold, Rows
from ..records import columns
from ..records.columns import Columns
from ..records.run_record import CoverageRecord, FoldRecord, SelectionRecord, TriedRecord
from .fold_result import FoldResult, averaged, only, side_by_side
from .fold_run import FoldRun, stored_weights
from .loop import Watch, adding
from .train_fold import with_classes

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Vote:
    """The choice of the folds for one head.

    Attributes:
        chosen: a setting of the search that most of them chose, of equally many the first.
        rates: learning rates, one an epoch: those of the fold whose best epoch is the (lower) median of the folds that
            chose it.
    """

    chosen: Mapping[str, Any]
    rates: tuple[float, ...]


def vote(selections: Sequence[SelectionRecord], histories: Sequence[History]) -> tuple[Vote, ...]:
    """Let folds and seeds vote.

    Args:
        selections: what each chose.
        histories: the epochs of each, as history.jsonl has them.

    Returns:
        The choice: as many settings as each averages over, those that most of them did; one where they do not.
    """
    ballots = [ballot for pair in zip(selections, histories, strict=True) for ballot in _ballots(*pair)]
    counts = Counter(canonical_json(one.chosen) for one in ballots)
    found = []
    for winner, _ in counts.most_common(max(1, len(selections[0].averaged))):
        agreed = [one for one in ballots if canonical_json(one.chosen) == winner]
        epoch = statistics.median_low(len(one.rates) for one in agreed)
        found.append(next(one for one in agreed if len(one.rates) == epoch))
    return tuple(found)


def _ballots(selection: SelectionRecord, history: History) -> list[Vote]:
    """Each setting that a run predicts by, with the rates of its epochs up to the best one."""
    found = []
    heads = selection.averaged or [TriedRecord(settings=selection.chosen, epoch=selection.best_epoch or 1)]
    for number, head in enumerate(heads, 1):
        own = [line for line in history if line.get("head", 1) == number]
        # A refit repeats the rates; without one there is a single training to take them from.
        lines = [line for line in own if line.get("phase") == "refit"] or own
        rates = [line["learning_rate"] for line in lines if line.get("phase") in ("search", "refit")]
        found.append(Vote(head.settings, tuple(map(float, rates[: head.epoch]))))
    return found


def votes(
    selections: Sequence[SelectionRecord], histories: Sequence[History], targets: Sequence[str]
) -> dict[str, tuple[Vote, ...]]:
    """Let folds and seeds vote for each target: {target: votes}, or {"": votes} where one head has all targets."""
    if not selections[0].by_target:
        return {"": vote(selections, histories)}
    return {
        target: vote(
            [one.by_target[target] for one in selections],
            [[line for line in history if line.get("target") == target] for history in histories],
        )
        for target in targets
    }


def train_final(
    dataset: Dataset,
    settings: Settings,
    voted: Mapping[str, Sequence[Vote]],
    seed: int,
    device: torch.device,
    streams: JoinedStreams,
    watch: Watch = lambda _: None,
) -> FoldResult:
    """Train on all utterances.

    Args:
        dataset: everything that training reads.
        settings: the whole experiment.
        voted: see `votes`.
        seed: decides everything that is random.
        device: trains.
        streams: of the dataset.
        watch: see `train_fold`.

    Returns:
        The weights and what is fitted; no prediction.

    Raises:
        EmocacheError: no utterance has features.
    """
    everyone = np.arange(len(dataset.examples))
    fold = Fold(everyone, everyone[:0], everyone[:0])
    if "" not in voted:
        parts = [
            _train(
                *only(dataset, settings, fold, k), voted[target], seed, device, streams, adding(watch, target=target)
            )
            for k, target in enumerate(settings.targets)
        ]
        return side_by_side(parts, settings.targets)
    labelled, boundary = with_classes(dataset, settings, fold)
    result = _train(labelled, settings, fold, voted[""], seed, device, streams, watch)
    record = result.record.model_copy(update={"threshold": boundary})
    return FoldResult(record, result.predictions, None, result.weights, result.transforms, result.history)


def _train(
    dataset: Dataset,
    settings: Settings,
    fold: Fold,
    voted: Sequence[Vote],
    seed: int,
    device: torch.device,
    streams: JoinedStreams,
    watch: Watch,
) -> FoldResult:
    rows = fold.train[dataset.present[fold.train]]
    if not len(rows):
        raise EmocacheError("no utterance has features; extract the failed ones again")
    run = FoldRun(dataset, streams, seed, device, watch)
    heads = [_head(run, settings, fold, rows, one, len(voted) > 1) for one in voted]
    result = heads[0]
    if len(heads) > 1:
        result = averaged(heads, Columns(settings.task, tuple(dataset.classes) or settings.targets))
    told = [TriedRecord(settings=dict(one.chosen), epoch=len(one.rates)) for one in voted]
    selection = SelectionRecord(
        metric=settings.selection.metric,
        best_epoch=told[0].epoch,
        chosen=told[0].settings,
        averaged=tuple(told) if len(told) > 1 else (),
    )
    return replace(result, record=result.record.model_copy(update={"selection": selection}))


def _head(run: FoldRun, settings: Settings, fold: Fold, rows: Rows, voted: Vote, several: bool) -> FoldResult:
    point = chosen_settings(settings, voted.chosen)
    trial = voted.chosen if several else None
    trained = run.train(point, rows, None, list(voted.rates), phase="final", trial=trial)
    record = FoldRecord(
        coverage=CoverageRecord(test=0, predicted=0),
        prior=run.prior(point, fold.train),
        parameters=sum(p.numel() for p in trained.head.parameters()),
    )
    nothing = pa.table({name: pa.array([], pa.string()) for name in (columns.PART, "corpus", "id")})
    history = [{"phase": "final", **line} for line in trained.history]
    return FoldResult(record, nothing, None, stored_weights(trained.head), run.fitted(point, rows), history)
