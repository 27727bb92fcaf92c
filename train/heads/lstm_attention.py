"""LSTM whose every frame attends to all frames (paper 1, Table 2; the adaptation of a sentence classifier)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch.utils.checkpoint import checkpoint

from .head import Frames, Head, HeadSettings, Outputs, Shape
from .layers.attention import masked_softmax
from .layers.channel_dropout import ChannelDropout

_BLOCK_VALUES = 1 << 25  # of (B, n, T, hidden) held at once: 128 MB in float32


class LSTMAttentionSettings(HeadSettings):
    """Settings of the LSTM with attention."""

    kind: Literal["lstm_attention"] = "lstm_attention"
    hidden: Annotated[int, Field(ge=1)] = 128
    layers: Annotated[int, Field(ge=1)] = 2
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of whole channels of an utterance
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2  # between layers and before the output

    def tasks(self) -> tuple[str, ...]:
        """One value a frame."""
        return ("frame_regression",)


class LSTMAttention(Head[LSTMAttentionSettings]):
    """Unidirectional LSTM with states h, attention of each to all of them, a linear map of [h_t; c_t].

    e_ts = v^T tanh(W h_s + U h_t), c_t = sum_s softmax_s(e_ts) h_s: Wang et al. 2016, section 3.2, with the state of
    each frame as the query.
    """

    def __init__(self, settings: LSTMAttentionSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.input_dropout = ChannelDropout(s.input_dropout)
        self.lstm = torch.nn.LSTM(
            shape.dim, s.hidden, num_layers=s.layers, batch_first=True, dropout=s.dropout if s.layers > 1 else 0.0
        )
        self.key = torch.nn.Linear(s.hidden, s.hidden)
        self.query = torch.nn.Linear(s.hidden, s.hidden, bias=False)
        self.score = torch.nn.Linear(s.hidden, 1, bias=False)
        self.dropout = torch.nn.Dropout(s.dropout)
        self.output = torch.nn.Linear(2 * s.hidden, shape.outputs)

    def forward(self, frames: Frames) -> Outputs:
        """(B, T, D) to (B, T, outputs)."""
        # Padding comes last and nothing runs backwards, so it may be read.
        states, _ = self.lstm(self.input_dropout(frames.values))
        keys = self.key(states)
        count = max(1, _BLOCK_VALUES // keys[:1].numel() // len(keys))
        # B x T x T x hidden values would be gigabytes: a block of queries at a time, computed again for its gradient.
        contexts = [
            checkpoint(self._contexts, queries, keys, states, frames.mask, use_reentrant=False)
            for queries in self.query(states).split(count, dim=1)
        ]
        joined = torch.cat([states, torch.cat(contexts, dim=1)], dim=-1)
        return Outputs(self.output(self.dropout(joined)))

    def _contexts(
        self, queries: torch.Tensor, keys: torch.Tensor, states: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """(B, n, H) queries to (B, n, H)."""
        scores = self.score(torch.tanh(queries.unsqueeze(2) + keys.unsqueeze(1))).squeeze(-1)
        return masked_softmax(scores, mask.unsqueeze(1)) @ states
