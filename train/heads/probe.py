"""Linear probe: softmax or linear regression on pooled frames, or on each frame."""

from typing import Literal, cast

import torch

from .base import FixedPooling, Head, HeadSettings


class ProbeSettings(HeadSettings):
    """Settings of the probe."""

    kind: Literal["probe"] = "probe"
    pooling: FixedPooling = "mean"  # over the valid frames; unused with frame-wise targets

    def fixed_pooling(self, per_frame: bool) -> FixedPooling | None:
        """Frames are pooled once: pooling them again in each of a few hundred epochs would be most of the work."""
        return None if per_frame else self.pooling


class Probe(Head):
    """One linear map. It starts at zero, so a converged probe does not depend on the seed."""

    def __init__(self, settings: HeadSettings, input_dim: int, outputs: int, per_frame: bool) -> None:
        super().__init__(settings, input_dim, outputs, per_frame)
        self.settings = cast(ProbeSettings, settings)
        self.linear = torch.nn.Linear(input_dim, outputs)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, T, outputs); or (B, 1, D) of vectors that are pooled already to (B, outputs)."""
        if self.per_frame:
            return cast(torch.Tensor, self.linear(frames))
        if frames.shape[1] != 1:
            raise ValueError(f"the probe takes pooled vectors (B, 1, D), not {tuple(frames.shape)}")
        return cast(torch.Tensor, self.linear(frames[:, 0]))
