"""An encoder of the tests that tells, in the folder of its checkpoints, what it has encoded, and stands still there."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emocache.cache import EmocacheError, Item, Utterance
from emocache.cache.recipe import Recipe
from emocache.extract.encoders.encoder import Clip, LayerItems, Layers

STEP = 0.01  # seconds between two looks


class Counted:
    """Frames are three samples each.

    Args:
        checkpoints: holds `encoded`, a line for each clip with the process that had it, and is told by files:
            `hold`, of how many clips a process encodes before it stands still until the file is gone; `slow`, seconds
            that a clip takes; `deadly`, clips that end the process; `broken`, what it raises.
    """

    name, inputs, layers, dim, rate = "counted", ("audio",), 0, 3, None

    def __init__(self, checkpoints: Path) -> None:
        self._folder = checkpoints
        self._count = 0

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {"kind": "frames", "encoder": self.name, "layer": layer, "inputs": ["audio"], "dim": 3, "times": None,
                "aux": {}}  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return round((utterance.duration or 1.0) * 100)

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return utterance.duration or 1.0

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems]:
        """See `Encoder.encode`."""
        if broken := self._told("broken"):
            raise EmocacheError(broken)
        with (self._folder / "encoded").open("a") as file:
            file.write("".join(f"{os.getpid()} {clip.id}\n" for clip in clips))
        if any(clip.id in self._told("deadly").split() for clip in clips):
            os._exit(1)
        self._count += len(clips)
        while (most := self._told("hold")) and self._count >= int(most):
            time.sleep(STEP)
        time.sleep(float(self._told("slow") or 0) * len(clips))
        return [{layer: _item(clip) for layer in layers} for clip in clips]

    def _told(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""


def _item(clip: Clip) -> Item:
    samples: Any = clip.audio
    frames = samples[: len(samples) // 3 * 3].reshape(-1, 3)
    starts = np.arange(len(frames)) / 100
    return Item(frames, np.stack([starts, starts + 0.01], axis=1), {})
