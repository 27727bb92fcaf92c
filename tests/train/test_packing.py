"""States and gradients of recurrent layers over padded rows, against torch's own layer over each row alone."""

from itertools import product

import pytest
import torch

from emocache.train.heads.layers.packing import states_of, states_of_layers

LENGTHS = (6, 0, 1, 4)
CELLS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def gradients(cell: torch.nn.RNNBase) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in cell.parameters() if p.grad is not None]
    cell.zero_grad()
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "bidirectional"), [*product(CELLS, (True, False))])
def test_states_and_gradients_are_those_of_each_row_alone(kind: str, bidirectional: bool, bias: bool) -> None:
    torch.manual_seed(3)
    cell = CELLS[kind](
        3, 5, num_layers=2, batch_first=True, bidirectional=bidirectional, bias=bias, dtype=torch.float64
    )
    mask = torch.arange(7) < torch.tensor(LENGTHS).unsqueeze(1)
    values = torch.randn(len(LENGTHS), 7, 3, dtype=torch.float64).masked_fill(~mask.unsqueeze(-1), torch.nan)
    weights = torch.randn(len(LENGTHS), 7, 10 if bidirectional else 5, dtype=torch.float64)
    found = states_of(cell, values, mask)
    torch.autograd.backward((found * weights).sum())
    given = gradients(cell)
    expected = torch.zeros_like(found)
    for row, length in enumerate(LENGTHS):
        if length:
            expected[row, :length] = cell(values[row : row + 1, :length])[0][0]
    torch.autograd.backward((expected * weights).sum())
    assert (found - expected).abs().max() < 1e-12
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(given, gradients(cell), strict=True))


def test_layers_end_with_the_last_and_begin_with_the_first() -> None:
    torch.manual_seed(3)
    cell = torch.nn.LSTM(3, 5, num_layers=2, batch_first=True)
    values, mask = torch.randn(2, 6, 3), torch.ones(2, 6, dtype=torch.bool)
    expected, (last, _) = cell(values)
    layers = states_of_layers(cell, values, mask)
    assert len(layers) == 2 and (layers[1] - expected).abs().max() < 1e-6
    assert (layers[0][:, -1] - last[0]).abs().max() < 1e-6


def test_dropout_between_layers_is_the_cells_own() -> None:
    cell = torch.nn.GRU(3, 64, num_layers=2, batch_first=True, dropout=0.9)
    values, mask = torch.randn(2, 6, 3), torch.ones(2, 6, dtype=torch.bool)
    assert torch.equal(states_of(cell.eval(), values, mask), states_of(cell, values, mask))
    first, second = (states_of(cell.train(), values, mask) for _ in range(2))
    assert (first - second).abs().max() > 0.01
