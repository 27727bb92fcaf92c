"""RNN, LSTM and GRU, uni- or bidirectional."""

from typing import Annotated, Literal, cast

import torch
from pydantic import Field

from .head import Frames, Head, HeadSettings, Shape
from .layers.channel_dropout import ChannelDropout
from .layers.packing import last_states, states_of
from .layers.pooling import Pooling, PoolingName

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


class Recurrent(Head[RecurrentSettings]):
    """Recurrent layers, pooling, one linear output. Padding is read in neither direction."""

    def __init__(self, settings: RecurrentSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.input_dropout = ChannelDropout(s.input_dropout)
        self.cell = _CELLS[s.cell](
            shape.dim,
            s.hidden,
            num_layers=s.layers,
            batch_first=True,
            bidirectional=s.bidirectional,
            dropout=s.dropout if s.layers > 1 else 0.0,
        )
        width = s.hidden * (2 if s.bidirectional else 1)
        self.pooling = None if shape.per_frame else Pooling(s.pooling, width)
        self.dropout = torch.nn.Dropout(s.dropout)
        self.output = torch.nn.Linear(self.pooling.dim if self.pooling else width, shape.outputs)

    def forward(self, frames: Frames) -> torch.Tensor:
        """(B, T, D) to (B, outputs) or (B, T, outputs)."""
        states = states_of(self.cell, self.input_dropout(frames.values), frames.mask)
        if self.pooling is None:
            return cast(torch.Tensor, self.output(self.dropout(states)))
        ends = self.settings.pooling == "last" and self.settings.bidirectional
        pooled = last_states(states, frames.mask) if ends else self.pooling(states, frames.mask)
        return cast(torch.Tensor, self.output(self.dropout(pooled)))
