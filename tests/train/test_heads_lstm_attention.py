"""The LSTM with attention against loops over single clips and frames, written from the equations."""

from typing import Any

import pytest
import torch

from emocache.train.heads import Frames, Shape, lstm_attention
from emocache.train.heads.lstm_attention import LSTMAttention, LSTMAttentionSettings

DIM, LENGTHS = 5, (6, 1, 4)


def clips() -> Frames:
    """Three clips of noise, with noise in the padding too."""
    torch.manual_seed(2)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    return Frames(torch.randn(len(LENGTHS), max(LENGTHS), DIM), mask)


def build() -> LSTMAttention:
    torch.manual_seed(1)
    settings = LSTMAttentionSettings(hidden=4, layers=2, dropout=0.0)
    head = LSTMAttention(settings, Shape({"frames": DIM}, 2, per_frame=True))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return head.eval()


def lstm(weights: Any, layer: int, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Hochreiter and Schmidhuber 1997 with a forget gate; torch stacks input, forget, cell and output gates."""
    w, u, b, c = (getattr(weights, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    hidden = cell = torch.zeros(4)
    states = []
    for x in inputs:
        enter, forget, new, leave = (w @ x + b + u @ hidden + c).chunk(4)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        states.append(hidden)
    return states


@torch.no_grad()
def test_values_follow_the_equations() -> None:
    head, frames = build(), clips()
    found = head(frames).prediction
    for row, length in enumerate(LENGTHS):
        h = lstm(head.lstm, 1, lstm(head.lstm, 0, list(frames.values[row, :length])))
        for t in range(length):
            query = head.query.weight @ h[t]
            keys = [head.key.weight @ state + head.key.bias for state in h]
            powers = torch.stack([torch.exp(head.score.weight[0] @ torch.tanh(key + query)) for key in keys])
            context = torch.stack([p / powers.sum() * state for p, state in zip(powers, h, strict=True)]).sum(dim=0)
            expected = head.output.weight @ torch.cat([h[t], context]) + head.output.bias
            assert (found[row, t] - expected).abs().max() < 1e-5


def test_blocks_of_queries_change_neither_values_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = clips()
    found = []
    for held in (1 << 25, 1):
        monkeypatch.setattr(lstm_attention, "_BLOCK_VALUES", held)
        head = build()
        values = head(frames).prediction
        values[frames.mask].square().sum().backward()
        found.append([values.detach(), *(p.grad for p in head.parameters())])
    for whole, blocks in zip(*found, strict=True):
        assert torch.allclose(whole, blocks, atol=1e-6)
