"""PCA in one pass and bounded memory: exact from accumulated moments, or from a sample where a stream is very wide.

One accumulator of moments per distinct fold membership can be summed into every training set, so that per-fold
projections cost one pass over the frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EmocacheError
from ..spill import blocks, by_blocks, release

MAX_DIM = 4096
"""Widest stream a Gram matrix is kept for (134 MB at this width)."""
SAMPLE_BYTES = 512 << 20
"""The bytes that the sample of a wider stream may take: 14,563 frames of 9216 dimensions."""

_BLOCK = 8192


class Gram:
    """Count, sum and Gram matrix of frames, in float64 after subtracting a pilot mean.

    Without the pilot an offset channel ruins the small eigenvalues; in float32 it ruins all of them.

    Args:
        pilot: (D,), any rough mean, D at most `MAX_DIM`; accumulators that are added must share it.

    Attributes:
        n: frames added. total: (D,) float64, sum of (x - pilot). gram: (D, D) float64, sum of (x - pilot)(x - pilot)^T.

    Raises:
        ValueError: wider than `MAX_DIM`.
    """

    def __init__(self, pilot: npt.NDArray[Any]) -> None:
        self.pilot = np.asarray(pilot, np.float64)
        dim = len(self.pilot)
        if dim > MAX_DIM:
            raise ValueError(f"a Gram matrix of {dim} dimensions; at most {MAX_DIM}")
        self.n = 0
        self.total = np.zeros(dim)
        self.gram = np.zeros((dim, dim))

    def add(self, frames: npt.NDArray[Any]) -> None:
        """Add frames, (N, D) of any floating dtype."""
        for start in range(0, len(frames), _BLOCK):
            block = frames[start : start + _BLOCK].astype(np.float64) - self.pilot
            self.n += len(block)
            self.total += block.sum(axis=0)
            self.gram += block.T @ block
            release(frames[: start + _BLOCK])

    def __add__(self, other: "Gram") -> "Gram":
        if not np.array_equal(self.pilot, other.pilot):
            raise ValueError("accumulators with different pilots cannot be added")
        both = Gram(self.pilot)
        both.n = self.n + other.n
        both.total = self.total + other.total
        both.gram = self.gram + other.gram
        return both


@dataclass(frozen=True, eq=False)
class Projection:
    """A fitted PCA.

    Attributes:
        mean: (D,) float64. components: (n, D) float64, orthonormal rows, the entry of largest magnitude positive.
        explained_variance: (n,) float64. total_variance: their sum over all D.
    """

    mean: npt.NDArray[np.float64]
    components: npt.NDArray[np.float64]
    explained_variance: npt.NDArray[np.float64]
    total_variance: float

    def apply(self, frames: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Projected frames, (N, D) -> (N, n) float32, worked out in float64."""

        def project(block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            return ((block.astype(np.float64) - self.mean) @ self.components.T).astype(np.float32)

        return by_blocks(project, frames)

    def to_bytes(self) -> bytes:
        """As safetensors."""
        from safetensors.numpy import save

        total = np.array([self.total_variance])
        return save({"mean": self.mean, "components": np.ascontiguousarray(self.components),
                     "explained_variance": self.explained_variance, "total_variance": total})  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> "Projection":
        """Read what `to_bytes` wrote."""
        from safetensors.numpy import load

        found = load(data)
        return cls(found["mean"], found["components"], found["explained_variance"], float(found["total_variance"][0]))


class Sample:
    """Frames drawn evenly from all that were added, by reservoir sampling with a fixed seed, in float32.

    Args:
        dim: D, the width of every frame.

    Attributes:
        n: frames added. frames: (m, D) float32, all of them as long as they fit `SAMPLE_BYTES`.
    """

    def __init__(self, dim: int) -> None:
        self.n = 0
        self._kept = np.empty((0, dim), np.float32)
        self._most = max(2, SAMPLE_BYTES // (4 * dim))
        self._random = np.random.default_rng(0)

    @property
    def frames(self) -> npt.NDArray[np.float32]:
        """The sample."""
        return self._kept

    def add(self, frames: npt.NDArray[Any]) -> None:
        """Add frames, (N, D) of any floating dtype."""
        room = self._most - len(self._kept)
        if room > 0:
            self._kept = np.concatenate([self._kept, frames[:room].astype(np.float32)])
        for row in range(max(0, min(room, len(frames))), len(frames)):
            # Algorithm R (Vitter 1985): the k-th frame takes a random place with probability m / k.
            place = int(self._random.integers(self.n + row + 1))
            if place < self._most:
                self._kept[place] = frames[row]
        self.n += len(frames)


def fit_frames(parts: Iterable[npt.NDArray[Any]], components: int) -> Projection:
    """Fit the first principal components of frames that come in parts.

    Up to `MAX_DIM` dimensions they equal a full PCA of all frames; above, they are a randomised SVD (Halko et al. 2011,
    scikit-learn's) of a `Sample`.

    Args:
        parts: (T, D) each, such as one utterance after the other; at least one.
        components: how many to keep.

    Returns:
        the projection, its components in order of their variance.

    Raises:
        EmocacheError: more components than dimensions, or not more frames than components.
    """
    found: Gram | Sample | None = None
    for part in parts:
        if found is None:
            wide = part.shape[1] > MAX_DIM
            found = Sample(part.shape[1]) if wide else Gram(_mean(part))
        found.add(part)
    if found is None:
        raise ValueError("no frames to fit a PCA on")
    return fit_sample(found, components) if isinstance(found, Sample) else fit_pca(found, components)


def _mean(frames: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean of (T, D) over time in float64, as NumPy takes it of all at once: one row is added after the other."""
    total = np.zeros(frames.shape[1])
    for block in blocks(frames):
        if len(block) == len(frames):
            return np.asarray(frames.mean(axis=0, dtype=np.float64))
        total = np.add.reduce(np.concatenate([total[None], block]), axis=0)
    return total / len(frames)


def fit_pca(moments: Gram, components: int) -> Projection:
    """Fit the first principal components, equal to a full PCA of all frames added.

    Args:
        moments: of all frames; at most `MAX_DIM` wide.
        components: how many to keep.

    Returns:
        the projection, its components in order of their variance.

    Raises:
        EmocacheError: more components than dimensions, or not more frames than components.
    """
    dim = len(moments.pilot)
    _check(components, dim, moments.n)
    mean = moments.total / moments.n
    covariance = (moments.gram - moments.n * np.outer(mean, mean)) / (moments.n - 1)
    values, vectors = np.linalg.eigh(covariance)
    top = vectors[:, ::-1][:, :components].T
    variance = np.maximum(values[::-1], 0.0)
    return Projection(moments.pilot + mean, _oriented(top), variance[:components].copy(), float(variance.sum()))


def fit_sample(sample: Sample, components: int) -> Projection:
    """Fit the first principal components of a sample of frames, by randomised SVD.

    Args:
        sample: of the frames.
        components: how many to keep.

    Returns:
        the projection, its components in order of their variance.

    Raises:
        EmocacheError: more components than dimensions, or not more frames than components.
    """
    from sklearn.utils.extmath import randomized_svd

    count, dim = sample.frames.shape
    _check(components, dim, count)
    mean = sample.frames.mean(axis=0, dtype=np.float64)
    centred = sample.frames - mean.astype(np.float32)
    _, values, top = randomized_svd(centred, components, n_oversamples=32, n_iter=7, random_state=0)
    # The scatter of a channel is small beside what float32 can hold of it once the mean is gone.
    total = float(np.square(centred, dtype=np.float64).sum() / (count - 1))
    return Projection(mean, _oriented(top.astype(np.float64)), values.astype(np.float64) ** 2 / (count - 1), total)


def _check(components: int, dim: int, frames: int) -> None:
    if not 0 < components <= dim:
        raise EmocacheError(f"PCA to {components} components of a {dim}-dimensional stream: give 1 to {dim}")
    if frames <= components:
        raise EmocacheError(f"PCA to {components} components needs more than {components} frames, got {frames}")


def _oriented(components: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same axes, the entry of largest magnitude of each positive."""
    rows = np.arange(len(components))
    signs = np.sign(components[rows, np.abs(components).argmax(axis=1)])
    return np.ascontiguousarray(components * signs[:, None])
