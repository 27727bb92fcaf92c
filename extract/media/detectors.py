"""Finding faces in one picture: what a detector is, and the two there are."""

import hashlib
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...cache import EmocacheError

Picture = npt.NDArray[np.uint8]
Faces = npt.NDArray[np.float32]

WORKING_PIXELS = 640 * 480
"""Every picture is brought to this area before faces are looked for: bounded cost, and the same smallest face, as a
share of the picture, whatever the corpus was recorded with."""

_SCORE, _NMS, _TOP = 0.9, 0.3, 5000  # OpenCV's own defaults for YuNet


class FaceDetector(Protocol):
    """Finds the faces in a picture; safe to call from several threads."""

    def recipe(self) -> dict[str, Any]:
        """All that the boxes depend on, JSON-able; part of the recipe of every encoder of faces."""

    def detect(self, image: Picture) -> Faces:
        """The faces of one picture.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            (N, 5) float32: left, top, right, bottom in pixels of the picture, and score, in no particular order.
        """


class BatchDetector(FaceDetector, Protocol):
    """Finds the faces in many pictures at once.

    Attributes:
        batch: the pictures it is best given together.
    """

    @property
    def batch(self) -> int: ...

    def detect_many(self, images: Sequence[Picture]) -> list[Faces]:
        """The faces of each picture, as `detect` would find them."""


def load_detector(name: str) -> FaceDetector:
    """The detector of that name.

    Args:
        name: "dlib", or the path of a YuNet model, a file ending in .onnx.

    Returns:
        It loads its model when it is first asked for faces.

    Raises:
        EmocacheError: the library is not installed, or there is no such detector.
    """
    if name == "dlib":
        return DlibDetector()
    path = Path(name)
    if path.suffix.lower() != ".onnx":
        raise EmocacheError(
            f"face detector {name!r} is neither 'dlib' nor 'centerface' nor an .onnx file with a YuNet model"
        )
    if not path.is_file():
        raise EmocacheError(f"face detector {name}: there is no such file; give the path of a YuNet model, or 'dlib'")
    return YuNetDetector(path)


def require_dlib() -> Any:
    """The dlib module; an EmocacheError that says how to get it."""
    return _require("dlib", "faces")


class DlibDetector:
    """dlib's frontal face detector: histograms of oriented gradients and a linear classifier at every scale.

    At the working size it finds faces from 80 x 80 pixels on, a sixth of the height of a 4:3 picture.

    Raises:
        EmocacheError: dlib is not installed.
    """

    def __init__(self) -> None:
        self._detectors = _Pool(require_dlib().get_frontal_face_detector)

    def recipe(self) -> dict[str, Any]:
        """See `FaceDetector.recipe`."""
        return {"name": "dlib", "model": "frontal HOG", "working_pixels": WORKING_PIXELS, "threshold": 0.0}

    def detect(self, image: Picture) -> Faces:
        """See `FaceDetector.detect`."""
        working, scale = to_working_size(image)
        with self._detectors.one() as detector:
            rectangles, scores, _ = detector.run(working, 0, 0.0)
        # dlib's right and bottom are the last pixels inside.
        boxes = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in rectangles]
        return _faces(boxes, list(scores), scale)


class YuNetDetector:
    """YuNet (Wu, Peng and Yu 2023, YuNet: A Tiny Millisecond-level Face Detector), run by OpenCV on the CPU.

    Args:
        path: its .onnx file.

    Raises:
        EmocacheError: OpenCV is not installed, or the file is no YuNet model.
    """

    def __init__(self, path: Path) -> None:
        self._cv2 = _require("cv2", "yunet")
        model = path.read_bytes()
        self._sha256 = hashlib.sha256(model).hexdigest()
        buffer, nothing = np.frombuffer(model, np.uint8), np.zeros(0, np.uint8)
        create = self._cv2.FaceDetectorYN.create
        try:
            self._detectors = _Pool(lambda: create("onnx", buffer, nothing, (32, 32), _SCORE, _NMS, _TOP))
            self.detect(np.zeros((32, 32, 3), np.uint8))
        except self._cv2.error as error:
            text = " ".join(str(getattr(error, "err", error)).split())
            raise EmocacheError(
                f"{path} is no YuNet model that OpenCV {self._cv2.__version__} can run ({text}); give one, or 'dlib'"
            ) from error

    def recipe(self) -> dict[str, Any]:
        """See `FaceDetector.recipe`."""
        return {
            "name": "yunet", "weights_sha256": self._sha256, "working_pixels": WORKING_PIXELS, "threshold": _SCORE,
            "nms_threshold": _NMS, "top_k": _TOP,
        }  # fmt: skip

    def detect(self, image: Picture) -> Faces:
        """See `FaceDetector.detect`."""
        working, scale = to_working_size(image)
        with self._detectors.one() as detector:
            detector.setInputSize((working.shape[1], working.shape[0]))
            _, rows = detector.detect(np.ascontiguousarray(working[..., ::-1]))
        # left, top, width, height, five landmarks, score; None where there is no face
        found = [] if rows is None else [[float(value) for value in row] for row in rows]
        return _faces([(x, y, x + w, y + h) for x, y, w, h, *_ in found], [row[14] for row in found], scale)


class _Pool:
    """Things that only one thread at a time may use, made as they are needed."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._idle = [make()]

    @contextmanager
    def one(self) -> Iterator[Any]:
        try:
            thing = self._idle.pop()
        except IndexError:
            thing = self._make()
        try:
            yield thing
        finally:
            self._idle.append(thing)


def to_working_size(image: Picture, pixels: int = WORKING_PIXELS) -> tuple[Picture, tuple[float, float]]:
    """Return the picture at the working size, and how many pixels wide and high a pixel of that is."""
    height, width = image.shape[:2]
    factor = math.sqrt(pixels / (width * height))
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    resized = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return resized, (width / size[0], height / size[1])


def _faces(boxes: Sequence[Sequence[float]], scores: Sequence[float], scale: tuple[float, float]) -> Faces:
    faces = np.zeros((len(boxes), 5), np.float32)
    faces[:, 4] = scores
    faces[:, :4] = np.reshape(boxes, (-1, 4)) * (*scale, *scale)
    return faces


def _require(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise EmocacheError(f"finding faces needs {module} ({error}): pip install 'emocache[{extra}]'") from error
