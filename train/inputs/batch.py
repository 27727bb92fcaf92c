"""The batch that one training step sees."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..heads.head import Frames


@dataclass(frozen=True, eq=False)
class Batch:
    """B utterances, padded to the longest.

    Attributes:
        inputs: one for each role of the head, in their order.
        targets: (B,) int64 classes; (B, K) float32 values or shares; or (B, T, K) float32 frame-wise values.
        target_mask: bool, of the shape of `targets`: what counts in the loss.
        rows: (B,) row numbers of the examples.
        auxiliary: (B,) int64, the second target, -1 where unknown; None without one.
        mixed: the targets to mix in and their share, of augmented batches only.
    """

    inputs: tuple[Frames, ...]
    targets: torch.Tensor
    target_mask: torch.Tensor
    rows: npt.NDArray[np.int64]
    auxiliary: torch.Tensor | None = None
    mixed: tuple[torch.Tensor, float] | None = None
