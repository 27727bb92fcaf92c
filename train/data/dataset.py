"""Everything that one experiment reads: its utterances, their labels, and the frames of its streams in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .example import Example


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Frames of all U utterances, one after the other; an utterance without features has none.

    Attributes:
        frames: (N, D), storage dtype. offsets: (U + 1,) int64.
        times: (N, 2) float64 seconds, start and end; NaN for frames without a place in time.
        used: (N,) bool, the stored mask that `features.where` names; None where the stream has none.
    """

    frames: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    used: npt.NDArray[np.bool_] | None = None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(U,) number of frames."""
        return np.diff(self.offsets)

    def of(self, row: int | np.integer[Any]) -> npt.NDArray[Any]:
        """Return the (T, D) frames of one utterance."""
        return self.frames[self.offsets[row] : self.offsets[row + 1]]

    def times_of(self, row: int | np.integer[Any]) -> npt.NDArray[np.float64]:
        """Return the (T, 2) seconds of one utterance."""
        return self.times[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of one corpus."""

    corpus: str
    name: str
    fingerprint: str
    projection: dict[str, Any] | None  # of its recipe: what a stored PCA was fitted on
    weights: str | None = None  # where those of its encoder are from; None where nobody recorded it
    recipe: Mapping[str, Any] = field(default_factory=dict)
    matrix: bytes | None = None  # of a stored PCA, see `cache.frames.projection`


@dataclass(frozen=True, eq=False)
class Dataset:
    """The utterances and features that training reads.

    Attributes:
        examples: U utterances, in the order of corpora and ids. classes: of the target, sorted; empty for a
            regression. auxiliary: classes of the second target.
        features: {stream: Features}, each read when it is first asked for.
        present: (U,) bool, has the features it needs: of all streams, or of any where `modalities` says so.
        incomplete: some utterances are not extracted yet, and that was allowed.
        dropped: {label: utterances} left out by the label map. unlabelled: utterances without a label.
        recordings: {sha256 of a media file: keys of the utterances in it}, of every corpus as a whole.
        longest: seconds of the longest utterance of the corpora; None where no length is known.
    """

    examples: list[Example]
    classes: tuple[str, ...]
    features: Mapping[str, Features]
    present: npt.NDArray[np.bool_]
    sources: list[Source] = field(default_factory=list)
    manifests: dict[str, str] = field(default_factory=dict)
    item_digest: str = ""
    incomplete: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    auxiliary: tuple[str, ...] = ()
    recordings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    longest: float | None = None
