"""PCA from accumulated moments: exact, bounded in memory, and additive over groups of utterances.

One accumulator per distinct fold membership can be summed into every training set, so that per-fold projections cost
one pass over the frames.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import EmocacheError

MAX_DIM = 4096
"""Widest stream a Gram matrix is kept for (134 MB at this width)."""

_BLOCK = 8192


class Gram:
    """Count, sum and Gram matrix of frames, in float64 after subtracting a pilot mean.

    Without the pilot an offset channel ruins the small eigenvalues; in float32 it ruins all of them.

    Attributes:
        n: frames added. total: (D,) float64, sum of (x - pilot). gram: (D, D) float64, sum of (x - pilot)(x - pilot)^T.
    """

    def __init__(self, pilot: npt.NDArray[Any]) -> None:
        """An empty accumulator. `pilot`: (D,), any rough mean; accumulators that are added must share it.

        Raises:
            EmocacheError: wider than `MAX_DIM`.
        """
        self.pilot = np.asarray(pilot, np.float64)
        dim = len(self.pilot)
        if dim > MAX_DIM:
            raise EmocacheError(f"PCA of {dim} dimensions: at most {MAX_DIM}; choose a narrower layer or encoder")
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
        return ((frames.astype(np.float64) - self.mean) @ self.components.T).astype(np.float32)

    def to_bytes(self) -> bytes:
        """As safetensors."""
        from safetensors.numpy import save

        total = np.array([self.total_variance])
        return save({"mean": self.mean, "components": np.ascontiguousarray(self.components),
                     "explained_variance": self.explained_variance, "total_variance": total})  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> "Projection":
        """What `to_bytes` wrote."""
        from safetensors.numpy import load

        found = load(data)
        return cls(found["mean"], found["components"], found["explained_variance"], float(found["total_variance"][0]))


def fit_pca(moments: Gram, components: int) -> Projection:
    """The first principal components, equal to a full PCA of all frames added.

    Raises:
        EmocacheError: more components than dimensions, or not more frames than components.
    """
    dim = len(moments.pilot)
    if not 0 < components <= dim:
        raise EmocacheError(f"PCA to {components} components of a {dim}-dimensional stream: give 1 to {dim}")
    if moments.n <= components:
        raise EmocacheError(f"PCA to {components} components needs more than {components} frames, got {moments.n}")
    mean = moments.total / moments.n
    covariance = (moments.gram - moments.n * np.outer(mean, mean)) / (moments.n - 1)
    values, vectors = np.linalg.eigh(covariance)
    top = vectors[:, ::-1][:, :components].T
    signs = np.sign(top[np.arange(components), np.abs(top).argmax(axis=1)])
    variance = np.maximum(values[::-1], 0.0)
    return Projection(moments.pilot + mean, top * signs[:, None], variance[:components].copy(), float(variance.sum()))
