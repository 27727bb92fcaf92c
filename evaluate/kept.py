"""What a head gave beside its outputs, as training stored it of every utterance with features."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..cache import EmocacheError
from .predictions import cultures
from .runs import Run


@dataclass(frozen=True)
class Kept:
    """One vector for each of n utterances of a run."""

    parts: NDArray[np.str_]  # (n,) "test" or "valid"
    utterances: NDArray[np.str_]  # (n,) "corpus/id"
    cultures: NDArray[np.str_]  # (n,) by their short names
    values: NDArray[np.float64]  # (n, D)


def read_kept(run: Run, name: str) -> Kept | None:
    """What a run kept under that name, such as "gate" or "embedding"; None if it kept nothing of the kind.

    Raises:
        EmocacheError: a file that cannot be read, or vectors of different sizes.
    """
    path = run.folder / "kept.parquet"
    if not path.exists():
        return None
    try:
        if name not in pq.read_schema(path).names:
            return None
        table = pq.read_table(path, columns=["part", "corpus", "id", "culture", name])
        lengths = pc.unique(pc.list_value_length(table[name])).to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            raise ValueError(f"{name} of {lengths} values, where all utterances need the same")
        values = pc.list_flatten(table[name]).to_numpy().reshape(len(table), -1).astype(np.float64)
        known = zip(table["corpus"].to_pylist(), table["id"].to_pylist(), strict=True)
        utterances = np.array([f"{corpus}/{own}" for corpus, own in known], np.str_)
        parts = np.array(table["part"].to_pylist(), np.str_)
        return Kept(parts, utterances, cultures(table, run.record.protocol.codes), values)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise EmocacheError(f"{path}: {error}; delete the run's folder and train it again") from error
