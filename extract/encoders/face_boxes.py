"""The box of the face in every picture, kept as a stream: who comes later need not look for faces again."""

from collections.abc import Sequence

from ...cache import InputFailure, Item, Utterance
from ...cache.recipe import Recipe
from ..media.faces import FaceVideo
from .encoder import Clip, LayerItems, Layers, check_layer
from .face_clips import encode_videos, pictures

NAME = "face-boxes"

_COST = 1.0  # of a picture, in seconds of audio


class FaceBoxes:
    """The face's left, top, right and bottom edge in pixels of every picture, smoothed as all encoders take them.

    In float32, as they are found. `face_found` says in which pictures one was.
    """

    name = NAME
    inputs: tuple[str, ...] = ("video",)
    layers = 0
    dim = 4
    rate: float | None = None
    storage = "float32"

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None,
            "aux": {"face_found": {"dtype": "bool", "shape": []}},
            "family": self.name,
            "version": 1,
            "output": "left, top, right, bottom",
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return pictures(utterance)

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return _COST * pictures(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        for layer in layers:
            check_layer(self.name, layer, self.layers)

        def run(video: FaceVideo) -> LayerItems:
            return {None: Item(video.boxes, video.times, {"face_found": video.found})}

        return encode_videos(clips, run)
