import json
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor

from emocache.cache import Cache, EmocacheError, InputFailure, Item
from emocache.extract import encoders
from emocache.extract.encoders.encoder import Clip
from emocache.extract.media.detectors import load_detector
from emocache.extract.media.faces import FaceVideo, track_faces
from emocache.extract.media.video import Frame, decode_video
from emocache.extract.pipeline import stage
from emocache.extract.pipeline.engines import readying

CHUNK = 32  # pictures at once on a CPU
LENGTHS = (1, 2, 3, 5, 8, 13, CHUNK - 1, CHUNK, CHUNK + 1, 45)  # frames
TOWER: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 30,
    "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
SIZE = {"height": 32, "width": 32}
# DINOv2 gets pictures of another size than it was trained with, as the published ones do.
PROCESSORS: dict[str, dict[str, Any]] = {
    "clip": {"size": {"shortest_edge": 32}, "crop_size": SIZE, "resample": 3},
    "siglip": {"size": SIZE, "resample": 3},
    "dinov2": {"size": {"shortest_edge": 52}, "crop_size": {"height": 48, "width": 48}, "resample": 3},
    "vit": {"size": SIZE, "resample": 2},
}
KINDS = ("clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2", "vit")
Picture = npt.NDArray[np.uint8]


def write(kind: str, folder: Path) -> Path:
    """A small random checkpoint of the real class, as save_pretrained writes it."""
    torch.manual_seed(5)
    wide = TOWER | {"intermediate_size": 64}
    model: Any
    match kind:
        case "clip" | "siglip":
            name = kind.capitalize() if kind == "siglip" else "CLIP"
            config = getattr(transformers, f"{name}Config")(text_config=TEXT, vision_config=wide)
            model = getattr(transformers, f"{name}Model")(config)
        case "clip_vision_model":
            model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**wide))
        case "siglip_vision_model":
            model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**wide))
        case "dinov2":
            model = transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**TOWER))
        case _:
            model = transformers.ViTForImageClassification(transformers.ViTConfig(**wide))
    for parameter in model.parameters():
        # Fresh norms are all ones and zeros and fresh weights so small that blocks do next to nothing.
        spread = 0.3 if parameter.dim() == 1 else 0.15
        torch.nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=spread)
    model.save_pretrained(folder)
    family = kind.removesuffix("_vision_model")
    processor = {"clip": "CLIP", "siglip": "Siglip", "dinov2": "Bit", "vit": "ViT"}[family] + "ImageProcessorPil"
    getattr(transformers, processor)(**PROCESSORS[family]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    for kind in KINDS:
        write(kind, root / kind)
    return root


def load(shelf: Path, name: str, precision: str = "float32") -> Any:
    return encoders.load(name, checkpoints=shelf, device="cpu", precision=precision, offline=True)


def video(count: int, seed: int = 0, height: int = 60, width: int = 80) -> Clip:
    """Noise over shades, with a moving box; a face is found in two of three frames."""
    generator = np.random.default_rng(seed)
    shade = np.linspace(0, 120, width, dtype=np.uint8)[None, :, None]
    images = generator.integers(0, 130, (min(count, 4), height, width, 3), np.uint8) + shade
    starts = np.cumsum(generator.uniform(0.02, 0.06, count + 1))
    boxes = np.array([[9.3 + i % 7, 5, 44 + i % 7, 45.6 + 0.2 * (i % 8)] for i in range(count)], np.float32)

    def pictures() -> Iterator[Picture]:
        return (images[i % len(images)] for i in range(count))

    def frames() -> Iterator[Frame]:
        return (Frame(image, starts[i], starts[i + 1]) for i, image in enumerate(pictures()))

    times = np.stack([starts[:-1], starts[1:]], axis=1)
    faces = FaceVideo(times, boxes.reshape(count, 4), np.arange(count) % 3 > 0, pictures)
    return Clip(f"clip{seed}", video=faces, pictures=frames)


def square(image: Picture, box: npt.NDArray[np.float32]) -> Image.Image:
    """The square around a face with a margin of a quarter, its border repeated, by Pillow alone."""
    x0, y0, x1, y1 = box.tolist()
    side = max(x1 - x0, y1 - y0) * 1.5
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    room = 100  # more than any square leaves the picture by
    wide = Image.fromarray(np.pad(image, ((room, room), (room, room), (0, 0)), mode="edge"))
    x, y = math.floor(left), math.floor(top)
    patch = wide.crop((x + room, y + room, math.ceil(left + side) + room, math.ceil(top + side) + room))
    edges = (left - x, top - y, min(left - x + side, patch.width), min(top - y + side, patch.height))
    return patch.resize((round(side), round(side)), Image.Resampling.BILINEAR, box=edges)


def reference(folder: Path, pictures: list[Image.Image]) -> dict[int | None, npt.NDArray[np.float32]]:
    """Each picture on its own through transformers' own processor and model: the vectors of every layer."""
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")  # type: ignore[no-untyped-call]
    whole = transformers.AutoModel.from_pretrained(folder).eval()
    model = whole.vision_model if kind in ("clip", "siglip") else whole
    rows: dict[int | None, list[torch.Tensor]] = {None: [], 0: [], 1: []}
    for picture in pictures:
        with torch.inference_mode():
            out = model(**processor(picture, return_tensors="pt"), output_hidden_states=True)
        by_pooler = kind.startswith(("clip", "siglip"))
        rows[None].append(out.pooler_output[0] if by_pooler else out.last_hidden_state[0, 0])
        for layer in (0, 1):
            states = out.hidden_states[layer][0]
            rows[layer].append(states.mean(dim=0) if kind.startswith("siglip") else states[0])
    return {layer: torch.stack(vectors).numpy() for layer, vectors in rows.items()}


def distance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    assert a.shape == b.shape and a.dtype == np.float32
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def pictures_of(clip: Clip, whole: bool) -> list[Image.Image]:
    assert clip.video is not None
    images = list(clip.video.frames())
    if whole:
        return [Image.fromarray(image) for image in images]
    return [square(image, box) for image, box in zip(images, clip.video.boxes, strict=True)]


@pytest.mark.parametrize("suffix", ["", "-whole"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_what_transformers_makes_of_each_picture(shelf: Path, kind: str, suffix: str) -> None:
    encoder = load(shelf, kind + suffix)
    assert (encoder.name, encoder.layers, encoder.dim, encoder.rate) == (kind + suffix, 2, 32, None)
    clips = [video(count, seed) for seed, count in enumerate(LENGTHS)]
    layers = (None, 0, 1, 2)
    together = encoder.encode(clips, layers)
    worst = 0.0
    for index, (clip, items) in enumerate(zip(clips, together, strict=True)):
        (alone,) = encoder.encode([clip], layers)
        for layer in layers:
            item = items[layer]
            assert clip.video is not None
            np.testing.assert_array_equal(item.times, clip.video.times)
            if suffix:
                assert not item.aux
            else:
                np.testing.assert_array_equal(item.aux["face_found"], clip.video.found)
            worst = max(worst, distance(item.frames, alone[layer].frames))
            (single,) = encoder.encode([clip], [layer])
            worst = max(worst, distance(alone[layer].frames, single[layer].frames))
        np.testing.assert_array_equal(items[2].frames, items[None].frames)
        if index in (3, 8):  # one short, one of more than a chunk
            expected = reference(shelf / kind, pictures_of(clip, bool(suffix)))
            worst = max(worst, *(distance(items[layer].frames, array) for layer, array in expected.items()))
            assert len({round(float(np.linalg.norm(array)), 3) for array in expected.values()}) == 3
    assert worst < 1e-5


def test_the_whole_clip_and_its_vision_tower_are_one(shelf: Path, tmp_path: Path) -> None:
    whole = transformers.CLIPModel.from_pretrained(shelf / "clip")
    whole.vision_model.save_pretrained(tmp_path / "tower")
    (tmp_path / "tower" / "preprocessor_config.json").write_bytes(
        (shelf / "clip" / "preprocessor_config.json").read_bytes()
    )
    clip = video(3)
    (a,), (b,) = (load(at, n).encode([clip], [None]) for at, n in ((shelf, "clip"), (tmp_path, "tower")))
    np.testing.assert_array_equal(a[None].frames, b[None].frames)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit"])
def test_bf16_is_near(shelf: Path, kind: str) -> None:
    clip = video(3)
    (rough,) = load(shelf, kind, "bf16").encode([clip], [None, 1])
    (fine,) = load(shelf, kind).encode([clip], [None, 1])
    for layer in (None, 1):
        assert 0 < distance(rough[layer].frames, fine[layer].frames) < 0.05
    assert load(shelf, kind, "bf16").recipe(None)["precision"] == "bf16"


@pytest.mark.parametrize("suffix", ["", "-whole"])
def test_a_picture_of_three_pixels_is_no_picture_of_three_channels(shelf: Path, suffix: str) -> None:
    clip = video(2, height=3, width=3)
    assert clip.video is not None
    small = np.array([[0, 1, 2, 2], [1, 0, 2, 2]], np.float32)  # a square of 3 pixels around it
    clip = replace(clip, video=replace(clip.video, boxes=small))
    (result,) = load(shelf, "clip" + suffix).encode([clip], [None])
    expected = reference(shelf / "clip", pictures_of(clip, bool(suffix)))
    assert distance(result[None].frames, expected[None]) < 1e-5


def test_clips_that_cannot_be_encoded_do_not_disturb_the_others(shelf: Path) -> None:
    good = video(2)

    def broken() -> Iterator[Frame]:
        assert good.pictures is not None
        yield from good.pictures()
        raise InputFailure("truncated", "cut off")

    for name, bad in (
        ("vit", [Clip("none"), video(0)]),
        ("vit-whole", [Clip("none"), video(0), Clip("cut", pictures=broken)]),
    ):
        encoder = load(shelf, name)
        *failures, last = encoder.encode([*bad, good], [None])
        assert [f.reason for f in failures] == ["no_video", "no_frames", "truncated"][: len(bad)]
        assert isinstance(last[None], Item) and len(last[None].frames) == 2
        assert encoder.encode([], [None]) == []
        with pytest.raises(EmocacheError, match="has layers 0 to 2"):
            encoder.encode([good], [3])


def test_the_recipe_says_what_is_done_to_a_picture(shelf: Path) -> None:
    face, whole = (load(shelf, name).recipe(None) for name in ("clip", "clip-whole"))
    steps = {
        "processor": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "resample": "bicubic", "crop_size": SIZE,
        "rescale_factor": 1 / 255, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }  # fmt: skip
    assert face["preprocessing"] == {"crop": "square", "margin": 0.25, "resize": "to whole pixels, bilinear", **steps}
    assert whole["preprocessing"] == {"crop": "none", **steps}
    assert face["inputs"] == whole["inputs"] == ["video"] and face["output"] == "pooler_output"
    assert face["aux"] == {"face_found": {"dtype": "bool", "shape": []}} and whole["aux"] == {}
    outputs = {kind: [load(shelf, kind).recipe(layer)["output"] for layer in (1, 2)] for kind in KINDS}
    assert outputs["siglip"] == ["mean over patches", "pooler_output"]
    assert outputs["dinov2"] == outputs["vit"] == ["CLS token", "CLS token"]
    assert json.loads(json.dumps(face)) == face


def copied(shelf: Path, kind: str, to: Path, **changes: Any) -> Path:
    """A checkpoint with other settings of its image processor."""
    to.mkdir()
    for file in (shelf / kind).iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    settings = json.loads((to / "preprocessor_config.json").read_text()) | changes
    (to / "preprocessor_config.json").write_text(json.dumps(settings))
    return to


def test_a_processor_inside_processor_config_gives_the_same(shelf: Path, tmp_path: Path) -> None:
    folder = copied(shelf, "siglip", tmp_path / "nested")
    alone = folder / "preprocessor_config.json"
    settings = json.loads(alone.read_text())
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    alone.unlink()
    clip = video(3)
    (a,), (b,) = (load(at, n).encode([clip], [None]) for at, n in ((shelf, "siglip"), (tmp_path, "nested")))
    np.testing.assert_array_equal(a[None].frames, b[None].frames)
    assert load(tmp_path, "nested").recipe(None)["preprocessing"] == load(shelf, "siglip").recipe(None)["preprocessing"]


OLD: dict[str, tuple[str, dict[str, Any]]] = {
    "feature extractor": ("vit", {"image_processor_type": None, "feature_extractor_type": "ViTFeatureExtractor"}),
    "no name": ("dinov2", {"image_processor_type": None}),
    "fast": ("vit", {"image_processor_type": "ViTImageProcessorFast"}),
    "numbers": ("clip", {"size": 32, "crop_size": 32, "image_processor_type": None,
                         "feature_extractor_type": "CLIPFeatureExtractor"}),
}  # fmt: skip


@pytest.mark.parametrize("case", OLD)
def test_processors_as_older_checkpoints_name_them_give_the_same(shelf: Path, tmp_path: Path, case: str) -> None:
    kind, changes = OLD[case]
    copied(shelf, kind, tmp_path / "old", **changes)
    old, clip = load(tmp_path, "old"), video(2)
    assert old.recipe(None)["preprocessing"] == load(shelf, kind).recipe(None)["preprocessing"]
    (a,), (b,) = old.encode([clip], [None]), load(shelf, kind).encode([clip], [None])
    np.testing.assert_array_equal(a[None].frames, b[None].frames)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"size": {"height": 40, "width": 40}}, "makes pictures of 40 x 40 pixels, the model takes 32 x 32; copy"),
    "shapes": ({"size": {"shortest_edge": 32}}, r"different shapes, such as \(3, 32, 42\) and \(3, 42, 32\)"),
    "kind": ({"image_processor_type": "ConvNextImageProcessor"}, "is a ConvNextImageProcessor; a vit model is run"),
    "misnamed": ({"image_processor_type": "ViTFeatureExtractor"}, "is a ViTFeatureExtractor; a vit .* ViTImageProc"),
    "setting": ({"size": {"hight": 32}}, "transformers cannot make the image processor"),
    "code": ({"auto_map": {"AutoImageProcessor": "own.Processor"}}, "code of the checkpoint's own"),
    "mean": ({"image_mean": [0.5, 0.5]}, "its image processor cannot be run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_processor_that_is_not_run_here_is_refused_in_one_line(shelf: Path, tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    copied(shelf, "vit", tmp_path / "other", **changes)
    with pytest.raises(EmocacheError, match=message) as caught:
        load(tmp_path, "other")
    assert str(tmp_path / "other") in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_without_a_processor_or_a_pooling_head_is_refused(shelf: Path, tmp_path: Path) -> None:
    (copied(shelf, "vit", tmp_path / "bare") / "preprocessor_config.json").unlink()
    with pytest.raises(EmocacheError, match=r"neither processor_config.json nor preprocessor_config.json says"):
        load(tmp_path, "bare")
    (tmp_path / "bare" / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    with pytest.raises(EmocacheError, match=r"neither processor_config.json nor"):
        load(tmp_path, "bare")
    copied(shelf, "vit", tmp_path / "empty")
    (tmp_path / "empty" / "processor_config.json").write_text(json.dumps({"image_processor": {}}))
    with pytest.raises(EmocacheError, match=r"neither processor_config.json nor"):
        load(tmp_path, "empty")
    headless = transformers.SiglipVisionConfig(**TOWER, intermediate_size=64, vision_use_head=False)
    transformers.SiglipVisionModel(headless).save_pretrained(tmp_path / "headless")
    (tmp_path / "headless" / "preprocessor_config.json").write_bytes(
        (shelf / "siglip" / "preprocessor_config.json").read_bytes()
    )
    with pytest.raises(EmocacheError, match="has no pooling head"):
        load(tmp_path, "headless")


def write_video(path: Path, count: int) -> None:
    """Shades that move, with no face in them."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=Fraction(10))
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for i in range(count):
            image = np.roll(np.linspace(0, 255, 64, dtype=np.uint8), 3 * i)[None, :, None].repeat(48, 0).repeat(3, 2)
            container.mux(track.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(track.encode())


def options(tmp_path: Path, shelf: Path, *names: str, **more: Any) -> stage.Options:
    return stage.Options(
        "table", tmp_path / "data", str(tmp_path / "store"), names, layers="1,last", checkpoints=shelf,
        mapping={"id": "file", "corpus": "shades"}, dtype="float32", device="cpu", offline=True, **more,
    )  # fmt: skip


def test_whole_pictures_need_no_face_and_no_detector(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    lengths = {"a.mp4": 12, "b.mp4": 5}
    for name, count in lengths.items():
        write_video(tmp_path / "data" / name, count)
    (tmp_path / "data" / "c.mp4").write_text("no video\n" * 50)
    (tmp_path / "data" / "table.csv").write_text("file,emotion\na.mp4,sad\nb.mp4,sad\nc.mp4,sad\n")

    def never(*_: Any) -> Any:
        raise AssertionError("a detector was asked for")

    with monkeypatch.context() as patch:
        patch.setattr(readying, "load_detector", never)
        report = stage.extract(options(tmp_path, shelf, "clip-whole"))
    assert not report.missing and len(report.streams) == 2
    assert {tuple(failed) for failed in report.failures.values()} == {("c.mp4",)}
    for layer, name in ((1, "clip-whole.L1"), (None, "clip-whole")):
        stream = Cache(str(tmp_path / "store")).stream("shades", name)
        assert stream.recipe["inputs"] == ["video"] and "detector" not in stream.recipe["decoding"]
        for utterance, count in lengths.items():
            frames = list(decode_video(tmp_path / "data" / utterance))
            assert len(frames) == count
            expected = reference(shelf / "clip", [Image.fromarray(frame.image) for frame in frames])[layer]
            assert distance(np.asarray(stream.read(utterance)), expected) < 1e-5
            np.testing.assert_allclose(stream.times(utterance), [(f.start, f.end) for f in frames])


def test_faces_and_whole_pictures_of_one_run_fail_each_for_its_own_reason(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind:
        def detect(self, image: Picture) -> npt.NDArray[np.float32]:
            return np.zeros((0, 5), np.float32)

        def recipe(self) -> dict[str, Any]:
            return {"name": "blind"}

    (tmp_path / "data").mkdir()
    write_video(tmp_path / "data" / "a.mp4", 4)
    (tmp_path / "data" / "table.csv").write_text("file,emotion\na.mp4,sad\n")
    monkeypatch.setattr(readying, "load_detector", lambda *_: Blind())
    report = stage.extract(options(tmp_path, shelf, "vit", "vit-whole", fps=5.0))
    failed = {name.split("@")[0]: [reason for reason, _ in found.values()] for name, found in report.failures.items()}
    assert failed == {"vit": ["no_face"], "vit.L1": ["no_face"], "vit-whole": [], "vit-whole.L1": []}
    stream = Cache(str(tmp_path / "store")).stream("shades", "vit-whole")
    assert np.asarray(stream.read("a.mp4")).shape == (2, 32) and stream.recipe["decoding"]["fps"] == 5.0


def test_a_real_video_is_what_transformers_makes_of_its_faces(shelf: Path, shared: Any) -> None:
    pytest.importorskip("dlib")
    path = shared("data/video/pyfeat_MIT/face_noface.mov")
    film = partial(decode_video, path, 0.0, 2.0, fps=4)
    faces = track_faces(film, load_detector("dlib"))
    clip = Clip("real", video=faces, pictures=film)
    for name, whole in (("dinov2", False), ("dinov2-whole", True)):
        (result,) = load(shelf, name).encode([clip], [None, 1])
        expected = reference(shelf / "dinov2", pictures_of(clip, whole))
        for layer in (None, 1):
            assert distance(result[layer].frames, expected[layer]) < 1e-5
