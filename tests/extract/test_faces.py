"""One face a frame: choice, smoothing and fall-back against their definitions, crops against a slow reference."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError, InputFailure
from emocache.extract.media import detectors, tracks
from emocache.extract.media.crops import crop_face
from emocache.extract.media.detectors import WORKING_PIXELS, FaceDetector, load_detector
from emocache.extract.media.faces import track_faces
from emocache.extract.media.video import Frame, decode_video

Picture = npt.NDArray[np.uint8]
Found = Sequence[tuple[float, ...]]

FLVS = [f"data/cremad/VideoFlash/1001_DFA_{emotion}_XX.flv" for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]
RAVDESS = "data/video/ravdess_Actor_01/01-01-01-01-01-01-01.mp4"


class Script:
    """A detector that finds what it was told to, picture after picture."""

    def __init__(self, *found: Found) -> None:
        self.found = found

    def recipe(self) -> dict[str, Any]:
        return {"name": "script"}

    def detect(self, image: Picture) -> npt.NDArray[np.float32]:
        return np.array(self.found[int(image[0, 0, 0])], np.float32).reshape(-1, 5)

    def frames(self, height: int = 40, width: int = 60) -> Iterator[Frame]:
        for index in range(len(self.found)):
            yield Frame(np.full((height, width, 3), index, np.uint8), index / 10, (index + 1) / 10)

    def track(self) -> Any:
        return track_faces(self.frames, self)


def face(left: float, top: float = 0.0, side: float = 10.0, score: float = 1.0) -> tuple[float, ...]:
    return left, top, left + side, top + side, score


def test_boxes_are_medians_of_five_detections() -> None:
    lefts = [0.0, 1.0, 30.0, 2.0, 3.0, 2.0, 1.0, 20.0]
    video = Script(*([face(left)] for left in lefts)).track()
    expected = []
    for i in range(8):
        near = [j for j in range(8) if abs(i - j) <= min(2, i, 7 - i)]
        expected.append(float(np.median([lefts[j] for j in near])))
    assert video.boxes[:, 0].tolist() == expected == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 20.0]
    assert video.boxes.dtype == np.float32
    assert video.times.dtype == np.float64
    assert video.times.tolist() == [[i / 10, (i + 1) / 10] for i in range(8)]
    assert video.found.tolist() == [True] * 8
    assert [int(image[0, 0, 0]) for image in video.frames()] == list(range(8))
    assert [int(image[0, 0, 0]) for image in video.frames()] == list(range(8))


def test_frames_without_a_face_keep_the_last_box() -> None:
    video = Script([], [], [face(5)], [], [face(7)], [face(7)], []).track()
    assert video.found.tolist() == [False, False, True, False, True, True, False]
    assert video.boxes[:2].tolist() == [[10.0, 0.0, 50.0, 40.0]] * 2  # the central square of 60 x 40 pixels
    assert video.boxes[2:, 0].tolist() == [5.0, 5.0, 7.0, 7.0, 7.0]


def test_one_face_is_chosen_and_followed() -> None:
    big, small = face(20, side=12), face(2, side=9)
    assert Script([small, big]).track().boxes[0, 0] == 20  # the largest
    assert Script([small], [small, big], [big, small]).track().boxes[:, 0].tolist() == [2, 2, 2]  # the same one
    assert Script([small], [face(40), big]).track().boxes[:, 0].tolist() == [2, 20]  # gone: the largest again
    wide, near = face(0, side=20), face(3, side=9)
    assert Script([small], [wide, near]).track().boxes[1, 0] == 3  # most overlap, not most area


def test_ties_do_not_depend_on_the_order_of_detection() -> None:
    faces = [face(30, score=1), face(20, score=2), face(10, 5, score=2), face(10, 3, score=2)]
    for order in (faces, faces[::-1], faces[2:] + faces[:2]):
        assert Script(order).track().boxes[0].tolist() == [10, 3, 20, 13]


def test_no_face_and_no_frames_are_failures() -> None:
    with pytest.raises(InputFailure, match=r"no_face: no face was found in any of 3 frames"):
        Script([], [], []).track()
    with pytest.raises(InputFailure, match=r"no_frames: the video has 0 frames"):
        Script().track()


def naive_crop(image: Picture, box: Sequence[float], margin: float) -> Picture:
    """A square with whole-numbered corners, at its own size, pixel by pixel."""
    side = round(max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * margin))
    left, top = round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2)
    out = np.zeros((side, side, 3), np.uint8)
    for y in range(side):
        for x in range(side):
            at = min(max(top + y, 0), image.shape[0] - 1), min(max(left + x, 0), image.shape[1] - 1)
            out[y, x] = image[at]
    return out


@pytest.mark.parametrize(
    ("box", "margin"),
    [
        ((10, 5, 30, 25), 0.0),
        ((10, 5, 30, 25), 0.25),
        ((10, 5, 30, 15), 0.25),  # not square
        ((-6, -4, 14, 16), 0.5),  # over the left and upper border
        ((50, 30, 70, 50), 0.0),  # over the right and lower border
        ((100, 100, 120, 120), 0.0),  # outside
    ],
)
def test_a_crop_at_its_own_size_is_its_pixels(box: tuple[float, ...], margin: float) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    expected = naive_crop(image, box, margin)
    got = crop_face(image, np.array(box, np.float32), len(expected), margin)
    np.testing.assert_array_equal(got, expected)


def test_crops_are_stretched_bilinearly() -> None:
    ramp = np.tile(np.arange(60, dtype=np.uint8)[None, :, None] * 4, (40, 1, 3))
    for size in (7, 20, 33, 224):
        crop = crop_face(ramp, np.array([10.5, 5, 30.5, 25], np.float32), size, 0.1)
        assert crop.shape == (size, size, 3)
        left, side = 20.5 - 12, 24
        centres = left + (np.arange(size) + 0.5) * side / size  # in pixels from the picture's border
        inner = slice(size // 8 + 1, -size // 8 - 1)
        np.testing.assert_allclose(crop[size // 2, inner, 0], (centres[inner] - 0.5) * 4, atol=1.1)


@pytest.mark.parametrize("box", [(5.3, 5.3, 5.3, 5.3), (0, 0, 1e9, 1), (-1e9, 0, -1e8, 5), (0.1, 0.2, 59.9, 39.8)])
def test_strange_boxes_give_bounded_crops(box: tuple[float, ...]) -> None:
    image = np.full((40, 60, 3), 77, np.uint8)
    crop = crop_face(image, np.array(box, np.float32), 32, 0.25)
    assert crop.shape == (32, 32, 3)
    assert (crop == 77).all()


def test_unknown_detectors_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        EmocacheError, match=r"face detector 'haar' is neither 'dlib' nor 'centerface' nor an \.onnx file"
    ):
        load_detector("haar")
    with pytest.raises(EmocacheError, match=r"missing\.onnx: there is no such file"):
        load_detector(str(tmp_path / "missing.onnx"))


@pytest.mark.parametrize(("module", "extra"), [("dlib", "faces"), ("cv2", "yunet")])
def test_a_missing_library_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EmocacheError, match=rf"needs {module}.*pip install 'emocache\[{extra}\]'"):
        load_detector("dlib" if module == "dlib" else str(tmp_path / "a.onnx"))


@pytest.mark.parametrize("data", [b"", b"this is no network" * 50])
def test_a_wrong_model_file_is_named(tmp_path: Path, data: bytes) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(EmocacheError, match=r"a\.onnx is no YuNet model that OpenCV .* can run") as caught:
        load_detector(str(tmp_path / "a.onnx"))
    assert "\n" not in str(caught.value)


class FakeYuNet:
    """Finds one face of a quarter of the picture's width and height in its middle; OpenCV's interface, no network."""

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.size = size

    def detect(self, image: Picture) -> tuple[int, npt.NDArray[np.float32] | None]:
        height, width = image.shape[:2]
        assert (width, height) == self.size
        assert image.flags.c_contiguous
        if image[0, 0, 0] < image[0, 0, 2]:  # more red than blue, which comes first here
            return 1, None
        row = np.zeros((1, 15), np.float32)
        row[0, :4] = width * 3 / 8, height * 3 / 8, width / 4, height / 4
        row[0, 14] = 0.95
        return 1, row


def test_yunet_rows_become_boxes_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    assert callable(cv2.FaceDetectorYN.create)
    made: list[tuple[Any, ...]] = []

    def create(*arguments: Any) -> FakeYuNet:
        made.append(arguments)
        return FakeYuNet()

    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=create))
    (tmp_path / "a.onnx").write_bytes(b"weights")
    detector = load_detector(str(tmp_path / "a.onnx"))
    assert made[0][0] == "onnx"
    assert bytes(made[0][1]) == b"weights"
    assert detector.recipe()["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    image = np.zeros((72, 128, 3), np.uint8)
    np.testing.assert_allclose(detector.detect(image), [[48, 27, 80, 45, 0.95]], rtol=1e-3)
    image[..., 0] = 200
    assert detector.detect(image).shape == (0, 5)


@pytest.fixture(scope="module")
def dlib_detector() -> FaceDetector:
    pytest.importorskip("dlib")
    return load_detector("dlib")


def test_pictures_of_any_size_are_searched_at_one_size(
    dlib_detector: FaceDetector, shared: Callable[[str], Path]
) -> None:
    image = next(decode_video(shared(FLVS[0]))).image
    (box,) = dlib_detector.detect(image)
    assert box[2] - box[0] == pytest.approx(100, abs=20)
    for factor in (2, 3):
        larger = np.repeat(np.repeat(image, factor, 0), factor, 1)
        (other,) = dlib_detector.detect(larger)
        np.testing.assert_allclose(other[:4] / factor, box[:4], atol=8)
    for shape in [(1, 4000), (4000, 1), (1, 1)]:
        assert dlib_detector.detect(np.zeros((*shape, 3), np.uint8)).shape == (0, 5)
    assert dlib_detector.recipe()["working_pixels"] == WORKING_PIXELS


def test_detection_in_threads_is_the_same(dlib_detector: FaceDetector, shared: Callable[[str], Path]) -> None:
    images = [frame.image for frame in decode_video(shared(FLVS[0]), fps=2)]
    alone = [dlib_detector.detect(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(alone, pool.map(dlib_detector.detect, images), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_detector_is_used_by_one_thread_at_a_time() -> None:
    pool = detectors._Pool(object)
    with pool.one() as first:
        with pool.one() as second:
            assert first is not second
        with pool.one() as third:
            assert third is second


@pytest.mark.parametrize("name", [*FLVS, RAVDESS, "data/video/pyfeat_MIT/single_face.mp4"])
def test_acted_corpora_show_a_face_all_the_time(
    dlib_detector: FaceDetector, shared: Callable[[str], Path], name: str
) -> None:
    video = track_faces(partial(decode_video, shared(name), fps=3), dlib_detector)
    assert video.found.all()
    assert len(list(video.frames())) == len(video.times) == len(video.boxes)
    sides = video.boxes[:, 2:] - video.boxes[:, :2]
    height = next(video.frames()).shape[0]
    assert (sides.min() > height / 6) and (sides.max() < height * 0.75)
    assert np.abs(np.diff(video.boxes, axis=0)).max() < height / 5


def test_faces_that_come_and_go(dlib_detector: FaceDetector, shared: Callable[[str], Path]) -> None:
    folder = "data/video/pyfeat_MIT/"
    gone = track_faces(partial(decode_video, shared(folder + "face_noface.mov"), fps=2), dlib_detector).found
    come = track_faces(partial(decode_video, shared(folder + "noface_face.mov"), fps=2), dlib_detector).found
    for found in (gone, come[::-1]):
        assert 0.3 < found.mean() < 0.6
        assert found[: len(found) // 3].all()
        assert not found[len(found) // 2 :].all()
    with pytest.raises(InputFailure, match=r"no_face: no face was found in any of 9 frames"):
        track_faces(partial(decode_video, shared(folder + "no_face.mp4"), fps=2), dlib_detector)


def naive_boxes(video: Any, found: Sequence[bool], every: int) -> tuple[list[npt.NDArray[Any]], list[bool]]:
    """Boxes between the smoothed ones of every N-th picture, which `video` holds alone, by NumPy's interpolation."""
    boxes, marks = [], []
    for i in range(len(found)):
        look, after = divmod(i, every)
        looked = found[::every]
        last = look + 1 == len(looked)
        if after and looked[look] and not last and looked[look + 1]:
            pair = video.boxes[look : look + 2].T
            boxes.append(np.array([np.interp(after / every, [0, 1], edge) for edge in pair]))
        else:
            boxes.append(video.boxes[look])
        marks.append(bool(looked[look] and (not after or last or looked[look + 1])))
    return boxes, marks


@pytest.mark.parametrize("every", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_between_detections_move_evenly(every: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    pictures = [[face(*random.uniform(0, 30, 2))] if random.uniform() < 0.7 else [] for _ in range(23)]
    pictures[0] = [face(3)]
    script = Script(*pictures)
    looked: list[int] = []

    class Watched(Script):
        def detect(self, image: Picture) -> npt.NDArray[np.float32]:
            looked.append(int(image[0, 0, 0]))
            return script.detect(image)

    video = track_faces(script.frames, Watched(), every=every)
    assert looked == list(range(0, 23, every))
    boxes, found = naive_boxes(Script(*pictures[::every]).track(), [bool(p) for p in pictures], every)
    np.testing.assert_allclose(video.boxes, boxes, atol=1e-5)
    assert video.found.tolist() == found and len(video.times) == 23


def test_a_smooth_motion_is_followed_between_detections() -> None:
    lefts = [20 + 15 * float(np.sin(i / 20)) for i in range(80)]
    script = Script(*([face(left)] for left in lefts))
    every, fifth = script.track(), track_faces(script.frames, script, every=5)
    assert tracks.overlap(every.boxes, fifth.boxes)[:76].min() > 0.85  # the last detection's box stays


def test_detecting_every_picture_is_the_recipe_of_before() -> None:
    assert tracks.policy() == tracks.policy(1) == tracks.POLICY and "detect_every" not in tracks.POLICY
    assert tracks.policy(5)["detect_every"] == 5
