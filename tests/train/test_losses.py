"""Losses and poolings against naive loops."""

import math

import numpy as np
import pytest
import torch

from emocache.train import losses, pooling
from emocache.train.tables import LossSettings

B, T, D = 5, 7, 3
LENGTHS = [7, 1, 4, 2, 6]


def masked(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T, D) frames with rubbish in the padding, and their mask."""
    frames = torch.from_numpy(np.random.default_rng(seed).normal(size=(B, T, D)).astype(np.float32))
    mask = torch.arange(T) < torch.tensor(LENGTHS).unsqueeze(1)
    return torch.where(mask.unsqueeze(-1), frames, 77.0), mask


@pytest.mark.parametrize("name", ["mean", "mean_std", "last", "attention"])
def test_pooling_is_that_of_a_loop_over_utterances(name: pooling.PoolingName) -> None:
    torch.manual_seed(0)
    module = pooling.Pooling(name, D)
    frames, mask = masked()
    for clip, length, pooled in zip(frames, LENGTHS, module(frames, mask), strict=True):
        valid = clip[:length]
        if name == "mean":
            naive = valid.mean(0)
        elif name == "mean_std":
            naive = torch.cat([valid.mean(0), valid.std(0, correction=0)])
        elif name == "last":
            naive = valid[-1]
        else:
            assert module.attention is not None
            scores = [module.attention.score(torch.tanh(module.attention.hidden(f))) for f in valid]
            weights = [math.exp(float(score.detach())) for score in scores]
            naive = sum((w * f for w, f in zip(weights, valid, strict=True)), torch.zeros(D)) / sum(weights)
        assert pooled.shape == (module.dim,)
        assert torch.allclose(pooled, naive, atol=2e-4)  # the standard deviation is kept off zero


def test_mean_std_of_one_frame_has_a_gradient() -> None:
    frames = torch.ones(1, 3, D, requires_grad=True)
    pooling.masked_mean_std(frames, torch.tensor([[True, False, False]])).sum().backward()  # type: ignore[no-untyped-call]
    assert frames.grad is not None and torch.isfinite(frames.grad).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_cross_entropy_is_that_of_a_loop(smoothing: float, weights: list[float] | None) -> None:
    logits, targets = masked()[0][:, 0], torch.tensor([0, 2, 1, 1, 0])
    total = norm = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        log_z = math.log(sum(math.exp(v) for v in row))
        one = -sum(((1 - smoothing) * (c == target) + smoothing / 3) * (v - log_z) for c, v in enumerate(row))
        weight = weights[target] if weights else 1.0
        total, norm = total + weight * one, norm + weight
    found = losses.cross_entropy(logits, targets, torch.tensor(weights) if weights else None, smoothing)
    assert float(found) == pytest.approx(total / norm, rel=1e-5)


def test_squared_error_counts_every_valid_frame_of_the_step_once() -> None:
    outputs, mask = masked()
    targets = masked(1)[0]
    valid = mask.unsqueeze(-1).expand(B, T, D)
    errors = [
        float(outputs[b, t, d] - targets[b, t, d]) ** 2 for b in range(B) for t in range(LENGTHS[b]) for d in range(D)
    ]
    assert float(losses.mean_squared_error(outputs, targets, valid)) == pytest.approx(
        sum(errors) / len(errors), rel=1e-5
    )


def test_concordance_loss_pools_the_valid_frames_of_the_step() -> None:
    outputs, mask = masked()
    targets = masked(1)[0]
    naive = []
    for d in range(D):
        p = np.concatenate([outputs[b, :length, d].numpy() for b, length in enumerate(LENGTHS)]).astype(np.float64)
        y = np.concatenate([targets[b, :length, d].numpy() for b, length in enumerate(LENGTHS)]).astype(np.float64)
        cov = np.mean((p - p.mean()) * (y - y.mean()))
        naive.append(1 - 2 * cov / (p.var() + y.var() + (p.mean() - y.mean()) ** 2))
    found = losses.concordance_loss(outputs, targets, mask.unsqueeze(-1).expand(B, T, D))
    assert float(found) == pytest.approx(np.mean(naive), rel=1e-4)


def test_concordance_loss_of_equals_constants_and_nothing() -> None:
    y = torch.randn(9, 1, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(9, 1, dtype=torch.bool)
    assert float(losses.concordance_loss(y, y, everything)) == pytest.approx(0, abs=1e-6)
    assert float(losses.concordance_loss(torch.zeros(9, 1), y, everything)) == pytest.approx(1)
    constant = torch.zeros(9, 1, requires_grad=True)
    loss = losses.concordance_loss(constant, torch.zeros(9, 1), everything)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 1 and constant.grad is not None and torch.isfinite(constant.grad).all()
    assert float(losses.concordance_loss(y, y, ~everything)) == 1
    assert float(losses.mean_squared_error(y, y, ~everything)) == 0


def test_balanced_class_weights_make_classes_count_equally() -> None:
    loss = losses.make_loss(LossSettings(kind="cross_entropy", class_weights="balanced"), torch.tensor([3, 1, 0]))
    logits, targets = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1])
    each = [float(losses.cross_entropy(logits[i : i + 1], targets[i : i + 1])) for i in range(4)]
    found = float(loss(logits, targets, torch.ones(4, dtype=torch.bool)))
    assert found == pytest.approx((np.mean(each[:3]) + each[3]) / 2, rel=1e-5)
