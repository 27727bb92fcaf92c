"""What happens to frames before the head: streams joined, averaged, projected, pooled, normalised.

Everything fitted here is fitted on the rows it is given, the training part of a fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..cache import EmocacheError
from ..cache.projection import Projection, fit_frames
from .dataset import Dataset, Features
from .heads.base import FixedPooling
from .settings import Settings


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Per-channel mean and standard deviation of each group of utterances.

    Attributes:
        groups: G names; one empty name where all utterances share the statistics. mean, std: (G, D) float32.
        group_of: (U,) int64, the group of each utterance.
    """

    groups: tuple[str, ...]
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    group_of: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Features ready for batches, and what was fitted to make them so.

    Attributes:
        features: joined, averaged, projected and, for heads that take vectors, pooled; normalised in the batches.
        projection, normaliser: fitted; None where the settings ask for none.
    """

    features: Features
    projection: Projection | None
    normaliser: Normaliser | None

    def tensors(self) -> dict[str, npt.NDArray[np.floating]]:
        """What transforms.safetensors stores."""
        stored: dict[str, npt.NDArray[np.floating]] = {}
        if self.projection is not None:
            stored |= {"pca.mean": self.projection.mean, "pca.components": self.projection.components}
        if self.normaliser is not None:
            stored |= {"normalise.mean": self.normaliser.mean, "normalise.std": self.normaliser.std}
        return {name: np.ascontiguousarray(value) for name, value in stored.items()}


def prepare(dataset: Dataset, settings: Settings, fit_rows: Sequence[int] | npt.NDArray[np.int64]) -> Prepared:
    """Fit on the given rows, and transform every utterance.

    Args:
        dataset: what was loaded.
        settings: streams, features and head.
        fit_rows: rows whose features may be seen; those without features are passed over.

    Raises:
        EmocacheError: streams of different lengths, an impossible PCA, or an utterance without a speaker where
            statistics are per speaker.
    """
    everyone = np.flatnonzero(dataset.present)
    seen = everyone if settings.features.fit_scope == "all" else np.asarray(fit_rows)[dataset.present[fit_rows]]
    features = join(dataset, settings.streams)
    if settings.features.average_frames > 1:
        features = average(features, settings.features.average_frames)
    projection = None
    if settings.features.pca is not None:
        projection = fit_frames((features.of(row) for row in seen), settings.features.pca)
        features = Features(project(features.frames, projection), features.offsets, features.times)
    pooling = settings.head.fixed_pooling(settings.per_frame)
    if pooling is not None:
        features = pool(features, pooling)
    normaliser = None
    if settings.features.normalise == "train":
        normaliser = fit_normaliser(features, [""] * len(dataset.examples), seen)
    elif settings.features.normalise == "per_speaker":
        normaliser = fit_normaliser(features, _speakers(dataset), everyone)
    return Prepared(features, projection, normaliser)


def join(dataset: Dataset, streams: Sequence[str]) -> Features:
    """Several streams as one, side by side in each frame.

    Raises:
        EmocacheError: an utterance has more frames in one stream than in another.
    """
    parts = [dataset.features[name] for name in streams]
    if len(parts) == 1:
        return parts[0]
    present = np.flatnonzero(dataset.present)
    for name, part in zip(streams[1:], parts[1:], strict=True):
        differ = np.flatnonzero(part.lengths != parts[0].lengths)
        if len(differ):
            row = differ[0]
            raise EmocacheError(
                f"streams {streams[0]!r} and {name!r} have {parts[0].lengths[row]} and {part.lengths[row]} frames in"
                f" {dataset.examples[row].key!r} ({len(differ)} of {len(present)} utterances differ); this head joins"
                " streams frame by frame and needs equal rates; train on one of them"
            )
    return Features(np.concatenate([part.frames for part in parts], axis=1), parts[0].offsets, parts[0].times)


def average(features: Features, count: int) -> Features:
    """Means over blocks of `count` frames, the last block of an utterance over what is left."""
    lengths = -(-features.lengths // count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    frames = np.empty((offsets[-1], features.frames.shape[1]), features.frames.dtype)
    times = None if features.times is None else np.empty((offsets[-1], 2))
    for row, (start, end) in enumerate(pairwise(offsets)):
        if start == end:
            continue
        clip = features.of(row)
        blocks = np.arange(0, len(clip), count)
        sums = np.add.reduceat(clip.astype(np.float32), blocks, axis=0)
        frames[start:end] = sums / np.diff([*blocks, len(clip)])[:, None]
        if times is not None and features.times is not None:
            own = features.times[features.offsets[row] : features.offsets[row + 1]]
            times[start:end, 0] = own[blocks, 0]
            times[start:end, 1] = own[np.append(blocks[1:], len(own)) - 1, 1]
    return Features(frames, offsets, times)


def project(frames: npt.NDArray[np.floating], projection: Projection, block: int = 1 << 16) -> npt.NDArray[np.float32]:
    """All frames through a PCA, (N, D) to (N, n), a block at a time because it works in float64."""
    out = np.empty((len(frames), len(projection.components)), np.float32)
    for start in range(0, len(frames), block):
        out[start : start + block] = projection.apply(frames[start : start + block])
    return out


def pool(features: Features, pooling: FixedPooling) -> Features:
    """One vector an utterance: the mean of its frames, and for "mean_std" their standard deviation (divisor n)."""
    width = features.frames.shape[1] * (2 if pooling == "mean_std" else 1)
    present = np.flatnonzero(features.lengths)
    vectors = np.empty((len(present), width), np.float32)
    for out, row in enumerate(present):
        clip = features.of(row).astype(np.float64)
        vectors[out] = np.concatenate([clip.mean(axis=0), *([clip.std(axis=0)] if pooling == "mean_std" else [])])
    return Features(vectors, np.concatenate([[0], np.cumsum(features.lengths > 0)]))


def fit_normaliser(
    features: Features, groups: Sequence[str], rows: Sequence[int] | npt.NDArray[np.int64]
) -> Normaliser:
    """Mean and standard deviation per group and channel over all frames of the rows, in float64.

    Args:
        features: U utterances.
        groups: U names.
        rows: the utterances to fit on.
    """
    names = sorted(set(groups))
    number = {name: k for k, name in enumerate(names)}
    group_of = np.array([number[group] for group in groups], np.int64)
    pilot = features.of(rows[0]).mean(axis=0, dtype=np.float64)
    n = np.zeros((len(names), 1))
    total = np.zeros((len(names), features.frames.shape[1]))
    squares = np.zeros_like(total)
    for row in rows:
        centred = features.of(row).astype(np.float64) - pilot
        n[group_of[row]] += len(centred)
        total[group_of[row]] += centred.sum(axis=0)
        squares[group_of[row]] += (centred**2).sum(axis=0)
    n = np.maximum(n, 1)
    variance = np.maximum(squares / n - (total / n) ** 2, 0)
    # A channel that is constant up to rounding would be blown up to noise.
    std = np.where(variance > 1e-10 * (1 + pilot**2), np.sqrt(variance), 1.0)
    return Normaliser(tuple(names), (pilot + total / n).astype(np.float32), std.astype(np.float32), group_of)


def _speakers(dataset: Dataset) -> list[str]:
    for example in dataset.examples:
        if example.speaker is None:
            raise EmocacheError(f"features.normalise = 'per_speaker': utterance {example.key!r} has no speaker")
    return [f"{example.corpus}/{example.speaker}" for example in dataset.examples]
