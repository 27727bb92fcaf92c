"""Architectures 1 and 2 for shares of emotions: convolutions, an LSTM, and a mean or attention over its states.

Paper: "Effect of Attention and Self-Supervised Speech Embeddings on Non-Semantic Speech Tasks" (ACM Multimedia 2023),
section 2.4; what it leaves open is as in its released code.
"""

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch.nn.functional import max_pool1d, pad

from .head import Frames, Head, HeadSettings, Outputs, Shape
from .layers.attention import masked_softmax
from .layers.packing import states_of_layers
from .layers.pooling import last_valid, masked_mean

_Width = Annotated[int, Field(ge=1)]
_ACTIVATIONS = {"sigmoid": torch.nn.Sigmoid, "relu": torch.nn.ReLU, "linear": torch.nn.Identity}


class EmotionShareSettings(HeadSettings):
    """Settings of both architectures.

    The paper says that they differ in attention alone. Its code gives Architecture 2 layer normalisation and wider
    hidden layers as well, so these are settings of their own here.
    """

    kind: Literal["emotion_share"] = "emotion_share"
    attention: bool = False  # Architecture 2 instead of 1
    layer_norm: bool = False  # before the LSTM and after each hidden layer
    # clean: padding is masked, the norm before the LSTM is over channels. faithful, as in the code: clips are padded
    # or cropped to padded_frames, convolutions read the padding, that norm is over time and channels together, and
    # with layer_norm the attention weights are normalised too.
    variant: Literal["clean", "faithful"] = "clean"
    padded_frames: Annotated[int, Field(ge=2)] = 398  # faithful only; the paper's longest clip, 797 in log-mel frames
    channels: tuple[_Width, _Width, _Width] = (768, 384, 192)  # of the convolutions
    hidden: _Width = 512  # units of each LSTM layer
    feedforward: tuple[_Width, ...] = (256, 64, 8)  # the hidden layers; (256, 128, 64) in the code's Architecture 2
    output: Literal["sigmoid", "relu", "linear"] = "sigmoid"  # relu, as in the code, can die: zero for every clip

    def tasks(self) -> tuple[str, ...]:
        """Shares are values."""
        return ("regression",)

    def bounds(self) -> tuple[float, float] | None:
        """Those of the function behind the last layer."""
        return {"sigmoid": (0.0, 1.0), "relu": (0.0, math.inf), "linear": None}[self.output]


class EmotionShare(Head[EmotionShareSettings]):
    """Three convolutions, max pooling by 2, two LSTM layers, mean or attention, hidden layers, one linear output."""

    def __init__(self, settings: EmotionShareSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.clean = s.variant == "clean"
        widths = [shape.dim, *s.channels]
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv1d(into, out, kernel_size=3, padding=1) for into, out in pairwise(widths)
        )
        steps = s.padded_frames // 2
        normalised = s.channels[-1:] if self.clean else (steps, s.channels[-1])
        self.norm = torch.nn.LayerNorm(normalised) if s.layer_norm else torch.nn.Identity()
        self.lstm = torch.nn.LSTM(s.channels[-1], s.hidden, num_layers=2, batch_first=True)
        self.query = torch.nn.Linear(2 * s.hidden, s.hidden) if s.attention else None
        on_weights = s.attention and s.layer_norm and not self.clean
        self.weights_norm = torch.nn.LayerNorm(steps) if on_weights else torch.nn.Identity()
        layers: list[torch.nn.Module] = []
        width = s.hidden
        for out in s.feedforward:
            layers += [torch.nn.Linear(width, out), torch.nn.ReLU()]
            layers += [torch.nn.LayerNorm(out)] if s.layer_norm else []
            width = out
        self.output = torch.nn.Sequential(*layers, torch.nn.Linear(width, shape.outputs), _ACTIVATIONS[s.output]())

    def forward(self, frames: Frames) -> Outputs:
        """(B, T, D) to (B, outputs); keeps the pooled (B, hidden) as "embedding"."""
        convolved, lengths = self._convolve(frames)
        mask = torch.arange(convolved.shape[1], device=lengths.device) < lengths.unsqueeze(1)
        layers = states_of_layers(self.lstm, self.norm(convolved), mask)
        states = layers[-1]
        # Final is the state at each clip's own last step, not after the padding.
        final = torch.cat([last_valid(layer, mask) for layer in layers], dim=-1)
        pooled = masked_mean(states, mask) if self.query is None else self._attend(states, mask, final)
        return Outputs(self.output(pooled), kept={"embedding": pooled})

    def _convolve(self, frames: Frames) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T // 2, channels), and how many of these steps are valid (B,): half the frames, at least one."""
        length = max(frames.mask.shape[1], 2) if self.clean else self.settings.padded_frames
        more = (0, length - frames.mask.shape[1])
        padding = ~pad(frames.mask, more, value=False).unsqueeze(1)
        values = pad(frames.values.transpose(1, 2), more).masked_fill(padding, 0.0)
        for convolution in self.convolutions:
            values = torch.relu(convolution(values))
            if self.clean:  # biases make padding non-zero, and the next convolution would read it
                values = values.masked_fill(padding, 0.0)
        steps = (~padding).sum(dim=(1, 2)) // 2
        return max_pool1d(values, 2).transpose(1, 2), steps.clamp(min=1)

    def _attend(self, states: torch.Tensor, mask: torch.Tensor, final: torch.Tensor) -> torch.Tensor:
        """softmax(Q K^T / sqrt(d)) V with K = V = states, and Q from both layers' final states (eq. 2a and 2b)."""
        assert self.query is not None
        query = self.query(final)
        scores = torch.einsum("bd,btd->bt", query, states) / math.sqrt(states.shape[-1])
        weights = self.weights_norm(masked_softmax(scores, mask))
        return torch.einsum("bt,btd->bd", weights, states)
