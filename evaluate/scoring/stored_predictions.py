"""Reading a run's stored predictions of its test part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...cache import EmocacheError, parquet
from ...train.records import columns
from ...train.records.samples import Kind, Samples
from .stored_runs import Run

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Predictions:
    """The test part of one run, or of several, n utterances."""

    utterances: NDArray[np.str_]  # (n,) "corpus/id"
    groups: NDArray[np.str_]  # (n,) "corpus/group": what the bootstrap draws
    unit: str  # what a group is: "speaker", "session", another column, "utterance", or "group" where they are mixed
    samples: dict[str, Samples]  # target -> samples; "" is the one of a classification, or all shares together
    auxiliary: Samples | None = None  # of a second target
    columns: dict[str, NDArray[Any]] = field(
        default_factory=dict
    )  # (n,): "corpus", "culture", "speaker", "missing" (bool)

    def scored(self) -> list[tuple[str, Samples]]:
        """All samples with their target, which is "" for a second target."""
        return [*self.samples.items(), *([("", self.auxiliary)] if self.auxiliary else [])]

    def map(self, predict: Callable[[str, Samples], Samples]) -> "Predictions":
        """The same utterances with other samples, and without a second target."""
        samples = {target: predict(target, samples) for target, samples in self.samples.items()}
        return replace(self, samples=samples, auxiliary=None)

    def keep(self, mask: NDArray[np.bool_]) -> "Predictions":
        """The utterances, and their samples, where the (n,) mask is true."""
        number = np.cumsum(mask) - 1

        def kept(samples: Samples) -> Samples:
            inside = samples.take(mask[samples.row])
            return replace(inside, row=number[inside.row])

        return replace(
            self,
            utterances=self.utterances[mask],
            groups=self.groups[mask],
            samples={target: kept(samples) for target, samples in self.samples.items()},
            auxiliary=kept(self.auxiliary) if self.auxiliary else None,
            columns={name: values[mask] for name, values in self.columns.items()},
        )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """The parts, one after another, as one."""
    first_row = np.cumsum([0, *(len(part.utterances) for part in parts)])

    def joined(own: Sequence[Samples]) -> Samples:
        return Samples(
            np.concatenate([s.reference for s in own]),
            np.concatenate([s.prediction for s in own]),
            np.concatenate([s.row + start for s, start in zip(own, first_row, strict=False)]),
            own[0].kind,
        )

    second = [part.auxiliary for part in parts if part.auxiliary is not None]
    units = {part.unit for part in parts if len(part.utterances)}
    return Predictions(
        np.concatenate([part.utterances for part in parts]),
        np.concatenate([part.groups for part in parts]),
        units.pop() if len(units) == 1 else "group",
        {target: joined([part.samples[target] for part in parts]) for target in parts[0].samples},
        joined(second) if len(second) == len(parts) else None,
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )


def read_predictions(run: Run, classes: Sequence[str]) -> Predictions:
    """Read the predictions of a run's test part.

    Args:
        run: the run.
        classes: the names that class numbers stand for; ignored where the task has none.

    Returns:
        The utterances, with samples for each target.

    Raises:
        EmocacheError: a file that is absent, damaged, or lacks a column or a value; a class that is not in `classes`.
    """
    record = run.record
    pairs = {target: (columns.reference(target), columns.prediction(target)) for target in record.targets}
    if record.task == "classification":
        pairs = {"": (columns.reference(), columns.prediction())}
    second = []
    if record.auxiliary:
        second = [columns.auxiliary_reference(record.auxiliary), columns.auxiliary_prediction(record.auxiliary)]
    own = ["corpus", "id", "speaker", "session", columns.GROUP, columns.MISSING]
    table = read_test_part(run, [*own, *(name for pair in pairs.values() for name in pair), *second], ["culture"])
    try:
        samples = {t: _samples_of(record.task, table[r], table[p], classes) for t, (r, p) in pairs.items()}
        if record.task == "distribution":
            samples[""] = _together(list(samples.values()))
        auxiliary = _auxiliary_samples(table[second[0]], table[second[1]]) if second else None
        corpus, name, group = (_strings(table[column]) for column in ("corpus", "id", columns.GROUP))
    except (pa.ArrowException, ValueError) as error:
        raise EmocacheError(f"{run.predictions}: {error}; delete the run's folder and train it again") from error
    told = {
        "corpus": np.array(corpus, np.str_),
        "culture": cultures(table, record.protocol.codes),
        "speaker": np.array([name or UNKNOWN for name in table["speaker"].cast(pa.string()).to_pylist()], np.str_),
        "missing": np.array(table[columns.MISSING].to_pylist(), np.bool_),
    }
    unit = record.protocol.resample or _unit(table, group, name)
    return Predictions(_joined(corpus, name), _joined(corpus, group), unit, samples, auxiliary, told)


def cultures(table: pa.Table, codes: dict[str, tuple[str, ...]]) -> NDArray[np.str_]:
    """The culture of every row, (n,), by the short name that the protocol gives it; `UNKNOWN` where there is none."""
    if "culture" not in table.column_names:
        return np.full(len(table), UNKNOWN)
    short = {value: code for code, values in codes.items() for value in values}
    return np.array([short.get(name, name) if name else UNKNOWN for name in table["culture"].to_pylist()], np.str_)


def read_test_part(run: Run, wanted: list[str], newer: list[str]) -> pa.Table:
    """Read these columns, and those of the `newer` ones that the file has: older runs lack them."""
    path = run.predictions
    remedy = "delete the run's folder and train it again"
    try:
        data = path.read_bytes()
        if run.record.predictions_sha256 not in (None, sha256(data).hexdigest()):
            raise EmocacheError(f"{path}: not the file that was written with run.json; {remedy}")
        stored = set(parquet.column_names(data))
        if absent := sorted({columns.PART, *wanted} - stored):
            raise EmocacheError(f"{path}: no column {', '.join(absent)}; {remedy}")
        wanted = [*wanted, *(name for name in newer if name in stored)]
        table = parquet.read(data, [columns.PART, *wanted])
        return table.filter(pc.equal(table[columns.PART].cast(pa.string()), "test")).combine_chunks()
    except FileNotFoundError as error:
        raise EmocacheError(f"{path} does not exist; {remedy}") from error
    except (OSError, pa.ArrowException) as error:
        raise EmocacheError(f"{path}: not a readable Parquet file: {error}; {remedy}") from error


def _samples_of(task: Kind, reference: pa.ChunkedArray, prediction: pa.ChunkedArray, classes: Sequence[str]) -> Samples:
    if task == "classification":
        return _class_samples(reference, prediction, classes)
    if task == "frame_regression":
        return _frame_samples(reference, prediction)
    return _labelled(_floats(reference), _floats(prediction), np.arange(len(reference)), "regression")


def _together(shares: Sequence[Samples]) -> Samples:
    reference = np.stack([s.reference for s in shares], axis=1)
    prediction = np.stack([s.prediction for s in shares], axis=1)
    return Samples(reference, prediction, shares[0].row, "distribution")


def _class_samples(reference: pa.ChunkedArray, prediction: pa.ChunkedArray, classes: Sequence[str]) -> Samples:
    numbers = []
    for kind, column in (("reference", reference), ("prediction", prediction)):
        found = pc.index_in(column.cast(pa.string()), value_set=pa.array(classes, pa.string()))
        if found.null_count:
            unknown = column.filter(pc.is_null(found))[0].as_py()
            raise ValueError(f"{kind} {unknown!r} is not one of the run's classes ({', '.join(classes)})")
        numbers.append(found.to_numpy().astype(np.int64))
    return Samples(numbers[0], numbers[1], np.arange(len(numbers[0])), "classification")


def _auxiliary_samples(reference: pa.ChunkedArray, prediction: pa.ChunkedArray) -> Samples:
    """Only where the second target is known and, as there were features, predicted."""
    row = np.flatnonzero(pc.and_(pc.is_valid(reference), pc.is_valid(prediction)).to_numpy())
    names = [np.array(column.take(pa.array(row)).to_pylist(), np.str_) for column in (reference, prediction)]
    return Samples(names[0], names[1], row, "auxiliary")


def _frame_samples(reference: pa.ChunkedArray, prediction: pa.ChunkedArray) -> Samples:
    lengths = []
    labelled = reference.is_valid()  # an utterance may lack one of several targets
    prediction = pc.if_else(labelled, prediction, None)
    for column in (reference, prediction):
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            raise ValueError(f"the frames of every utterance must be a list, found {column.type}")
        lengths.append(pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64))
    if len(wrong := np.flatnonzero(lengths[0] != lengths[1])):
        i = wrong[0]
        raise ValueError(f"row {i} of the test part has {lengths[0][i]} references but {lengths[1][i]} predictions")
    row = np.repeat(np.arange(len(lengths[0])), lengths[0])
    frames = [_floats(pc.list_flatten(column)) for column in (reference, prediction)]
    return _labelled(frames[0], frames[1], row, "frame_regression")


def _labelled(
    reference: NDArray[np.float64], prediction: NDArray[np.float64], row: NDArray[np.int64], kind: Kind
) -> Samples:
    return Samples(reference, prediction, row, kind).take(~np.isnan(reference))


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """(N,) float64; null becomes NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _strings(column: pa.ChunkedArray) -> list[str]:
    if column.null_count:
        raise ValueError("an utterance without corpus, id or group")
    return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def _joined(corpora: Sequence[str], names: Sequence[str]) -> NDArray[np.str_]:
    return np.array([f"{corpus}/{name}" for corpus, name in zip(corpora, names, strict=True)], np.str_)


def _unit(table: pa.Table, group: list[str], name: list[str]) -> str:
    """Name what the groups are; where several fit, the first."""
    for unit in ("speaker", "session"):
        if table[unit].cast(pa.string()).to_pylist() == group:
            return unit
    return "utterance" if group == name else "group"
