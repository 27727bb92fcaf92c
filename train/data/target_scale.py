"""The unit of regression targets: standardised on the training part, and predictions brought back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from ..heads import HeadSettings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TargetScale:
    """Mean and standard deviation (divisor n; 1 where a target is constant) of K targets, (K,) float64 each."""

    mean: Floats
    std: Floats

    def standardised(self, values: npt.NDArray[np.floating]) -> Floats:
        """(..., K) values of the corpus, with mean 0 and standard deviation 1 over the training part."""
        return np.asarray((values - self.mean) / self.std)

    def native(self, outputs: npt.NDArray[np.floating]) -> Floats:
        """(..., K) outputs of a head, in the unit of the corpus."""
        return np.asarray(outputs * self.std + self.mean)

    def tensors(self) -> dict[str, Floats]:
        """What transforms.safetensors stores."""
        return {"targets.mean": self.mean, "targets.std": self.std}


def fit_scale(values: Floats) -> TargetScale:
    """The scale of (N, K) values; 0 and 1 where there are none."""
    if not len(values):
        return TargetScale(np.zeros(values.shape[1]), np.ones(values.shape[1]))
    # The mean of equal values may be rounded away from them; what is left must be zero, and not be blown up.
    mean = np.clip(values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    std = values.std(axis=0)
    return TargetScale(mean, np.where(std > 1e-12 * np.abs(mean), std, 1.0))


def check_bounds(values: Floats, targets: Sequence[str], head: HeadSettings) -> None:
    """EmocacheError if a head cannot give what it is trained towards: (N, K) values of the training part."""
    bounds = head.bounds()
    if bounds is None or not len(values):
        return
    for target, column in zip(targets, values.T, strict=True):
        low, high = float(column.min()), float(column.max())
        if low < bounds[0] - 1e-6 or high > bounds[1] + 1e-6:
            raise EmocacheError(f"target {target!r} goes from {low:g} to {high:g} in the training part, and head"
                                f" {head.kind!r} gives values from {bounds[0]:g} to {bounds[1]:g} only; choose a"
                                " head.output without bounds, or bring the labels to that range")  # fmt: skip
