"""The transformer encoder against loops over single utterances, frames and heads, written from the equations."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from emocache.train.heads import Frames, Shape
from emocache.train.heads.transformer import Transformer, TransformerSettings

Array = np.ndarray[Any, Any]
DIM, WIDTH, HEADS, LENGTHS = 3, 8, 2, (6, 1, 4)


def position(t: int) -> Array:
    """Vaswani et al. 2017, section 3.5: all sines, then all cosines."""
    angles = [t / 10000 ** (2 * i / WIDTH) for i in range(WIDTH // 2)]
    return np.array([*map(math.sin, angles), *map(math.cos, angles)])


def normed(w: dict[str, Array], name: str, x: Array) -> Array:
    standard: Array = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return standard * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w: dict[str, Array], name: str, frames: list[Array]) -> list[Array]:
    """softmax(q k / sqrt d) v of each head, side by side, and one linear map (section 3.2.2)."""
    projected = [w[f"{name}.in_proj_weight"] @ x + w[f"{name}.in_proj_bias"] for x in frames]
    size = WIDTH // HEADS
    outputs = []
    for asking in projected:
        heads = []
        for h in range(HEADS):
            query, key, value = (slice(k * WIDTH + h * size, k * WIDTH + (h + 1) * size) for k in range(3))
            powers = [math.exp(asking[query] @ x[key] / math.sqrt(size)) for x in projected]
            heads.append(sum(p / sum(powers) * x[value] for p, x in zip(powers, projected, strict=True)))
        outputs.append(w[f"{name}.out_proj.weight"] @ np.concatenate(heads) + w[f"{name}.out_proj.bias"])
    return outputs


def encode(w: dict[str, Array], layers: int, frames: Array) -> Array:
    """States (T, W), with the normalisation in front of each block."""
    states = [w["input.1.weight"] @ x + w["input.1.bias"] + position(t) for t, x in enumerate(frames)]
    for layer in range(layers):
        name = f"encoder.layers.{layer}"
        attended = attention(w, f"{name}.self_attn", [normed(w, f"{name}.norm1", x) for x in states])
        states = [x + a for x, a in zip(states, attended, strict=True)]
        for t, x in enumerate(states):
            inner = w[f"{name}.linear1.weight"] @ normed(w, f"{name}.norm2", x) + w[f"{name}.linear1.bias"]
            states[t] = x + w[f"{name}.linear2.weight"] @ np.maximum(inner, 0) + w[f"{name}.linear2.bias"]
    return np.array([normed(w, "encoder.norm", x) for x in states])


@pytest.mark.parametrize("per_frame", [True, False], ids=["frames", "mean"])
@pytest.mark.parametrize("layers", [1, 2])
def test_values_follow_the_equations(layers: int, per_frame: bool) -> None:
    torch.manual_seed(5)
    settings = TransformerSettings(width=WIDTH, heads=HEADS, layers=layers, feedforward=5)
    head = Transformer(settings, Shape({"frames": DIM}, 2, per_frame)).double().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    values = torch.randn(len(LENGTHS), max(LENGTHS), DIM, dtype=torch.float64)  # noise in the padding too
    with torch.no_grad():
        found = head(Frames(values, mask)).numpy()
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    for row, length in enumerate(LENGTHS):
        states = encode(weights, layers, values[row, :length].numpy())
        expected = (states if per_frame else states.mean(axis=0)) @ weights["output.weight"].T + weights["output.bias"]
        given = found[row, :length] if per_frame else found[row]
        assert np.abs(given - expected).max() < 1e-5  # the positions are float32
