"""Layers on each frame, pooling, layers on the vector: the small heads that benchmarks put on frozen encoders."""

from itertools import pairwise
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator

from .head import FixedPooling, Frames, Head, HeadSettings, Shape
from .layers.pooling import Pooling, PoolingName

_Width = Annotated[int, Field(ge=1)]
_Dropout = Annotated[float, Field(ge=0, lt=1)]
_FIXED: dict[str, FixedPooling] = {"mean": "mean", "mean_std": "mean_std", "mean_std_delta": "mean_std_delta"}


class MLPSettings(HeadSettings):
    """Settings of the MLP; without a hidden layer anywhere it is a linear map."""

    kind: Literal["mlp"] = "mlp"
    # All values of an utterance, over frames and channels, together get mean 0 and variance 1, as EmoBox stores them;
    # after what features.normalise does.
    layer_norm_input: bool = False
    frame: tuple[_Width, ...] = ()  # widths of the layers that each frame goes through
    frame_activation: Literal["relu", "linear"] = "relu"  # after each of them
    # Unused with frame-wise targets; mean_std_delta of frames as they are only.
    pooling: Literal["mean", "mean_std", "mean_std_delta", "attention", "attentive_statistics", "last"] = "mean"
    pooled_dropout: _Dropout = 0.0  # of what pooling gives
    hidden: tuple[_Width, ...] = (128,)  # widths of the layers that the vector goes through, each with a ReLU
    layer_norm: bool = False  # between each of them and its ReLU
    dropout: _Dropout = 0.0  # after each of them

    @model_validator(mode="after")
    def _steps_of_frames(self) -> Self:
        if self.pooling == "mean_std_delta" and (self.frame or self.layer_norm_input):
            name = "frame" if self.frame else "layer_norm_input"
            raise ValueError(
                f"pooling 'mean_std_delta' is of the frames as they are; leave {name} out, or use 'mean_std'"
            )
        return self

    def fixed_pooling(self, role: str, per_frame: bool) -> FixedPooling | None:
        """Frames that go through nothing before pooling are pooled once, before training.

        So they are before linear layers and a mean, for the mean of a linear map is the map of the mean.
        """
        linear = self.frame_activation == "linear" and self.pooling == "mean"
        if per_frame or self.layer_norm_input or (self.frame and not linear):
            return None
        return _FIXED.get(self.pooling)


class MLP(Head[MLPSettings]):
    """Linear layers on each frame, pooling, linear layers on the vector, one linear output.

    With other settings it is the head of EmoBox, SUPERB, MERTools or the Odyssey 2024 challenge: see the experiments
    in `train/experiments/benchmarks`.
    """

    def __init__(self, settings: MLPSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        activation = torch.nn.ReLU if s.frame_activation == "relu" else torch.nn.Identity
        layers = [(torch.nn.Linear(into, out), activation()) for into, out in pairwise((shape.dim, *s.frame))]
        self.frame = torch.nn.Sequential(*(module for layer in layers for module in layer))
        width = (shape.dim, *s.frame)[-1]
        self.pooling = None
        self.pooled_before = s.fixed_pooling("frames", shape.per_frame) is not None
        if not shape.per_frame and not self.pooled_before:
            self.pooling = Pooling(cast(PoolingName, s.pooling), width)
            width = self.pooling.dim
        self.pooled_dropout = torch.nn.Dropout(s.pooled_dropout)
        hidden: list[torch.nn.Module] = []
        for out in s.hidden:
            norm = torch.nn.LayerNorm(out) if s.layer_norm else torch.nn.Identity()
            hidden += [torch.nn.Linear(width, out), norm, torch.nn.ReLU(), torch.nn.Dropout(s.dropout)]
            width = out
        self.hidden = torch.nn.Sequential(*hidden)
        self.output = torch.nn.Linear(width, shape.outputs)

    def forward(self, frames: Frames) -> torch.Tensor:
        """(B, T, D) to (B, outputs) or (B, T, outputs); or (B, 1, D') of vectors that are pooled already."""
        values = _layer_norm(frames) if self.settings.layer_norm_input else frames.values
        values = self.frame(values)
        if self.pooling is not None:
            values = self.pooling(values, frames.mask)
        elif self.pooled_before:
            values = values[:, 0]
        return cast(torch.Tensor, self.output(self.hidden(self.pooled_dropout(values))))


def _layer_norm(frames: Frames) -> torch.Tensor:
    """`torch.nn.functional.layer_norm` over all frames and channels of an utterance that there are: (B, T, D)."""
    there = frames.mask.unsqueeze(-1).expand_as(frames.values) if frames.valid is None else frames.valid
    count = there.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = frames.values.masked_fill(~there, 0.0).sum(dim=(1, 2), keepdim=True) / count
    centred = (frames.values - mean).masked_fill(~there, 0.0)
    variance = (centred**2).sum(dim=(1, 2), keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-5)
