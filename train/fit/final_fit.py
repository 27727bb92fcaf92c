"""One run on all utterances: its settings by the votes of the folds, tested on nothing."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from ..protocols.folds import Fold
from ..records import columns
from ..records.run_record import CoverageRecord, FoldRecord, SelectionRecord
from .fold_result import FoldResult, only, side_by_side
from .loop import Watch, adding
from .train_fold import FoldRun, stored_weights, with_classes

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Vote:
    """The choice of the folds for one head.

    Attributes:
        chosen: the setting of the search that most of them chose, of equally many the first.
        rates: learning rates, one an epoch: those of the fold whose best epoch is the (lower) median of the folds that
            chose it.
    """

    chosen: Mapping[str, Any]
    rates: tuple[float, ...]


def vote(selections: Sequence[SelectionRecord], histories: Sequence[History]) -> Vote:
    """Let folds and seeds vote.

    Args:
        selections: what each chose.
        histories: the epochs of each, as history.jsonl has them.

    Returns:
        The choice.
    """
    counts = Counter(canonical_json(one.chosen) for one in selections)
    winner = counts.most_common(1)[0][0]
    agreed = [(s, h) for s, h in zip(selections, histories, strict=True) if canonical_json(s.chosen) == winner]
    epoch = statistics.median_low(one.best_epoch or 1 for one, _ in agreed)
    first, history = next((s, h) for s, h in agreed if (s.best_epoch or 1) == epoch)
    searched = [line for line in history if line.get("phase") == "search"]
    return Vote(first.chosen, tuple(float(line["learning_rate"]) for line in searched[:epoch]))


def votes(
    selections: Sequence[SelectionRecord], histories: Sequence[History], targets: Sequence[str]
) -> dict[str, Vote]:
    """Let folds and seeds vote for each head: {target: vote}, or {"": vote} where one head has all targets."""
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
    voted: Mapping[str, Vote],
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
    voted: Vote,
    seed: int,
    device: torch.device,
    streams: JoinedStreams,
    watch: Watch,
) -> FoldResult:
    rows = fold.train[dataset.present[fold.train]]
    if not len(rows):
        raise EmocacheError("no utterance has features; extract the failed ones again")
    run = FoldRun(dataset, streams, seed, device, watch)
    point = chosen_settings(settings, voted.chosen)
    trained = run.train(point, rows, None, list(voted.rates), phase="final")
    record = FoldRecord(
        coverage=CoverageRecord(test=0, predicted=0),
        prior=run.prior(point, fold.train),
        selection=SelectionRecord(
            metric=settings.selection.metric, best_epoch=len(voted.rates), chosen=dict(voted.chosen)
        ),
        parameters=sum(p.numel() for p in trained.head.parameters()),
    )
    nothing = pa.table({name: pa.array([], pa.string()) for name in (columns.PART, "corpus", "id")})
    history = [{"phase": "final", **line} for line in trained.history]
    return FoldResult(record, nothing, None, stored_weights(trained.head), run.fitted(point, rows), history)
