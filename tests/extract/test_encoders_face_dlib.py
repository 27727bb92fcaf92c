"""dlib's descriptor: what dlib itself gives for the same box, alone or in a batch, and told apart by person."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError, InputFailure, Utterance
from emocache.extract.encoders import Clip, dlib_face
from emocache.extract.encoders.dlib_face import DlibFace
from emocache.extract.media.detectors import FaceDetector, load_detector
from emocache.extract.media.faces import FaceVideo, track_faces
from emocache.extract.media.video import decode_video

dlib = pytest.importorskip("dlib")

CREMAD = "data/cremad/VideoFlash/1001_DFA_{}_XX.flv"
RAVDESS = "data/video/ravdess_Actor_01/01-01-01-01-01-01-01.mp4"
Frames = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def encoder() -> DlibFace:
    return DlibFace()


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return load_detector("dlib")


@pytest.fixture(scope="module")
def videos(shared: Callable[[str], Path], detector: FaceDetector) -> list[FaceVideo]:
    """Two clips of one person and one of another, four pictures each."""
    paths = [CREMAD.format("HAP"), CREMAD.format("SAD"), RAVDESS]
    return [track_faces(partial(decode_video, shared(path), 0.0, 1.3, fps=3), detector) for path in paths]


@pytest.fixture(scope="module")
def items(encoder: DlibFace, videos: list[FaceVideo]) -> list[Any]:
    return encode(encoder, *videos)


def encode(encoder: DlibFace, *videos: FaceVideo) -> list[Any]:
    clips = [Clip(str(index), video=video) for index, video in enumerate(videos)]
    items = []
    for result in encoder.encode(clips, [None]):
        assert isinstance(result, dict), result
        items.append(result[None])
    return items


def naive(encoder: DlibFace, video: FaceVideo) -> Frames:
    """dlib's own way from a picture and a face in it to the descriptor, picture by picture."""
    folder = dlib_face._weights()
    landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
    rows = []
    for image, (left, top, right, bottom) in zip(video.frames(), video.boxes.tolist(), strict=True):
        box = dlib.rectangle(round(left), round(top), round(right) - 1, round(bottom) - 1)
        rows.append(network.compute_face_descriptor(image, landmarks(image, box)))
    return np.array(rows, np.float32)


def test_frames_are_dlibs_descriptors(encoder: DlibFace, videos: list[FaceVideo], items: list[Any]) -> None:
    np.testing.assert_array_equal(items[0].frames, naive(encoder, videos[0]))
    for item, video in zip(items, videos, strict=True):
        assert item.frames.shape == (len(video.times), 128)
        assert item.frames.dtype == np.float32
        np.testing.assert_array_equal(item.times, video.times)
        np.testing.assert_array_equal(item.aux["face_found"], video.found)
        assert item.aux["face_found"].dtype == np.bool_
    (alone,) = encode(encoder, videos[1])
    np.testing.assert_array_equal(alone.frames, items[1].frames)


def test_chunks_change_nothing(
    encoder: DlibFace, videos: list[FaceVideo], items: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlib_face, "_CHUNK", 3)
    (got,) = encode(encoder, videos[0])
    np.testing.assert_array_equal(got.frames, items[0].frames)


def test_descriptors_tell_people_apart(items: list[Any]) -> None:
    """dlib's own threshold for one person is a distance of 0.6."""
    one, same, other = (item.frames.mean(axis=0) for item in items)
    assert np.linalg.norm(one - same) < 0.45
    assert np.linalg.norm(one - other) > 0.6


def test_every_sampled_frame_of_the_acted_corpora_has_a_face(
    encoder: DlibFace, detector: FaceDetector, shared: Callable[[str], Path]
) -> None:
    for emotion in ("ANG", "DIS", "FEA", "NEU"):
        path = shared(CREMAD.format(emotion))
        (item,) = encode(encoder, track_faces(partial(decode_video, path, 0.5, 1.5, fps=2), detector))
        assert item.aux["face_found"].tolist() == [True] * 2
        assert np.isfinite(item.frames).all()
        assert 1.2 < np.linalg.norm(item.frames, axis=1).min() < 1.6


def test_frames_without_a_face_go_by_the_fall_back(encoder: DlibFace) -> None:
    """Whatever the box, even beyond the picture: finite numbers, marked as not found."""
    images = np.random.default_rng(0).integers(0, 255, (4, 90, 120, 3), np.uint8)
    boxes = np.array([[15, 0, 105, 90], [-50, -50, 30, 30], [200, 200, 260, 260], [5, 5, 5, 5]], np.float32)
    times = np.array([[i, i + 1] for i in range(4)], np.float64)
    video = FaceVideo(times, boxes, np.zeros(4, np.bool_), lambda: iter(images))
    (item,) = encode(encoder, video)
    assert np.isfinite(item.frames).all()
    assert not item.aux["face_found"].any()


def test_a_bad_clip_does_not_disturb_its_neighbours(
    encoder: DlibFace, videos: list[FaceVideo], items: list[Any]
) -> None:
    def cut() -> Iterator[npt.NDArray[np.uint8]]:
        yield next(videos[0].frames())
        raise InputFailure("truncated", "the pictures end")

    broken = FaceVideo(videos[0].times, videos[0].boxes, videos[0].found, cut)
    clips = [Clip("none"), Clip("cut", video=broken), Clip("good", video=videos[0])]
    missing, truncated, good = encoder.encode(clips, [None])
    assert isinstance(missing, InputFailure)
    assert missing.reason == "no_video"
    assert isinstance(truncated, InputFailure)
    assert truncated.reason == "truncated"
    assert isinstance(good, dict)
    np.testing.assert_array_equal(good[None].frames, items[0].frames)
    assert encoder.encode([], [None]) == []


def test_the_recipe_names_the_weights(encoder: DlibFace) -> None:
    recipe = encoder.recipe(None)
    assert {name: len(digest) for name, digest in recipe["weights_sha256"].items()} == {
        "shape_predictor_5_face_landmarks.dat": 64,
        "dlib_face_recognition_resnet_model_v1.dat": 64,
    }
    assert (recipe["dim"], recipe["times"], recipe["inputs"]) == (128, None, ["video"])
    assert recipe["aux"] == {"face_found": {"dtype": "bool", "shape": []}}
    assert encoder.expected_frames(Utterance("a", duration=2.0)) == 60
    assert encoder.cost(Utterance("a", duration=4.0)) == 2 * encoder.cost(Utterance("a", duration=2.0))
    with pytest.raises(EmocacheError, match="'face-dlib' has no layers, but layer 3 was asked for"):
        encoder.encode([], [3])


def test_missing_packages_name_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "dlib", None)
        with pytest.raises(EmocacheError, match=r"needs dlib.*pip install 'emocache\[faces\]'"):
            DlibFace()
    monkeypatch.setattr(dlib_face, "_PACKAGE", "no_such_package_of_models")
    with pytest.raises(EmocacheError, match=r"weights of face-recognition-models: pip install 'emocache\[faces\]'"):
        DlibFace()
    (tmp_path / "broken_models" / "models").mkdir(parents=True)
    for name in ("shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"):
        (tmp_path / "broken_models" / "models" / name).write_bytes(b"nothing")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(dlib_face, "_PACKAGE", "broken_models")
    with pytest.raises(EmocacheError, match=r"models: dlib cannot read the weights .*install face-recognition-models"):
        DlibFace()
    assert "broken_models" not in sys.modules
