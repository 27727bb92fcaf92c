"""Transforms of the frames of each role, fitted on the training part of a fold and applied to all utterances."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, Word
from ...cache.frames.projection import Projection
from ...cache.frames.segments import equal_segments, segment_frames, word_segments
from ..config.sections import FeatureSettings
from ..config.settings import Settings
from ..data.dataset import Dataset, Features
from ..data.enrolment import enrolment_of, speakers_of
from ..data.memory import Memory
from ..heads.head import Segments
from .fitting import Fitted, Fitting
from .joining import JoinedStreams
from .normalisation import Rows, fit_normaliser, normalise_utterances
from .prepared import Joined, Pieces, Prepared, PreparedInput
from .vectors import pool


def prepare(dataset: Dataset, settings: Settings, fit_rows: Rows, streams: JoinedStreams | None = None) -> Prepared:
    """Fit on the given rows, and transform every utterance.

    Args:
        dataset: what was loaded.
        settings: streams, features and head.
        fit_rows: rows whose features may be seen; those without features are passed over.
        streams: of the dataset, where several folds share them; None: joined for this call.

    Returns:
        The input of each role of the head, with what was fitted to make it.

    Raises:
        EmocacheError: see `joining.JoinedStreams`; an impossible PCA, layers of different widths, or an utterance
            without a speaker where statistics are per speaker.
    """
    return _prepare(dataset, settings, np.asarray(fit_rows, np.int64), streams, None)


def apply_fitted(dataset: Dataset, settings: Settings, tensors: Mapping[str, npt.NDArray[Any]]) -> Prepared:
    """Transform every utterance by what a run has fitted.

    Args:
        dataset: any; its labels are not looked at.
        settings: of the run.
        tensors: of the run, as `Prepared.tensors` gives them.

    Returns:
        The input of each role of the head. Statistics per speaker are those of the dataset's own speakers, by all of
        their utterances.

    Raises:
        EmocacheError: as of `prepare`.
    """
    return _prepare(dataset, settings, np.arange(len(dataset.examples)), None, tensors)


def _prepare(
    dataset: Dataset,
    settings: Settings,
    rows: npt.NDArray[np.int64],
    streams: JoinedStreams | None,
    tensors: Mapping[str, npt.NDArray[Any]] | None,
) -> Prepared:
    streams = streams or JoinedStreams(dataset)
    joined = {role: streams.of(settings, role) for role in settings.head.roles()}
    # New utterances are all of their speakers', and have no column that could choose among them.
    enrolment = enrolment_of(dataset, settings) if tensors is None else None
    enrolling = np.flatnonzero(enrolment.mask) if enrolment is not None else rows[:0]
    inputs = {}
    for role, one in joined.items():
        fitting = Fitting(one, settings.features.of(role), rows) if tensors is None else Fitted(role, tensors)
        inputs[role] = _prepare_input(dataset, settings, role, one, fitting, streams, enrolling)
    segments = settings.head.segments()
    if segments is not None:
        pieces = cut(joined[segments.by], joined[segments.role], segments)
        inputs[segments.role] = replace(inputs[segments.role], pieces=pieces)
    return Prepared(inputs, rows)


def _prepare_input(
    dataset: Dataset,
    settings: Settings,
    role: str,
    features: Joined,
    fitting: Fitting | Fitted,
    streams: JoinedStreams,
    enrolling: npt.NDArray[np.int64],
) -> PreparedInput:
    how = settings.features.of(role)
    if not fitting.possible:
        raise EmocacheError(f"no training utterance of a fold has the streams {', '.join(settings.streams[role])};"
                            " extract them, or leave them out")  # fmt: skip
    vocabulary = None
    if how.trainable_words != "none":
        vocabulary = fitting.vocabulary(features)
    # Frames that lack a stream are left out of the fit, and those projected count only where every stream is there.
    projection = None
    if how.pca is not None:
        projection = fitting.projection(features)
        valid = None if features.valid is None else np.asarray(features.valid.all(axis=1, keepdims=True))
        frames = project(features, projection, dataset.memory)
        features = replace(features, frames=frames, stored=None, widths=(how.pca,), valid=valid)
    # Pooled first: what is normalised is the vector that the head is given.
    pooling = settings.head.fixed_pooling(role, settings.per_frame)
    if pooling is not None:
        features = streams.pooled(settings, role, pooling) if projection is None else pool(features, pooling)
    normaliser = None
    if how.normalise == "train":
        normaliser = fitting.normaliser(features)
    elif how.normalise == "per_speaker":
        speakers = speakers_of(dataset, "features.normalise = 'per_speaker'")
        if how.enrolment is None:
            normaliser = fit_normaliser(features, speakers, np.flatnonzero(features.lengths))
        else:
            normaliser = fitting.enrolled(features, speakers, enrolling)
    elif how.normalise != "none":
        frames = normalise_utterances(features, how.normalise == "l2_over_time", dataset.memory)
        features = replace(features, frames=frames, stored=None)
    return PreparedInput(
        features, projection, normaliser, vocabulary, None, _layers(features, how, role), pooling is not None
    )


def _layers(features: Joined, how: FeatureSettings, role: str) -> int:
    if how.combine == "concatenate" or len(features.widths) < 2:
        return 1
    if len(set(features.widths)) > 1 or how.pca is not None:
        raise EmocacheError(f"features.combine = 'weighted' adds the streams of {role!r} up, which have"
                            f" {', '.join(str(width) for width in features.widths)} channels; name layers of one"
                            " model, without features.pca")  # fmt: skip
    return len(features.widths)


def project(features: Joined, projection: Projection, memory: Memory, block: int = 1 << 13) -> npt.NDArray[Any]:
    """Project all frames with a PCA, (N, D) to (N, n) float32, a block at a time because it works in float64."""
    parts = (projection.apply(frames) for frames in features.in_blocks(block))
    return memory.stack(parts, features.offsets[-1], len(projection.components), np.float32)


def cut(by: Features, cut_: Features, segments: Segments) -> Pieces:
    """Cut every utterance into pieces: one for each frame of `by`, which are its words, or as many equal ones.

    The pieces lie within the audio, from 0 to the end of its last frame, whether words end before that or after it.

    Args:
        by: the words.
        cut_: the frames that are cut.
        segments: the roles of the two, the kind of pieces, and their overlap and greatest length.

    Returns:
        The first frame of each piece and the one after its last; an utterance that lacks one of the two has no pieces.

    Raises:
        EmocacheError: words or frames without a place in time.
    """
    if segments.kind == "words" and not np.isfinite(by.times).all():
        raise EmocacheError(
            f"the {segments.role} is cut by the times of the {segments.by}, but some frames of it have no place in"
            f" time; set features.{segments.by}.words = true, which leaves them out"
        )
    if not np.isfinite(cut_.times).all():
        raise EmocacheError(
            f"the {segments.role} cannot be cut into pieces: some frames of it have no place in time; name a stream"
            " whose frames follow each other"
        )
    bounds: list[npt.NDArray[np.int64]] = []
    counts = []
    for row, (words, length) in enumerate(zip(by.lengths, cut_.lengths, strict=True)):
        counts.append(int(words) if length else 0)
        if not counts[-1]:
            continue
        spans, times = by.times_of(row), cut_.times_of(row)
        duration = float(times[-1, 1])
        if segments.kind == "equal":
            pieces = equal_segments(len(spans), duration, overlap=segments.overlap)
        else:
            said = [Word("-", start, end) for start, end in spans]
            pieces = word_segments(said, duration, overlap=segments.overlap)
        own = segment_frames(times, pieces)
        bounds.append(np.stack([own[:, 0], np.minimum(own[:, 1], own[:, 0] + segments.max_frames)], axis=1))
    return Pieces(np.concatenate([np.zeros((0, 2), np.int64), *bounds]), np.concatenate([[0], np.cumsum(counts)]))
