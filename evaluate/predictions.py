"""Reading a run's stored predictions of its test part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..cache import EmocacheError
from .runs import Run

Values = NDArray[Any]
"""References or predictions, (N,): class numbers int64, or values float64."""


@dataclass(frozen=True)
class Samples:
    """What one target's metrics are computed from, N samples.

    A sample is an utterance (classification, regression) or a native label stamp of one (frame regression). Samples
    without a reference are not here.
    """

    reference: Values  # (N,)
    prediction: Values  # (N,)
    row: NDArray[np.int64]  # (N,) the utterance each belongs to, ascending


@dataclass(frozen=True)
class Predictions:
    """The test part of one run, or of several, n utterances."""

    utterances: NDArray[np.str_]  # (n,) "corpus/id"
    groups: NDArray[np.str_]  # (n,) "corpus/group": what the bootstrap draws
    unit: str  # what a group is: "speaker", "session", "utterance", or "group" where they are mixed
    samples: dict[str, Samples]  # target -> samples; the one target of a classification is ""

    def map(self, predict: Callable[[str, Samples], Samples]) -> "Predictions":
        """The same utterances with other samples."""
        return replace(self, samples={target: predict(target, s) for target, s in self.samples.items()})

    def keep(self, mask: NDArray[np.bool_]) -> "Predictions":
        """The utterances, and their samples, where the (n,) mask is true."""
        number = np.cumsum(mask) - 1

        def kept(_: str, samples: Samples) -> Samples:
            inside = mask[samples.row]
            row = number[samples.row[inside]]
            return Samples(samples.reference[inside], samples.prediction[inside], row)

        return replace(self.map(kept), utterances=self.utterances[mask], groups=self.groups[mask])


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """The parts, one after another, as one."""
    first_row = np.cumsum([0, *(len(part.utterances) for part in parts)])
    samples = {}
    for target in parts[0].samples:
        own = [part.samples[target] for part in parts]
        samples[target] = Samples(
            np.concatenate([s.reference for s in own]),
            np.concatenate([s.prediction for s in own]),
            np.concatenate([s.row + start for s, start in zip(own, first_row, strict=False)]),
        )
    units = {part.unit for part in parts if len(part.utterances)}
    return Predictions(
        np.concatenate([part.utterances for part in parts]),
        np.concatenate([part.groups for part in parts]),
        units.pop() if len(units) == 1 else "group",
        samples,
    )


def read_predictions(run: Run, classes: Sequence[str]) -> Predictions:
    """The predictions of a run's test part.

    Args:
        run: the run.
        classes: the names that class numbers stand for; ignored for a regression.

    Raises:
        EmocacheError: a file that is absent, damaged, or lacks a column or a value; a class that is not in `classes`.
    """
    classification = run.record.task == "classification"
    columns = {target: (f"reference.{target}", f"prediction.{target}") for target in run.record.targets}
    if classification:
        columns = {"": ("reference", "prediction")}
    names = [name for pair in columns.values() for name in pair]
    table = _read_test_part(run, ["corpus", "id", "speaker", "session", "group", *names])
    try:
        samples = {}
        for target, pair in columns.items():
            reference, prediction = (table[name] for name in pair)
            if classification:
                samples[target] = _class_samples(reference, prediction, classes)
            elif run.record.task == "regression":
                samples[target] = _samples(_floats(reference), _floats(prediction), np.arange(len(table)))
            else:
                samples[target] = _frame_samples(reference, prediction)
        corpus, name, group = (_strings(table[column]) for column in ("corpus", "id", "group"))
    except (pa.ArrowException, ValueError) as error:
        raise EmocacheError(f"{run.predictions}: {error}; delete the run's folder and train it again") from error
    utterances, groups = _joined(corpus, name), _joined(corpus, group)
    return Predictions(utterances, groups, _unit(table, group, name), samples)


def _read_test_part(run: Run, columns: list[str]) -> pa.Table:
    path = run.predictions
    remedy = "delete the run's folder and train it again"
    try:
        absent = sorted({"part", *columns} - set(pq.read_schema(path).names))
        if absent:
            raise EmocacheError(f"{path}: no column {', '.join(absent)}; {remedy}")
        return pq.read_table(path, columns=columns, filters=pc.field("part") == "test").combine_chunks()
    except FileNotFoundError as error:
        raise EmocacheError(f"{path} does not exist; {remedy}") from error
    except (OSError, pa.ArrowException) as error:
        raise EmocacheError(f"{path}: not a readable Parquet file: {error}; {remedy}") from error


def _class_samples(reference: pa.ChunkedArray, prediction: pa.ChunkedArray, classes: Sequence[str]) -> Samples:
    numbers = []
    for kind, column in (("reference", reference), ("prediction", prediction)):
        found = pc.index_in(column.cast(pa.string()), value_set=pa.array(classes, pa.string()))
        if found.null_count:
            unknown = column.filter(pc.is_null(found))[0].as_py()
            raise ValueError(f"{kind} {unknown!r} is not one of the run's classes ({', '.join(classes)})")
        numbers.append(found.to_numpy().astype(np.int64))
    return Samples(numbers[0], numbers[1], np.arange(len(numbers[0])))


def _frame_samples(reference: pa.ChunkedArray, prediction: pa.ChunkedArray) -> Samples:
    lengths = []
    for column in (reference, prediction):
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or column.null_count:
            raise ValueError(f"the frames of every utterance must be a list, found {column.type}")
        lengths.append(pc.list_value_length(column).to_numpy().astype(np.int64))
    if len(wrong := np.flatnonzero(lengths[0] != lengths[1])):
        i = wrong[0]
        raise ValueError(f"row {i} of the test part has {lengths[0][i]} references but {lengths[1][i]} predictions")
    row = np.repeat(np.arange(len(lengths[0])), lengths[0])
    return _samples(_floats(pc.list_flatten(reference)), _floats(pc.list_flatten(prediction)), row)


def _samples(reference: NDArray[np.float64], prediction: NDArray[np.float64], row: NDArray[np.int64]) -> Samples:
    labelled = ~np.isnan(reference)
    return Samples(reference[labelled], prediction[labelled], row[labelled])


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
    for unit in ("speaker", "session"):
        if table[unit].cast(pa.string()).to_pylist() == group:
            return unit
    return "utterance" if group == name else "group"
