"""Dropout of whole channels."""

import torch


class ChannelDropout(torch.nn.Module):
    """Dropout that takes a channel from all frames of an utterance: single values would average out over time."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout1d(p)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, T, D)."""
        dropped: torch.Tensor = self.dropout(frames.transpose(1, 2))
        return dropped.transpose(1, 2)
