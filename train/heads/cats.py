"""CATS-Transformer: channel gate, causal encoder, decoder that is fed the previous value (paper 1, section 4.2.4)."""

from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator

from .head import Frames, Head, HeadSettings, Outputs, Shape
from .layers.causal_decoder import CausalDecoder, Stepper
from .layers.channel_gate import ChannelGate
from .layers.pooling import last_valid
from .transformer import sinusoids

_CACHED = 1 << 20  # numbers that a processor's caches hold


class CATSSettings(HeadSettings):
    """Settings of the CATS-Transformer."""

    kind: Literal["cats"] = "cats"
    gate: Literal["cbam16", "single_fc", "off"] = "cbam16"  # single_fc: as the paper writes it
    # encoder_only, as in the paper: the gate and the attention of the decoder to the encoder see all frames
    causal: Literal["encoder_only", "full", "none"] = "encoder_only"
    decoder: Literal["transformer", "none"] = "transformer"  # none: outputs come from the encoder's states
    decode: Literal["free", "teacher_forced"] = "free"  # what the decoder is fed in evaluation: outputs, or the truth
    width: Annotated[int, Field(ge=2)] = 64
    heads: Annotated[int, Field(ge=1)] = 4
    layers: Annotated[int, Field(ge=1)] = 2  # of the encoder and of the decoder
    feedforward: Annotated[int, Field(ge=1)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    output: Literal["none", "tanh"] = "none"
    # share of the values fed in training that are the head's own, from a first pass (Mihaylova and Martins 2019)
    scheduled_sampling: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 x heads = {2 * self.heads}")
        if self.decoder == "none" and (self.decode != "free" or self.scheduled_sampling):
            raise ValueError("without a decoder nothing is fed back; leave decode and scheduled_sampling out")
        return self

    def tasks(self) -> tuple[str, ...]:
        """One value a frame."""
        return ("frame_regression",)

    def bounds(self) -> tuple[float, float] | None:
        """Those of tanh."""
        return (-1.0, 1.0) if self.output == "tanh" else None

    def diagnostic(self) -> str | None:
        """Whoever is told the last true value needs only to repeat it."""
        return "teacher-forced decoding, not a prediction" if self.decode == "teacher_forced" else None


class CATS(Head[CATSSettings]):
    """Gate, linear embedding, sinusoidal positions, pre-norm encoder and decoder, and an MLP with one hidden layer.

    The decoder's token t is a linear map of the value at t - 1, and a learned vector at t = 0. Training feeds it the
    true values (`teacher`); evaluation feeds it what it gave, a frame at a time for all utterances of the batch.

    Source: paper 1, section 4.2.4; Vaswani et al. 2017, section 3, for the Transformer.
    """

    def __init__(self, settings: CATSSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.gate = None if s.gate == "off" else ChannelGate(shape.dim, s.gate, s.causal == "full")
        self.embedding = torch.nn.Linear(shape.dim, s.width)
        layer = torch.nn.TransformerEncoderLayer(
            s.width, s.heads, s.feedforward, s.dropout, batch_first=True, norm_first=True
        )
        self.encoder = torch.nn.TransformerEncoder(
            layer, s.layers, norm=torch.nn.LayerNorm(s.width), enable_nested_tensor=False
        )
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(s.width, s.width // 2), torch.nn.ReLU(), torch.nn.Linear(s.width // 2, shape.outputs)
        )
        self.decoder = None
        if s.decoder == "transformer":
            self.teacher = "always" if s.decode == "teacher_forced" else "training"
            self.decoder = CausalDecoder(s.width, s.heads, s.layers, s.feedforward, s.dropout)
            self.previous = torch.nn.Linear(shape.outputs, s.width)
            self.start = torch.nn.Parameter(torch.randn(s.width))

    def output_layer(self) -> torch.nn.Linear:
        """The last one of the MLP."""
        return cast(torch.nn.Linear, self.mlp[-1])

    def forward(self, frames: Frames, teacher: torch.Tensor | None = None) -> Outputs:
        """Give every frame its values.

        Args:
            frames: the only input.
            teacher: (B, T, outputs), the true values that the decoder is fed; None: it is fed its own, and no
                gradient passes through them.

        Returns:
            Prediction (B, T, outputs), with "gate" (B, D), the weights of the whole utterance.
        """
        gated, kept = self._gated(frames)
        positions = sinusoids(gated.shape[1], self.settings.width).to(gated)
        embedded, mask = self.embedding(gated) + positions, frames.mask
        pieces = self._pieces(embedded)
        if self.decoder is not None and teacher is None:
            states = torch.cat([self._encode(embedded[own], mask[own]) for own in pieces])
            return Outputs(self._free_running(self.decoder, states, mask, positions), kept=kept)
        values = [
            self._values(embedded[own], mask[own], positions, None if teacher is None else teacher[own])
            for own in pieces
        ]
        return Outputs(torch.cat(values), kept=kept)

    def _pieces(self, embedded: torch.Tensor) -> list[slice]:
        """Cut a batch into the utterances that go through the attention together.

        They do not see each other. On a processor they are as few as its caches hold of their (heads, T, T) weights.
        """
        size = max(1, len(embedded))
        if embedded.device.type == "cpu":
            size = max(1, _CACHED // (self.settings.heads * embedded.shape[1] ** 2))
        return [slice(start, start + size) for start in range(0, len(embedded), size)]

    def _values(
        self, embedded: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, T, W) embedded frames, with the true values where there is a decoder, to (B, T, outputs)."""
        states = self._encode(embedded, mask)
        if self.decoder is None or teacher is None:
            return self._output(states)
        memory = self.decoder.remember(states, mask, self.settings.causal == "full")
        if self.training and self.settings.scheduled_sampling:
            # A first pass over the true values tells what the head would have fed itself; it is not learned from.
            with torch.no_grad():
                own = self._output(self.decoder(self._shifted(teacher) + positions, memory))
            drawn = torch.rand(teacher.shape[:2], device=teacher.device) < self.settings.scheduled_sampling
            teacher = torch.where(drawn.unsqueeze(-1), own, teacher)
        return self._output(self.decoder(self._shifted(teacher) + positions, memory))

    def _gated(self, frames: Frames) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if self.gate is None:
            return frames.values, {}
        weights = self.gate(frames.values, frames.mask, frames.valid)
        whole = last_valid(weights, frames.mask) if self.gate.causal else weights[:, 0]
        return frames.values * weights, {"gate": whole}

    def _encode(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(mask.shape[1], device=mask.device)
        ahead = None if self.settings.causal == "none" else steps.unsqueeze(0) > steps.unsqueeze(1)
        return cast(torch.Tensor, self.encoder(embedded, mask=ahead, src_key_padding_mask=~mask))

    def _shifted(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, W) tokens: the start vector, then the values of all frames but the last."""
        start = self.start.expand(len(values), 1, -1)
        return torch.cat([start, self.previous(values[:, :-1])], dim=1)

    @torch.no_grad()
    def _free_running(
        self, decoder: CausalDecoder, states: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        # The longest come first, so that those which go on are always the first ones.
        order = mask.sum(dim=1).argsort(descending=True, stable=True)
        going_on = mask.sum(dim=0).tolist()
        step = Stepper(decoder, decoder.remember(states[order], mask[order], self.settings.causal == "full"))
        values = states.new_zeros(*mask.shape, self.output_layer().out_features)
        token = self.start.expand(len(states), -1)
        for place, (position, count) in enumerate(zip(positions, going_on, strict=True)):
            if not count:
                break
            given = self._output(step(token[:count] + position))
            values[:count, place] = given
            token = self.previous(given)
        back: torch.Tensor = values[order.argsort()]
        return back

    def _output(self, states: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.mlp(states)
        return torch.tanh(values) if self.settings.output == "tanh" else values
