"""MARLIN (Cai et al. 2023, MARLIN: Masked Autoencoder for facial video Representation LearnINg): clips of faces."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ...cache import InputFailure, Item, Utterance
from ...cache.recipe import Recipe
from ..media.crops import Square
from ..media.faces import FaceVideo
from ..weights.pickles import weights_sha256
from .encoder import Clip, LayerItems, Layers, check_layer
from .face_clips import SIZE, encode_videos, pictures
from .inference import Runtime, captured
from .marlin_weights import FRAMES, load_marlin

_EVERY = 2  # of a long video every second frame is taken
_SPAN = FRAMES * _EVERY
_MARGIN = 0.0  # marlin_pytorch crops the square round the centre of the box, as wide as its longer side
_COST = 120.0  # of a window of the base model, in seconds of audio


def windows(frames: int) -> npt.NDArray[np.int64]:
    """Choose the frames of a video that make up each vector, (W, 16), by the rule of marlin_pytorch's `extract_video`.

    Up to 16 frames: all, the last repeated. Up to 32: the first 16. More: from every 32 frames every second one; a
    stretch of 32 that is not followed by at least one more frame is left out, as are frames after the last stretch.

    >>> windows(65)[:, [0, -1]].tolist()
    [[0, 30], [32, 62]]
    """
    if frames <= _SPAN:
        return np.minimum(np.arange(FRAMES), frames - 1)[None]
    # The first frame of a stretch is below frames - 32, so one that ends exactly with the video is left out.
    return np.arange(0, frames - _SPAN, _SPAN)[:, None] + np.arange(0, _SPAN, _EVERY)


class Marlin:
    """MARLIN's encoder, of any size: one vector for about 32 video frames, the mean over all tokens.

    A window is 16 faces, see `windows`, each cropped square at its box without a margin, as marlin_pytorch does, and
    stretched to 224 x 224; red, green, blue, 0 to 1. Where the square leaves the picture, marlin_pytorch's is black,
    ours repeats the border. A vector's time runs from the start of the window's first frame to the end of the last one
    it spans. `face_found` says whether a face was detected in at least half of the 16.

    The last layer is the mean over tokens after the final layer norm, in marlin_pytorch's order: mean, then norm.
    Layer i is the mean over the output of the i-th block, without norm.

    Args:
        name: as in stream names.
        file: a .safetensors file with the state dict of marlin_vit_small_ytf, _base_ or _large_, the encoder's or the
            full model's.
        runtime: where to run.

    Raises:
        EmocacheError: the file cannot be read, or names the weight that is missing or has another shape.
    """

    inputs: tuple[str, ...] = ("video",)
    rate: float | None = None
    cut = Square(_MARGIN, SIZE)

    def __init__(self, name: str, file: Path, runtime: Runtime) -> None:
        self.name = name
        self._runtime = runtime
        self._model = load_marlin(file).to(runtime.device)
        self._sha256 = weights_sha256([file])
        self.dim = self._model.dim
        self.layers = len(self._model.blocks)

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
            "family": "marlin",
            "version": 1,
            "weights_sha256": self._sha256,
            "precision": self._runtime.precision,
            "preprocessing": {
                "crop": "square", "margin": _MARGIN, "size": SIZE, "resize": "stretched, bilinear", "colours": "RGB",
                "range": 1,
            },
            "windowing": {
                "frames": FRAMES, "every": _EVERY, "stride": _SPAN, "short": "16 in a row, the last repeated",
                "last": "left out unless a frame follows",
            },
            "output": "mean over tokens",
        }  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return len(windows(pictures(utterance)))

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return _COST * self.dim * self.layers / (768 * 12) * self.expected_frames(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}

        def run(video: FaceVideo) -> LayerItems:
            plan = windows(len(video.times))
            crops = _crops(video.cut(self.cut, set(plan.ravel().tolist())), plan)
            chunks = []
            while chunk := list(islice(crops, self._runtime.pictures // FRAMES)):
                chunks.append(self._forward(np.stack(chunk), wanted))
            # Of a long video every second frame is taken, so a window spans the one after its last as well.
            last = plan[:, -1] + (_EVERY - 1 if len(video.times) > _SPAN else 0)
            times = np.stack([video.times[plan[:, 0], 0], video.times[last, 1]], axis=1)
            found = video.found[plan].mean(axis=1) >= 0.5
            return {
                layer: Item(np.concatenate([chunk[layer] for chunk in chunks]), times, {"face_found": found})
                for layer in wanted
            }

        return encode_videos(clips, run)

    def _forward(
        self, faces: npt.NDArray[np.uint8], wanted: Mapping[int | None, int | None]
    ) -> dict[int | None, npt.NDArray[np.float32]]:
        """Turn (B, 16, 224, 224, 3) RGB into {layer: (B, D)}."""
        # Sent as bytes, a quarter of the floats they become there.
        with self._runtime.exact():
            pixels = self._runtime.send(torch.from_numpy(faces)).permute(0, 4, 1, 2, 3).float() / 255
        numbers = list(wanted.values())
        with self._runtime.model(), captured(self._model.blocks, numbers) as found:
            last = self._model(pixels)
            means = {layer: last if i is None else found[i].float().mean(dim=1) for layer, i in wanted.items()}
        return self._runtime.fetch(means)


def _crops(faces: Iterator[npt.NDArray[np.uint8]], plan: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
    """Put the faces of one window after the other together, (16, 224, 224, 3) RGB each."""
    # Windows do not overlap and follow each other. A short video names its last frame several times.
    for row in plan:
        taken = {i: next(faces) for i in sorted(set(row))}
        yield np.stack([taken[i] for i in row])
