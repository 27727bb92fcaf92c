"""Transformer decoder that takes a whole sequence, or one token after the other, with the same weights."""

from typing import NamedTuple, cast

import torch
from torch.nn.functional import scaled_dot_product_attention


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


class Past:
    """Keys and values of one layer's tokens so far, in buffers as long as the sequence will be."""

    def __init__(self, like: torch.Tensor) -> None:
        self._keys, self._values = torch.empty_like(like), torch.empty_like(like)
        self.length = 0

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add those of one more token, and return those of all of them."""
        self._keys[:, :, self.length] = keys[:, :, 0]
        self._values[:, :, self.length] = values[:, :, 0]
        self.length += 1
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]


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

    def forward(self, tokens: torch.Tensor, memory: Memory, past: Past | None = None) -> torch.Tensor:
        """(B, T, W) of a whole sequence; or, behind a past, (B, 1, W) of its next token."""
        normed = self.norms[0](tokens)
        own = self.own.keys_values(normed)
        if past is None:
            tokens = tokens + self.dropout(self.own(normed, *own, causal=True))
        else:
            tokens = tokens + self.dropout(self.own(normed, *past.append(*own)))
        tokens = tokens + self.dropout(self._cross(self.norms[1](tokens), memory, past))
        changed: torch.Tensor = self.dropout(self.feedforward(self.norms[2](tokens)))
        return tokens + changed

    def _cross(self, normed: torch.Tensor, memory: Memory, past: Past | None) -> torch.Tensor:
        keys, values, mask = memory
        # A single token has no later ones to hide, so the states themselves end at its own position.
        if mask is None and past is not None:
            keys, values = keys[:, :, : past.length], values[:, :, : past.length]
        drawn: torch.Tensor = self.cross(normed, keys, values, mask, causal=mask is None and past is None)
        return drawn


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

    def start(self, memory: list[Memory]) -> list[Past]:
        """Every layer's empty past, for as many tokens as the memory has states."""
        return [Past(one.keys) for one in memory]

    def forward(self, tokens: torch.Tensor, memory: list[Memory], past: list[Past] | None = None) -> torch.Tensor:
        """(B, T, W) of whole sequences; or, behind a past, (B, 1, W) of their next tokens."""
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens, memory[number], past[number] if past else None)
        normed: torch.Tensor = self.norm(tokens)
        return normed
