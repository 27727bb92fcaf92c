"""Models of pictures, over every frame of a video: the vision towers of CLIP and SigLIP, DINOv2, and ViT."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor, nn

from ...cache import EmocacheError, InputFailure, Item, Utterance
from ...cache.recipe import Recipe
from ..media.crops import Square
from ..media.detectors import Picture
from ..media.faces import FaceVideo
from ..media.tracks import Boxes
from ..media.video import Frame
from .checkpoints import Checkpoint
from .encoder import Clip, LayerItems, Layers, check_layer
from .face_clips import encode_videos, in_chunks, one_by_one, pictures
from .image_front_end import ImageFrontEnd, Pixels
from .inference import Runtime, captured

Vectors = npt.NDArray[np.float32]

_MARGIN = 0.25  # of the box, on every side
_FACE = Square(_MARGIN)
_COST = 10.0  # of a picture, in seconds of audio
# Of a whole CLIP or SigLIP the class of the vision tower takes its own weights, and leaves those of the text.
_CLASSES = {
    "clip": "CLIPVisionModel", "clip_vision_model": "CLIPVisionModel", "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel", "dinov2": "Dinov2Model", "vit": "ViTModel",
}  # fmt: skip


class FacePictures:
    """One vector a video frame, of the face in it.

    The last layer is the model's own output for a whole picture: of CLIP the first token (CLS) after the norm behind
    the last block, of SigLIP what its attention pooling gives (both `pooler_output` in transformers), of DINOv2 and ViT
    the CLS token of the last hidden state, which is behind the final norm. Layer i below is the CLS token behind the
    i-th block, without that norm, and layer 0 the one that goes into the first, which is the same for every picture.
    SigLIP has no such token, so that its layers are the mean over the patches.

    The face is cut out square with a margin of a quarter of its box, as for VGG-Face, in its own resolution; the
    checkpoint's image processor does the rest. Frames without a detected face are cropped at the box that the face
    tracker fell back to; `face_found` marks the others.

    Args:
        name: as in stream names.
        checkpoint: of one of these models.
        runtime: where to run.

    Raises:
        EmocacheError: the model has no pooled output, or the image processor makes pictures of another size than its.
    """

    inputs: tuple[str, ...] = ("video",)
    rate: float | None = None
    _crop: Mapping[str, Any] = {"crop": "square", "margin": _MARGIN, "resize": "to whole pixels, bilinear"}
    _aux: Mapping[str, Any] = {"face_found": {"dtype": "bool", "shape": []}}

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._runtime = runtime
        self._pixels = ImageFrontEnd(checkpoint)
        self._model = runtime.load(getattr(transformers, _CLASSES[checkpoint.model_type]), checkpoint)
        _check(checkpoint, self._model.config, self._pixels)
        # The only list in any of these models is that of its blocks.
        self._blocks = next(module for module in self._model.modules() if isinstance(module, nn.ModuleList))
        self.layers = len(self._blocks)
        self.dim = int(self._model.config.hidden_size)
        self._has_cls = not checkpoint.model_type.startswith("siglip")
        self._pooled = checkpoint.model_type.startswith(("clip", "siglip"))

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        layer = check_layer(self.name, layer, self.layers)
        last = "pooler_output" if self._pooled else "CLS token"
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": layer,
            "inputs": ["video"],
            "dim": self.dim,
            "times": None,
            "aux": dict(self._aux),
            "family": "picture",
            "version": 1,
            **self._checkpoint.identity(),
            "precision": self._runtime.precision,
            "preprocessing": {**self._crop, **self._pixels.settings},
            "output": last if layer is None else "CLS token" if self._has_cls else "mean over patches",
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return pictures(utterance)

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return _COST * pictures(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        forward = self._forward_of(layers)

        def run(video: FaceVideo) -> LayerItems:
            crops = video.cut(self.cut)
            aux = {"face_found": video.found}
            return {
                layer: Item(found, video.times, aux)
                for layer, found in in_chunks(crops, forward, self._runtime.pictures).items()
            }

        return encode_videos(clips, run)

    def cut(self, image: Picture, box: Boxes) -> Pixels:
        """Cut out the face, and make of it the pixels that the model takes, (3, height, width)."""
        return self._pixels(_FACE(image, box))

    def _forward_of(self, layers: Layers) -> Callable[[Sequence[Pixels]], Mapping[int | None, Vectors]]:
        return partial(self._forward, {layer: check_layer(self.name, layer, self.layers) for layer in layers})

    def _forward(self, wanted: Mapping[int | None, int | None], chunk: Sequence[Pixels]) -> dict[int | None, Vectors]:
        """Turn B pictures into {layer: (B, D)}; `wanted` is {layer as asked for: its number, None for the last}."""
        with self._runtime.exact():
            pixels = self._runtime.send(torch.from_numpy(np.stack(chunk)))
        with self._runtime.model(), captured(self._blocks, list(wanted.values())) as found:
            output = self._model(pixel_values=pixels)
            last: Tensor = output.pooler_output if self._pooled else output.last_hidden_state[:, 0]
            vectors: dict[int | None, Tensor] = {number: self._one(states) for number, states in found.items()}
            vectors[None] = last
        return self._runtime.fetch({layer: vectors[number] for layer, number in wanted.items()})

    def _one(self, states: Tensor) -> Tensor:
        """Turn a layer's (B, T, D) into (B, D)."""
        return states[:, 0] if self._has_cls else states.float().mean(dim=1)


class WholePictures(FacePictures):
    """One vector a video frame, of the whole picture: no face is looked for, and none need be there.

    The checkpoint's image processor gets the picture as it is. Of one that is not square, those of CLIP and DINOv2
    usually take the middle, and those of SigLIP and ViT stretch it.
    """

    inputs = ("pictures",)
    _crop: Mapping[str, Any] = {"crop": "none"}
    _aux: Mapping[str, Any] = {}

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        forward = self._forward_of(layers)

        def run(clip: Clip) -> LayerItems:
            if clip.pictures is None:
                raise InputFailure("no_video", "the utterance has no video")
            times: list[tuple[float, float]] = []
            found = in_chunks(self._timed(clip.pictures(), times), forward, self._runtime.pictures)
            if not times:
                raise InputFailure("no_frames", "the video has 0 frames")
            return {layer: Item(vectors, np.array(times, np.float64)) for layer, vectors in found.items()}

        return one_by_one(clips, run)

    def _timed(self, frames: Iterator[Frame], times: list[tuple[float, float]]) -> Iterator[Pixels]:
        """Give the pixels of frames, and note when each is shown: one pass over the video tells both."""
        for frame in frames:
            times.append((frame.start, frame.end))
            yield self._pixels(frame.image)


def _check(checkpoint: Checkpoint, config: Any, pixels: ImageFrontEnd) -> None:
    if not getattr(config, "vision_use_head", True):
        raise EmocacheError(
            f"{checkpoint.folder}: the model has no pooling head (vision_use_head is false), so no vector for a picture"
        )
    size = config.image_size
    expected = tuple(size) if isinstance(size, list | tuple) else (size, size)
    # DINOv2 fits its positions to pictures of any size: trained with 518 pixels, it is published for 224.
    if checkpoint.model_type != "dinov2" and (pixels.height, pixels.width) != expected:
        raise EmocacheError(
            f"{checkpoint.folder}: its image processor makes pictures of {pixels.height} x {pixels.width} pixels, the"
            f" model takes {' x '.join(map(str, expected))}; copy the processor of the model that the checkpoint was"
            " made from"
        )
