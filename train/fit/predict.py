"""From a trained head to its outputs, and to validation scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ...cache.device import full_precision
from ..config.settings import Settings
from ..heads import Head
from ..heads.head import Outputs, Term, as_outputs
from ..inputs.batches import Batches
from ..protocols.folds import Rows
from .losses import Loss, total_loss
from .selection import Score, score

_EVALUATION_BATCH = 64


@dataclass(frozen=True, eq=False)
class Predicted:
    """The outputs of a head for n utterances.

    Attributes:
        outputs: of each (outputs,), or (T, outputs) of frame-wise heads: logits, or values in the unit of the corpus.
        loss: over all of them, of targets as the head learns them.
        auxiliary: (n, C') logits of the second target; None without one.
        kept: {name: an array for each utterance}.
    """

    outputs: list[npt.NDArray[np.floating]]
    loss: float
    auxiliary: npt.NDArray[np.float32] | None
    kept: dict[str, list[npt.NDArray[np.float32]]]


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the probabilities of (n, C) logits, in float64."""
    return torch.softmax(torch.from_numpy(logits.astype(np.float64)), dim=1).numpy()


@full_precision()
@torch.no_grad()
def predict(head: Head, batches: Batches, rows: Rows, loss: Loss | None = None) -> Predicted:
    """Compute the outputs of each utterance, in the order of `rows`; the loss is NaN where none is given."""
    head.eval()
    found: dict[int, npt.NDArray[np.float32]] = {}
    kept: dict[str, dict[int, npt.NDArray[np.float32]]] = {}
    terms: list[dict[int, torch.Tensor]] = []
    last: Outputs | None = None
    for batch in batches.in_order(rows, _EVALUATION_BATCH):
        teacher = {"teacher": batch.targets} if head.teacher == "always" else {}
        last = _on_host(as_outputs(head(*batch.inputs, **teacher)))
        terms = terms or [{} for _ in last.terms]
        lengths = batches.lengths[batch.rows]
        for at, (row, length) in enumerate(zip(batch.rows.tolist(), lengths, strict=True)):
            found[row] = _cut(last.prediction[at], length if head.per_frame else None)
            for number, term in enumerate(last.terms):
                whole = head.per_frame and term.target == "main"
                terms[number][row] = term.output[at, :length] if whole else term.output[at : at + 1]
            for name, values in last.kept.items():
                # What has one entry a frame is cut to the utterance's length; a gate or an embedding is not.
                framed = values.ndim == 3 and values.shape[1] == batch.inputs[0].mask.shape[1]
                kept.setdefault(name, {})[row] = _cut(values[at], length if framed else None)
    # Batches come sorted by length; here everything is put back in the order of `rows`.
    order = [int(row) for row in rows]
    stacked = [torch.cat([one[row] for row in order]).float() for one in terms]
    total, second = math.nan, None
    if last is not None:
        merged = [Term(t.weight, s, t.target) for t, s in zip(last.terms, stacked, strict=True)]
        second = next((t.output.numpy() for t in merged if t.target == "auxiliary"), None)
        if loss is not None:
            targets, mask, auxiliary = batches.targets_of(rows)
            # Of the whole part at once: a mean over batches would overweigh a short last one, and CCC is no mean.
            whole_part = Outputs(merged[0].output, tuple(merged), constant=last.constant)
            total = float(total_loss(loss, whole_part, targets, mask, auxiliary))
    outputs = [batches.native(found[row]) for row in order]
    return Predicted(outputs, total, second, {name: [one[row] for row in order] for name, one in kept.items()})


def _on_host(outputs: Outputs) -> Outputs:
    """Bring outputs to the host, each tensor in one copy: every copy waits for all that a GPU still has to do."""
    there: dict[int, torch.Tensor] = {}

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in there:
            there[id(tensor)] = tensor.cpu()
        return there[id(tensor)]

    terms = tuple(term._replace(output=moved(term.output)) for term in outputs.terms)
    kept = {name: moved(values) for name, values in outputs.kept.items()}
    return replace(outputs, prediction=moved(outputs.prediction), terms=terms, kept=kept)


def _cut(values: torch.Tensor, length: int | None) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = values.float().numpy()
    return array.copy() if length is None else array[:length].copy()


class Compared(NamedTuple):
    """References beside outputs: a row an utterance, or one a native label stamp of frame-wise tasks.

    Attributes:
        references: (n,) classes, or (n, K) shares or values in the unit of the corpus.
        outputs: (n, C) logits, or (n, K) values in that unit.
        loss: over all of them, as the head learns them.
    """

    references: npt.NDArray[Any]
    outputs: npt.NDArray[np.floating]
    loss: float


def compared(predicted: Predicted, batches: Batches, rows: Rows) -> Compared:
    """Put what was predicted of `rows`, which have features, beside their references."""
    if batches.settings.per_frame:
        stamped = batches.targets.stamped
        found = np.concatenate(stamped.outputs_at(predicted.outputs, rows))
        return Compared(stamped.values_of(rows), found, predicted.loss)
    references = batches.native(batches.targets_of(rows)[0].numpy())
    return Compared(references, np.stack(predicted.outputs), predicted.loss)


def pooled(parts: Sequence[Compared]) -> Compared:
    """Return several parts as one; its loss is the mean of theirs, each as heavy as it is long."""
    references, outputs = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    loss = np.average([part.loss for part in parts], weights=[len(part.references) for part in parts])
    return Compared(references, outputs, float(loss))


def score_of(settings: Settings, found: Compared) -> Score:
    """Score what a head gave by the declared metric."""
    metric = settings.selection.metric
    if settings.task == "classification":
        return score(metric, found.references, found.outputs.argmax(axis=1), found.loss)
    outputs = softmax(found.outputs) if settings.task == "distribution" else found.outputs
    return score(metric, found.references, outputs, found.loss)


def mean_score(settings: Settings, heads: Sequence[Compared]) -> Score:
    """Score the mean of what several heads gave for the same rows: of probabilities, or of values.

    Its loss is the mean of theirs.
    """
    shares = settings.task in ("classification", "distribution")
    mean = np.mean([softmax(head.outputs) if shares else head.outputs for head in heads], axis=0)
    loss = float(np.mean([head.loss for head in heads]))
    if settings.task == "classification":
        mean = mean.argmax(axis=1)
    return score(settings.selection.metric, heads[0].references, mean, loss)


def validation_score(head: Head, batches: Batches, loss: Loss, rows: Rows) -> Score:
    """Score rows with features by the declared metric; frame-wise values are compared at the native label stamps."""
    return score_of(batches.settings, compared(predict(head, batches, rows, loss), batches, rows))
