"""The result of one run, and results of single targets put together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ...cache import EmocacheError
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.enrolment import enrolment_of
from ..data.example import Example, Stamps
from ..protocols.folds import Fold, Rows
from ..records import columns
from ..records.columns import Columns
from ..records.run_record import CoverageRecord, FoldRecord


@dataclass(frozen=True, eq=False)
class FoldResult:
    """The part of a run that training decides.

    Attributes:
        record: the part of run.json that training decides.
        predictions: see `predictions.prediction_table`; validation rows, then test rows.
        kept: see `predictions.kept_table`; None where nothing is kept.
        weights, transforms: for safetensors. history: a line an epoch.
    """

    record: FoldRecord
    predictions: pa.Table
    kept: pa.Table | None
    weights: dict[str, torch.Tensor]
    transforms: dict[str, npt.NDArray[np.floating]]
    history: list[dict[str, Any]]


def only(dataset: Dataset, settings: Settings, fold: Fold, k: int) -> tuple[Dataset, Settings, Fold]:
    """The experiment with its k-th target only, and of the fold the utterances that have it."""
    examples = []
    for example in dataset.examples:
        ref = example.reference
        one = Stamps(ref.times, ref.values[:, k : k + 1]) if isinstance(ref, Stamps) else np.asarray(ref)[k : k + 1]
        examples.append(replace(example, reference=one))
    known = has_target(dataset.examples, k)
    own = replace(dataset, examples=examples), settings.model_copy(update={"targets": (settings.targets[k],)})
    return *own, fold.each(lambda rows: rows[known[rows]])


def check_apart(dataset: Dataset, targets: Sequence[str], folds: Sequence[Fold]) -> None:
    """Refuse folds in which one of several targets cannot be trained or chosen by itself.

    Args:
        dataset: of the experiment.
        targets: its targets.
        folds: of the protocol.

    Raises:
        EmocacheError: no utterance of a training or validation part has the target, and features.
    """
    for k, target in enumerate(targets):
        known = has_target(dataset.examples, k)
        for number, part in ((number, one) for number, fold in enumerate(folds) for one in fold.rounds):
            for name in ("train", "valid"):
                rows = getattr(part, name)
                if not (known & dataset.present)[rows].any():
                    what = f"{target} and features" if known[rows].any() else target
                    raise EmocacheError(f"targets_apart: fold {number} has no {name} utterance with {what}; use fewer"
                                        " folds, another protocol.validation, or an experiment of its own for"
                                        f" {target}")  # fmt: skip


def has_target(examples: Sequence[Example], k: int) -> npt.NDArray[np.bool_]:
    """(U,) whether each utterance has the k-th target of several."""
    firsts = [e.reference.values[0] if isinstance(e.reference, Stamps) else e.reference for e in examples]
    return np.asarray(~np.isnan([np.asarray(first)[k] for first in firsts]))


def side_by_side(parts: Sequence[FoldResult], targets: Sequence[str]) -> FoldResult:
    """Results of single targets as one: what is of one target is named after it, and null where it is not known."""
    table = _beside([part.predictions for part in parts], targets)
    records = [part.record for part in parts]
    selections = [record.selection for record in records]
    of_each = {
        "value": float(np.mean([selection.value for selection in selections])),
        "best_epoch": None,
        "by_target": dict(zip(targets, selections, strict=True)),
    }
    of_all = {
        "prior": {k: v for record in records for k, v in record.prior.items()},
        "selection": selections[0].model_copy(update=of_each),
        "parameters": sum(record.parameters for record in records),
        "warnings": tuple(
            replace(caution, text=f"{target}: {caution.text}")
            for target, record in zip(targets, records, strict=True)
            for caution in record.warnings
        ),
    }
    record = records[0].model_copy(update=of_all)
    return FoldResult(
        record,
        table,
        None,
        {f"{t}.{name}": w for t, part in zip(targets, parts, strict=True) for name, w in part.weights.items()},
        {f"{t}.{name}": w for t, part in zip(targets, parts, strict=True) for name, w in part.transforms.items()},
        [{"target": t, **line} for t, part in zip(targets, parts, strict=True) for line in part.history],
    )


def averaged(parts: Sequence[FoldResult], told: Columns) -> FoldResult:
    """Results of several heads for the same target as one: the mean of what they predict.

    Args:
        parts: the best first.
        told: the columns of their predictions.

    Returns:
        The first with the mean predictions, see `mean_table`. What is of one head is named after its place, `head-1`.
    """
    records = [part.record for part in parts]
    of_all = {
        "parameters": sum(record.parameters for record in records),
        "warnings": tuple(dict.fromkeys(caution for record in records for caution in record.warnings)),
    }
    numbered = list(enumerate(parts, 1))
    return FoldResult(
        records[0].model_copy(update=of_all),
        mean_table([part.predictions for part in parts], told),
        None,
        {f"head-{n}.{name}": w for n, part in numbered for name, w in part.weights.items()},
        {f"head-{n}.{name}": w for n, part in numbered for name, w in part.transforms.items()},
        [{"head": n, **line} for n, part in numbered for line in part.history],
    )


def mean_table(tables: Sequence[pa.Table], told: Columns) -> pa.Table:
    """Return predictions of several heads for the same rows as one.

    Args:
        tables: rows of predictions.parquet, in the same order.
        told: the columns of probabilities or values.

    Returns:
        The first table with the means of those columns, the most probable class of these, and what is `present` in
        any. A second target is that of the first.
    """
    table = tables[0]
    if not len(table):
        return table
    values = np.stack([np.mean([_flat(one[name]) for one in tables], axis=0) for name in told.values])
    new = {name: _like(table[name], column) for name, column in zip(told.values, values, strict=True)}
    if told.task == "classification":
        new[columns.prediction()] = pa.array([told.names[best] for best in values.argmax(axis=0)], pa.string())
    if told.per_frame:
        there = np.any([_flat(one[columns.PRESENT]) for one in tables], axis=0)
        new[columns.PRESENT] = _like(table[columns.PRESENT], there)
    for name, column in new.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _flat(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """The cells of a column, or those of its lists, one after the other."""
    flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return np.asarray(flat.to_numpy())


def _like(column: pa.ChunkedArray, cells: npt.NDArray[Any]) -> pa.Array:
    """The column that these cells make, in lists as long as those of another."""
    if not pa.types.is_list(column.type):
        return pa.array(cells)
    lengths = np.asarray(pc.list_value_length(column).to_numpy())
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), pa.array(cells))


def _beside(tables: Sequence[pa.Table], targets: Sequence[str]) -> pa.Table:
    """Every row of any table once, in the same order; at stamps a list of nulls stands for an unknown target."""
    keys = [list(zip(*(t[name].to_pylist() for name in (columns.PART, "corpus", "id")), strict=True)) for t in tables]
    if all(own == keys[0] for own in keys):  # all utterances have all targets, as is usual
        table = tables[0]
        for other in tables[1:]:
            for name in (name for name in other.column_names if name not in table.column_names):
                table = table.append_column(name, other[name])
        return table
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for table, own in zip(tables, keys, strict=True):
        for key, row in zip(own, table.to_pylist(), strict=True):
            merged.setdefault(key, {}).update(row)
    values = [name(target) for target in targets for name in (columns.reference, columns.prediction)]
    for row in merged.values():
        unknown = [None] * len(row[columns.TIMES]) if columns.TIMES in row else None
        row.update({name: unknown for name in values if name not in row})
    corpora = list(dict.fromkeys(corpus for _, corpus, _ in merged))

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        return row[columns.PART] == "test", row[columns.MISSING], corpora.index(row["corpus"]), row["id"]

    rows = sorted(merged.values(), key=order)
    return pa.Table.from_pylist(rows, schema=pa.unify_schemas([table.schema for table in tables]))


def without_features(dataset: Dataset, fold: Fold) -> dict[str, int]:
    """Count the utterances without features that would train and validate; each once, where it does both in turn."""
    if fold.nested:
        return {"train": int(np.count_nonzero(~dataset.present[fold.train])), "valid": 0}
    return {name: int(np.count_nonzero(~dataset.present[getattr(fold, name)])) for name in ("train", "valid")}


def coverage(dataset: Dataset, settings: Settings, rows: Rows) -> CoverageRecord:
    """Count the utterances, or voting units, of the test part, and those with features; name the others."""
    enrolment = enrolment_of(dataset, settings)
    enrolled = 0 if enrolment is None else len(enrolment.of(rows))
    units: dict[str, bool] = {}
    for row in rows if enrolment is None else enrolment.scored(rows):
        example = dataset.examples[row]
        unit = example.column(settings.vote) if settings.vote else None
        key = example.key if unit is None else f"{example.corpus}/{unit}"
        units[key] = units.get(key, False) or bool(dataset.present[row])
    absent = [key for key, there in units.items() if not there]
    return CoverageRecord(test=len(units), predicted=len(units) - len(absent), missing=tuple(absent), enrolled=enrolled)
