"""Transformer encoder over masked frames."""

import math
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator

from .head import Frames, Head, HeadSettings, Shape
from .layers.channel_dropout import ChannelDropout
from .layers.pooling import Pooling, PoolingName


class TransformerSettings(HeadSettings):
    """Settings of the transformer encoder."""

    kind: Literal["transformer"] = "transformer"
    width: Annotated[int, Field(ge=2)] = 64
    heads: Annotated[int, Field(ge=1)] = 4
    layers: Annotated[int, Field(ge=1)] = 2
    feedforward: Annotated[int, Field(ge=1)] = 256
    pooling: PoolingName = "mean"  # unused with frame-wise targets
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of whole channels of an utterance
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 x heads = {2 * self.heads}")
        return self


class Transformer(Head[TransformerSettings]):
    """Linear input, sinusoidal positions, pre-norm encoder layers, pooling, one linear output.

    Source: Vaswani et al. 2017, sections 3.1 and 3.5, with the normalisation in front of each block.
    """

    def __init__(self, settings: TransformerSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.input = torch.nn.Sequential(ChannelDropout(s.input_dropout), torch.nn.Linear(shape.dim, s.width))
        layer = torch.nn.TransformerEncoderLayer(
            s.width, s.heads, s.feedforward, s.dropout, batch_first=True, norm_first=True
        )
        self.encoder = torch.nn.TransformerEncoder(
            layer, s.layers, norm=torch.nn.LayerNorm(s.width), enable_nested_tensor=False
        )
        self.pooling = None if shape.per_frame else Pooling(s.pooling, s.width)
        self.dropout = torch.nn.Dropout(s.dropout)
        self.output = torch.nn.Linear(self.pooling.dim if self.pooling else s.width, shape.outputs)

    def forward(self, frames: Frames) -> torch.Tensor:
        """(B, T, D) to (B, outputs) or (B, T, outputs)."""
        embedded = self.input(frames.values) + sinusoids(frames.mask.shape[1], self.settings.width).to(frames.values)
        states = self.encoder(embedded, src_key_padding_mask=~frames.mask)
        pooled = states if self.pooling is None else self.pooling(states, frames.mask)
        return cast(torch.Tensor, self.output(self.dropout(pooled)))


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Positional encodings (length, width), width even: sin and cos of pos / 10000^(2i / width)."""
    position = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.cat([torch.sin(position * rate), torch.cos(position * rate)], dim=1)
