"""VGG-Face (Parkhi, Vedaldi and Zisserman 2015, Deep Face Recognition): its convolutions, over every face of a clip."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...cache import InputFailure, Utterance
from ...cache.hashing import file_sha256
from ...cache.recipe import Recipe
from ..media.crops import Square
from ..media.detectors import Picture
from .encoder import Clip, LayerItems, Layers, check_layer
from .face_clips import SIZE, encode_pictures, pictures
from .inference import Runtime
from .keras_file import Weights, read_convolutions

_MARGIN = 0.25  # of the box, on every side
_MEANS = (93.5940, 104.7624, 129.1863)  # blue, green, red
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_COST = 10.0  # of a picture, in seconds of audio


class VggFace:
    """The convolutions of VGG-Face, a VGG16: 512 values a video frame, the maximum of each channel of pool5.

    A frame is the face, cropped square with a margin of a quarter of its box, stretched to 224 x 224, blue before
    green before red, 0 to 255 less the mean colour of the training set. Frames without a detected face are cropped at
    the box that the face tracker fell back to; `face_found` marks the others.

    The file is either of two: rcmalli's `rcmalli_vggface_tf_vgg16.h5` (or `_notop_`, from keras-vggface 2.0), read by
    layer names, or deepface's `vgg_face_weights.h5`, read by the order of its layers. Fully connected layers are left
    out.

    Args:
        name: as in stream names.
        file: the .h5 file.
        runtime: where to run.

    Raises:
        EmocacheError: the file is not one of these; names the layer and the shape that were expected.
    """

    inputs: tuple[str, ...] = ("video",)
    layers = 0
    dim = 512
    rate: float | None = None
    cut = Square(_MARGIN, SIZE)

    def __init__(self, name: str, file: Path, runtime: Runtime) -> None:
        self.name = name
        self._runtime = runtime
        self._model = _network(list(read_convolutions(file, _kernels()).values())).to(runtime.device)
        self._means = torch.tensor(_MEANS, device=runtime.device)
        self._sha256 = file_sha256(file)

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
            "family": "vgg-face",
            "version": 1,
            "weights_sha256": self._sha256,
            "precision": self._runtime.precision,
            "preprocessing": {
                "crop": "square", "margin": _MARGIN, "size": SIZE, "resize": "stretched, bilinear", "colours": "BGR",
                "range": 255, "means": list(_MEANS),
            },
            "output": "max over pool5",
        }  # fmt: skip

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
        return encode_pictures(clips, self.cut, self._forward, self._runtime.pictures)

    def _forward(self, crops: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """Turn B pictures (224, 224, 3) RGB into (B, 512)."""
        with self._runtime.exact():
            bgr = self._runtime.send(torch.from_numpy(np.stack(crops))).flip(-1).float() - self._means
        with self._runtime.model():
            pool5: Tensor = self._model(bgr.permute(0, 3, 1, 2))
            most = pool5.amax(dim=(2, 3))
        return self._runtime.fetch({0: most})[0]


def _kernels() -> dict[str, tuple[int, ...]]:
    """List {layer: (height, width, in, out)} of the thirteen convolutions, with rcmalli's names."""
    kernels: dict[str, tuple[int, ...]] = {}
    before = 3
    for b, block in enumerate(_BLOCKS, 1):
        for c, out in enumerate(block, 1):
            kernels[f"conv{b}_{c}"] = (3, 3, before, out)
            before = out
    return kernels


def _network(weights: Sequence[Weights]) -> nn.Module:
    """Build the network that turns (B, 3, 224, 224) into pool5, (B, 512, 7, 7)."""
    steps: list[nn.Module] = []
    remaining = iter(weights)
    for block in _BLOCKS:
        for kernel, bias in islice(remaining, len(block)):
            # Keras keeps (height, width, in, out), torch (out, in, height, width).
            weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
            with torch.device("meta"):
                convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            convolution.load_state_dict({"weight": weight, "bias": torch.from_numpy(bias)}, assign=True)
            steps += [convolution, nn.ReLU(inplace=True)]
        steps.append(nn.MaxPool2d(2))
    return nn.Sequential(*steps).eval().requires_grad_(False)
