"""MDRE: one recurrent encoder for the text, one for the sound, their last states side by side.

Source: Yoon et al. 2018, "Multimodal speech emotion recognition using audio and text", section 3.3, with the sizes of
the released code (david-yoon/multimodal-speech-emotion).
"""

from typing import Annotated, Literal, cast

import torch
from pydantic import Field

from .head import PER_UTTERANCE, Frames, Head, HeadSettings, Shape
from .layers.packing import states_of
from .layers.pooling import last_valid, masked_mean


class MDRESettings(HeadSettings):
    """Settings of MDRE."""

    kind: Literal["mdre"] = "mdre"
    features: Literal["ssl", "original"] = "ssl"  # original: word vectors and MFCCs, with prosody
    prosody: Literal["functionals", "none"] = "functionals"  # with original; beside the sound's state
    hidden: Annotated[int, Field(ge=1)] = 200
    audio_width: Annotated[int, Field(ge=1)] = 117
    text_width: Annotated[int, Field(ge=1)] = 100
    audio_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3  # of what the GRU takes and gives
    text_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.7

    def roles(self) -> tuple[str, ...]:
        """Text first; prosody if there is any."""
        prosody = self.features == "original" and self.prosody == "functionals"
        return ("text", "audio", "prosody") if prosody else ("text", "audio")

    def tasks(self) -> tuple[str, ...]:
        """Utterances only: last states are used."""
        return PER_UTTERANCE


class MDRE(Head[MDRESettings]):
    """Two GRUs; a linear layer after each, and one over both. No activations."""

    def __init__(self, settings: MDRESettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.text = _LastState(shape.dims["text"], s.hidden, s.text_dropout)
        self.audio = _LastState(shape.dims["audio"], s.hidden, s.audio_dropout)
        self.text_linear = _linear(s.hidden, s.text_width)
        self.audio_linear = _linear(s.hidden + shape.dims.get("prosody", 0), s.audio_width)
        self.output = _linear(s.audio_width + s.text_width, shape.outputs)

    def forward(self, text: Frames, audio: Frames, prosody: Frames | None = None) -> torch.Tensor:
        """(B, T, D), (B, T', D') and, of prosody, (B, 1, P) to (B, outputs)."""
        heard = [self.audio(audio)]
        if prosody is not None:
            heard.append(masked_mean(prosody.values, prosody.mask))
        encoded = [self.audio_linear(torch.cat(heard, dim=-1)), self.text_linear(self.text(text))]
        return cast(torch.Tensor, self.output(torch.cat(encoded, dim=-1)))


class _LastState(torch.nn.Module):
    """A GRU's state at the last valid frame, with dropout before and after; zeros without any frame."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(dim, hidden, batch_first=True)
        for name, parameter in self.gru.named_parameters():
            if name.startswith("bias"):
                torch.nn.init.zeros_(parameter)
            else:
                # torch keeps the three gates' matrices in one, and each of them is to be orthogonal.
                for gate in parameter.data.chunk(3):
                    torch.nn.init.orthogonal_(gate)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, frames: Frames) -> torch.Tensor:
        """(B, T, D) to (B, hidden)."""
        states = states_of(self.gru, self.dropout(frames.values), frames.mask)
        return cast(torch.Tensor, self.dropout(last_valid(states, frames.mask)))


def _linear(dim: int, width: int) -> torch.nn.Linear:
    linear = torch.nn.Linear(dim, width)
    torch.nn.init.uniform_(linear.weight, -0.25, 0.25)
    torch.nn.init.zeros_(linear.bias)
    return linear
