"""What every head is."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

FixedPooling = Literal["mean", "mean_std"]


class HeadSettings(BaseModel):
    """The `[head]` table of an experiment; every head adds its own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str

    def fixed_pooling(self, per_frame: bool) -> FixedPooling | None:
        """The parameterless pooling that may be applied to the frames once, before training; None: give it frames."""
        return None


class ChannelDropout(torch.nn.Module):
    """Dropout that takes a channel from all frames of an utterance: single values would average out over time."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout1d(p)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, T, D)."""
        dropped: torch.Tensor = self.dropout(frames.transpose(1, 2))
        return dropped.transpose(1, 2)


class Head(torch.nn.Module):
    """A module from masked frames to logits or values.

    `forward(frames, mask)` takes (B, T, D) float32 frames and a (B, T) bool mask of the valid ones, a prefix of each
    row and never empty, and gives (B, outputs), or (B, T, outputs) where `per_frame`. An utterance's valid outputs
    depend neither on the batch it is in nor on its padding.
    """

    def __init__(self, settings: HeadSettings, input_dim: int, outputs: int, per_frame: bool) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.outputs = outputs
        self.per_frame = per_frame

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the class."""
        raise NotImplementedError
