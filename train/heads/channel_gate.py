"""A weight for each channel of an utterance, from its mean and maximum over time."""

from typing import Literal

import torch

from ..pooling import masked_mean

GateKind = Literal["cbam16", "single_fc"]

_REDUCTION = 16


class ChannelGate(torch.nn.Module):
    """sigmoid(FC(mean over time) + FC(maximum over time)), the same FC in both.

    Woo et al. 2018, "CBAM", section 3.1, with time in place of the image plane. There the FC has two layers, ReLU and a
    sixteenth of the channels between them ("cbam16"); paper 1, section 4.2.4, writes a single linear map ("single_fc").

    Args:
        dim: D. kind: see above.
        causal: the mean and the maximum of a frame are those of the frames up to it, so weights change over time.
    """

    def __init__(self, dim: int, kind: GateKind, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        hidden = max(1, dim // _REDUCTION)
        self.fc: torch.nn.Module = torch.nn.Linear(dim, dim)
        if kind == "cbam16":
            self.fc = torch.nn.Sequential(torch.nn.Linear(dim, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, dim))

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Weights in 0 to 1: (B, T, D) float32 frames and (B, T) bool, a prefix of each row, to (B, 1, D) or (B, T, D).

        A causal gate's weights at the last valid frame are those that the other kind gives the whole utterance.
        """
        if self.causal:
            counts = torch.arange(1, frames.shape[1] + 1, device=frames.device).unsqueeze(-1)
            mean, maximum = frames.cumsum(dim=1) / counts, frames.cummax(dim=1).values
        else:
            mean = masked_mean(frames, mask).unsqueeze(1)
            maximum = frames.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1, keepdim=True)
        return torch.sigmoid(self.fc(mean) + self.fc(maximum))
