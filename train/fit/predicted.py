"""The outputs of a trained head."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, eq=False)
class Predicted:
    """The outputs of a head for n utterances.

    Attributes:
        outputs: of each (outputs,), or (T, outputs) of frame-wise heads: logits, or values in the unit of the corpus.
        loss: over all of them, of targets as the head learns them.
        auxiliary: (n, C') logits of the second target; None without one.
        kept: {name: an array for each utterance}.
    """

    outputs: list[npt.NDArray[np.floating]]
    loss: float
    auxiliary: npt.NDArray[np.float32] | None
    kept: dict[str, list[npt.NDArray[np.float32]]]


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the probabilities of (n, C) logits, in float64."""
    return torch.softmax(torch.from_numpy(logits.astype(np.float64)), dim=1).numpy()
