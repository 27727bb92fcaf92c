"""The emotion share heads against the paper's equations, one clip and one step at a time."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from emocache.train.heads import Frames, Shape, build_head
from emocache.train.heads.emotion_share import EmotionShare, EmotionShareSettings
from emocache.train.heads.head import as_outputs

LENGTHS = [13, 1, 2, 7, 20]
DIM = 4
VARIANTS = ("clean", "faithful")

Weights = Mapping[str, torch.Tensor]


def built(outputs: int = 2, dim: int = DIM, **settings: Any) -> EmotionShare:
    torch.manual_seed(0)
    head = build_head(EmotionShareSettings.model_validate(settings), Shape({"frames": dim}, outputs))
    assert isinstance(head, EmotionShare)
    return head.eval()


def small(**settings: Any) -> EmotionShare:
    """A head of few units with weights that are neither small nor those that norms start with."""
    head = built(**{"channels": (5, 4, 3), "hidden": 6, "feedforward": (8, 6), "padded_frames": 16, **settings})
    torch.manual_seed(2)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return head


def clips() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, DIM, generator=generator) for length in LENGTHS]


def padded(frames: list[torch.Tensor]) -> Frames:
    values = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True, padding_value=33.0)
    return Frames(values, torch.arange(values.shape[1]) < torch.tensor([len(f) for f in frames]).unsqueeze(1))


def normalise(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Over all values, whatever their shape."""
    centred = values - values.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-5) * weight + bias


def lstm_layer(inputs: list[torch.Tensor], w: Weights, layer: int) -> list[torch.Tensor]:
    """States of all steps, from zero ones; gates in the order input, forget, cell, output."""
    units = w[f"lstm.weight_hh_l{layer}"].shape[1]
    h = c = torch.zeros(units)
    states = []
    for x in inputs:
        gates = w[f"lstm.weight_ih_l{layer}"] @ x + w[f"lstm.bias_ih_l{layer}"]
        i, f, g, o = (gates + w[f"lstm.weight_hh_l{layer}"] @ h + w[f"lstm.bias_hh_l{layer}"]).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return states


def convolved(clip: torch.Tensor, w: Weights, total: int) -> torch.Tensor:
    """Three convolutions with ReLU over the clip, which `total` zero-padded frames hold: (total, channels).

    Where `total` is the clip's own length, what is outside of it is zero in every layer.
    """
    frames = torch.cat([clip[:total], torch.zeros(max(0, total - len(clip)), clip.shape[1])])
    for n in range(3):
        around = torch.cat([torch.zeros_like(frames[:1]), frames, torch.zeros_like(frames[:1])])
        weight, bias = w[f"convolutions.{n}.weight"], w[f"convolutions.{n}.bias"]
        rows = [bias + sum(weight[:, :, k] @ around[t + k] for k in range(3)) for t in range(len(frames))]
        frames = torch.stack(rows).clamp(min=0)
    return frames


def naive(head: EmotionShare, clip: torch.Tensor) -> torch.Tensor:
    """One clip of (L, D), written from the paper and its released code."""
    s = head.settings
    w: Weights = dict(head.named_parameters())
    faithful = s.variant == "faithful"
    frames = convolved(clip, w, s.padded_frames if faithful else len(clip))
    if len(frames) == 1:
        frames = torch.cat([frames, frames])
    pooled = [torch.maximum(frames[2 * t], frames[2 * t + 1]) for t in range(len(frames) // 2)]
    steps = max(1, min(len(clip), s.padded_frames if faithful else len(clip)) // 2)
    if s.layer_norm and faithful:
        pooled = list(normalise(torch.stack(pooled), w["norm.weight"], w["norm.bias"]))
    elif s.layer_norm:
        pooled = [normalise(step, w["norm.weight"], w["norm.bias"]) for step in pooled]
    first = lstm_layer(pooled[:steps], w, 0)
    states = lstm_layer(first, w, 1)
    if s.attention:
        query = w["query.weight"] @ torch.cat([first[-1], states[-1]]) + w["query.bias"]
        scores = [float(query @ state) / math.sqrt(len(state)) for state in states]
        weights = torch.tensor([math.exp(score) / sum(map(math.exp, scores)) for score in scores])
        if s.layer_norm and faithful:
            everywhere = torch.cat([weights, torch.zeros(s.padded_frames // 2 - steps)])
            weights = normalise(everywhere, w["weights_norm.weight"], w["weights_norm.bias"])[:steps]
        x = sum((weight * state for weight, state in zip(weights, states, strict=True)), torch.zeros(s.hidden))
    else:
        x = sum(states, torch.zeros(s.hidden)) / steps
    stride = 3 if s.layer_norm else 2
    for n in range(len(s.feedforward)):
        x = (w[f"output.{stride * n}.weight"] @ x + w[f"output.{stride * n}.bias"]).clamp(min=0)
        if s.layer_norm:
            x = normalise(x, w[f"output.{stride * n + 2}.weight"], w[f"output.{stride * n + 2}.bias"])
    last = f"output.{stride * len(s.feedforward)}"
    x = w[f"{last}.weight"] @ x + w[f"{last}.bias"]
    return {"linear": x, "relu": x.clamp(min=0), "sigmoid": 1 / (1 + torch.exp(-x))}[s.output]


@pytest.mark.parametrize("output", ["sigmoid", "relu", "linear"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_batch_is_the_equations_clip_by_clip(variant: str, attention: bool, layer_norm: bool, output: str) -> None:
    """Clips of one frame, odd ones, and one longer than the fixed length among them."""
    head = small(variant=variant, attention=attention, layer_norm=layer_norm, output=output)
    together = as_outputs(head(padded(clips()))).prediction
    alone = torch.stack([naive(head, clip) for clip in clips()])
    assert together.shape == (5, 2) and (together - alone).abs().max() < 1e-5
    assert output != "linear" or together.std(dim=0).min() > 1e-2


@torch.no_grad()
def test_padding_leaks_into_the_faithful_convolutions_only() -> None:
    """The last frames of a short clip read biases of the padding, which the clean variant masks."""
    clip = clips()[2]
    full = {variant: small(variant=variant, output="linear") for variant in VARIANTS}
    cut = small(variant="faithful", padded_frames=len(clip), output="linear")
    outputs = {name: as_outputs(head(padded([clip]))).prediction for name, head in full.items()}
    own_length = as_outputs(cut(padded([clip]))).prediction
    assert (outputs["clean"] - own_length).abs().max() < 1e-6
    assert (outputs["faithful"] - own_length).abs().max() > 1e-3


CONVOLUTIONS = {
    1024: (1024 * 768 * 3 + 768) + (768 * 384 * 3 + 384) + (384 * 192 * 3 + 192),
    40: (40 * 768 * 3 + 768) + (768 * 384 * 3 + 384) + (384 * 192 * 3 + 192),
}
LSTM = 4 * 512 * (192 + 512 + 2) + 4 * 512 * (512 + 512 + 2)
NARROW = (512 * 256 + 256) + (256 * 64 + 64) + (64 * 8 + 8) + (8 + 1)
WIDE = (512 * 256 + 256) + (256 * 128 + 128) + (128 * 64 + 64) + (64 + 1)
QUERY = 1024 * 512 + 512
CODE = {"variant": "faithful", "attention": True, "layer_norm": True, "feedforward": (256, 128, 64)}


@pytest.mark.parametrize(
    ("settings", "dim", "expected"),
    [
        ({}, 1024, CONVOLUTIONS[1024] + LSTM + NARROW),
        ({}, 40, CONVOLUTIONS[40] + LSTM + NARROW),
        ({"variant": "faithful"}, 1024, CONVOLUTIONS[1024] + LSTM + NARROW),
        ({"attention": True}, 1024, CONVOLUTIONS[1024] + LSTM + QUERY + NARROW),
        ({"layer_norm": True}, 1024, CONVOLUTIONS[1024] + LSTM + NARROW + 2 * (192 + 256 + 64 + 8)),
        (
            CODE,
            1024,
            CONVOLUTIONS[1024] + LSTM + QUERY + WIDE + 2 * (199 * 192 + 199 + 256 + 128 + 64),
        ),
        (
            {**CODE, "padded_frames": 797},
            40,
            CONVOLUTIONS[40] + LSTM + QUERY + WIDE + 2 * (398 * 192 + 398 + 256 + 128 + 64),
        ),
    ],
)
def test_parameters_are_those_of_the_paper(settings: dict[str, object], dim: int, expected: int) -> None:
    head = built(outputs=1, dim=dim, **settings)
    assert sum(parameter.numel() for parameter in head.parameters()) == expected


def test_nine_outputs_share_everything_but_the_last_layer() -> None:
    one, nine = (built(outputs=outputs, dim=768) for outputs in (1, 9))
    counts = [sum(parameter.numel() for parameter in head.parameters()) for head in (one, nine)]
    assert counts[1] - counts[0] == 8 * (8 + 1)


@torch.no_grad()
def test_outputs_lie_where_their_activation_puts_them() -> None:
    frames = padded(clips())
    linear = as_outputs(small(output="linear")(frames)).prediction
    assert linear.min() < 0
    assert (as_outputs(small(output="relu")(frames)).prediction >= 0).all()
    sigmoid = as_outputs(small(output="sigmoid")(frames)).prediction
    assert ((sigmoid > 0) & (sigmoid < 1)).all()


@torch.no_grad()
def test_the_pooled_states_are_kept() -> None:
    outputs = as_outputs(small(attention=True, feedforward=(), output="linear")(padded(clips())))
    head = small(attention=True, feedforward=(), output="linear")
    assert outputs.kept["embedding"].shape == (5, 6)
    assert torch.allclose(head.output(outputs.kept["embedding"]), outputs.prediction)
