import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from emocache.cache import EmocacheError, InputFailure, Item, Utterance
from emocache.extract.encoders.encoder import Clip
from emocache.extract.encoders.inference import Runtime
from emocache.extract.encoders.keras_file import read_convolutions
from emocache.extract.encoders.vgg_face import VggFace
from emocache.extract.media.crops import crop_face
from emocache.extract.media.faces import FaceVideo

CHUNK = 32  # pictures at once on a CPU
Arrays = dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]

POOLED = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
WIDTHS = {
    "conv1_1": 64, "conv1_2": 64, "conv2_1": 128, "conv2_2": 128, "conv3_1": 256, "conv3_2": 256, "conv3_3": 256,
    "conv4_1": 512, "conv4_2": 512, "conv4_3": 512, "conv5_1": 512, "conv5_2": 512, "conv5_3": 512,
}  # fmt: skip
KEYS = ("kernel:0", "bias:0")
SMALL = {"conv1_1": (3, 3, 3, 4), "conv1_2": (3, 3, 4, 4), "conv2_1": (3, 3, 4, 5)}
CPU = Runtime(torch.device("cpu"), "float32")


def random_arrays(shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Kernels and biases that keep the size of activations from layer to layer."""
    generator = np.random.default_rng(5)

    def draw(shape: tuple[int, ...], scale: float) -> npt.NDArray[np.float32]:
        return generator.standard_normal(shape, np.float32) * np.float32(scale)

    return {n: (draw(s, np.sqrt(2 / np.prod(s[:3]))), draw(s[3:], 0.1)) for n, s in shapes.items()}


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    before = [3, *WIDTHS.values()]
    return random_arrays({name: (3, 3, before[i], out) for i, (name, out) in enumerate(WIDTHS.items())})


def named_keras_1(file: Path, arrays: Arrays) -> Path:
    """As rcmalli's files may be: arrays named after the layer, in its group; pools and fully connected layers too."""
    with h5py.File(file, "w") as root:
        order = ["input_1", *arrays, "pool5", "flatten", "fc6", "fc6/relu"]
        root.attrs["layer_names"] = [name.encode() for name in order]
        for name in order:
            group = root.create_group(name)
            kernel, bias = arrays.get(name, (np.ones((8, 4), np.float32), np.ones(4, np.float32)))
            weights = {f"{name}_W_1:0": kernel, f"{name}_b_1:0": bias} if name in arrays or name == "fc6" else {}
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, values in weights.items():
                group.create_dataset(weight, data=values)
    return file


def named_keras_2(file: Path, arrays: Arrays) -> Path:
    """As Keras 2 saves a whole model: one more group, arrays in a group of the layer's name inside its group.

    The names are of fixed length, as h5py 2 wrote them; the other files here have them as h5py 3 writes them.
    """
    with h5py.File(file, "w") as root:
        root.create_group("optimizer_weights")
        model = root.create_group("model_weights")
        model.attrs["layer_names"] = np.array(list(arrays), "S")
        for name, weights in arrays.items():
            model.create_group(name).attrs["weight_names"] = np.array([f"{name}/{key}" for key in KEYS], "S")
            for key, values in zip(KEYS, weights, strict=True):
                model[name].create_dataset(f"{name}/{key}", data=values)
    return file


def by_order(file: Path, arrays: Arrays) -> Path:
    """As deepface's file: a Sequential with names of Keras' making, zero padding, and convolutions for the top."""
    top = (np.ones((7, 7, arrays[list(arrays)[-1]][0].shape[3], 2), np.float32), np.ones(2, np.float32))
    with h5py.File(file, "w") as root:
        order = []
        for i, (kernel, bias) in enumerate([*arrays.values(), top]):
            order += [f"zero_padding2d_{20 + i}", f"conv2d_{8 + i}"]
            root.create_group(order[-2]).attrs["weight_names"] = np.zeros(0)
            root.create_group(order[-1]).attrs["weight_names"] = [f"{order[-1]}/{key}".encode() for key in KEYS]
            for key, values in zip(KEYS, (kernel, bias), strict=True):
                root[order[-1]].create_dataset(f"{order[-1]}/{key}", data=values)
        root.attrs["layer_names"] = [name.encode() for name in order]
    return file


def without_attributes(file: Path, arrays: Arrays) -> Path:
    """As Keras 3 saves weights: numbered layers, whose alphabetical order is another, and no attributes."""
    with h5py.File(file, "w") as root:
        for i, weights in enumerate(arrays.values()):
            variables = root.create_group(f"layers/conv2d{f'_{i}' if i else ''}/vars")
            for j, values in enumerate(weights):
                variables[str(j)] = values.astype(np.float64)
            root.create_group(f"layers/max_pooling2d_{i}/vars")
        root.create_group("optimizer/vars")["0"] = np.ones(3)
    return file


LAYOUTS = (named_keras_1, named_keras_2, by_order, without_attributes)


def video(count: int, seed: int = 0) -> FaceVideo:
    """Noise in colour with a moving box; a face is found in two of three frames."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (min(count, 4), 60, 80, 3), np.uint8)
    starts = np.cumsum(generator.uniform(0.02, 0.06, count + 1))
    boxes = np.array([[10 + i % 7, 5 + i % 3, 50 + i % 7, 45 + i % 3] for i in range(count)], np.float32)

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        return (images[i % len(images)] for i in range(count))

    times = np.stack([starts[:-1], starts[1:]], axis=1)
    return FaceVideo(times, boxes.reshape(count, 4), np.arange(count) % 3 > 0, frames)


def reference(arrays: Arrays, clip: FaceVideo) -> npt.NDArray[np.float32]:
    rows = []
    for image, (left, top, right, bottom) in zip(clip.frames(), clip.boxes, strict=True):
        face = crop_face(image, np.array([left, top, right, bottom], np.float32), 224, 0.25).astype(np.float32)
        planes = [face[..., 2] - 93.5940, face[..., 1] - 104.7624, face[..., 0] - 129.1863]
        x = torch.from_numpy(np.stack(planes)[None].astype(np.float32))
        for name, (kernel, bias) in arrays.items():
            weight = torch.from_numpy(np.ascontiguousarray(np.moveaxis(kernel, (2, 3), (1, 0))))
            x = F.conv2d(x, weight, torch.from_numpy(bias), padding=1).clamp(min=0)
            x = F.max_pool2d(x, 2, 2) if name in POOLED else x
        assert x.shape == (1, 512, 7, 7)
        rows.append(x[0].flatten(1).max(dim=1).values.numpy())
    return np.stack(rows)


def item(encoder: VggFace, clip: Clip) -> Item:
    (result,) = encoder.encode([clip], [None])
    assert not isinstance(result, InputFailure), result
    found = result[None]
    assert isinstance(found, Item)
    return found


@pytest.fixture(scope="module")
def file(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return named_keras_1(tmp_path_factory.mktemp("weights") / "rcmalli_vggface_tf_vgg16.h5", arrays)


@pytest.fixture(scope="module")
def encoder(file: Path) -> VggFace:
    return VggFace("vgg-face", file, CPU)


def test_equals_a_plain_network(encoder: VggFace, arrays: Arrays) -> None:
    clip = video(2)
    found, expected = item(encoder, Clip("a", video=clip)), reference(arrays, clip)
    assert found.frames.dtype == np.float32 and expected.std() > 0.1
    assert np.linalg.norm(found.frames - expected) / np.linalg.norm(expected) <= 1e-5
    assert found.times is clip.times
    np.testing.assert_array_equal(found.aux["face_found"], [False, True])


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_same_weights(write: Callable[[Path, Arrays], Path], tmp_path: Path) -> None:
    arrays = random_arrays({f"conv1_{i}": (3, 3, 4, 4) for i in range(1, 14)})
    read = read_convolutions(write(tmp_path / "small.h5", arrays), {n: k.shape for n, (k, _) in arrays.items()})
    assert list(read) == list(arrays)
    for name, weights in arrays.items():
        for found, written in zip(read[name], weights, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, written)


def test_both_files_of_full_size_are_read(encoder: VggFace, arrays: Arrays, tmp_path: Path) -> None:
    other = VggFace("vgg-face", by_order(tmp_path / "vgg_face_weights.h5", arrays), CPU)
    ours, theirs = encoder._model.state_dict(), other._model.state_dict()
    assert len(ours) == 26 and sum(weight.numel() for weight in ours.values()) == 14_714_688
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert encoder.recipe(None)["weights_sha256"] != other.recipe(None)["weights_sha256"]


def test_batched_equals_alone(encoder: VggFace) -> None:
    clips = [Clip("a", video=video(2, 1)), Clip("b", video=video(1, 2))]
    for clip, together in zip(clips, encoder.encode(clips, [None]), strict=True):
        assert isinstance(together, dict) and clip.video is not None
        alone = []
        for i, image in enumerate(clip.video.frames()):
            row, clip_of_one = slice(i, i + 1), partial(iter, [image])
            one = FaceVideo(clip.video.times[row], clip.video.boxes[row], clip.video.found[row], clip_of_one)
            alone.append(item(encoder, Clip("one", video=one)).frames[0])
        assert np.linalg.norm(together[None].frames - alone) / np.linalg.norm(alone) <= 1e-5


def test_lower_precision_runs_the_network_only(encoder: VggFace, file: Path) -> None:
    low = VggFace("vgg-face", file, Runtime(torch.device("cpu"), "bf16"))
    clip = Clip("a", video=video(1))
    a, b = item(low, clip).frames, item(encoder, clip).frames
    assert a.dtype == np.float32
    assert 1e-5 < np.linalg.norm(a - b) / np.linalg.norm(b) < 0.05


def test_a_long_clip_goes_through_in_chunks(encoder: VggFace, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    ahead = 0

    def network(x: torch.Tensor) -> torch.Tensor:
        held.append(len(x))
        assert ahead <= sum(held)
        return torch.zeros(len(x), 512, 7, 7)

    clip = video(2 * CHUNK + 3)

    def counted() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal ahead
        for image in clip.frames():
            ahead += 1
            yield image

    monkeypatch.setattr(encoder, "_model", network)
    lazy = FaceVideo(clip.times, clip.boxes, clip.found, counted)
    assert item(encoder, Clip("long", video=lazy)).frames.shape == (2 * CHUNK + 3, 512)
    assert CHUNK == 32 and held == [32, 32, 3]


def test_clips_that_cannot_be_encoded(encoder: VggFace) -> None:
    def broken() -> Iterator[npt.NDArray[np.uint8]]:
        raise InputFailure("undecodable", "frame 0 is damaged")
        yield

    good = video(1)
    damaged = FaceVideo(good.times, good.boxes, good.found, broken)
    clips = [Clip("none"), Clip("empty", video=video(0)), Clip("damaged", video=damaged), Clip("good", video=good)]
    *failures, last = encoder.encode(clips, [None])
    assert [str(failure) for failure in failures] == [
        "no_video: the utterance has no video",
        "no_frames: the video has 0 frames",
        "undecodable: frame 0 is damaged",
    ]
    assert isinstance(last, dict)
    assert encoder.encode([], [None]) == []
    fewer = FaceVideo(good.times, good.boxes, good.found, lambda: iter(()))
    with pytest.raises(ValueError):
        encoder.encode([Clip("fewer", video=fewer)], [None])


def test_recipe_and_planning(encoder: VggFace, file: Path) -> None:
    recipe = encoder.recipe(None)
    assert recipe["times"] is None and recipe["aux"] == {"face_found": {"dtype": "bool", "shape": []}}
    assert recipe["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert recipe["preprocessing"]["colours"] == "BGR" and recipe["preprocessing"]["means"] == [
        93.594,
        104.7624,
        129.1863,
    ]
    assert recipe["output"] == "max over pool5" and recipe["precision"] == "float32"
    assert str(file) not in json.dumps(recipe)
    assert (encoder.dim, encoder.layers, encoder.rate, encoder.inputs) == (512, 0, None, ("video",))
    with pytest.raises(EmocacheError, match="encoder 'vgg-face' has no layers, but layer 3 was asked for"):
        encoder.encode([], [3])
    assert encoder.expected_frames(Utterance("a", duration=2.0)) == 60
    assert encoder.cost(Utterance("a", duration=4.0)) == 2 * encoder.cost(Utterance("a", duration=2.0))


def edited(write: Callable[[Path, Arrays], Path], change: Callable[[Arrays], None]) -> Callable[[Path], Path]:
    def make(file: Path) -> Path:
        arrays = random_arrays(SMALL)
        change(arrays)
        return write(file, arrays)

    return make


def linked(make_link: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def make(file: Path) -> Path:
        outside = named_keras_2(file.with_name("outside.h5"), random_arrays(SMALL))
        with h5py.File(named_keras_2(file, random_arrays(SMALL)), "a") as root:
            del root["model_weights/conv1_2/conv1_2/kernel:0"]
            root["model_weights/conv1_2/conv1_2/kernel:0"] = make_link(outside)
        return file

    return make


def replaced(**storage: Any) -> Callable[[Path], Path]:
    """The kernel of conv1_2 stored in another way."""

    def make(file: Path) -> Path:
        with h5py.File(named_keras_1(file, random_arrays(SMALL)), "a") as root:
            del root["conv1_2/conv1_2_W_1:0"]
            root["conv1_2"].create_dataset("conv1_2_W_1:0", **({"shape": (3, 3, 4, 4), "dtype": "f4"} | storage))
        return file

    return make


def virtual(file: Path) -> Path:
    outside = named_keras_1(file.with_name("outside.h5"), random_arrays(SMALL))
    layout = h5py.VirtualLayout((3, 3, 4, 4), "f4")
    layout[:] = h5py.VirtualSource(str(outside), "conv1_2/conv1_2_W_1:0", (3, 3, 4, 4))
    with h5py.File(named_keras_1(file, random_arrays(SMALL)), "a") as root:
        del root["conv1_2/conv1_2_W_1:0"]
        root["conv1_2"].create_virtual_dataset("conv1_2_W_1:0", layout)
    return file


def text(file: Path) -> Path:
    file.write_text("<html>Not found</html>")
    return file


def cut_short(file: Path) -> Path:
    file.write_bytes(named_keras_1(file, random_arrays(SMALL)).read_bytes()[:-500])
    return file


def no_weights(file: Path) -> Path:
    with h5py.File(file, "w") as root:
        root["some_table"] = np.arange(12).reshape(3, 4)
    return file


def resnet(file: Path) -> Path:
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [b"conv1/7x7_s2", b"conv1/7x7_s2/bn"]
        root.create_group("conv1/7x7_s2").attrs["weight_names"] = [b"conv1/7x7_s2/kernel:0"]
        root["conv1/7x7_s2/conv1/7x7_s2/kernel:0"] = np.ones((7, 7, 3, 4), np.float32)
        root.create_group("conv1/7x7_s2/bn").attrs["weight_names"] = [b"gamma:0"]
        root["conv1/7x7_s2/bn/gamma:0"] = np.ones(4, np.float32)
    return file


def absent(file: Path) -> Path:
    return file


def unnamed_dataset(file: Path) -> Path:
    with h5py.File(named_keras_1(file, random_arrays(SMALL)), "a") as root:
        del root["conv1_2/conv1_2_b_1:0"]
    return file


def numbered(file: Path) -> Path:
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = np.arange(5000)
    return file


def loop(file: Path) -> Path:
    with h5py.File(file, "w") as root:
        root.create_group("layers/conv2d")
        root["layers/conv2d/itself"] = root["layers"]
    return file


def drop(name: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.pop(name) and None


def poison(arrays: Arrays) -> None:
    arrays["conv1_2"][0][0, 1, 2, 3] = np.nan


def shorten(arrays: Arrays) -> None:
    arrays["conv2_1"] = (arrays["conv2_1"][0], arrays["conv2_1"][1][:4])


def as_integers(arrays: Arrays) -> None:
    arrays["conv1_1"] = (arrays["conv1_1"][0].astype(np.int32), arrays["conv1_1"][1])


WRONG: Sequence[tuple[Callable[[Path], Path], str]] = [
    (absent, "there is no such file; expected Keras weights in HDF5 (.h5)"),
    (text, "cannot be read as HDF5: Unable to synchronously open file (file signature not found)"),
    (cut_short, "cannot be read as HDF5: Unable to synchronously open file (truncated file"),
    (no_weights, "the file holds no layer with weights; expected what Keras' save_weights writes"),
    (
        resnet,
        "layer conv1_1 (by order, here 'conv1/7x7_s2') has arrays of (7, 7, 3, 4); expected a kernel of (3, 3, 3, 4)"
        " and a bias of (4,)",
    ),
    (
        edited(named_keras_1, drop("conv1_2")),
        "layer conv1_2, convolution 2 of 3, is missing; there are conv1_1, conv2_1; expected a kernel of (3, 3, 4, 4)",
    ),
    (
        edited(by_order, drop("conv1_2")),
        "layer conv1_2 (by order, here 'conv2d_9') has arrays of (3, 3, 4, 5) and (5,); expected a kernel of"
        " (3, 3, 4, 4) and a bias of (4,)",
    ),
    (
        edited(without_attributes, drop("conv2_1")),
        "layer conv2_1, convolution 3 of 3, is missing: there are 2; expected a kernel of (3, 3, 4, 5)",
    ),
    (
        edited(named_keras_2, shorten),
        "layer conv2_1 has arrays of (3, 3, 4, 5) and (4,); expected a kernel of (3, 3, 4, 5) and a bias of (5,)",
    ),
    (edited(named_keras_1, poison), "/conv1_2/conv1_2_W_1:0: 1 of 144 values are NaN or infinite; download the file"),
    (edited(named_keras_1, as_integers), "/conv1_1/conv1_1_W_1:0 holds int32; expected floating point"),
    (unnamed_dataset, "'conv1_2_b_1:0' is missing, though the file names it; download the file again"),
    (linked(lambda outside: h5py.ExternalLink(outside, "/model_weights/conv1_2/conv1_2/kernel:0")), "is a link"),
    (linked(lambda outside: h5py.SoftLink("/model_weights/conv1_1/conv1_1/kernel:0")), "links are not followed"),
    (replaced(external=[("raw.bin", 0, h5py.h5f.UNLIMITED)]), "keeps its values in another file"),
    (virtual, "keeps its values in another file"),
    (
        replaced(chunks=(3000, 3, 400, 4), maxshape=(None, 3, None, 4), compression="gzip"),
        "is stored in chunks of (3000, 3, 400, 4), larger than itself, (3, 3, 4, 4)",
    ),
    (replaced(shape=(30_000, 30_000, 3_000, 4)), "has arrays of (30000, 30000, 3000, 4) and (4,); expected a kernel"),
    (numbered, "layer_names holds 5000 of int64; expected at most 4096 names"),
    (loop, "more than 8 groups inside each other"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_wrong_files_are_named(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    file = make(tmp_path / "weights.h5")
    with pytest.raises(EmocacheError) as caught:
        read_convolutions(file, SMALL)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)
