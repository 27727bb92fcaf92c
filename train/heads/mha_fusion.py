"""Self- and cross-attention of text and audio, and of one of them.

Source: Li et al., "Attention-based Multimodal Speech Emotion Recognition", section 3.2, after Rajan et al. 2022, "Is
cross-attention preferable to self-attention for multi-modal emotion recognition?".
"""

from dataclasses import replace
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator

from .head import PER_UTTERANCE, Frames, Head, HeadSettings, Shape
from .layers.attention import MaskedAttention
from .layers.pooling import masked_mean


class _AttentionSettings(HeadSettings):
    width: Annotated[int, Field(ge=1)] = 768  # inputs of another one are projected to it
    heads: Annotated[int, Field(ge=1)] = 6
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of attention weights
    transformer_block: bool = False  # residuals, layer norms and a feed-forward layer; without: the attention alone
    fc: Annotated[int, Field(ge=1)] = 384
    activation: Literal["none", "relu"] = "none"  # after the fc layer

    def tasks(self) -> tuple[str, ...]:
        """Utterances only: frames are averaged."""
        return PER_UTTERANCE

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads = {self.heads}")
        return self


class MHASettings(_AttentionSettings):
    """Settings of attention over one input."""

    kind: Literal["mha"] = "mha"


class MHAFusionSettings(_AttentionSettings):
    """Settings of the fusion of text and audio."""

    kind: Literal["mha_fusion"] = "mha_fusion"
    attention: Literal["self", "cross"] = "self"  # cross: each input's frames attend to the other's
    statistical_pooling: bool = True  # mean and standard deviation of the two vectors; false: their concatenation

    def roles(self) -> tuple[str, ...]:
        """Text first."""
        return ("text", "audio")


class MHA(Head[MHASettings]):
    """Self-attention, mean over the valid frames, two linear layers: the paper's text and audio models."""

    def __init__(self, settings: MHASettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.project = _projection(shape.dim, s.width)
        self.attend = _attention(s)
        self.output = _output(s, s.width, shape.outputs)

    def forward(self, frames: Frames) -> torch.Tensor:
        """(B, T, D) to (B, outputs)."""
        values = self.project(frames.values)
        return cast(torch.Tensor, self.output(masked_mean(self.attend(values, values, frames.mask), frames.mask)))


class MHAFusion(Head[MHAFusionSettings]):
    """Self- or cross-attention, the mean over each input's frames, statistical pooling, two linear layers."""

    def __init__(self, settings: MHAFusionSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.project = torch.nn.ModuleDict({role: _projection(dim, s.width) for role, dim in shape.dims.items()})
        self.attend = torch.nn.ModuleDict({role: _attention(s) for role in shape.dims})
        self.output = _output(s, 2 * s.width, shape.outputs)

    def forward(self, text: Frames, audio: Frames) -> torch.Tensor:
        """(B, T, D) and (B, T', D') to (B, outputs)."""
        text = replace(text, values=self.project["text"](text.values))
        audio = replace(audio, values=self.project["audio"](audio.values))
        cross = self.settings.attention == "cross"
        pairs = {"text": (text, audio if cross else text), "audio": (audio, text if cross else audio)}
        vectors = [
            masked_mean(self.attend[role](queries.values, keys.values, keys.mask), queries.mask)
            for role, (queries, keys) in pairs.items()
        ]
        pooled = statistics(*vectors) if self.settings.statistical_pooling else torch.cat(vectors, dim=-1)
        return cast(torch.Tensor, self.output(pooled))


def statistics(*vectors: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation (divisor n - 1) of n vectors (B, D), side by side: (B, 2 D).

    Of two they are (t + a) / 2 and |t - a| / sqrt 2, which tell neither which is which nor the sign of the difference.
    """
    stacked = torch.stack(vectors)
    # `std` has a gradient of 0 where the vectors are equal; that of a square root would be NaN.
    return torch.cat([stacked.mean(dim=0), stacked.std(dim=0)], dim=-1)


class TransformerBlock(torch.nn.Module):
    """Attention and a feed-forward layer, each with a residual and a layer norm after it.

    Source: Vaswani et al. 2017, section 3.1; the feed-forward layer is four times as wide.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = MaskedAttention(width, heads, dropout)
        self.feedforward = torch.nn.Sequential(
            torch.nn.Linear(width, 4 * width), torch.nn.ReLU(), torch.nn.Linear(4 * width, width)
        )
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)])
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See `MaskedAttention`."""
        attended = self.norms[0](queries + self.dropout(self.attention(queries, keys, mask)))
        return cast(torch.Tensor, self.norms[1](attended + self.dropout(self.feedforward(attended))))


def _attention(settings: _AttentionSettings) -> torch.nn.Module:
    kind = TransformerBlock if settings.transformer_block else MaskedAttention
    return kind(settings.width, settings.heads, settings.dropout)


def _projection(dim: int, width: int) -> torch.nn.Module:
    return torch.nn.Identity() if dim == width else torch.nn.Linear(dim, width)


def _output(settings: _AttentionSettings, dim: int, outputs: int) -> torch.nn.Sequential:
    activation = torch.nn.ReLU() if settings.activation == "relu" else torch.nn.Identity()
    return torch.nn.Sequential(torch.nn.Linear(dim, settings.fc), activation, torch.nn.Linear(settings.fc, outputs))
