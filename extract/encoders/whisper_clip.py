"""The encoder half of Whisper on a clip's own length, where the model was made for 30 s: many times as fast."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from ...cache import Utterance
from ...cache.recipe import Recipe
from .encoder import SAMPLE_RATE, samples
from .whisper import POSITIONS, WINDOW, Whisper, frames


class ClipWhisper(Whisper):
    """Whisper's encoder on the clip and a short silence behind it: frames at 50 Hz, which see nothing else.

    The model was trained with silence up to 30 s, so these are other numbers than `Whisper`'s, with a recipe of their
    own. What goes into the first layer is the same; its layers then attend to fewer positions. A window of 30 s gives
    the very numbers of `Whisper`, and longer clips are cut as there.

    Attributes:
        tail: seconds of silence behind the clip. It gives the layers the room that they use to mark the clip's end.
    """

    tail: float = 0.25

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        recipe = super().recipe(layer)
        windowing = {"seconds": 30, "overlap_seconds": 0, "padding": "silence", "frames": "valid"}
        return recipe | {"windowing": windowing | {"positions": "clip and tail", "tail_seconds": self.tail}}

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`; 30 s for every whole window, and the rest with its tail."""
        whole, rest = divmod(samples(utterance), WINDOW)
        return 30.0 * whole + (min(30.0, rest / SAMPLE_RATE + self.tail) if rest else 0.0)

    def _positions(self, n: int) -> int:
        return min(frames(n) + frames(round(self.tail * SAMPLE_RATE)), POSITIONS)

    def _forward(self, mel: Tensor, positions: Sequence[int], depth: int) -> Tensor:
        # WhisperEncoder.forward, which refuses all lengths but one; layers that nobody asked for are left out.
        model = self._model
        # Silence behind a row is in the spectrogram: the convolutions see there what they would in 30 s.
        hidden = nn.functional.gelu(model.conv1(mel))
        hidden = nn.functional.gelu(model.conv2(hidden)).permute(0, 2, 1)[:, : max(positions)]
        hidden = hidden + model.embed_positions.weight[: max(positions)]
        mask = self._mask(hidden, positions)
        for layer in model.layers[: max(1, depth)]:  # 0 is what goes into the first
            hidden = layer(hidden, mask)
        normed: Tensor = model.layer_norm(hidden)
        return normed

    def _mask(self, hidden: Tensor, positions: Sequence[int]) -> Tensor | None:
        """Make the mask under which a row attends to its own positions only; None where all are of one length."""
        if min(positions) == max(positions):
            return None
        ends = self._runtime.send(torch.tensor(positions))[:, None]
        valid = torch.arange(max(positions), device=hidden.device) < ends
        mask: Any = create_bidirectional_mask(self._model.config, hidden, valid, allow_is_bidirectional_skip=False)
        return mask  # type: ignore[no-any-return]
