"""Faces cut out in the one pass that finds them: equal to those of a second pass, within the room there is."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import Cache, InputFailure, Utterance
from emocache.cache.utterance import Media
from emocache.extract.clip_streams import How, WantedStream, _goal
from emocache.extract.encoders.encoder import face_cuts
from emocache.extract.media import crops, tracks
from emocache.extract.media.crops import Room, Square, crop_face
from emocache.extract.media.faces import FaceVideo, track_faces
from emocache.extract.media.video import Frame, decode_video
from emocache.extract.pipeline import clips, machine, stage
from emocache.extract.pipeline.clips import Decoder
from emocache.extract.pipeline.engines import readying

Picture = npt.NDArray[np.uint8]
CUTS = (Square(0.25, 24), Square(0.0, 24), Square(0.25))


class Scene:
    """A film of noise, a detector that finds some of `found` in it, and the passes over it."""

    def __init__(self, found: Sequence[Any], seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.images = [random.integers(0, 255, (40, 60, 3), np.uint8) for _ in found]
        self.faces = {
            image.tobytes(): random.uniform(0, 30, (int(many), 5)).astype(np.float32)
            for image, many in zip(self.images, found, strict=True)
        }
        for boxes in self.faces.values():
            boxes[:, 2:4] = boxes[:, :2] + boxes[:, 2:4]
        self.passes = 0

    def recipe(self) -> dict[str, Any]:
        return {"name": "scene"}

    def detect(self, image: Picture) -> npt.NDArray[np.float32]:
        return self.faces[image.tobytes()]

    def frames(self) -> Iterator[Frame]:
        self.passes += 1
        for k, image in enumerate(self.images):
            yield Frame(image, k / 25, (k + 1) / 25)

    def track(self, *cuts: Any, room: Room | None = None) -> FaceVideo:
        return track_faces(self.frames, self, cuts, room)


def patterns() -> list[list[int]]:
    """Numbers of faces, picture by picture."""
    random = np.random.default_rng(1)
    drawn = [random.integers(0, 3, length).tolist() for length in (6, 7, 20, 60)]
    return [[1], [1, 0], [0, 1], [1, 1], [1] * 9, [0, 0, 2, 1, 0], [1, *[0] * 50, 1, 1], *drawn]


@pytest.mark.parametrize("found", patterns(), ids=str)
def test_crops_are_those_of_a_second_pass(found: list[int]) -> None:
    scene = Scene(found)
    video = scene.track(*CUTS)
    for cut in CUTS:
        crops = list(video.cut(cut))
        assert scene.passes == 1
        assert len(crops) == len(found)
        for crop, image, box in zip(crops, scene.images, video.boxes, strict=True):
            np.testing.assert_array_equal(crop, cut(image, box))
    again = list(scene.track().cut(CUTS[0]))
    assert scene.passes == 3
    np.testing.assert_array_equal(again, list(video.cut(CUTS[0])))
    some = list(video.cut(CUTS[0], {0, len(found) - 1}))
    np.testing.assert_array_equal(some, [again[i] for i in sorted({0, len(found) - 1})])


def test_a_square_is_a_crop() -> None:
    image, box = Scene([1]).images[0], np.array([3, 4, 20, 30], np.float32)
    np.testing.assert_array_equal(Square(0.25, 24)(image, box), crop_face(image, box, 24, 0.25))
    np.testing.assert_array_equal(Square(0.25)(image, box), crop_face(image, box, 39, 0.25))
    assert Square(0.25, 24) == Square(0.25, 24)


def test_room_is_given_back_with_the_video() -> None:
    room = Room(1e6)
    video = Scene([1] * 9).track(CUTS[0], room=room)
    assert 1e6 - room.left == 9 * 24 * 24 * 3
    del video
    gc.collect()
    assert room.left == 1e6


@pytest.mark.parametrize("size", [0, 40 * 60 * 3 - 1, 40 * 60 * 3 * 2, 40 * 60 * 3 * 3 + 5 * 24 * 24 * 3])
def test_without_room_the_second_pass_cuts(size: int) -> None:
    room, scene = Room(size), Scene([1] * 30)
    video = scene.track(CUTS[0], room=room)
    assert room.left == size
    assert not video.crops
    np.testing.assert_array_equal(list(video.cut(CUTS[0])), list(Scene([1] * 30).track(CUTS[0]).cut(CUTS[0])))
    assert scene.passes == 2


def test_a_face_that_stays_away_takes_no_more_than_some_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "_WAITING", 8)
    most: list[float] = []
    room, scene = Room(1e7), Scene([1, 1, *[0] * 40, 1])
    frames = scene.frames

    def watched() -> Iterator[Frame]:
        for frame in frames():
            most.append(1e7 - room.left)
            yield frame

    video = track_faces(watched, scene, CUTS[:1], room)
    assert not video.crops and room.left == 1e7
    assert max(most) <= 8 * 40 * 60 * 3 + 2 * 24 * 24 * 3


def test_what_fails_keeps_no_room() -> None:
    room = Room(1e6)
    with pytest.raises(InputFailure, match="no_face"):
        Scene([0] * 9).track(CUTS[0], room=room)
    assert room.left == 1e6


def test_decoding_cuts_what_encoders_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene([1] * 5)
    monkeypatch.setattr(clips, "decode_video", lambda *_, **__: scene.frames())
    utterance = Utterance("a", media=(Media("video", "a.mp4", "0" * 64),))
    decoder = Decoder(Path(), frozenset(["video"]), scene, cuts=CUTS[:1], room=Room(1e6))
    clip = decoder(utterance)
    assert clip.video is not None
    assert len(list(clip.video.cut(CUTS[0]))) == 5
    assert scene.passes == 1


def test_a_cut_is_asked_for_once() -> None:
    class Encoder:
        def __init__(self, cut: Any, *inputs: str) -> None:
            self.cut, self.inputs = cut, inputs

    encoders: Any = [
        Encoder(Square(0.25, 24), "video"),
        Encoder(Square(0.25, 24), "video"),
        Encoder(CUTS[1], "pictures"),
    ]
    assert face_cuts(encoders) == [Square(0.25, 24)]


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("count", [1, 4, 5, 23])
def test_batches_give_what_single_pictures_give(every: int, count: int) -> None:
    scene = Scene(np.random.default_rng(3).integers(1, 3, count).tolist())
    sizes: list[int] = []

    class Batches:
        batch = 5

        def recipe(self) -> dict[str, Any]:
            return {}

        def detect(self, image: Picture) -> npt.NDArray[np.float32]:
            raise AssertionError("one by one")

        def detect_many(self, images: Sequence[Picture]) -> list[npt.NDArray[np.float32]]:
            sizes.append(len(images))
            return [scene.detect(image) for image in images]

    one = track_faces(scene.frames, scene, every=every)
    other = track_faces(scene.frames, Batches(), CUTS, every=every)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.found, other.found)
    assert sum(sizes) == len(range(0, count, every)) and (every > 1 or max(sizes) == min(count, 5))
    np.testing.assert_array_equal(list(one.cut(CUTS[0])), list(other.cut(CUTS[0])))


def write_video(path: Path, count: int, seed: int) -> None:
    """A film of noise in blocks, each picture another."""
    av = pytest.importorskip("av")
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for _ in range(count):
            blocks = random.integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            for packet in track.encode(av.VideoFrame.from_ndarray(blocks, format="rgb24")):
                container.mux(packet)
        container.mux(track.encode())


class Corner:
    """A detector that finds a face whose place depends on the colour of a corner, and none in dark pictures."""

    looked = 0

    def recipe(self) -> dict[str, Any]:
        return {"name": "corner"}

    def detect(self, image: Picture) -> npt.NDArray[np.float32]:
        Corner.looked += 1
        x, y = image[:2, :2].mean(axis=(0, 1))[:2] / 10
        return np.array([[x, y, x + 20, y + 20, 1]] if x > 5 else np.zeros((0, 5)), np.float32)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run extraction of three films with encoders, into a store; every decoding and search is counted."""
    pytest.importorskip("dlib")
    (tmp_path / "data").mkdir()
    for seed, (name, count) in enumerate({"a.mp4": 4, "b.mp4": 7, "c.mp4": 2}.items()):
        write_video(tmp_path / "data" / name, count, seed)
    (tmp_path / "data" / "table.csv").write_text("file,emotion\na.mp4,sad\nb.mp4,sad\nc.mp4,sad\n")
    decoded: list[str] = []
    monkeypatch.setattr(readying, "load_detector", lambda *_: Corner())

    def counted(path: Path, *rest: Any, **more: Any) -> Any:
        decoded.append(path.name)
        return decode_video(path, *rest, **more)

    monkeypatch.setattr(clips, "decode_video", counted)

    def run(store: str, *names: str, **more: Any) -> tuple[int, int]:
        decoded.clear()
        Corner.looked = 0
        stage.extract(
            stage.Options(
                "table",
                tmp_path / "data",
                str(tmp_path / store),
                names,
                mapping={"id": "file", "corpus": "shades"},
                device="cpu",
                offline=True,
                **more,
            )
        )
        return len(decoded), Corner.looked

    return run


def test_boxes_that_are_known_are_not_looked_for_again(corpus: Any, tmp_path: Path) -> None:
    assert corpus("alone", "face-dlib") == (3, 13)
    assert corpus("store", "face-boxes") == (3, 13)
    assert corpus("store", "face-dlib") == (3, 0)
    assert corpus("store", "face-boxes", "face-dlib") == (0, 0)
    one, other = (Cache(str(tmp_path / name)).stream("shades", "face-dlib") for name in ("alone", "store"))
    assert one.fingerprint == other.fingerprint and one.ids == other.ids
    for utterance in one.ids:
        np.testing.assert_array_equal(one.read(utterance), other.read(utterance))
        np.testing.assert_array_equal(one.times(utterance), other.times(utterance))
        np.testing.assert_array_equal(one.aux(utterance)["face_found"], other.aux(utterance)["face_found"])


def test_boxes_of_another_recipe_are_not_taken(corpus: Any) -> None:
    corpus("store", "face-boxes", detect_every=2)
    assert corpus("store", "face-dlib", detect_every=2) == (3, 0)
    assert corpus("store", "face-dlib") == (3, 13)
    corpus("half", "face-boxes", dtype="float16")
    assert corpus("half", "face-dlib")[1] == 13


def test_a_run_without_room_decodes_twice_and_writes_the_same(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert corpus("roomy", "face-dlib")[0] == 3
    monkeypatch.setattr(machine, "room_for_crops", lambda: Room(0))
    assert corpus("narrow", "face-dlib")[0] == 6
    one, other = (Cache(str(tmp_path / name)).stream("shades", "face-dlib") for name in ("roomy", "narrow"))
    for utterance in one.ids:
        np.testing.assert_array_equal(one.read(utterance), other.read(utterance))


@pytest.mark.parametrize(("detector", "given"), [("dlib", None), ("centerface", None), ("yunet", Path("a.onnx"))])
def test_clips_for_prediction_are_searched_as_the_stream_was(detector: str, given: Path | None) -> None:
    decoding = {"fps": None, "detector": {"name": detector}, "faces": tracks.policy(5)}
    wanted = WantedStream({"encoder": "vgg-face", "decoding": decoding}, "0" * 64)
    goal = _goal("vgg-face", wanted, How(detector=None if given is None else str(given)))
    assert (goal.how.detector, goal.how.detect_every) == (str(given or detector), 5)
    plain = {"encoder": "vgg-face", "decoding": {**decoding, "faces": tracks.policy()}}
    how = How(detector=None if given is None else str(given))
    assert _goal("vgg-face", WantedStream(plain, "0" * 64), how).how.detect_every == 1
