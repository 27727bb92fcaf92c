"""The inputs of a head as training holds them, from joined streams to what is ready for batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.frames.projection import Projection
from ..data.dataset import Features


@dataclass(frozen=True, slots=True, eq=False)
class Joined(Features):
    """Features of all the streams of one role, side by side.

    Attributes:
        widths: (S,) channels of each stream. valid: (N, S) bool, whether a stream has something at a frame of the
            grid; None where all have.
    """

    widths: tuple[int, ...] = ()
    valid: npt.NDArray[np.bool_] | None = None

    def valid_rows(self, row: int | np.integer[Any]) -> npt.NDArray[np.bool_]:
        """Return the (T, S) of one utterance."""
        own = slice(self.offsets[row], self.offsets[row + 1])
        return np.ones((own.stop - own.start, len(self.widths)), bool) if self.valid is None else self.valid[own]

    def valid_of(self, row: int | np.integer[Any], stream: int) -> npt.NDArray[np.bool_]:
        """Return the (T,) of one utterance and one stream."""
        return self.valid_rows(row)[:, stream]


@dataclass(frozen=True, eq=False)
class SpeakerPrior:
    """The part of training speakers' statistics that holds for others, see `enrolling`: (1, D) float32 each.

    Attributes:
        mean: of speakers' means. std: within speakers, of frames. between: variance of speakers' means; NaN where one
            speaker trained. within: variance of utterances' means within speakers.
    """

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    between: npt.NDArray[np.float32]
    within: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Per-channel mean and standard deviation of each group of utterances.

    Attributes:
        groups: G names; one empty name where all utterances share the statistics. mean, std: (G, D) float32.
        group_of: (U,) int64, the group of each utterance.
        prior: stored in place of the statistics of speakers whom no other utterance is of; None without enrolment.
    """

    groups: tuple[str, ...]
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    group_of: npt.NDArray[np.int64]
    prior: SpeakerPrior | None = None

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return what is stored of it."""
        return {"mean": self.mean, "std": self.std} if self.prior is None else dict(vars(self.prior))


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The distinct frames of the training part: vectors (V, D) float32; words (N,) int64, -1 for one that is not."""

    vectors: npt.NDArray[np.float32]
    words: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The pieces that all utterances are cut into: bounds (M, 2) int64, frames within the utterance; offsets (U+1,)."""

    bounds: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PreparedInput:
    """One role, ready for batches, and what was fitted to make it so.

    Attributes:
        features: joined, projected and, for heads that take vectors, pooled; normalised by utterance where that is
            asked for, else in the batches.
        projection, normaliser, vocabulary: fitted; None where the settings ask for none.
        pieces: what the head takes it in, if any.
        layers: streams that a learned weight is given to; 1: none.
        pooled: one vector an utterance, which is never padded.
    """

    features: Joined
    projection: Projection | None = None
    normaliser: Normaliser | None = None
    vocabulary: Vocabulary | None = None
    pieces: Pieces | None = None
    layers: int = 1
    pooled: bool = False

    @property
    def dim(self) -> int:
        """D of the frames that the head is given."""
        return int(self.features.frames.shape[1]) // self.layers


@dataclass(frozen=True, eq=False)
class Prepared:
    """Every input, and what they were fitted on.

    Attributes:
        inputs: {role: its input}, in the order of the head's roles.
        rows: the training part.
    """

    inputs: Mapping[str, PreparedInput]
    rows: npt.NDArray[np.int64]

    def tensors(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return everything fitted as transforms.safetensors stores it, as `<role>.<name>`."""
        stored: dict[str, npt.NDArray[np.floating]] = {}
        for role, one in self.inputs.items():
            if one.projection is not None:
                stored |= {
                    f"{role}.pca.mean": one.projection.mean,
                    f"{role}.pca.components": one.projection.components,
                }
            if one.normaliser is not None:
                stored |= {f"{role}.normalise.{name}": value for name, value in one.normaliser.tensors().items()}
            if one.vocabulary is not None:
                stored[f"{role}.vocabulary"] = one.vocabulary.vectors
        return {name: np.ascontiguousarray(value) for name, value in stored.items()}

    def padding(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return the frames of the longest utterance of each role, as `<role>.padded_to`: where padding counts, a
        head's outputs depend on it."""
        return {f"{role}.padded_to": np.array([one.features.lengths.max()], np.float64)
                for role, one in self.inputs.items()}  # fmt: skip
