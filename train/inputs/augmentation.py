"""Changes to the frames of training batches. Only valid frames are changed, and lengths stay as they are."""

from dataclasses import replace

import numpy as np
import torch

from ..config.sections import Augmentation
from ..heads.head import Frames
from .batch import Batch


def augment(batch: Batch, how: Augmentation, generator: np.random.Generator) -> Batch:
    """Change the frames of a batch, in a copy.

    Time and channel masks are those of SpecAugment (Park et al. 2019) with zeros, which is the mean of normalised
    frames. Mixup (Zhang et al. 2018) mixes each utterance with another of the batch; frames that only one of them has
    keep their share of nothing.

    Args:
        batch: as gathered.
        how: the changes to make.
        generator: decides everything that is random.

    Returns:
        The copy; with mixup it holds the other targets and their share as well.
    """
    inputs = tuple(_augmented(frames, how, generator) for frames in batch.inputs)
    batch = replace(batch, inputs=inputs)
    return _mixed(batch, how.mixup, generator) if how.mixup else batch


def _augmented(frames: Frames, how: Augmentation, generator: np.random.Generator) -> Frames:
    values = frames.values.clone()
    if how.noise:
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        seed = int(generator.integers(2**31))
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
        values += how.noise * noise.to(values.device)
    lengths = frames.lengths.cpu().numpy()
    for row, length in enumerate(lengths):
        for _ in range(how.time_masks):
            start, end = _stretch(int(length), how.time_mask_share, generator)
            values[row, start:end] = 0.0
        for _ in range(how.channel_masks):
            start, end = _stretch(values.shape[2], how.channel_mask_share, generator)
            values[row, :, start:end] = 0.0
    # Noise must not turn padding, or what a stream lacks, into frames.
    there = frames.mask.unsqueeze(-1) if frames.valid is None else frames.valid
    return replace(frames, values=values.masked_fill(~there, 0.0))


def _stretch(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """Draw a stretch of 0 to share x length, anywhere."""
    width = int(generator.integers(0, int(share * length) + 1))
    start = int(generator.integers(0, length - width + 1))
    return start, start + width


def _mixed(batch: Batch, alpha: float, generator: np.random.Generator) -> Batch:
    share = float(generator.beta(alpha, alpha))
    other = torch.from_numpy(generator.permutation(len(batch.rows))).to(batch.targets.device)
    (frames,) = batch.inputs
    values = share * frames.values + (1 - share) * frames.values[other]
    # The longer of the two decides the length: the shorter one is zeros where it has ended.
    mask = frames.mask | frames.mask[other]
    valid = None if frames.valid is None else frames.valid | frames.valid[other]
    mixed = Frames(values, mask, frames.segments, frames.words, valid)
    return replace(batch, inputs=(mixed,), mixed=(batch.targets[other], 1 - share))
