"""The part of an input that is fitted: to the training part of a fold, or taken as a run has stored it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.frames.projection import Projection, fit_frames
from ..config.sections import FeatureSettings
from ..data.dataset import Features
from .enrolling import enrol
from .normalisation import Rows, fit_normaliser
from .prepared import Joined, Normaliser, SpeakerPrior, Vocabulary


class Fitting:
    """Fits one input on the frames of some utterances.

    Args:
        features: the input as it was joined.
        how: its settings.
        rows: utterances that may be seen; all are where `how.fit_scope` says so.
    """

    def __init__(self, features: Joined, how: FeatureSettings, rows: npt.NDArray[np.int64]) -> None:
        everyone = np.flatnonzero(features.lengths)
        self._rows = rows
        self._how = how
        self._seen = everyone if how.fit_scope == "all" else rows[features.lengths[rows] > 0]

    @property
    def possible(self) -> bool:
        """True where any of the utterances has frames."""
        return len(self._seen) > 0

    def vocabulary(self, features: Joined) -> Vocabulary:
        """Find the words; a vector for unknown ones is learned from those that training has once."""
        return find_words(features, self._seen, least=2 if self._how.trainable_words == "unk" else 1)

    def projection(self, features: Joined) -> Projection:
        """Fit the PCA."""
        return fit_frames((_whole(features, row) for row in self._seen), self._how.pca or 0)

    def normaliser(self, features: Joined) -> Normaliser:
        """Fit mean and spread."""
        return fit_normaliser(features, [""] * len(features.lengths), self._seen)

    def enrolled(self, features: Joined, speakers: Sequence[str], rows: Rows) -> Normaliser:
        """Fit the means of speakers: of those who train by all that trains, of others by some rows."""
        training = self._rows[features.lengths[self._rows] > 0]
        return enrol(features, speakers, training, [row for row in rows if features.lengths[row]])


class Fitted:
    """Takes what a run has fitted to one input.

    Args:
        role: the input.
        tensors: as `Prepared.tensors` gives them.
    """

    possible = True

    def __init__(self, role: str, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        self._role, self._tensors = role, tensors

    def vocabulary(self, features: Joined) -> Vocabulary:
        """Look up the frames among the words of the training part."""
        return look_up(features, self._of("vocabulary"))

    def projection(self, features: Joined) -> Projection:
        """Return the PCA, of which a run stores what applies it."""
        components = self._of("pca.components")
        return Projection(self._of("pca.mean"), components, np.zeros(len(components)), 0.0)

    def normaliser(self, features: Joined) -> Normaliser:
        """Return the mean and the spread, the same for every utterance."""
        everyone = np.zeros(len(features.lengths), np.int64)
        return Normaliser(("",), self._of("normalise.mean"), self._of("normalise.std"), everyone)

    def enrolled(self, features: Joined, speakers: Sequence[str], rows: Rows) -> Normaliser:
        """Return the means of speakers by all that there is of each, under what the run knows of speakers."""
        prior = SpeakerPrior(*(self._of(f"normalise.{one.name}") for one in fields(SpeakerPrior)))
        return enrol(features, speakers, [], np.flatnonzero(features.lengths), prior)

    def _of(self, name: str) -> npt.NDArray[Any]:
        return self._tensors[f"{self._role}.{name}"]


def find_words(features: Features, rows: Rows, least: int = 1) -> Vocabulary:
    """Find the distinct frames that come up at least so often in the rows, in the order of their first place."""
    counts = Counter(packed for clip in features.each(rows) for packed in _packed(clip))
    known = b"".join(packed for packed, count in counts.items() if count >= least)
    return look_up(features, np.frombuffer(known, np.float32).reshape(-1, features.frames.shape[1]).copy())


def look_up(features: Features, vectors: npt.NDArray[np.float32]) -> Vocabulary:
    """Number every frame by the vector (V, D) that it equals."""
    number = {packed: k for k, packed in enumerate(_packed(vectors))}
    clips = features.each(np.flatnonzero(features.lengths))
    words = np.array([number.get(packed, -1) for clip in clips for packed in _packed(clip)], np.int64)
    return Vocabulary(vectors, words)


def _packed(frames: npt.NDArray[Any]) -> Iterator[bytes]:
    """Frames of which equal ones have equal bytes, which find a frame among all others in one look-up."""
    return (frame.tobytes() for frame in np.ascontiguousarray(frames.astype(np.float32)))


def _whole(features: Joined, row: int | np.integer[Any]) -> npt.NDArray[np.floating]:
    """Return the frames of one utterance where every stream has something."""
    clip = features.of(row)
    return clip if features.valid is None else clip[features.valid_rows(row).all(axis=1)]
