"""The test utterances one by one: what was true, what was predicted, and how far off that is."""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....train.records import columns
from ..result_groups import Result
from ..stored_predictions import UNKNOWN, cultures, read_test_part
from ..stored_runs import Run

_LEAST = 1e-12  # of a probability, so that a loss is finite


@dataclass(frozen=True)
class Clip:
    """One test utterance of one fold; of several seeds the mean loss, and what each predicted."""

    corpus: str
    id: str
    speaker: str
    culture: str
    fold: int
    missing: bool  # without features: the prior was predicted
    reference: str
    prediction: str
    loss: float


@dataclass(frozen=True)
class Track:
    """The values of one target over time in one utterance; NaN where there is no label."""

    target: str
    times: NDArray[np.float64]  # (N,) seconds
    reference: NDArray[np.float64]  # (N,)
    prediction: NDArray[np.float64]  # (N,)


LOSSES = {
    "classification": "−ln of the probability of the true class (1 for a wrong class where there are no probabilities)",
    "regression": "squared error, mean over targets",
    "frame_regression": "squared error, mean over labelled frames and targets",
    "distribution": "Kullback–Leibler divergence of the predicted from the true shares, in nats",
}
"""{task: its loss of one clip, in words}."""


def clips(result: Result) -> list[Clip]:
    """Read every test utterance of a result, the largest loss first; those without a label are left out.

    Args:
        result: runs that differ in fold and seed only.

    Returns:
        The clips.

    Raises:
        EmocacheError: predictions that cannot be read.
    """
    found: defaultdict[tuple[int, str, str], list[Clip]] = defaultdict(list)
    for (fold, _), run in sorted(result.runs.items()):
        for clip in _of_run(run, fold):
            found[fold, clip.corpus, clip.id].append(clip)
    merged = [_merged(own) for own in found.values()]
    return sorted(merged, key=lambda clip: (-clip.loss, clip.corpus, clip.id))


def tracks(result: Result, corpus: str, utterance: str) -> list[Track]:
    """Read the values over time of one utterance, in its first fold and seed; none where the task has no frames."""
    record = result.first
    if record.task != "frame_regression":
        return []
    names = [name for t in record.targets for name in (columns.reference(t), columns.prediction(t))]
    for _, run in sorted(result.runs.items()):
        table = read_test_part(run, ["corpus", "id", columns.TIMES, *names], [])
        at = {key: i for i, key in enumerate(zip(table["corpus"].to_pylist(), table["id"].to_pylist(), strict=True))}
        if (corpus, utterance) in at:
            row = table.slice(at[corpus, utterance], 1).to_pylist()[0]
            return [_track(row, target) for target in record.targets if row[columns.reference(target)]]
    return []


def _track(row: dict[str, Any], target: str) -> Track:
    times, reference, prediction = (
        np.array(row[name], np.float64)
        for name in (columns.TIMES, columns.reference(target), columns.prediction(target))
    )
    return Track(target, times, reference, np.where(np.isnan(reference), np.nan, prediction))


def _of_run(run: Run, fold: int) -> list[Clip]:
    record = run.record
    wanted = ["corpus", "id", "speaker", columns.MISSING]
    single = record.task == "classification"
    targets = [""] if single else list(record.targets)
    wanted += [name for t in targets for name in (columns.reference(t), columns.prediction(t))]
    names = [columns.probability(name) for name in record.classes or ()]
    table = read_test_part(run, wanted, ["culture", *names])
    found = []
    for row, culture in zip(table.to_pylist(), cultures(table, record.protocol.codes).tolist(), strict=True):
        told = _classes(row) if single else _values(record.task, row, targets)
        if told is not None:
            speaker = row["speaker"] or UNKNOWN
            found.append(Clip(row["corpus"], row["id"], speaker, culture, fold, row[columns.MISSING], *told))
    return found


def _classes(row: dict[str, Any]) -> tuple[str, str, float] | None:
    true, said = row[columns.reference()], row[columns.prediction()]
    if true is None:
        return None
    sure = row.get(columns.probability(true))
    loss = float(true != said) if sure is None or math.isnan(sure) else -math.log(min(1.0, max(sure, _LEAST))) + 0.0
    return str(true), str(said), loss


def _values(task: str, row: dict[str, Any], targets: Sequence[str]) -> tuple[str, str, float] | None:
    pairs = [(t, *_floats(row, t)) for t in targets]
    told = [(t, y[~np.isnan(y)], p[~np.isnan(y)]) for t, y, p in pairs]
    told = [(t, y, p) for t, y, p in told if len(y)]
    if not told:
        return None
    if task == "distribution":
        shares = [(float(y[0]), float(p[0])) for _, y, p in told]
        loss = sum(y * math.log(y / max(p, _LEAST)) for y, p in shares if y > 0)
    else:
        loss = float(np.mean([np.mean((y - p) ** 2) for _, y, p in told]))
    texts = [", ".join(f"{t} {np.mean(values[k]):.2f}" for t, *values in told) for k in (0, 1)]
    return texts[0], texts[1], loss


def _floats(row: dict[str, Any], target: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reference, prediction = (row[name(target)] for name in (columns.reference, columns.prediction))
    if reference is None:
        return np.empty(0), np.empty(0)
    return np.atleast_1d(np.array(reference, np.float64)), np.atleast_1d(np.array(prediction, np.float64))


def _merged(own: Collection[Clip]) -> Clip:
    first = next(iter(own))
    said = " / ".join(dict.fromkeys(clip.prediction for clip in own))
    fields = {**vars(first), "prediction": said, "loss": float(np.mean([clip.loss for clip in own]))}
    return Clip(**fields)
