"""Recurrent layers over masked frames."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .pooling import last_valid

_STEPS: dict[str, Callable[..., Any]] = {"RNN_TANH": torch.rnn_tanh, "GRU": torch.gru, "LSTM": torch.lstm}


def states_of(cell: torch.nn.Module, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Hidden states of every frame of the last layer; padding is read in neither direction.

    Args:
        cell: recurrent, batch first; its output has H channels, both directions together. Any other module takes the
            place of one where a head is exported, for a clip without padding, and is given the values as they are.
        values: (B, T, D) float32.
        mask: (B, T) bool, a prefix of each row, which may be empty.

    Returns:
        (B, T, H) float32, zeros where the mask is false.
    """
    if not isinstance(cell, torch.nn.RNNBase):
        whole: torch.Tensor = cell(values)[0]
        return whole
    if values.device.type == "cpu":
        return states_of_layers(cell, values, mask)[-1]
    rows = torch.nonzero(mask.any(dim=1)).squeeze(1)  # a row without frames cannot be packed
    width = cell.hidden_size * (2 if cell.bidirectional else 1)
    states = values.new_zeros(*mask.shape, width)
    if len(rows):
        lengths = mask[rows].sum(dim=1).cpu()
        packed = pack_padded_sequence(values[rows], lengths, batch_first=True, enforce_sorted=False)
        own, _ = pad_packed_sequence(cell(packed)[0], batch_first=True, total_length=mask.shape[1])
        # Rows that were left out keep their zeros.
        states = states.index_copy(0, rows, own)
    return states


def states_of_layers(cell: torch.nn.RNNBase, values: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Hidden states of every frame and layer, without packing.

    On a CPU the backward pass of packed frames makes a gradient as long as all of them for every step of time, so its
    work grows with the square of the length. Here a direction runs at a time over padded rows, and backward is forward
    over each row turned round within its own length.

    Args:
        cell: see `states_of`.
        values: (B, T, D) float32.
        mask: (B, T) bool, a prefix of each row, which may be empty.

    Returns:
        (B, T, H) float32 of each layer, zeros where the mask is false.
    """
    padding = ~mask.unsqueeze(-1)
    time = torch.arange(mask.shape[1], device=mask.device)
    turned = torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - time, time).unsqueeze(-1)
    states = values.masked_fill(padding, 0.0)
    layers: list[torch.Tensor] = []
    for layer in range(cell.num_layers):
        if layer and cell.dropout and cell.training:
            # Of valid frames only, so that what is drawn for them does not depend on the padding.
            kept = torch.nn.functional.dropout(states[mask], cell.dropout)
            states = torch.zeros_like(states).masked_scatter(~padding, kept)
        directions = [_run_direction(cell, f"l{layer}", states)]
        if cell.bidirectional:
            backward = _run_direction(cell, f"l{layer}_reverse", _take(states, turned))
            directions.append(_take(backward, turned))
        states = torch.cat(directions, dim=-1).masked_fill(padding, 0.0)
        layers.append(states)
    return layers


def _run_direction(cell: torch.nn.RNNBase, which: str, values: torch.Tensor) -> torch.Tensor:
    """One layer in one direction, from zeros, by torch's own loop: (B, T, D) to (B, T, H)."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(cell, f"{kind}_{which}") for kind in kinds[: 4 if cell.bias else 2]]
    start = values.new_zeros(1, len(values), cell.hidden_size)
    state = (start, start) if cell.mode == "LSTM" else start
    states: torch.Tensor = _STEPS[cell.mode](values, state, weights, cell.bias, 1, 0.0, cell.training, False, True)[0]
    return states


def _take(values: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Each row's frames in the order of `time` (B, T, 1)."""
    return values.gather(1, time.expand(-1, -1, values.shape[-1]))


def last_states(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Take each direction's end state: forward at the last valid frame, backward at the first.

    Args:
        states: (B, T, 2 H), forward first.
        mask: (B, T) bool, a prefix of each row.

    Returns:
        (B, 2 H).
    """
    forward, backward = states.chunk(2, dim=-1)
    return torch.cat([last_valid(forward, mask), backward[:, 0]], dim=-1)
