"""A weight for each channel of an utterance, from its mean and maximum over time."""

from typing import Literal

import torch

GateKind = Literal["cbam16", "single_fc"]

_REDUCTION = 16


class ChannelGate(torch.nn.Module):
    """sigmoid(FC(mean over time) + FC(maximum over time)), the same FC in both.

    Woo et al. 2018, "CBAM", section 3.1, with time in place of the image plane. There the FC has two layers, ReLU and a
    sixteenth of the channels between them ("cbam16"); paper 1, section 4.2.4, writes a single linear map ("single_fc").

    Args:
        dim: D.
        kind: see above.
        causal: the mean and the maximum of a frame are those of the frames up to it, so weights change over time.
    """

    def __init__(self, dim: int, kind: GateKind, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        hidden = max(1, dim // _REDUCTION)
        self.fc: torch.nn.Module = torch.nn.Linear(dim, dim)
        if kind == "cbam16":
            self.fc = torch.nn.Sequential(torch.nn.Linear(dim, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, dim))

    def forward(self, frames: torch.Tensor, mask: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        """Weigh the channels of each utterance.

        A causal gate's weights at the last valid frame are those that the other kind gives the whole utterance. A
        channel without any value counts as one that is zero.

        Args:
            frames: (B, T, D) float32.
            mask: (B, T) bool, a prefix of each row.
            valid: (B, T, D) bool, the values that count; None: all within the mask.

        Returns:
            Weights in 0 to 1: (B, 1, D), or (B, T, D) of a causal gate.
        """
        there = mask.unsqueeze(-1).expand_as(frames) if valid is None else valid
        lowest = frames.masked_fill(~there, torch.finfo(frames.dtype).min)
        known = frames.masked_fill(~there, 0.0)
        if self.causal:
            counts = there.cumsum(dim=1)
            mean, maximum = known.cumsum(dim=1) / counts.clamp(min=1), lowest.cummax(dim=1).values
        else:
            counts = there.sum(dim=1, keepdim=True)
            mean, maximum = known.sum(dim=1, keepdim=True) / counts.clamp(min=1), lowest.amax(dim=1, keepdim=True)
        # Without any value the maximum is still the most negative number, which the FC could turn into infinity.
        return torch.sigmoid(self.fc(mean) + self.fc(maximum.masked_fill(counts == 0, 0.0)))
