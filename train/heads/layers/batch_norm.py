"""Batch normalisation that padding has no part in."""

import torch


class MaskedBatchNorm(torch.nn.BatchNorm1d):
    """Batch normalisation over the batch and its valid frames (Ioffe & Szegedy 2015, algorithms 1 and 2).

    The running statistics are of valid frames too. Built as `MaskedBatchNorm(C)`.
    """

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise each channel.

        Args:
            frames: (B, T, C) float32, or (B, T, C, W) where a frame has W values a channel.
            mask: (B, T) bool; None: all frames are valid.

        Returns:
            The shape of `frames`; zeros where the mask is false.

        Raises:
            ValueError: in training, where a channel has a single valid value: it has no variance.
        """
        valid = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device) if mask is None else mask
        normalised = torch.zeros_like(frames)
        # Valid frames alone, as one long batch (N, C): padding would pull mean and variance towards zero.
        normalised[valid] = super().forward(frames[valid])
        return normalised
