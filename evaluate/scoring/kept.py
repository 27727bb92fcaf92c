"""Arrays that a head gave beside its outputs, as training stored it of every utterance with features."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...cache import EmocacheError, parquet
from ...train.records.columns import PART, shape_of
from ...train.records.run_record import KEPT
from .stored_predictions import cultures
from .stored_runs import Run


@dataclass(frozen=True)
class Kept:
    """An array for each of n utterances of a run."""

    parts: NDArray[np.str_]  # (n,) "test" or "valid"
    utterances: NDArray[np.str_]  # (n,) "corpus/id"
    cultures: NDArray[np.str_]  # (n,) by their short names
    arrays: list[NDArray[np.float64]]  # n, of the shapes in which the head gave them

    @property
    def values(self) -> NDArray[np.float64]:
        """(n, D) of arrays that are alike."""
        return np.stack([array.ravel() for array in self.arrays])


def read_kept(run: Run, name: str, alike: bool = True) -> Kept | None:
    """Read what a run kept under a name, such as "gate" or "embedding".

    Args:
        run: the run.
        name: of what it kept.
        alike: all arrays must have the same size.

    Returns:
        The arrays; None if the run kept nothing of the kind.

    Raises:
        EmocacheError: a file that cannot be read, or arrays of different sizes where they must be alike.
    """
    path = run.folder / KEPT
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
        stored = parquet.column_names(data)
        if name not in stored:
            return None
        shape = shape_of(name)
        own = [PART, "corpus", "id", "culture", name, *([shape] if shape in stored else [])]
        table = parquet.read(data, own)
        lengths = pc.list_value_length(table[name]).to_numpy()
        if alike and (len(set(lengths.tolist())) != 1 or not lengths[0]):
            raise ValueError(f"{name} of {sorted(set(lengths.tolist()))} values, where all utterances need the same")
        flat = pc.list_flatten(table[name]).to_numpy().astype(np.float64)
        arrays = np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []
        if shape in stored:
            arrays = [a.reshape(s) for a, s in zip(arrays, table[shape].to_pylist(), strict=True)]
        known = zip(table["corpus"].to_pylist(), table["id"].to_pylist(), strict=True)
        utterances = np.array([f"{corpus}/{id_}" for corpus, id_ in known], np.str_)
        parts = np.array(table[PART].to_pylist(), np.str_)
        return Kept(parts, utterances, cultures(table, run.record.protocol.codes), arrays)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise EmocacheError(f"{path}: {error}; delete the run's folder and train it again") from error
