"""From a trained head to its outputs, and to validation scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..config.settings import Settings
from ..data.batches import Batches
from ..data.dataset import Dataset
from ..data.examples import Example
from ..data.labels import Stamps, is_near, on_stamps, usual_distance
from ..heads import Head
from ..heads.head import Outputs, Term, as_outputs
from ..protocols.folds import Rows
from .losses import Loss, total_loss
from .selection import Score, score

_EVALUATION_BATCH = 64


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a head gave for n utterances.

    Attributes:
        outputs: of each (outputs,), or (T, outputs) of frame-wise heads: logits, or values in the unit of the corpus.
        loss: over all of them, of targets as the head learns them. auxiliary: (n, C') logits of the second target; None
            without one.
        kept: {name: an array for each utterance}.
    """

    outputs: list[npt.NDArray[np.floating]]
    loss: float
    auxiliary: npt.NDArray[np.float32] | None
    kept: dict[str, list[npt.NDArray[np.float32]]]


@torch.no_grad()
def predict(head: Head, batches: Batches, rows: Rows, loss: Loss | None = None) -> Predicted:
    """Outputs of each utterance in the order of `rows`; without a `loss`, that is NaN."""
    head.eval()
    found: dict[int, npt.NDArray[np.float32]] = {}
    kept: dict[str, dict[int, npt.NDArray[np.float32]]] = {}
    terms: list[dict[int, torch.Tensor]] = []
    last: Outputs | None = None
    for batch in batches.in_order(rows, _EVALUATION_BATCH):
        teacher = {"teacher": batch.targets} if head.teacher == "always" else {}
        last = as_outputs(head(*batch.inputs, **teacher))
        terms = terms or [{} for _ in last.terms]
        lengths = batches.lengths[batch.rows]
        for at, (row, length) in enumerate(zip(batch.rows.tolist(), lengths, strict=True)):
            found[row] = _cut(last.prediction[at], length if head.per_frame else None)
            for number, term in enumerate(last.terms):
                whole = head.per_frame and term.target == "main"
                terms[number][row] = term.output[at, :length].cpu() if whole else term.output[at : at + 1].cpu()
            for name, values in last.kept.items():
                framed = values.ndim == 3 and values.shape[1] == batch.inputs[0].mask.shape[1]
                kept.setdefault(name, {})[row] = _cut(values[at], length if framed else None)
    order = [int(row) for row in rows]
    stacked = [torch.cat([one[row] for row in order]).float() for one in terms]
    total, second = math.nan, None
    if last is not None:
        merged = [Term(t.weight, s, t.target) for t, s in zip(last.terms, stacked, strict=True)]
        second = next((t.output.numpy() for t in merged if t.target == "auxiliary"), None)
        if loss is not None:
            targets, mask, auxiliary = batches.targets(rows)
            whole_part = Outputs(merged[0].output, tuple(merged), constant=last.constant)
            total = float(total_loss(loss, whole_part, targets, mask, auxiliary))
    outputs = [batches.native(found[row]) for row in order]
    return Predicted(outputs, total, second, {name: [one[row] for row in order] for name, one in kept.items()})


def _cut(values: torch.Tensor, length: int | None) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = values.float().cpu().numpy()
    return array if length is None else array[:length].copy()


def validation_score(
    head: Head, batches: Batches, dataset: Dataset, settings: Settings, loss: Loss, rows: Rows
) -> Score:
    """The declared metric on rows with features; frame-wise values are compared at the native label stamps."""
    predicted = predict(head, batches, rows, loss)
    metric, outputs = settings.selection.metric, predicted.outputs
    targets = batches.native(batches.targets(rows)[0].numpy())
    if settings.task == "classification":
        return score(metric, targets, np.stack(outputs).argmax(axis=1), predicted.loss)
    if settings.task == "distribution":
        return score(metric, targets, softmax(np.stack(outputs)), predicted.loss)
    if settings.task == "regression":
        return score(metric, targets, np.stack(outputs), predicted.loss)
    predictions = at_stamps(outputs, batches, dataset, settings, rows)
    stamps = [stamps_of(dataset.examples[row]).values for row in rows]
    return score(metric, np.concatenate(stamps), np.concatenate(predictions), predicted.loss)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Probabilities of (n, C) logits, in float64."""
    return torch.softmax(torch.from_numpy(logits.astype(np.float64)), dim=1).numpy()


def at_stamps(
    outputs: Sequence[npt.NDArray[Any]], batches: Batches, dataset: Dataset, settings: Settings, rows: Rows
) -> list[npt.NDArray[np.float64]]:
    """Frame-wise outputs of `rows` at their native label stamps, each (S, K)."""
    return [
        on_stamps(output, batches.centres_of(row), stamps_of(dataset.examples[row]), settings.label_delay_s)
        for output, row in zip(outputs, rows, strict=True)
    ]


def present_at_stamps(
    batches: Batches, dataset: Dataset, settings: Settings, rows: Rows
) -> list[npt.NDArray[np.bool_]]:
    """Whether the input has something within one frame of each native label stamp of `rows`, each (S,)."""
    found = []
    for row in rows:
        centres, times = batches.centres_of(row), stamps_of(dataset.examples[row]).times
        reach = usual_distance(centres)
        found.append(is_near(times - settings.label_delay_s, centres[batches.there_of(row)], reach))
    return found


def stamps_of(example: Example) -> Stamps:
    """The time-stamped reference of a frame-wise task."""
    if not isinstance(example.reference, Stamps):
        raise TypeError(f"{example.key} has no time-stamped reference")
    return example.reference
