"""Learned parts between cached frames and a head: weights of layers, vectors of words."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch

from .head import Frames, Head, Outputs


class Learned(NamedTuple):
    """What is learned at one input.

    Attributes:
        layers: streams side by side in each frame, which a softmax weight is learned for; 1: none.
        vectors: (V, D) float32, where the words of the training part start from; None: words are not learned.
        unknown: one more vector is learned for all words that training never saw, in place of their own.
    """

    layers: int = 1
    vectors: torch.Tensor | None = None
    unknown: bool = False


class LayerWeights(torch.nn.Module):
    """Softmax-weighted sum over L layers, equal at the start (Yang et al. 2021, SUPERB, section 3)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = layers
        self.scores = torch.nn.Parameter(torch.zeros(layers))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, L x D) to (B, T, D)."""
        apart = values.view(*values.shape[:-1], self.layers, -1)
        return torch.einsum("btld,l->btd", apart, torch.softmax(self.scores, dim=0))


class WordVectors(torch.nn.Module):
    """A vector for each word of the training part, that starts from its own and is learned."""

    def __init__(self, vectors: torch.Tensor, unknown: bool) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vectors.shape[0], vectors.shape[1], _weight=vectors.clone())
        self.unknown = torch.nn.Parameter(torch.zeros(vectors.shape[1])) if unknown else None

    def forward(self, values: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """(B, T, D) of vectors and (B, T) of word numbers, -1 for an unknown one, to (B, T, D)."""
        learned = self.embedding(words.clamp(min=0))
        other = values if self.unknown is None else self.unknown.expand_as(values)
        return torch.where((words >= 0).unsqueeze(-1), learned, other)


class Frontend(Head):
    """A head behind what is learned at its inputs."""

    def __init__(self, head: Head, learned: Mapping[str, Learned]) -> None:
        torch.nn.Module.__init__(self)
        self.shape = head.shape
        self.head = head
        self.teacher = head.teacher
        self.layers = torch.nn.ModuleDict({r: LayerWeights(one.layers) for r, one in learned.items() if one.layers > 1})
        self.words = torch.nn.ModuleDict(
            {r: WordVectors(one.vectors, one.unknown) for r, one in learned.items() if one.vectors is not None}
        )

    def output_layer(self) -> torch.nn.Linear:
        """That of the head."""
        return self.head.output_layer()

    def forward(self, *inputs: Frames, teacher: torch.Tensor | None = None) -> torch.Tensor | Outputs:
        """See `Head`."""
        made = [self._learned(role, one) for role, one in zip(self.shape.dims, inputs, strict=True)]
        hint = {} if teacher is None else {"teacher": teacher}
        result: torch.Tensor | Outputs = self.head(*made, **hint)
        return result

    def _learned(self, role: str, frames: Frames) -> Frames:
        values = frames.values
        if role in self.layers:
            values = self.layers[role](values)
        if role in self.words:
            values = self.words[role](values, frames.words)
        # An unknown word's learned vector must not fill the padding.
        values = values.masked_fill(~frames.mask.unsqueeze(-1), 0.0)
        return replace(frames, values=values, valid=None if role in self.layers else frames.valid)
