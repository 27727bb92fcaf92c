"""RNN, LSTM and GRU, uni- or bidirectional."""

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..pooling import Pooling, PoolingName
from .base import ChannelDropout, Head, HeadSettings

_CELLS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


class RecurrentSettings(HeadSettings):
    """Settings of the recurrent heads."""

    kind: Literal["recurrent"] = "recurrent"
    cell: Literal["rnn", "lstm", "gru"] = "gru"
    bidirectional: bool = True
    hidden: Annotated[int, Field(ge=1)] = 128  # units per direction
    layers: Annotated[int, Field(ge=1)] = 1
    pooling: PoolingName = "mean"  # unused with frame-wise targets; "last": the final state of each direction
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of whole channels of an utterance
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # between layers and before the output


class Recurrent(Head):
    """Recurrent layers, pooling, one linear output. Packed, so that padding is never read in either direction."""

    def __init__(self, settings: HeadSettings, input_dim: int, outputs: int, per_frame: bool) -> None:
        super().__init__(settings, input_dim, outputs, per_frame)
        self.settings = s = cast(RecurrentSettings, settings)
        self.input_dropout = ChannelDropout(s.input_dropout)
        self.cell = _CELLS[s.cell](
            input_dim,
            s.hidden,
            num_layers=s.layers,
            batch_first=True,
            bidirectional=s.bidirectional,
            dropout=s.dropout if s.layers > 1 else 0.0,
        )
        width = s.hidden * (2 if s.bidirectional else 1)
        self.pooling = None if per_frame else Pooling(s.pooling, width)
        self.dropout = torch.nn.Dropout(s.dropout)
        self.output = torch.nn.Linear(self.pooling.dim if self.pooling else width, outputs)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and (B, T) to (B, outputs) or (B, T, outputs)."""
        packed = pack_padded_sequence(
            self.input_dropout(frames), mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.cell(packed)[0], batch_first=True, total_length=frames.shape[1])
        if self.pooling is None:
            return cast(torch.Tensor, self.output(self.dropout(states)))
        pooled = self.pooling(states, mask)
        if self.settings.pooling == "last" and self.settings.bidirectional:
            # The backward direction ends at the first frame.
            pooled = torch.cat([pooled[:, : self.settings.hidden], states[:, 0, self.settings.hidden :]], dim=-1)
        return cast(torch.Tensor, self.output(self.dropout(pooled)))
