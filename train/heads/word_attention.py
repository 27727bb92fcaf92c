"""The heads that CAN is compared with: attention within one input, in two hops, and from words to sound."""

from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator

from .head import PER_UTTERANCE, Frames, Head, HeadSettings, Outputs, Shape
from .layers.attention import MaskedAttention, masked_softmax
from .layers.packing import last_states, states_of
from .layers.pooling import Pooling


class GlobalAttentionSettings(HeadSettings):
    """Settings of the recurrent encoder with global attention (TextModel, AudioModel)."""

    kind: Literal["global_attention"] = "global_attention"
    hidden: Annotated[int, Field(ge=1)] = 128  # units per direction
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3  # of the states

    def tasks(self) -> tuple[str, ...]:
        """One output an utterance."""
        return PER_UTTERANCE


class GlobalAttention(Head[GlobalAttentionSettings]):
    """BiLSTM; softmax over u . h_t of one learned query u; the weighted mean of the states; one linear output.

    Source: Mirsamadi, Barsoum and Zhang 2017, "Automatic speech emotion recognition using recurrent neural networks
    with local attention", section 3.4.
    """

    def __init__(self, settings: GlobalAttentionSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.encoder = torch.nn.LSTM(shape.dim, s.hidden, batch_first=True, bidirectional=True)
        self.dropout = torch.nn.Dropout(s.dropout)
        self.score = torch.nn.Linear(2 * s.hidden, 1, bias=False)
        self.output = torch.nn.Linear(2 * s.hidden, shape.outputs)

    def forward(self, frames: Frames) -> Outputs:
        """(B, T, D) to (B, outputs); keeps "attention" (B, T, 1)."""
        states = self.dropout(states_of(self.encoder, frames.values, frames.mask))
        weights = masked_softmax(self.score(states).squeeze(-1), frames.mask)
        pooled = torch.einsum("bt,btd->bd", weights, states)
        return Outputs(self.output(pooled), kept={"attention": weights.unsqueeze(-1)})


class MHA2Settings(HeadSettings):
    """Settings of MHA-2."""

    kind: Literal["mha2"] = "mha2"
    hidden: Annotated[int, Field(ge=1)] = 128  # units per direction
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3  # of the states

    def roles(self) -> tuple[str, ...]:
        """Text, and audio, whose last state asks first."""
        return ("text", "audio")

    def tasks(self) -> tuple[str, ...]:
        """One output an utterance."""
        return PER_UTTERANCE


class MHA2(Head[MHA2Settings]):
    """Multi-hop attention with two hops: the audio asks the text, and what it gets asks the audio.

    Both hops weigh states by the softmax of unscaled dot products; one linear output reads what both gave.

    Source: Yoon, Byun, Dey and Jung 2019, "Speech emotion recognition using multi-hop attention mechanism", section
    2.4, without its prosodic features and with the BiLSTMs of paper 5's comparison.
    """

    def __init__(self, settings: MHA2Settings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.text = torch.nn.LSTM(shape.dims["text"], s.hidden, batch_first=True, bidirectional=True)
        self.audio = torch.nn.LSTM(shape.dims["audio"], s.hidden, batch_first=True, bidirectional=True)
        self.dropout = torch.nn.Dropout(s.dropout)
        self.output = torch.nn.Linear(4 * s.hidden, shape.outputs)

    def forward(self, text: Frames, audio: Frames) -> Outputs:
        """(B, L, D) words and (B, T, D') frames to (B, outputs); keeps "attention" (B, L, 1), over the words."""
        h_text = self.dropout(states_of(self.text, text.values, text.mask))
        h_audio = self.dropout(states_of(self.audio, audio.values, audio.mask))
        first, weights = _ask(last_states(h_audio, audio.mask), h_text, text.mask)
        second, _ = _ask(first, h_audio, audio.mask)
        return Outputs(self.output(torch.cat([first, second], dim=-1)), kept={"attention": weights.unsqueeze(-1)})


def _ask(query: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One hop: (B, D), (B, T, D) and (B, T) to the weighted mean (B, D) and its weights (B, T)."""
    weights = masked_softmax(torch.einsum("bd,btd->bt", query, states), mask)
    return torch.einsum("bt,btd->bd", weights, states), weights


class XuSettings(HeadSettings):
    """Settings of the learned alignment."""

    kind: Literal["xu"] = "xu"
    dense: Annotated[int, Field(ge=1)] = 512  # of the layer in front of the audio's encoder
    hidden: Annotated[int, Field(ge=1)] = 100  # units per direction
    score: Literal["dot_mha", "additive"] = "dot_mha"  # as the authors' code has it, or as their paper
    heads: Annotated[int, Field(ge=1)] = 8  # of dot_mha
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.score == "dot_mha" and 2 * self.hidden % self.heads:
            raise ValueError(f"2 x hidden = {2 * self.hidden} channels cannot be split over heads = {self.heads}")
        return self

    def roles(self) -> tuple[str, ...]:
        """Words, and the frames that each of them attends to."""
        return ("text", "audio")

    def tasks(self) -> tuple[str, ...]:
        """One output an utterance."""
        return PER_UTTERANCE


class Xu(Head[XuSettings]):
    """Every word attends to the frames of the sound; a BiGRU over words with what they found, pooled by attention.

    Source: Xu et al. 2019, "Learning alignment for multimodal emotion recognition from speech": the layers of the
    authors' code (Delta-ML/delta, delta/models/multimodal_cls_model.py), the additive score of section 2.3. Unlike
    that code, words never attend to padding.
    """

    def __init__(self, settings: XuSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        width = 2 * s.hidden
        self.dense = torch.nn.Linear(shape.dims["audio"], s.dense)
        self.audio = torch.nn.GRU(s.dense, s.hidden, batch_first=True, bidirectional=True)
        self.text = torch.nn.GRU(shape.dims["text"], s.hidden, batch_first=True, bidirectional=True)
        self.align = MaskedAttention(width, s.heads, 0.0) if s.score == "dot_mha" else AdditiveAlignment(width)
        self.joint = torch.nn.GRU(2 * width, s.hidden, batch_first=True, bidirectional=True)
        self.pooling = Pooling("attention", width)
        self.dropout = torch.nn.Dropout(s.dropout)
        self.output = torch.nn.Linear(width, shape.outputs)

    def forward(self, text: Frames, audio: Frames) -> torch.Tensor:
        """(B, L, D) words and (B, T, D') frames to (B, outputs)."""
        dense = self.dropout(torch.relu(self.dense(audio.values)))
        h_audio = self.dropout(states_of(self.audio, dense, audio.mask))
        h_text = states_of(self.text, self.dropout(text.values), text.mask)
        aligned = self.align(h_text, h_audio, audio.mask)
        states = states_of(self.joint, torch.cat([aligned, h_text], dim=-1), text.mask)
        return cast(torch.Tensor, self.output(self.dropout(self.pooling(states, text.mask))))


class AdditiveAlignment(torch.nn.Module):
    """The mean of the sound's states s_j with weights softmax_j tanh(u . s_j + v . h_i + b) for a word's state h_i."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_sound = torch.nn.Linear(width, 1, bias=False)
        self.of_word = torch.nn.Linear(width, 1)

    def forward(self, words: torch.Tensor, sound: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, L, D), (B, T, D) and (B, T) to (B, L, D)."""
        scores = torch.tanh(self.of_word(words) + self.of_sound(sound).transpose(1, 2))
        return masked_softmax(scores, mask.unsqueeze(1)) @ sound
