"""Stored gate weights: which channels weigh most, and how alike cultures are in that (paper 1, Figures 4 and 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cache import EmocacheError
from ..scoring.kept import Kept, read_kept
from ..scoring.result_groups import TEXTS, Result, flat_texts
from .gated_channels import gated_channels

Floats = NDArray[np.float64]

_NO_PART_OF_A_MODEL = ("targets", "seeds", *TEXTS)


@dataclass(frozen=True)
class Gates:
    """The mean gate weights of one result: S seeds, K cultures, and C of a gate's channels.

    A culture is seen in the test part, or, where it only trains, in the validation part.
    """

    result: Result
    cultures: list[str]  # K, sorted
    parts: list[str]  # (K) "test" or "valid"
    clips: list[int]  # (K) of one seed
    weights: Floats  # (S, K, C), means over clips
    channels: str  # which C of the gate's channels these are, in words

    @property
    def task(self) -> str:
        """The targets that the gate was trained for, joined by `+`."""
        return "+".join(self.result.first.targets)

    @property
    def mean(self) -> Floats:
        """The mean over seeds, (K, C)."""
        return np.asarray(self.weights.mean(axis=0))


def read_gates(result: Result) -> Gates | None:
    """Read the gates that a result's runs kept.

    Args:
        result: the result, all of whose runs are read.

    Returns:
        Their means; None if the runs kept no gates.

    Raises:
        EmocacheError: a file that cannot be read, or gates of different sizes.
    """
    cells = {cell: read_kept(run, "gate") for cell, run in sorted(result.runs.items())}
    kept = {cell: table for cell, table in cells.items() if table is not None}
    if not kept:
        return None
    if len({table.values.shape[1] for table in kept.values()}) > 1:
        raise EmocacheError(f"{result.first.experiment}: gates of several sizes; train its runs again")
    # The folds are parts of one test set: a seed's clips are one table, whichever fold they are from.
    by_seed = [_join([kept[cell] for cell in kept if cell[1] == seed]) for seed in sorted({s for _, s in kept})]
    # Seeds may lack folds, and with them cultures; means over seeds need all of them in every seed.
    common = sorted(set.intersection(*(set(culture) for _, culture, _ in by_seed)))
    part, culture, gate = by_seed[0]
    parts = ["test" if "test" in part[culture == name] else "valid" for name in common]
    weights = [[_mean(table, *place) for place in zip(common, parts, strict=True)] for table in by_seed]
    clips = [int(((culture == name) & (part == own)).sum()) for name, own in zip(common, parts, strict=True)]
    looked_at, width = gated_channels(result.first.config), gate.shape[1]
    counted = np.array(weights)[:, :, : looked_at.count(width)]
    return Gates(result, common, parts, clips, counted, looked_at.told(width))


def families(gates: Sequence[Gates]) -> list[list[Gates]]:
    """Put together the gates of models that differ in their targets only and read the same: one figure each."""
    found: dict[Any, list[Gates]] = {}
    for gate in gates:
        record = gate.result.first
        config = {k: v for k, v in record.config.items() if k not in _NO_PART_OF_A_MODEL}
        streams = tuple((stream.corpus, stream.fingerprint) for stream in record.streams)
        found.setdefault((record.corpora, streams, tuple(flat_texts(config).items())), []).append(gate)
    return list(found.values())


def heaviest(weights: Floats, count: int = 10) -> NDArray[np.int64]:
    """Return the channels of the largest weights, (..., C) to (..., count), the largest first, of equals the lower."""
    return np.argsort(-weights, axis=-1, kind="stable")[..., :count]


def appearances(weights: Sequence[Floats], count: int = 10) -> NDArray[np.int64]:
    """Count the times that each channel is among the `count` heaviest: (K, C) of every task to (C,)."""
    channels = np.concatenate([heaviest(task, count).ravel() for task in weights])
    # minlength: channels that are never among the heaviest have a place too.
    return np.bincount(channels, minlength=weights[0].shape[1])


def similarity(weights: Floats) -> Floats:
    """Correlate every two cultures over channels (Pearson), (K, C) to (K, K); NaN where weights are constant.

    Gates are all positive, so that their cosine is near 1 whatever they do; the correlation is centred.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(weights))


_Table = tuple[NDArray[np.str_], NDArray[np.str_], Floats]
"""Part (n,), culture (n,) and gate (n, D) of n clips."""


def _join(folds: Sequence[Kept]) -> _Table:
    columns = zip(*((fold.parts, fold.cultures, fold.values) for fold in folds), strict=True)
    return tuple(np.concatenate(column) for column in columns)  # type: ignore[return-value]


def _mean(table: _Table, name: str, own: str) -> Floats:
    part, culture, gate = table
    return np.asarray(gate[(culture == name) & (part == own)].mean(axis=0))
