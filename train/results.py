"""What one run gives, and results of single targets put together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from .dataset import Dataset
from .references import Stamps
from .settings import Settings


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What one run stores.

    Attributes:
        record: the part of run.json that training decides.
        predictions: see `predictions.prediction_table`; validation rows, then test rows.
        kept: see `predictions.kept_table`; None where nothing is kept.
        weights, transforms: for safetensors. history: a line an epoch.
    """

    record: dict[str, Any]
    predictions: pa.Table
    kept: pa.Table | None
    weights: dict[str, torch.Tensor]
    transforms: dict[str, npt.NDArray[np.floating]]
    history: list[dict[str, Any]]


def only(dataset: Dataset, settings: Settings, k: int) -> tuple[Dataset, Settings]:
    """The experiment with its k-th target only."""
    examples = []
    for example in dataset.examples:
        ref = example.reference
        one = Stamps(ref.times, ref.values[:, k : k + 1]) if isinstance(ref, Stamps) else np.asarray(ref)[k : k + 1]
        examples.append(replace(example, reference=one))
    return replace(dataset, examples=examples), settings.model_copy(update={"targets": (settings.targets[k],)})


def side_by_side(parts: Sequence[FoldResult], targets: Sequence[str]) -> FoldResult:
    """Results of single targets as one: what is of one target is named after it."""
    table = parts[0].predictions
    for part in parts[1:]:
        for name in part.predictions.column_names:
            if name not in table.column_names:
                table = table.append_column(name, part.predictions[name])
    records = [part.record for part in parts]
    values = [record["selection"]["value"] for record in records]
    record = {
        **records[0],
        "prior": {k: v for record in records for k, v in record["prior"].items()},
        "selection": {
            **records[0]["selection"],
            "value": float(np.mean(values)),
            "best_epoch": None,
            "by_target": {t: record["selection"] for t, record in zip(targets, records, strict=True)},
        },
        "parameters": sum(record["parameters"] for record in records),
        "warnings": [
            {**one, "text": f"{target}: {one['text']}"}
            for target, record in zip(targets, records, strict=True)
            for one in record["warnings"]
        ],
    }
    return FoldResult(
        record,
        table,
        None,
        {f"{t}.{name}": w for t, part in zip(targets, parts, strict=True) for name, w in part.weights.items()},
        {f"{t}.{name}": w for t, part in zip(targets, parts, strict=True) for name, w in part.transforms.items()},
        [{"target": t, **line} for t, part in zip(targets, parts, strict=True) for line in part.history],
    )
