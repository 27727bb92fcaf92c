"""Item keys of one stream under one manifest, hashed when they are asked for."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .manifest import Manifest
from .recipe import Input


class StreamKeys:
    """Item keys of the utterances of a manifest, for one stream.

    Args:
        manifest: of the corpus.
        fingerprint: of the stream.
        inputs: that its recipe declares.
    """

    def __init__(self, manifest: Manifest, fingerprint: str, inputs: Sequence[Input]) -> None:
        self.manifest = manifest
        self._of_stream = (fingerprint, inputs)
        self._known: dict[str, str] = {}

    def of(self, ids: Collection[str]) -> dict[str, str]:
        """{id: key, 64 hex digits} of these utterances, without those that the manifest lacks; they are remembered."""
        unknown = [utterance for utterance in ids if utterance not in self._known]
        if unknown:
            self._known |= self.manifest.item_keys(*self._of_stream, unknown)
        return {utterance: self._known[utterance] for utterance in ids if utterance in self._known}

    def are(self, ids: pa.ChunkedArray, keys: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Tell which of these keys are those of their utterances.

        Args:
            ids: (N,) strings; one may occur several times, or be none of the manifest's.
            keys: (N,) 32 bytes each.

        Returns:
            (N,) bool.
        """
        places = self.manifest.ids.positions(ids)
        rows, back = np.unique(places, return_inverse=True)
        there = rows >= 0
        own = np.zeros(len(rows), "V32")
        own[there] = self.manifest.key_column(*self._of_stream, rows[there])
        return np.asarray((own[back] == keys) & (places >= 0))


def flat_keys(column: pa.ChunkedArray) -> npt.NDArray[np.void]:
    """A column of keys, binary of 32 bytes, as an array (N,) of 32 bytes each."""
    whole = column.combine_chunks()
    chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    flat = [np.frombuffer(one.buffers()[1], "V32")[one.offset : one.offset + len(one)] for one in chunks if len(one)]
    return np.concatenate(flat) if flat else np.zeros(0, "V32")
