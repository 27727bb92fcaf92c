"""Losses and poolings against naive loops."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from emocache.train.config.registries import LOSS_KINDS
from emocache.train.config.sections import LossSettings
from emocache.train.config.settings import LOSSES
from emocache.train.fit import losses
from emocache.train.heads.head import Outputs, Term
from emocache.train.heads.layers import pooling
from emocache.train.inputs.batch import Batch

B, T, D = 5, 7, 3
LENGTHS = [7, 1, 4, 2, 6]


@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_every_entry_has_its_function(kind: str) -> None:
    assert callable(losses.make_loss(LossSettings(kind=kind), None))
    assert all(kind in LOSSES[task] for task in LOSS_KINDS[kind].tasks)


def masked(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T, D) frames with rubbish in the padding, and their mask."""
    frames = torch.from_numpy(np.random.default_rng(seed).normal(size=(B, T, D)).astype(np.float32))
    mask = torch.arange(T) < torch.tensor(LENGTHS).unsqueeze(1)
    return torch.where(mask.unsqueeze(-1), frames, 77.0), mask


@pytest.mark.parametrize("name", get_args(pooling.PoolingName))
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
            if name == "attentive_statistics":
                squares = sum((w * f**2 for w, f in zip(weights, valid, strict=True)), torch.zeros(D)) / sum(weights)
                naive = torch.cat([naive, torch.sqrt((squares - naive**2).clamp(min=1e-5))])
        assert pooled.shape == (module.dim,)
        # The standard deviation of "mean_std" is kept off zero by another way.
        assert torch.allclose(pooled, naive, rtol=0, atol=2e-4 if name == "mean_std" else 1e-5)


@pytest.mark.parametrize("name", get_args(pooling.PoolingName))
def test_a_row_of_one_frame_or_none_has_a_gradient_and_padding_changes_nothing(name: pooling.PoolingName) -> None:
    torch.manual_seed(0)
    module = pooling.Pooling(name, D)
    frames = torch.ones(3, 2, D, requires_grad=True)
    mask = torch.tensor([[True, False], [False, False], [True, True]])
    pooled = module(frames, mask)
    pooled.sum().backward()
    assert frames.grad is not None and torch.isfinite(frames.grad).all() and not frames.grad[0, 1].any()
    assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in module.parameters())
    if name != "last":  # no head takes the last frame of a row without any
        assert pooled[1].abs().max() <= 1.01e-4
    if name == "attentive_statistics":
        assert not pooled[1].any()
        assert torch.allclose(pooled[:, D:], torch.tensor([[1e-5], [0], [1e-5]]).sqrt().expand(3, D))
    longer = torch.nn.functional.pad(frames.detach(), (0, 0, 0, 4), value=-3.0)
    assert torch.allclose(module(longer, torch.nn.functional.pad(mask, (0, 4))), pooled, rtol=0, atol=1e-6)


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


def test_absolute_error_is_torch_s_over_what_counts() -> None:
    outputs, mask = masked()
    targets = masked(1)[0]
    found = losses.make_loss(LossSettings(kind="mae"), None)(outputs, targets, mask.unsqueeze(-1).expand(B, T, D))
    assert float(found) == pytest.approx(float(torch.nn.functional.l1_loss(outputs[mask], targets[mask])), rel=1e-6)
    assert float(losses.mean_absolute_error(outputs, targets, torch.zeros_like(outputs, dtype=torch.bool))) == 0


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
    valid = torch.ones(9, 1, dtype=torch.bool)
    assert float(losses.concordance_loss(y, y, valid)) == pytest.approx(0, abs=1e-6)
    assert float(losses.concordance_loss(torch.zeros(9, 1), y, valid)) == pytest.approx(1)
    constant = torch.zeros(9, 1, requires_grad=True)
    loss = losses.concordance_loss(constant, torch.zeros(9, 1), valid)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 1 and constant.grad is not None and torch.isfinite(constant.grad).all()
    assert float(losses.concordance_loss(y, y, ~valid)) == 1
    assert float(losses.mean_squared_error(y, y, ~valid)) == 0


def test_balanced_class_weights_are_those_of_the_odyssey_2024_baseline() -> None:
    """n / (C n_c) of the training part, in torch's weighted mean; of the class that training lacks it has 0."""
    counts = torch.tensor([30, 8, 0, 2])
    weights = torch.where(counts > 0, counts.sum() / (len(counts) * counts.clamp(min=1)), 0.0)
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([0] * 7 + [1] * 3 + [3] * 2)
    theirs = torch.nn.CrossEntropyLoss(weight=weights)(logits, targets)
    ours = losses.make_loss(LossSettings(kind="cross_entropy", class_weights="balanced"), counts)(
        logits, targets, torch.ones(12, dtype=torch.bool)
    )
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-6)
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    assert torch.allclose(slopes[0], slopes[1], rtol=0, atol=1e-7)


def test_balanced_class_weights_make_classes_count_equally() -> None:
    loss = losses.make_loss(LossSettings(kind="cross_entropy", class_weights="balanced"), torch.tensor([3, 1, 0]))
    logits, targets = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1])
    each = [float(losses.cross_entropy(logits[i : i + 1], targets[i : i + 1])) for i in range(4)]
    found = float(loss(logits, targets, torch.ones(4, dtype=torch.bool)))
    assert found == pytest.approx((np.mean(each[:3]) + each[3]) / 2, rel=1e-5)


def everything(values: torch.Tensor) -> torch.Tensor:
    """The mask under which all of it counts."""
    return torch.ones_like(values, dtype=torch.bool)


def column(*values: float) -> torch.Tensor:
    """(n, 1) values of one target."""
    return torch.tensor(values).unsqueeze(1)


@pytest.mark.parametrize(
    ("outputs", "targets", "expected"),
    [
        ((1.0, 1.0), (0.0, 2.0), 1 + 1),  # a constant: squared error 1, CCC 0
        ((0.0, 2.0), (0.0, 2.0), 0 + 0),
        ((3.0,), (1.0,), 4 + 1),  # one value has no covariance
        ((0.0, 1.0, 1.0), (1.0, 1.0, 4.0), (1 + 0 + 9) / 3 + 1 - 2 * (1 / 3) / (2 / 9 + 2 + (4 / 3) ** 2)),  # ties
    ],
)
def test_squared_error_and_concordance_add_up(
    outputs: tuple[float, ...], targets: tuple[float, ...], expected: float
) -> None:
    loss = losses.make_loss(LossSettings(kind="mse_ccc"), None)
    p, y = column(*outputs), column(*targets)
    assert float(loss(p, y, everything(p))) == pytest.approx(expected, abs=1e-6)
    more = [torch.cat([values, column(55.0, -8.0)]) for values in (p, y)]
    counted = torch.cat([everything(p), column(0, 0).bool()])
    assert float(loss(more[0], more[1], counted)) == pytest.approx(expected, abs=1e-6)


def test_without_a_valid_value_squared_error_and_concordance_have_no_gradient() -> None:
    outputs = column(1.0, 2.0, 4.0).requires_grad_()
    loss = losses.make_loss(LossSettings(kind="mse_ccc"), None)(outputs, column(0.0, 1.0, 5.0), ~everything(outputs))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 1 and outputs.grad is not None and not outputs.grad.any()


@pytest.mark.parametrize("rows", [[[0.0, 0.0]], [[2.0, -1.0, 0.0], [0.3, 0.3, -5.0]]])
def test_sigmoid_cross_entropy_is_that_of_a_loop(rows: list[list[float]]) -> None:
    targets = [0, 1][: len(rows)]
    each = [
        math.log(1 + math.exp(-v if c == target else v))
        for row, target in zip(rows, targets, strict=True)
        for c, v in enumerate(row)
    ]
    loss = losses.make_loss(LossSettings(kind="sigmoid"), None)
    logits, classes = torch.tensor(rows), torch.tensor(targets)
    assert float(loss(logits, classes, everything(classes))) == pytest.approx(sum(each) / len(each), rel=1e-6)


def test_sigmoid_cross_entropy_of_very_large_logits_is_finite() -> None:
    found = losses.sigmoid_cross_entropy(torch.tensor([[-400.0, 400.0]]), torch.tensor([0]))
    assert float(found) == 400


def test_soft_cross_entropy_by_hand() -> None:
    loss = losses.make_loss(LossSettings(kind="soft_cross_entropy"), None)
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    tied = torch.zeros(2, 3)
    assert float(loss(tied, shares, everything(shares))) == pytest.approx(math.log(3))
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    expected = (1.5 * math.log(2) + math.log(5)) / 2  # the entropy of the shares that are met, and - log 0.2
    assert float(loss(logits, shares, everything(shares))) == pytest.approx(expected)
    one = losses.soft_cross_entropy(logits[1:], shares[1:])
    assert float(one) == pytest.approx(float(losses.cross_entropy(logits[1:], torch.tensor([1]))))


def test_a_total_loss_is_its_terms_by_their_weights() -> None:
    """Utterances whose second target is unknown do not count in it."""
    log = torch.log
    first, other = log(torch.tensor([[0.5, 0.5], [0.25, 0.75]])), log(torch.tensor([[0.1, 0.9], [0.5, 0.5]]))
    second = log(torch.tensor([[0.2, 0.8], [0.4, 0.6]]))
    terms = (Term(1.0, first), Term(0.5, other), Term(0.3, second, "auxiliary"))
    outputs = Outputs(first, terms, constant=0.7)
    loss, targets = losses.make_loss(LossSettings(kind="cross_entropy"), None), torch.tensor([0, 1])
    main = (math.log(2) - math.log(0.75)) / 2 + 0.5 * (math.log(10) + math.log(2)) / 2 + 0.7
    for auxiliary, expected in (
        (torch.tensor([0, 1]), main - 0.3 * (math.log(0.2) + math.log(0.6)) / 2),
        (torch.tensor([-1, 1]), main - 0.3 * math.log(0.6)),
        (torch.tensor([-1, -1]), main),
        (None, main),
    ):
        found = losses.total_loss(loss, outputs, targets, everything(targets), auxiliary)
        assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_auxiliary_target_of_nobody_known_has_no_gradient() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    second = torch.zeros(2, 2, requires_grad=True)
    outputs = Outputs(logits, (Term(1.0, logits), Term(1.0, second, "auxiliary")))
    loss, targets = losses.make_loss(LossSettings(kind="cross_entropy"), None), torch.tensor([0, 1])
    unknown = torch.tensor([-1, -1])
    losses.total_loss(loss, outputs, targets, everything(targets), unknown).backward()  # type: ignore[no-untyped-call]
    assert second.grad is None and logits.grad is not None and bool(logits.grad.any())


@pytest.mark.parametrize("bare", [True, False])
def test_the_loss_of_mixed_targets_is_mixed(bare: bool) -> None:
    """A share of 0.25 of the other targets; a bare prediction is its own single term."""
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.2, 0.8]]))
    targets, others = torch.tensor([0, 1]), torch.tensor([1, 0])
    batch = Batch((), targets, everything(targets), np.arange(2), mixed=(others, 0.25))
    loss = losses.make_loss(LossSettings(kind="cross_entropy"), None)
    own, other = (math.log(2) - math.log(0.8)) / 2, (math.log(2) + math.log(5)) / 2
    found = losses.batch_loss(loss, logits if bare else Outputs(logits), batch)
    assert float(found) == pytest.approx(0.75 * own + 0.25 * other, rel=1e-6)
    assert float(losses.batch_loss(loss, logits, replace(batch, mixed=None))) == pytest.approx(own, rel=1e-6)


def test_the_squared_error_of_mixed_values_is_mixed() -> None:
    targets, others = column(0.0, 1.0), column(1.0, 0.0)
    batch = Batch((), targets, everything(targets), np.arange(2), mixed=(others, 0.5))
    loss = losses.make_loss(LossSettings(kind="mse"), None)
    assert float(losses.batch_loss(loss, column(0.0, 3.0), batch)) == pytest.approx((4 / 2 + 10 / 2) / 2)
