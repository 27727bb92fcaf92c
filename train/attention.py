"""Attention with masks under which nothing may be left."""

import torch


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension where the mask is true; all zeros where it is true nowhere.

    Args:
        scores: (..., T) float32. mask: (..., T) bool, of a shape that broadcasts to that of `scores`.

    Returns:
        (..., T) weights that sum to 1, or to 0 without a valid key; zero gradients there.
    """
    # The most negative number, not -inf: a row of -inf has no softmax, and its gradient is NaN.
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled, dim=-1).masked_fill(~mask, 0.0)
