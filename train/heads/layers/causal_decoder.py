"""Transformer decoder that takes a whole sequence, or one token after the other, with the same weights."""

from typing import NamedTuple, cast

import torch
from torch.nn.functional import linear, scaled_dot_product_attention


class Attention(torch.nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2) with keys and values apart, so they can be kept."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = torch.nn.Linear(width, width)
        self.key = torch.nn.Linear(width, width)
        self.value = torch.nn.Linear(width, width)
        self.output = torch.nn.Linear(width, width)

    def keys_values(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, W) to (B, heads, T, W / heads), twice."""
        return self._split(self.key(states)), self._split(self.value(states))

    def forward(
        self,
        tokens: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None = None,
        causal: bool = False,
    ) -> torch.Tensor:
        """Let tokens draw from keys and values.

        Args:
            tokens: (B, n, W), which the queries come from.
            keys: (B, heads, T, W / heads), see `keys_values`.
            values: (B, heads, T, W / heads).
            mask: (B, 1, 1, T) bool, the keys that count; None: all.
            causal: token i sees the keys up to i only; without a mask.

        Returns:
            (B, n, W).
        """
        mixed = scaled_dot_product_attention(
            self._split(self.query(tokens)),
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        drawn: torch.Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return drawn

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)


class Memory(NamedTuple):
    """Keys and values (B, heads, T, W / heads) of the encoder's states in one layer.

    `mask` is (B, 1, 1, T) bool, or None where token i sees the states up to i.
    """

    keys: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor | None


class DecoderLayer(torch.nn.Module):
    """Causal self-attention, attention to the memory, feed-forward; each behind a normalisation, beside a skip."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(3))
        self.own = Attention(width, heads, dropout)
        self.cross = Attention(width, heads, dropout)
        self.feedforward = torch.nn.Sequential(
            torch.nn.Linear(width, feedforward),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(feedforward, width),
        )
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor, memory: Memory) -> torch.Tensor:
        """(B, T, W) of whole sequences."""
        normed = self.norms[0](tokens)
        tokens = tokens + self.dropout(self.own(normed, *self.own.keys_values(normed), causal=True))
        drawn = self.cross(self.norms[1](tokens), memory.keys, memory.values, memory.mask, causal=memory.mask is None)
        tokens = tokens + self.dropout(drawn)
        changed: torch.Tensor = self.dropout(self.feedforward(self.norms[2](tokens)))
        return tokens + changed


class CausalDecoder(torch.nn.Module):
    """Pre-norm decoder layers and a last normalisation."""

    def __init__(self, width: int, heads: int, layers: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(DecoderLayer(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(width)

    def remember(self, states: torch.Tensor, mask: torch.Tensor, causal: bool) -> list[Memory]:
        """Every layer's keys and values of the encoder's states, computed once.

        Args:
            states: (B, T, W).
            mask: (B, T) bool, a prefix of each row.
            causal: token i sees the states up to i; all valid ones otherwise.

        Returns:
            One `Memory` a layer.
        """
        # A causal token at a valid frame sees a prefix of valid ones only: the mask would change nothing.
        seen = None if causal else mask[:, None, None, :]
        return [Memory(*cast(DecoderLayer, layer).cross.keys_values(states), seen) for layer in self.layers]

    def forward(self, tokens: torch.Tensor, memory: list[Memory]) -> torch.Tensor:
        """(B, T, W) of whole sequences."""
        for layer, one in zip(self.layers, memory, strict=True):
            tokens = layer(tokens, one)
        normed: torch.Tensor = self.norm(tokens)
        return normed


class Stepper:
    """The decoder fed one token after the other: each gets what it gets in the whole sequence, in evaluation.

    A step is some forty small operations, each of which costs more to call than to compute. So every projection is one
    product, and keys and values lie as the products of a single token read them: (B x heads, W / heads, T).

    Args:
        decoder: whose weights are used.
        memory: of the sequences, see `remember`; as many steps as it has states can be taken.
    """

    def __init__(self, decoder: CausalDecoder, memory: list[Memory]) -> None:
        self._norm = decoder.norm
        layers = zip(decoder.layers, memory, strict=True)
        self._layers = [_Step(cast(DecoderLayer, layer), one) for layer, one in layers]
        self._done = 0

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, W) of the next token of the first n sequences: n is no more than in the step before."""
        self._done += 1
        for layer in self._layers:
            tokens = layer(tokens, self._done)
        normed: torch.Tensor = self._norm(tokens)
        return normed


class _Step:
    """One layer of a `Stepper`."""

    def __init__(self, layer: DecoderLayer, memory: Memory) -> None:
        self._layer, own = layer, layer.own
        self._scale = (own.query.out_features // own.heads) ** -0.5
        self._projection = torch.cat([own.query.weight * self._scale, own.key.weight, own.value.weight])
        self._bias = torch.cat([own.query.bias * self._scale, own.key.bias, own.value.bias])
        self._seen, self._seen_values = (part.transpose(2, 3).flatten(0, 1).contiguous() for part in memory[:2])
        self._keys, self._values = torch.empty_like(self._seen), torch.empty_like(self._seen)
        self._hidden = None
        if memory.mask is not None:
            # Finite, so that a sequence without any state has weights, which nobody reads.
            lowest = memory.keys.new_zeros(memory.mask.shape).masked_fill(~memory.mask, -1e30)
            self._hidden = lowest.expand(-1, own.heads, -1, -1).flatten(0, 1)

    def __call__(self, tokens: torch.Tensor, steps: int) -> torch.Tensor:
        """(n, W) of the tokens at the place `steps` - 1."""
        layer, rows = self._layer, len(tokens) * self._layer.own.heads
        projected = linear(layer.norms[0](tokens), self._projection, self._bias)
        query, key, value = (part.reshape(rows, -1) for part in projected.chunk(3, dim=1))
        self._keys[:rows, :, steps - 1], self._values[:rows, :, steps - 1] = key, value
        scores = torch.bmm(query.unsqueeze(1), self._keys[:rows, :, :steps])
        tokens = tokens + self._drawn(scores, self._values[:rows, :, :steps], layer.own)
        query = layer.cross.query(layer.norms[1](tokens)).mul_(self._scale).view(rows, 1, -1)
        if self._hidden is None:  # the states themselves end at the token's own place
            scores, values = torch.bmm(query, self._seen[:rows, :, :steps]), self._seen_values[:rows, :, :steps]
        else:
            scores, values = torch.baddbmm(self._hidden[:rows], query, self._seen[:rows]), self._seen_values[:rows]
        tokens = tokens + self._drawn(scores, values, layer.cross)
        changed: torch.Tensor = layer.feedforward(layer.norms[2](tokens))
        return tokens + changed

    def _drawn(self, scores: torch.Tensor, values: torch.Tensor, attention: Attention) -> torch.Tensor:
        mixed = torch.bmm(torch.softmax(scores, dim=-1), values.transpose(1, 2))
        drawn: torch.Tensor = attention.output(mixed.view(-1, attention.output.in_features))
        return drawn
