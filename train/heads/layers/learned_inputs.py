"""Learned parts between cached frames and a head: weights of layers, vectors of words."""

from typing import NamedTuple

import torch


class Learned(NamedTuple):
    """The parts that are learned at one input.

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
