"""Self- and cross-attention of text and audio against loops over single utterances, written from the equations."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from emocache.train.heads import Frames, Head, Shape
from emocache.train.heads.layers.attention import MaskedAttention
from emocache.train.heads.mha_fusion import MHA, MHAFusion, MHAFusionSettings, MHASettings, TransformerBlock, statistics

SMALL: dict[str, Any] = {"width": 12, "heads": 3, "fc": 10, "dropout": 0.0}
DIMS = {"text": 5, "audio": 12}  # text is projected, audio has the width already
TEXT, AUDIO = (7, 3, 1, 0, 2), (4, 9, 6, 2, 0)  # frames of five utterances; the last two lack one input


def frames(lengths: tuple[int, ...], dim: int) -> Frames:
    """Random frames, and large values where the mask is false."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return Frames(torch.randn(*mask.shape, dim).masked_fill(~mask.unsqueeze(-1), 9.0), mask)


def fusion(dims: dict[str, int] | None = None, **changes: Any) -> MHAFusion:
    torch.manual_seed(0)
    return MHAFusion(MHAFusionSettings(**{**SMALL, **changes}), Shape(dims or DIMS, 7)).eval()


def attend(module: Any, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """(Q, W) over (T, W); with residuals and norms if the module is a block."""
    if not isinstance(module, TransformerBlock):
        return multi_head(module.attention, queries, keys)
    attended = layer_norm(module.norms[0], queries + attend(module.attention, queries, keys))
    wide, _, narrow = module.feedforward
    return layer_norm(module.norms[1], attended + linear(narrow, linear(wide, attended).clamp(min=0)))


def multi_head(inner: Any, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """One query and one head at a time; zeros without keys."""
    found = torch.zeros_like(queries)
    if not len(keys):
        return found
    weights, biases = inner.in_proj_weight.chunk(3), inner.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((queries, keys, keys), weights, biases, strict=True))
    size = queries.shape[1] // inner.num_heads
    for i in range(len(queries)):
        for start in range(0, queries.shape[1], size):
            one = slice(start, start + size)
            scores = torch.stack([q[i, one] @ key[one] / math.sqrt(size) for key in k])
            shares = scores.exp() / scores.exp().sum()
            found[i, one] = sum(share * value[one] for share, value in zip(shares, v, strict=True))
    return linear(inner.out_proj, found)


def linear(module: torch.nn.Module, values: torch.Tensor) -> torch.Tensor:
    return values @ module.weight.T + module.bias if isinstance(module, torch.nn.Linear) else values


def layer_norm(module: Any, values: torch.Tensor) -> torch.Tensor:
    centred = values - values.mean(dim=-1, keepdim=True)
    scaled: torch.Tensor = centred / (centred.pow(2).mean(dim=-1, keepdim=True) + module.eps).sqrt()
    return torch.addcmul(module.bias, scaled, module.weight)


def mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean(dim=0) if len(values) else torch.zeros(values.shape[1])


def output(head: Any, pooled: torch.Tensor) -> torch.Tensor:
    first, activation, last = head.output
    hidden = linear(first, pooled)
    return linear(last, hidden.clamp(min=0) if isinstance(activation, torch.nn.ReLU) else hidden)


@pytest.mark.parametrize("attention", ["self", "cross"])
@pytest.mark.parametrize("pooling", [True, False])
@pytest.mark.parametrize("more", [{}, {"transformer_block": True, "activation": "relu"}])
@torch.no_grad()
def test_fusion_is_what_the_equations_say(attention: str, pooling: bool, more: dict[str, Any]) -> None:
    head = fusion(attention=attention, statistical_pooling=pooling, **more)
    text, audio = frames(TEXT, 5), frames(AUDIO, 12)
    found = head(text, audio)
    for row, (words, heard) in enumerate(zip(TEXT, AUDIO, strict=True)):
        t, a = linear(head.project["text"], text.values[row, :words]), audio.values[row, :heard]
        cross = attention == "cross"
        t_vector = mean(attend(head.attend["text"], t, a if cross else t))
        a_vector = mean(attend(head.attend["audio"], a, t if cross else a))
        middle = (t_vector + a_vector) / 2
        spread = ((t_vector - middle) ** 2 + (a_vector - middle) ** 2).sqrt()  # divisor 2 - 1
        pooled = torch.cat([middle, spread] if pooling else [t_vector, a_vector])
        assert (found[row] - output(head, pooled)).abs().max() < 1e-5


@pytest.mark.parametrize("dim", [5, 12])
@torch.no_grad()
def test_one_input_is_what_the_equations_say(dim: int) -> None:
    torch.manual_seed(0)
    head = MHA(MHASettings(**SMALL), Shape({"frames": dim}, 7)).eval()
    given = frames((7, 3, 1), dim)
    found = head(given)
    for row, length in enumerate((7, 3, 1)):
        values = linear(head.project, given.values[row, :length])
        assert (found[row] - output(head, mean(attend(head.attend, values, values)))).abs().max() < 1e-5


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_those_of_the_paper() -> None:
    """768 wide, six heads; the pooled vector is as wide with statistical pooling as without it."""
    attention, project = 4 * 768 * 768 + 4 * 768, 1024 * 768 + 768
    dims = {"text": 1024, "audio": 768}
    for way in ("self", "cross"):
        for pooling in (True, False):
            head: Head = MHAFusion(MHAFusionSettings(attention=way, statistical_pooling=pooling), Shape(dims, 7))
            assert parameters(head) == project + 2 * attention + (1536 * 384 + 384) + (384 * 7 + 7)
    audio = MHA(MHASettings(), Shape({"frames": 768}, 7))
    assert parameters(audio) == attention + (768 * 384 + 384) + (384 * 7 + 7)
    assert parameters(MHA(MHASettings(), Shape({"frames": 1024}, 7))) == project + parameters(audio)
    assert audio.attend.attention.num_heads == 6 and audio.attend.attention.dropout == 0.1  # type: ignore[union-attr]


def test_statistics_of_two_lose_which_is_which() -> None:
    t, a = torch.randn(2, 4, 6)
    pooled = statistics(t, a)
    expected = torch.cat([(t + a) / 2, (t - a).abs() / math.sqrt(2)], dim=-1)
    assert (pooled - expected).abs().max() < 1e-6 and torch.equal(pooled, statistics(a, t))


def test_equal_vectors_have_finite_gradients() -> None:
    vector = torch.randn(3, 6, requires_grad=True)
    statistics(vector, vector.clone()).sum().backward()  # type: ignore[no-untyped-call]
    assert vector.grad is not None and torch.equal(vector.grad, torch.ones_like(vector))


@torch.no_grad()
def test_attention_to_a_single_item_is_its_value_projected() -> None:
    """So is the text of the CLS variants with self-attention, whatever queries and keys are."""
    torch.manual_seed(0)
    module = MaskedAttention(12, 3, 0.0).eval()
    item = torch.randn(2, 1, 12)
    inner = module.attention
    value = item @ inner.in_proj_weight[24:].T + inner.in_proj_bias[24:]
    expected = value @ inner.out_proj.weight.T + inner.out_proj.bias
    assert (module(item, item, torch.ones(2, 1, dtype=torch.bool)) - expected).abs().max() < 1e-6


@torch.no_grad()
def test_cross_attention_to_a_single_item_is_constant_over_time() -> None:
    """The CLS variant: each audio frame receives the same of the text."""
    head = fusion(attention="cross")
    text, audio = frames((1, 1), 5), frames((8, 5), 12)
    found = head.attend["audio"](audio.values, head.project["text"](text.values), text.mask)
    assert (found - found[:, :1]).abs().max() < 1e-6
    assert (found[0, 0] - found[1, 0]).abs().max() > 1e-3


def test_a_row_without_keys_gives_zeros_and_no_gradient() -> None:
    torch.manual_seed(0)
    module = MaskedAttention(12, 3, 0.0)
    queries, keys = torch.randn(2, 4, 12, requires_grad=True), torch.randn(2, 3, 12, requires_grad=True)
    found = module(queries, keys, torch.tensor([[True, True, False], [False, False, False]]))
    found.square().sum().backward()
    assert found[0].abs().min() > 0 and not found[1].any()
    for given in (queries, keys):
        assert given.grad is not None and given.grad[0].any() and not given.grad[1].any()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_a_width_that_the_heads_do_not_divide_is_told() -> None:
    with pytest.raises(ValidationError, match="width 1024 must be a multiple of heads = 6"):
        MHASettings(width=1024)
