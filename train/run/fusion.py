"""Late fusion: the stored predictions of several experiments as one."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...cache import EmocacheError
from ..fit.selection import Score, score
from ..records.columns import GROUP, IDENTITY, MISSING, PART, PRESENT, TIMES, Columns, prediction, reference

Values = npt.NDArray[np.float64]

_STEPS = 10  # of the grid of weights: tenths
_KEYS = (*IDENTITY, GROUP)


@dataclass(frozen=True, eq=False)
class Aligned:
    """Predictions of M members beside each other: n rows with N samples in all, which are the rows or their stamps.

    Attributes:
        rows: keys and references of the n rows, each from the first member that has it.
        values: (M, N, K) probabilities or values. usable: (M, N) bool, what counts: where a member has no features, of
            the utterance or at the stamp, the others do; at a stamp where none has, all that have the utterance; in an
            utterance that none has, the prior of those that score it so.
        present: (N,) bool, some member has features there. missing: (n,) bool, no member has any of the utterance.
        offsets: (n + 1,) samples of each row.
    """

    columns: Columns
    rows: pa.Table
    values: Values
    usable: npt.NDArray[np.bool_]
    present: npt.NDArray[np.bool_]
    missing: npt.NDArray[np.bool_]
    offsets: npt.NDArray[np.int64]

    @property
    def references(self) -> npt.NDArray[Any]:
        """(N,) class numbers, or (N, K) values; NaN where an utterance lacks a target."""
        if self.columns.task == "classification":
            found = pc.index_in(self.rows[reference()], value_set=pa.array(self.columns.names, pa.string()))
            return np.asarray(found.to_numpy(), np.int64)
        lengths = np.diff(self.offsets)
        return np.stack([_flat(self.rows[reference(name)], lengths) for name in self.columns.names], axis=1)


def align(tables: Sequence[pa.Table], members: Sequence[str], columns: Columns) -> Aligned:
    """Put the members' rows of one part beside each other.

    Args:
        tables: rows of predictions.parquet of each member.
        members: their names, for errors.
        columns: what they predict.

    Returns:
        Every utterance that any member has, once.

    Raises:
        EmocacheError: two members have different references or label stamps of an utterance.
    """
    common = [*_KEYS, *columns.truth]
    keys = [list(zip(t["corpus"].to_pylist(), t["id"].to_pylist(), strict=True)) for t in tables]
    number: dict[tuple[str, str], int] = {}
    for key in itertools.chain(*keys):
        number.setdefault(key, len(number))
    everything = pa.concat_tables([table.select(common) for table in tables])
    first = np.unique([number[key] for key in itertools.chain(*keys)], return_index=True)[1]
    rows = everything.take(pa.array(first, pa.int64()))
    lengths = _lengths(rows, columns)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.zeros((len(tables), int(offsets[-1]), len(columns.names)))
    there, seen = (np.zeros((len(tables), len(number)), bool) for _ in range(2))
    present = np.zeros(values.shape[:2], bool)
    for m, (table, own) in enumerate(zip(tables, keys, strict=True)):
        at = np.array([number[key] for key in own], np.int64)
        _check_same(table.select(common), rows.take(pa.array(at)), columns, members[m])
        samples = np.concatenate([np.zeros(0, np.int64), *(np.arange(offsets[i], offsets[i + 1]) for i in at)])
        values[m, samples] = np.stack([_flat(table[name], lengths[at]) for name in columns.values], axis=1)
        seen[m, at] = True
        there[m, at] = ~np.asarray(table[MISSING].to_numpy(), bool)
        present[m, samples] = _flat(table[PRESENT], lengths[at]) == 1 if columns.per_frame else there[m, at]
    missing = np.logical_not(there.any(axis=0))
    held = np.repeat(np.where(missing, seen, there), lengths, axis=1)
    some = np.asarray(present.any(axis=0))
    return Aligned(columns, rows, values, np.where(some, present, held), some, missing, offsets)


def weighted(aligned: Aligned, weights: Sequence[float]) -> Values:
    """(N, K) weighted mean over the members that count; where all of those weigh nothing, their plain mean."""
    share = np.asarray(weights, np.float64)[:, None] * aligned.usable
    share = np.where(share.sum(axis=0) > 0, share, aligned.usable)
    counted = np.where(share[:, :, None] > 0, aligned.values, 0.0)  # what weighs nothing may be NaN
    return np.asarray(np.einsum("mn,mnk->nk", share / share.sum(axis=0), counted))


def majority(aligned: Aligned) -> Values:
    """(N, C) mean probabilities of the members that vote for the class with the most votes, which is their largest.

    Of classes with equally many votes the one with the highest mean probability over all members is chosen.
    """
    votes = np.eye(len(aligned.columns.names))[aligned.values.argmax(axis=2)] * aligned.usable[:, :, None]
    counts = votes.sum(axis=0)
    mean = weighted(aligned, [1.0] * len(aligned.values))
    chosen = np.where(counts == counts.max(axis=1, keepdims=True), mean, -1.0).argmax(axis=1)
    winners = votes[:, np.arange(len(chosen)), chosen]
    return np.asarray(np.einsum("mn,mnk->nk", winners / winners.sum(axis=0), aligned.values))


def fit_weights(aligned: Aligned, metric: str) -> tuple[tuple[float, ...], Score]:
    """The weights with the best score on these rows, and it: equal ones, or tenths that add up to 1.

    Of equally good ones the first are taken; equal weights come first.
    """
    grid = _simplex(len(aligned.values))
    scored = ((weights, fused_score(aligned, weighted(aligned, weights), metric)) for weights in grid)
    return max(scored, key=lambda found: found[1])


def fused_score(aligned: Aligned, fused: Values, metric: str) -> Score:
    """The declared metric of (N, K) values; the loss that decides between equals is that of probabilities, or MSE.

    Of values it is the mean over the targets, each over the samples that have it.
    """
    references = aligned.references
    logs = np.log(np.maximum(fused, 1e-12))
    if aligned.columns.task == "classification":
        loss = -logs[np.arange(len(fused)), references].mean()
        return score(metric, references, fused.argmax(axis=1), float(loss))
    if aligned.columns.task == "distribution":
        return score(metric, references, fused, float(-(references * logs).sum(axis=1).mean()))
    scores = []
    for y, p in zip(references.T, fused.T, strict=True):
        known = ~np.isnan(y)
        if known.any():
            loss = float(np.mean((p[known] - y[known]) ** 2))
            scores.append(score(metric, y[known, None], p[known, None], loss))
    return Score(*np.mean(scores, axis=0).tolist()) if scores else Score(np.nan, np.nan)


def fused_table(part: str, aligned: Aligned, fused: Values) -> pa.Table:
    """Rows of predictions.parquet, which can be fused again; null stands for a target that an utterance lacks."""
    columns, rows, offsets = aligned.columns, aligned.rows, pa.array(aligned.offsets, pa.int32())
    table = {PART: pa.array([part] * len(rows), pa.string()), **{key: rows[key] for key in _KEYS}}
    table[MISSING] = pa.array(aligned.missing)
    if columns.per_frame:
        table[PRESENT] = pa.ListArray.from_arrays(offsets, pa.array(aligned.present))
    table |= {name: rows[name] for name in columns.truth}
    if columns.task == "classification":
        table[prediction()] = pa.array([columns.names[best] for best in fused.argmax(axis=1)], pa.string())
    unknown = np.zeros(fused.shape, bool) if columns.task == "classification" else np.isnan(aligned.references)
    for name, values, absent in zip(columns.values, fused.T, unknown.T, strict=True):
        column = pa.array(values, mask=absent)
        table[name] = pa.ListArray.from_arrays(offsets, column) if columns.per_frame else column
    return pa.table(table)


def _simplex(members: int) -> Iterator[tuple[float, ...]]:
    yield (1 / members,) * members
    for cuts in itertools.combinations(range(_STEPS + members - 1), members - 1):
        bounds = (-1, *cuts, _STEPS + members - 1)
        yield tuple((b - a - 1) / _STEPS for a, b in itertools.pairwise(bounds))


def _check_same(own: pa.Table, rows: pa.Table, columns: Columns, member: str) -> None:
    for name in columns.truth:
        if own[name].combine_chunks() == rows[name].combine_chunks():
            continue
        pairs = zip(own[name].to_pylist(), rows[name].to_pylist(), strict=True)
        differing = next((i for i, pair in enumerate(pairs) if not _alike(*pair)), None)
        if differing is not None:
            where = "/".join(str(own[key][differing]) for key in ("corpus", "id"))
            raise EmocacheError(f"fusion.members: {member!r} has another {name} of {where} than the others;"
                                " give all the same targets, labels, threshold and features.crop_s")  # fmt: skip


def _lengths(rows: pa.Table, columns: Columns) -> npt.NDArray[np.int64]:
    if not columns.per_frame:
        return np.ones(len(rows), np.int64)
    return np.asarray(pc.list_value_length(rows[TIMES]).to_numpy(), np.int64)


def _alike(a: Any, b: Any) -> bool:
    """Tell whether two cells are the same: names, or numbers, of which null and NaN are one."""
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return np.array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64), equal_nan=True)


def _flat(column: pa.ChunkedArray, lengths: npt.NDArray[np.int64]) -> Values:
    """(N,) of a column of numbers, or of lists of them, of these lengths; NaN for what is null."""
    if not pa.types.is_list(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    flat = np.full(int(lengths.sum()), np.nan)
    there = np.repeat(column.is_valid().to_numpy(zero_copy_only=False), lengths)
    flat[there] = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    return flat
