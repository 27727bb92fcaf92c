"""References and predictions beside each other, from which metrics are computed."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["classification", "regression", "frame_regression", "distribution", "auxiliary"]
"""The kinds of samples: classes, values, values of frames, a distribution's shares, or a second target's classes."""

Values = NDArray[Any]
"""References or predictions, (N,): class numbers int64, a second target's names, or values float64; shares (N, K)."""


@dataclass(frozen=True)
class Samples:
    """The N samples that one target's metrics are computed from.

    A sample is an utterance, or of values of frames a native label stamp. Samples without a reference are not here.
    """

    reference: Values  # (N,), or (N, K) shares
    prediction: Values  # the same
    row: NDArray[np.int64]  # (N,) the utterance each belongs to, ascending
    kind: Kind

    def take(self, inside: NDArray[Any]) -> "Samples":
        """Take the samples that a mask or their numbers name."""
        return replace(self, reference=self.reference[inside], prediction=self.prediction[inside], row=self.row[inside])
