"""Recurrent layers over masked frames."""

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def states_of(cell: torch.nn.Module, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Hidden states of every frame, packed, so that padding is never read in either direction.

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
    lengths = mask.sum(dim=1)
    rows = torch.nonzero(lengths).squeeze(1)  # a row without frames cannot be packed
    width = cell.hidden_size * (2 if cell.bidirectional else 1)
    states = values.new_zeros(*mask.shape, width)
    if len(rows):
        packed = pack_padded_sequence(values[rows], lengths[rows].cpu(), batch_first=True, enforce_sorted=False)
        own, _ = pad_packed_sequence(cell(packed)[0], batch_first=True, total_length=mask.shape[1])
        # Rows that were left out keep their zeros.
        states = states.index_copy(0, rows, own)
    return states


def last_states(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Take each direction's end state: forward at the last valid frame, backward at the first.

    Args:
        states: (B, T, 2 H), forward first.
        mask: (B, T) bool, a prefix of each row.

    Returns:
        (B, 2 H).
    """
    forward, backward = states.chunk(2, dim=-1)
    last = (mask.sum(dim=1) - 1).clamp(min=0)
    return torch.cat([forward[torch.arange(len(states), device=states.device), last], backward[:, 0]], dim=-1)
