"""From (B, T, D) masked frames to (B, D') utterance vectors."""

from typing import Literal

import torch

from .attention import masked_softmax

PoolingName = Literal["mean", "mean_std", "attention", "attentive_statistics", "last"]


def masked_mean(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the valid frames.

    Args:
        frames: (B, T, D) float32.
        mask: (B, T) bool.

    Returns:
        (B, D) float32; zeros where a row has no valid frame.
    """
    kept = frames.masked_fill(~mask.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def masked_mean_std(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean, then standard deviation (divisor n), over the valid frames: (B, 2 D) float32."""
    mean = masked_mean(frames, mask)
    variance = masked_mean((frames - mean.unsqueeze(1)) ** 2, mask)
    # The gradient of a square root at zero is infinite, and a clip of one frame has no variance.
    return torch.cat([mean, torch.sqrt(variance + 1e-8)], dim=-1)


def last_valid(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The last valid frame: (B, D)."""
    last = (mask.sum(dim=1) - 1).clamp(min=0)
    return frames[torch.arange(len(frames), device=frames.device), last]


class AttentionPooling(torch.nn.Module):
    """Softmax-weighted mean with weights v^T tanh(W h + b): additive self-attention with one learned query."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(dim, dim)
        self.score = torch.nn.Linear(dim, 1, bias=False)

    def weights(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give every frame its weight, (B, T): those of a row sum to 1, or to 0 where it has no valid frame."""
        return masked_softmax(self.score(torch.tanh(self.hidden(frames))).squeeze(-1), mask)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and (B, T) to (B, D)."""
        return torch.einsum("bt,btd->bd", self.weights(frames, mask), frames)


class AttentiveStatistics(AttentionPooling):
    """Mean, then standard deviation, with the same weights (Okabe et al. 2018, equations 2 to 6): (B, 2 D).

    The paper's score has a constant k as well, which the softmax takes away. The variance is at least 1e-5, as in the
    baseline of the Odyssey 2024 challenge; a row without a valid frame gives zeros.
    """

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and (B, T) to (B, 2 D)."""
        weights = self.weights(frames, mask)
        mean = torch.einsum("bt,btd->bd", weights, frames)
        # Around the mean, since the paper's difference of two squares loses what is small beside the mean.
        variance = torch.einsum("bt,btd->bd", weights, (frames - mean.unsqueeze(1)) ** 2)
        # Below the floor there is no gradient, where that of the root would be infinite.
        deviation = torch.sqrt(variance.clamp(min=1e-5)).masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
        return torch.cat([mean, deviation], dim=-1)


_LEARNED = {"attention": AttentionPooling, "attentive_statistics": AttentiveStatistics}


class Pooling(torch.nn.Module):
    """One of the poolings by name; `dim` is D' of what it gives."""

    def __init__(self, name: PoolingName, dim: int) -> None:
        super().__init__()
        self.name = name
        self.dim = 2 * dim if name in ("mean_std", "attentive_statistics") else dim
        self.attention = _LEARNED[name](dim) if name in _LEARNED else None

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and (B, T) to (B, D')."""
        if self.attention is not None:
            pooled: torch.Tensor = self.attention(frames, mask)
            return pooled
        return {"mean": masked_mean, "mean_std": masked_mean_std, "last": last_valid}[self.name](frames, mask)
