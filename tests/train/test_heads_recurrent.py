"""RNN, LSTM and GRU against plain loops over single utterances, layers and frames, written from the equations."""

from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch

from emocache.train.heads import Frames, Shape
from emocache.train.heads.recurrent import Recurrent, RecurrentSettings

Array = np.ndarray[Any, Any]
CellName = Literal["rnn", "lstm", "gru"]
DIM, HIDDEN, OUTPUTS, LENGTHS = 3, 4, 2, (6, 1, 4)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def step(cell: CellName, a: Array, b: Array, state: Array, memory: Array) -> tuple[Array, Array]:
    """The next state and memory; `a` is W x + b of the frame, `b` is U h + c of the state, a part for each gate."""
    if cell == "rnn":  # Elman 1990
        return np.tanh(a + b), memory
    if cell == "gru":  # Cho et al. 2014, the reset gate after the product, as torch has it
        (ar, az, an), (br, bz, bn) = np.split(a, 3), np.split(b, 3)
        update = sigmoid(az + bz)
        return (1 - update) * np.tanh(an + sigmoid(ar + br) * bn) + update * state, memory
    enter, forget, new, leave = np.split(a + b, 4)  # Hochreiter and Schmidhuber 1997, with a forget gate
    memory = sigmoid(forget) * memory + sigmoid(enter) * np.tanh(new)
    return sigmoid(leave) * np.tanh(memory), memory


def one_way(cell: CellName, weights: dict[str, Array], name: str, frames: Array) -> Array:
    """States (T, H) of one layer in one direction."""
    w, u, b, c = (weights[f"cell.{part}_{name}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    state = memory = np.zeros(HIDDEN)
    states = []
    for x in frames:
        state, memory = step(cell, w @ x + b, u @ state + c, state, memory)
        states.append(state)
    return np.array(states)


def all_layers(head: Recurrent, weights: dict[str, Array], frames: Array) -> Array:
    """States of the last layer, (T, H) or, forward beside backward, (T, 2 H)."""
    for layer in range(head.settings.layers):
        ways = [one_way(head.settings.cell, weights, f"l{layer}", frames)]
        if head.settings.bidirectional:
            ways.append(one_way(head.settings.cell, weights, f"l{layer}_reverse", frames[::-1])[::-1])
        frames = np.concatenate(ways, axis=1)
    return frames


@pytest.mark.parametrize("per_frame", [True, False], ids=["frames", "mean"])
@pytest.mark.parametrize(("cell", "bidirectional", "layers"), [*product(("rnn", "lstm", "gru"), (False, True), (1, 2))])
def test_values_follow_the_equations(cell: CellName, bidirectional: bool, layers: int, per_frame: bool) -> None:
    torch.manual_seed(3)
    settings = RecurrentSettings(cell=cell, bidirectional=bidirectional, layers=layers, hidden=HIDDEN, dropout=0.2)
    head = Recurrent(settings, Shape({"frames": DIM}, OUTPUTS, per_frame)).double().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    values = torch.randn(len(LENGTHS), max(LENGTHS), DIM, dtype=torch.float64)  # noise in the padding too
    with torch.no_grad():
        found = head(Frames(values, mask)).numpy()
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    for row, length in enumerate(LENGTHS):
        states = all_layers(head, weights, values[row, :length].numpy())
        expected = (states if per_frame else states.mean(axis=0)) @ weights["output.weight"].T + weights["output.bias"]
        given = found[row, :length] if per_frame else found[row]
        assert given.shape == expected.shape and np.abs(given - expected).max() < 1e-6
