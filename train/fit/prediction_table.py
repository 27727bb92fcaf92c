"""From outputs to the rows of predictions.parquet, and of kept.parquet."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...cache import EmocacheError
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.example import Example, Stamps, stamps_of
from ..inputs.targets import StampedLabels
from ..protocols.folds import Rows
from ..protocols.grouping import draws
from ..records import columns
from .predict import Predicted, softmax


def prior(dataset: Dataset, settings: Settings, rows: Rows) -> dict[str, float]:
    """{class: share of the rows}, or {target: mean over the rows, or over all their stamps}."""
    references = [dataset.examples[row].reference for row in rows]
    if settings.task == "classification":
        counts = np.bincount(np.array(references), minlength=len(dataset.classes))
        return {name: float(share) for name, share in zip(dataset.classes, counts / len(rows), strict=True)}
    values = np.concatenate([np.atleast_2d(r.values if isinstance(r, Stamps) else np.asarray(r)) for r in references])
    return {target: float(mean) for target, mean in zip(settings.targets, values.mean(axis=0), strict=True)}


def prediction_table(
    part: str,
    predicted: Predicted,
    stamped: StampedLabels,
    dataset: Dataset,
    settings: Settings,
    rows: Rows,
    prior: dict[str, float],
) -> pa.Table:
    """Make the rows of predictions.parquet for one part.

    Utterances without features score as the prior in the test part, under the policy "prior"; elsewhere they are
    left out. Frame-wise values stand at the label stamps; `present` says at which of them the input has something.

    Args:
        part: "valid" or "test".
        predicted: of those `rows` that have features, in their order.
        stamped: labels with their own times, of frame-wise tasks.
        dataset: of the run.
        settings: of the run.
        rows: of the part.
        prior: see `prior`.

    Returns:
        Rows with features in the order of `rows`, then those without; `records.columns` names the columns.

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
    outputs: Sequence[npt.NDArray[Any]] = predicted.outputs
    constant = np.array(list(prior.values()))
    if settings.task in ("classification", "distribution"):
        logits = np.reshape(outputs, (len(outputs), len(constant)))
        outputs = [*softmax(logits), *([constant] * len(absent))]
    elif settings.task == "regression":
        outputs = [*outputs, *([constant] * len(absent))]
    else:
        held = [np.tile(constant, (len(stamps_of(dataset.examples[row]).times), 1)) for row in absent]
        outputs = [*stamped.outputs_at(outputs, present), *held]
        near = [*stamped.present_at(present), *(np.zeros(len(h), bool) for h in held)]
    order = np.concatenate([present, absent])
    groups = draws(dataset.examples, settings.protocol)
    examples = [dataset.examples[row] for row in order]
    table = pa.table(
        {
            columns.PART: pa.array([part] * len(examples), pa.string()),
            **{
                name: pa.array([getattr(example, name) for example in examples], pa.string())
                for name in columns.IDENTITY
            },
            columns.GROUP: pa.array([groups[row] for row in order], pa.string()),
            columns.MISSING: pa.array([False] * len(present) + [True] * len(absent), pa.bool_()),
            **({columns.PRESENT: pa.array(near, pa.list_(pa.bool_()))} if settings.per_frame else {}),
            **_values(dataset, settings, examples, outputs),
            **_auxiliary(dataset, settings, examples, predicted.auxiliary),
        }
    )
    return vote(table, [example.column(settings.vote) for example in examples]) if settings.vote else table


def vote(table: pa.Table, units: Sequence[str | None]) -> pa.Table:
    """Merge rows that are parts of one unit: their mean probabilities, and the first row's rest.

    Parts without features do not vote beside others that have some.

    Args:
        table: of a classification.
        units: the unit of each row in its corpus; None: the row is one of its own.

    Returns:
        A row for each unit, named after it, in the order in which they come up.
    """
    ids, missing = table["id"].to_pylist(), table[columns.MISSING].to_numpy()
    names = [unit if unit is not None else id_ for unit, id_ in zip(units, ids, strict=True)]
    first: dict[tuple[str, str], int] = {}
    corpora = table["corpus"].to_pylist()
    number = np.array([first.setdefault(key, len(first)) for key in zip(corpora, names, strict=True)], np.int64)
    probabilities = [name for name in table.column_names if columns.class_of(name) is not None]
    values = np.stack([table[name].to_numpy() for name in probabilities], axis=1)
    silent = {int(n) for n in number} - {int(n) for n in number[~missing]}  # units without any features
    voters = np.array([not absent or int(n) in silent for absent, n in zip(missing, number, strict=True)], bool)
    means = np.zeros((len(first), len(probabilities)))
    np.add.at(means, number[voters], values[voters])
    means /= np.bincount(number[voters], minlength=len(first))[:, None]
    # The first voter, so that `missing` is told of the unit.
    at = np.flatnonzero(voters)[np.unique(number[voters], return_index=True)[1]] if len(names) else number
    merged = table.take(pa.array(at))
    new = {"id": pa.array([name for _, name in first], pa.string())}
    best = [columns.class_of(probabilities[number]) for number in means.argmax(axis=1)]
    new[columns.prediction()] = pa.array(best, pa.string())
    new |= {name: pa.array(column) for name, column in zip(probabilities, means.T, strict=True)}
    for name, column in new.items():
        merged = merged.set_column(merged.column_names.index(name), name, column)
    return merged


def _auxiliary(
    dataset: Dataset, settings: Settings, examples: Sequence[Example], logits: npt.NDArray[np.float32] | None
) -> dict[str, pa.Array]:
    """Reference and prediction of the second target; null where unknown, or where there are no features."""
    if not settings.auxiliary:
        return {}
    names = dataset.auxiliary
    guessed: list[str | None] = [] if logits is None else [names[best] for best in logits.argmax(axis=1)]
    guessed += [None] * (len(examples) - len(guessed))
    known = [None if example.auxiliary is None else names[example.auxiliary] for example in examples]
    return {
        columns.auxiliary_reference(settings.auxiliary): pa.array(known, pa.string()),
        columns.auxiliary_prediction(settings.auxiliary): pa.array(guessed, pa.string()),
    }


def _values(
    dataset: Dataset, settings: Settings, examples: Sequence[Example], outputs: Sequence[npt.NDArray[Any]]
) -> dict[str, pa.Array]:
    if settings.task == "classification":
        names = dataset.classes
        probabilities = np.reshape(outputs, (len(outputs), len(names)))
        return {
            columns.reference(): pa.array([names[int(e.reference)] for e in examples], pa.string()),  # type: ignore[arg-type]
            columns.prediction(): pa.array([names[best] for best in probabilities.argmax(axis=1)], pa.string()),
            **{
                columns.probability(name): pa.array(column) for name, column in zip(names, probabilities.T, strict=True)
            },
        }
    found: dict[str, pa.Array] = {}
    kind: pa.DataType = pa.float64()
    if settings.per_frame:
        kind = pa.list_(pa.float64())
        found[columns.TIMES] = pa.array([stamps_of(e).times for e in examples], kind)
    for k, target in enumerate(settings.targets):
        references = [e.reference.values if isinstance(e.reference, Stamps) else e.reference for e in examples]
        found[columns.reference(target)] = pa.array([np.asarray(r).T[k] for r in references], kind)
        found[columns.prediction(target)] = pa.array([o.T[k].astype(np.float64) for o in outputs], kind)
    return found


def check_kept(predicted: Predicted, settings: Settings) -> None:
    """EmocacheError if the head does not give what `keep` names."""
    if absent := [name for name in settings.keep if name not in predicted.kept]:
        given = ", ".join(predicted.kept) or "nothing of the kind"
        raise EmocacheError(f"keep: head {settings.head.kind!r} has no {absent[0]!r}; it gives: {given}")


def kept_table(part: str, predicted: Predicted, dataset: Dataset, settings: Settings, rows: Rows) -> pa.Table:
    """Rows of kept.parquet: what `keep` names of every utterance with features, flattened, and its shape.

    The head must give it, see `check_kept`.
    """
    examples = [dataset.examples[row] for row in rows[dataset.present[rows]]]
    found: dict[str, pa.Array] = {columns.PART: pa.array([part] * len(examples), pa.string())}
    for name in ("corpus", "id", "culture"):
        found[name] = pa.array([getattr(example, name) for example in examples], pa.string())
    for name in settings.keep:
        values = predicted.kept.get(name, [])  # nothing where no utterance has features
        found[name] = pa.array([value.ravel() for value in values], pa.list_(pa.float32()))
        found[columns.shape_of(name)] = pa.array([value.shape for value in values], pa.list_(pa.int32()))
    return pa.table(found)
