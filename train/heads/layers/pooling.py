"""From (B, T, D) masked frames to (B, D') utterance vectors."""

from typing import Literal

import torch

from .attention import masked_softmax

PoolingName = Literal["mean", "mean_std", "attention", "last"]


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
    """Softmax-weighted mean with weights v^T tanh(W h): additive self-attention with one learned query."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(dim, dim)
        self.score = torch.nn.Linear(dim, 1, bias=False)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and (B, T) to (B, D)."""
        scores = self.score(torch.tanh(self.hidden(frames))).squeeze(-1)
        weights = masked_softmax(scores, mask)
        return torch.einsum("bt,btd->bd", weights, frames)


class Pooling(torch.nn.Module):
    """One of the poolings by name; `dim` is D' of what it gives."""

    def __init__(self, name: PoolingName, dim: int) -> None:
        super().__init__()
        self.name = name
        self.dim = 2 * dim if name == "mean_std" else dim
        self.attention = AttentionPooling(dim) if name == "attention" else None

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and (B, T) to (B, D')."""
        if self.attention is not None:
            pooled: torch.Tensor = self.attention(frames, mask)
            return pooled
        return {"mean": masked_mean, "mean_std": masked_mean_std, "last": last_valid}[self.name](frames, mask)
