"""dlib's face descriptor (King 2017, "High Quality Face Recognition with Deep Metric Learning", blog.dlib.net)."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, InputFailure, Utterance
from ...cache.hashing import file_sha256
from ...cache.recipe import Recipe
from ..media.detectors import Picture, require_dlib
from ..media.tracks import Boxes
from .encoder import Clip, LayerItems, Layers, check_layer
from .face_clips import encode_pictures, pictures

_PACKAGE = "face_recognition_models"
_LANDMARKS = "shape_predictor_5_face_landmarks.dat"
_NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
_SIZE, _PADDING = 150, 0.25  # what the network was trained on
_CHUNK = 8  # chips; dlib lets no other thread run while it computes
_COST = 5.0  # of a picture, in seconds of audio


class DlibFace:
    """The face descriptor of dlib: 128 values a video frame.

    Five landmarks within the face tracker's box, the face turned upright and scaled to 150 x 150 by them, then the
    network, without jitter. Frames without a detected face go by the box that the tracker fell back to; `face_found`
    marks the others. The weights come with the package face-recognition-models.

    Raises:
        EmocacheError: dlib or the weights are not installed, or the weights cannot be read.
    """

    name = "face-dlib"
    inputs: tuple[str, ...] = ("video",)
    layers = 0
    dim = 128
    rate: float | None = None

    def __init__(self) -> None:
        self._dlib = require_dlib()
        folder = _weights()
        self._sha256 = {name: file_sha256(folder / name) for name in (_LANDMARKS, _NETWORK)}
        try:
            self._landmarks = self._dlib.shape_predictor(str(folder / _LANDMARKS))
            self._network = self._dlib.face_recognition_model_v1(str(folder / _NETWORK))
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise EmocacheError(
                f"{folder}: dlib cannot read the weights ({text}); install face-recognition-models again"
            ) from error

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
            "weights_sha256": self._sha256,
            "preprocessing": {"landmarks": 5, "size": _SIZE, "padding": _PADDING, "jitters": 0, "colours": "RGB"},
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
        return encode_pictures(clips, self.cut, self._describe, _CHUNK)

    def _describe(self, chips: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """Turn B chips into (B, 128)."""
        return np.array(self._network.compute_face_descriptor(list(chips), 0), np.float32)

    def cut(self, image: Picture, box: Boxes) -> Picture:
        """Cut out the face, upright, (150, 150, 3) RGB."""
        left, top, right, bottom = (round(float(edge)) for edge in box)
        # dlib's right and bottom are the last pixels inside.
        landmarks = self._landmarks(image, self._dlib.rectangle(left, top, right - 1, bottom - 1))
        return np.asarray(self._dlib.get_face_chip(image, landmarks, _SIZE, _PADDING))


def _weights() -> Path:
    """Find the folder with dlib's models; their package needs setuptools' long gone pkg_resources to be imported."""
    spec: Any = find_spec(_PACKAGE)
    folder = Path(spec.submodule_search_locations[0], "models") if spec and spec.submodule_search_locations else None
    if folder is None or not all((folder / name).is_file() for name in (_LANDMARKS, _NETWORK)):
        raise EmocacheError("face-dlib needs the weights of face-recognition-models: pip install 'emocache[faces]'")
    return folder
