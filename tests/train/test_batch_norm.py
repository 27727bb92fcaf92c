"""Masked batch normalisation against a loop over valid frames."""

import numpy as np
import pytest
import torch

from emocache.train.heads.layers.batch_norm import MaskedBatchNorm

LENGTHS = [5, 1, 3]
C, MOMENTUM, EPSILON = 4, 0.1, 1e-5


def _frames(seed: int, *more: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(3, 5, C, ...) frames with rubbish in the padding, and their mask."""
    frames = torch.from_numpy(np.random.default_rng(seed).normal(3, 2, (3, 5, C, *more)).astype(np.float32))
    mask = torch.arange(5) < torch.tensor(LENGTHS).unsqueeze(1)
    frames[~mask] = 77.0
    return frames, mask


@pytest.mark.parametrize("more", [(), (6,)], ids=["vectors", "rows"])
def test_it_is_a_loop_over_valid_frames_running_statistics_included(more: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = MaskedBatchNorm(C)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    mean, variance = np.zeros(C), np.ones(C)
    for seed in (1, 2):
        frames, mask = _frames(seed, *more)
        found = norm(frames, mask).detach().numpy()
        assert (found[~mask.numpy()] == 0).all()
        for channel in range(C):
            valid = [(b, t) for b, length in enumerate(LENGTHS) for t in range(length)]
            values = np.stack([frames[b, t, channel].numpy() for b, t in valid]).astype(np.float64)
            weight, bias = norm.weight[channel].item(), norm.bias[channel].item()
            expected = (values - values.mean()) / np.sqrt(values.var() + EPSILON) * weight + bias
            assert np.abs(np.stack([found[b, t, channel] for b, t in valid]) - expected).max() < 1e-5
            mean[channel] = (1 - MOMENTUM) * mean[channel] + MOMENTUM * values.mean()
            variance[channel] = (1 - MOMENTUM) * variance[channel] + MOMENTUM * values.var(ddof=1)
    state = norm.state_dict()
    assert np.allclose(state["running_mean"], mean, atol=1e-5)
    assert np.allclose(state["running_var"], variance, atol=1e-5)
    frames, mask = _frames(3, *more)
    found = norm.eval()(frames, mask).detach()
    for channel in range(C):
        scale = norm.weight[channel].item() / np.sqrt(variance[channel] + EPSILON)
        expected = (frames[:, :, channel] - mean[channel]) * scale + norm.bias[channel].item()
        assert (found[:, :, channel] - expected)[mask].abs().max() < 1e-5


def test_what_lies_in_the_padding_gets_no_gradient() -> None:
    frames, mask = _frames(0)
    frames.requires_grad_()
    (MaskedBatchNorm(C)(frames, mask) ** 3).sum().backward()
    assert frames.grad is not None and (frames.grad[~mask] == 0).all() and (frames.grad[mask] != 0).all()


def test_a_single_value_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        MaskedBatchNorm(C)(torch.zeros(1, 2, C), torch.tensor([[True, False]]))
