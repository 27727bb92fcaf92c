"""Attention with masks under which nothing may be left."""

import torch


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension where the mask is true; all zeros where it is true nowhere.

    Args:
        scores: (..., T) float32.
        mask: (..., T) bool, of a shape that broadcasts to that of `scores`.

    Returns:
        (..., T) weights that sum to 1, or to 0 without a valid key; zero gradients there.
    """
    # The most negative number, not -inf: a row of -inf has no softmax, and its gradient is NaN.
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled, dim=-1).masked_fill(~mask, 0.0)


class MaskedAttention(torch.nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2) that gives zeros where no key is valid.

    `torch.nn.MultiheadAttention` gives NaN there.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(width, heads, dropout, batch_first=True)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Every query over the valid keys, which are the values as well.

        Args:
            queries: (B, Q, width) float32.
            keys: (B, T, width) float32.
            mask: (B, T) bool, the valid keys.

        Returns:
            (B, Q, width).
        """
        empty = ~mask.any(dim=1)
        ignored = ~mask & ~empty.unsqueeze(1)  # never all keys of a row
        attended, _ = self.attention(queries, keys, keys, key_padding_mask=ignored, need_weights=False)
        result: torch.Tensor = attended.masked_fill(empty.view(-1, 1, 1), 0.0)
        return result
