"""Linear probe: softmax or linear regression on pooled frames, or on each frame."""

from typing import Literal, cast

import torch

from .head import FixedPooling, Frames, Head, HeadSettings, Shape


class ProbeSettings(HeadSettings):
    """Settings of the probe."""

    kind: Literal["probe"] = "probe"
    pooling: FixedPooling = "mean"  # over the valid frames; unused with frame-wise targets

    def fixed_pooling(self, role: str, per_frame: bool) -> FixedPooling | None:
        """Frames are pooled once: pooling them again in each of a few hundred epochs would be most of the work."""
        return None if per_frame else self.pooling


class Probe(Head[ProbeSettings]):
    """One linear map. It starts at zero, so a converged probe does not depend on the seed."""

    def __init__(self, settings: ProbeSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        self.linear = torch.nn.Linear(shape.dim, shape.outputs)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def output_layer(self) -> torch.nn.Linear:
        """The only one."""
        return self.linear

    def forward(self, frames: Frames) -> torch.Tensor:
        """(B, T, D) to (B, T, outputs); or (B, 1, D) of vectors that are pooled already to (B, outputs)."""
        if self.per_frame:
            return cast(torch.Tensor, self.linear(frames.values))
        if frames.values.shape[1] != 1:
            raise ValueError(f"the probe takes pooled vectors (B, 1, D), not {tuple(frames.values.shape)}")
        return cast(torch.Tensor, self.linear(frames.values[:, 0]))
