"""From a trained head to outputs, to validation scores, and to the rows of predictions.parquet."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from ..cache import EmocacheError
from .batches import Batches
from .dataset import Dataset, Example
from .folds import Rows
from .heads import Head
from .losses import Loss
from .references import Stamps, on_stamps
from .selection import Score, score
from .settings import Settings

_EVALUATION_BATCH = 64


@torch.no_grad()
def predict(head: Head, batches: Batches, rows: Rows) -> list[npt.NDArray[np.float32]]:
    """Outputs of each utterance in the order of `rows`: (outputs,), or (T, outputs) of frame-wise heads."""
    head.eval()
    found: dict[int, npt.NDArray[np.float32]] = {}
    for batch in batches.in_order(rows, _EVALUATION_BATCH):
        outputs = head(batch.frames, batch.mask).float().cpu().numpy()
        for row, output, length in zip(batch.rows, outputs, batches.lengths[batch.rows], strict=True):
            found[int(row)] = output[:length].copy() if head.per_frame else output
    return [found[int(row)] for row in rows]


def validation_score(
    head: Head, batches: Batches, dataset: Dataset, settings: Settings, loss: Loss, rows: Rows
) -> Score:
    """The declared metric on rows with features; frame-wise values are compared at the native label stamps."""
    outputs = predict(head, batches, rows)
    targets, mask = batches.targets(rows)
    stacked = torch.from_numpy(np.concatenate(outputs) if settings.per_frame else np.stack(outputs))
    value = float(loss(stacked, targets, mask))
    if settings.task == "classification":
        return score(settings.selection.metric, targets.numpy(), stacked.argmax(dim=1).numpy(), value)
    if settings.task == "regression":
        return score(settings.selection.metric, targets.numpy(), stacked.numpy(), value)
    predicted = _at_stamps(outputs, batches, dataset, settings, rows)
    stamps = [_stamps(dataset.examples[row]).values for row in rows]
    return score(settings.selection.metric, np.concatenate(stamps), np.concatenate(predicted), value)


def prior(dataset: Dataset, settings: Settings, rows: Rows) -> dict[str, float]:
    """{class: share of the rows}, or {target: mean over the rows, or over all their stamps}."""
    references = [dataset.examples[row].reference for row in rows]
    if settings.task == "classification":
        counts = np.bincount(np.array(references), minlength=len(dataset.classes))
        return {name: float(share) for name, share in zip(dataset.classes, counts / len(rows), strict=True)}
    values = np.concatenate([np.atleast_2d(r.values if isinstance(r, Stamps) else np.asarray(r)) for r in references])
    return {target: float(mean) for target, mean in zip(settings.targets, values.mean(axis=0), strict=True)}


def prediction_table(
    part: str, head: Head, batches: Batches, dataset: Dataset, settings: Settings, rows: Rows, prior: dict[str, float]
) -> pa.Table:
    """Rows of predictions.parquet for one part.

    Utterances without features score as the prior in the test part, under the policy "prior"; elsewhere they are
    left out.

    Raises:
        EmocacheError: the policy is "error" and a test utterance has no features.
    """
    present = rows[dataset.present[rows]]
    absent = rows[~dataset.present[rows]] if part == "test" else rows[:0]
    if len(absent) and settings.missing == "error":
        raise EmocacheError(f"{len(absent)} test utterances have no features, such as"
                            f" {dataset.examples[absent[0]].key!r}; missing = 'error' forbids that")  # fmt: skip
    if settings.missing == "intersect":
        absent = absent[:0]
    outputs: Sequence[npt.NDArray[Any]] = predict(head, batches, present)
    constant = np.array(list(prior.values()))
    if settings.task == "classification":
        logits = np.reshape(outputs, (len(outputs), len(constant))).astype(np.float64)
        outputs = [*torch.softmax(torch.from_numpy(logits), dim=1).numpy(), *([constant] * len(absent))]
    elif settings.task == "regression":
        outputs = [*outputs, *([constant] * len(absent))]
    else:
        held = [np.tile(constant, (len(_stamps(dataset.examples[row]).times), 1)) for row in absent]
        outputs = [*_at_stamps(outputs, batches, dataset, settings, present), *held]
    order = np.concatenate([present, absent])
    examples = [dataset.examples[row] for row in order]
    return pa.table(
        {
            "part": pa.array([part] * len(examples), pa.string()),
            **{
                name: pa.array([getattr(example, name) for example in examples], pa.string())
                for name in ("corpus", "id", "speaker", "session", "group")
            },
            "missing": pa.array([False] * len(present) + [True] * len(absent), pa.bool_()),
            **_values(dataset, settings, examples, outputs),
        }
    )


def _values(
    dataset: Dataset, settings: Settings, examples: Sequence[Example], outputs: Sequence[npt.NDArray[Any]]
) -> dict[str, pa.Array]:
    if settings.task == "classification":
        names = dataset.classes
        probabilities = np.reshape(outputs, (len(outputs), len(names)))
        return {
            "reference": pa.array([names[int(e.reference)] for e in examples], pa.string()),  # type: ignore[arg-type]
            "prediction": pa.array([names[best] for best in probabilities.argmax(axis=1)], pa.string()),
            **{f"prob.{name}": pa.array(column) for name, column in zip(names, probabilities.T, strict=True)},
        }
    columns: dict[str, pa.Array] = {}
    kind: pa.DataType = pa.float64()
    if settings.per_frame:
        kind = pa.list_(pa.float64())
        columns["times"] = pa.array([_stamps(e).times for e in examples], kind)
    for k, target in enumerate(settings.targets):
        references = [e.reference.values if isinstance(e.reference, Stamps) else e.reference for e in examples]
        columns[f"reference.{target}"] = pa.array([np.asarray(r).T[k] for r in references], kind)
        columns[f"prediction.{target}"] = pa.array([o.T[k].astype(np.float64) for o in outputs], kind)
    return columns


def _at_stamps(
    outputs: Sequence[npt.NDArray[Any]], batches: Batches, dataset: Dataset, settings: Settings, rows: Rows
) -> list[npt.NDArray[np.float64]]:
    return [
        on_stamps(output, batches.centres_of(row), _stamps(dataset.examples[row]), settings.label_delay_s)
        for output, row in zip(outputs, rows, strict=True)
    ]


def _stamps(example: Example) -> Stamps:
    if not isinstance(example.reference, Stamps):
        raise TypeError(f"{example.key} has no time-stamped reference")
    return example.reference
