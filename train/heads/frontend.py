"""A head behind the parts that are learned at its inputs."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from .head import Frames, Head, HeadSettings, Outputs
from .layers.learned_inputs import LayerWeights, Learned, WordVectors


class Frontend(Head[HeadSettings]):
    """A head behind what is learned at its inputs."""

    def __init__(self, head: Head, learned: Mapping[str, Learned]) -> None:
        super().__init__(head.settings, head.shape)
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
        # Only a head with a decoder has a parameter `teacher`.
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
