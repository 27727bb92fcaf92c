"""CAN: words and the sound of each of them, each aggregated with the attention of both."""

from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator

from .head import Frames, Head, HeadSettings, Outputs, Segments, Shape, Term
from .layers.attention import masked_softmax
from .layers.packing import states_of
from .layers.pooling import masked_mean


class CANSettings(HeadSettings):
    """Settings of CAN. `cross = false` with `alpha = 0` is the paper's ablation "- cross attention"."""

    kind: Literal["can"] = "can"
    segmentation: Literal["words", "equal"] = "words"  # a piece of sound for each word, or as many equal ones
    overlap: Annotated[float, Field(ge=0)] = 0.1  # share of a piece's length by which it grows
    max_frames: Annotated[int, Field(ge=1)] = 300  # of a piece: long silences are cut
    hidden: Annotated[int, Field(ge=1)] = 128  # units per direction
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3  # after every recurrent layer
    heads: Annotated[int, Field(ge=1)] = 4
    head_split: Literal["split", "multi_query"] = "split"  # a query for each share of the channels, or full queries
    segment_pool: Literal["valid", "all"] = "valid"  # all: over the padding too, so a result depends on its batch
    stop_gradient: bool = True  # on weights that are applied to the other input
    cross: bool = True
    alpha: Annotated[float, Field(ge=0)] = 0.1  # weight of the loss of either input alone, and of its vote

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.head_split == "split" and 2 * self.hidden % self.heads:
            raise ValueError(f"2 x hidden = {2 * self.hidden} channels cannot be split over heads = {self.heads}")
        return self

    def roles(self) -> tuple[str, ...]:
        """Frames of `text` are words: one frame a word, with its times."""
        return ("text", "audio")

    def tasks(self) -> tuple[str, ...]:
        """The prediction is a product of probabilities."""
        return ("classification",)

    def segments(self) -> Segments:
        """The audio in one piece a word."""
        return Segments("audio", "text", self.segmentation, self.overlap, self.max_frames)


class CAN(Head[CANSettings]):
    """Cross attention of aligned text and audio.

    The text's BiLSTM gives H_T, one state a word. A BiLSTM over the frames of each word's piece of sound, averaged,
    and one over these averages give H_A. A learned query of each input gives weights over the words, which are applied
    to both inputs; three linear outputs read the contexts.

    Source: Lee, Yoon and Jung 2020, "Multimodal Speech Emotion Recognition using Cross Attention with Aligned Audio
    and Text", sections 3.2 and 3.3.
    """

    def __init__(self, settings: CANSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        width = 2 * s.hidden
        self.words = torch.nn.LSTM(shape.dims["text"], s.hidden, batch_first=True, bidirectional=True)
        self.frames = torch.nn.LSTM(shape.dims["audio"], s.hidden, batch_first=True, bidirectional=True)
        self.pieces = torch.nn.LSTM(width, s.hidden, batch_first=True, bidirectional=True)
        self.dropout = torch.nn.Dropout(s.dropout)
        channels = width // s.heads if s.head_split == "split" else width
        self.text_query = torch.nn.Parameter(torch.randn(s.heads, channels) / channels**0.5)
        self.audio_query = torch.nn.Parameter(torch.randn(s.heads, channels) / channels**0.5)
        context = s.heads * channels
        self.output = torch.nn.Linear((4 if s.cross else 2) * context, shape.outputs)
        self.text_output = torch.nn.Linear(context, shape.outputs) if s.alpha else None
        self.audio_output = torch.nn.Linear(context, shape.outputs) if s.alpha else None

    def forward(self, text: Frames, audio: Frames) -> Outputs:
        """(B, L, D) words and (B, T, D') frames to (B, outputs) logits; keeps "attention" (B, L, 2 heads).

        The first half of "attention" is of the text's heads, the other of the audio's.
        """
        h_text = self._by_head(self.dropout(states_of(self.words, text.values, text.mask)))
        states, present = self._encode_pieces(audio, text.mask.shape[1])
        h_audio = self._by_head(states)
        of_text = _weights(h_text, self.text_query, text.mask)
        of_audio = _weights(h_audio, self.audio_query, present)
        c_tt, c_aa = _context(of_text, h_text), _context(of_audio, h_audio)
        if self.settings.cross:
            # Each input's weights also read the other; detached, they are learned from their own input alone.
            crossed = [w.detach() if self.settings.stop_gradient else w for w in (of_text, of_audio)]
            contexts = [c_tt, _context(crossed[0], h_audio), c_aa, _context(crossed[1], h_text)]
        else:
            contexts = [c_tt, c_aa]
        kept = {"attention": torch.cat([of_text, of_audio], dim=1).transpose(1, 2)}
        return self._outputs(self.output(torch.cat(contexts, dim=-1)), c_tt, c_aa, kept)

    def _outputs(
        self, joint: torch.Tensor, c_tt: torch.Tensor, c_aa: torch.Tensor, kept: dict[str, torch.Tensor]
    ) -> Outputs:
        """Equations 14 and 15: what is learned, and the logarithm of the product of probabilities, up to a constant."""
        alpha = self.settings.alpha
        if self.text_output is None or self.audio_output is None:
            return Outputs(torch.log_softmax(joint, dim=-1), (Term(1.0, joint),), kept)
        alone = (self.text_output(c_tt), self.audio_output(c_aa))
        prediction = torch.log_softmax(joint, dim=-1)
        for logits in alone:
            prediction = prediction + alpha * torch.log_softmax(logits, dim=-1)
        return Outputs(prediction, (Term(1.0, joint), *(Term(alpha, logits) for logits in alone)), kept)

    def _encode_pieces(self, audio: Frames, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The audio's state of each of `count` words (B, L, 2 H), and whether there is one (B, L)."""
        if audio.segments is None:
            raise ValueError("CAN takes the audio with its pieces")
        bounds = torch.nn.functional.pad(audio.segments, (0, 0, 0, count - audio.segments.shape[1]))
        present = bounds[..., 1] > bounds[..., 0]
        vectors = audio.values.new_zeros(*present.shape, 2 * self.settings.hidden)
        if present.any():
            vectors = vectors.index_put(torch.nonzero(present, as_tuple=True), self._vectors(audio, bounds, present))
        return self.dropout(states_of(self.pieces, self.dropout(vectors), present)), present

    def _vectors(self, audio: Frames, bounds: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """The mean state of each of the N pieces that are present, in the order of their words: (N, 2 H)."""
        row = torch.nonzero(present, as_tuple=True)[0]
        first, stop = bounds[present].unbind(dim=-1)
        lengths = (stop - first).unsqueeze(1)
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        mask = steps < lengths
        place = torch.where(mask, first.unsqueeze(1) + steps, 0)
        # All pieces of the batch as one batch of N rows: a loop over words would run the LSTM L times.
        frames = audio.values[row.unsqueeze(1), place].masked_fill(~mask.unsqueeze(-1), 0.0)
        if self.settings.segment_pool == "all":
            return cast(torch.Tensor, self.frames(frames)[0].mean(dim=1))
        return masked_mean(states_of(self.frames, frames, mask), mask)

    def _by_head(self, states: torch.Tensor) -> torch.Tensor:
        """(B, L, 2 H) to what each head sees: (B, L, heads, channels)."""
        heads = self.settings.heads
        if self.settings.head_split == "split":
            return states.view(*states.shape[:2], heads, -1)
        return states.unsqueeze(2).expand(-1, -1, heads, -1)


def _weights(states: torch.Tensor, query: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Equations 4 and 5, head by head: (B, L, heads, channels), (heads, channels), (B, L) to (B, heads, L)."""
    return masked_softmax(torch.einsum("blhc,hc->bhl", states, query), mask.unsqueeze(1))


def _context(weights: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Equations 6 to 9: (B, heads, L) and (B, L, heads, channels) to (B, heads x channels)."""
    return torch.einsum("bhl,blhc->bhc", weights, states).flatten(1)
