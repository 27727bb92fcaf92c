import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from emocache.cache import EmocacheError, InputFailure, Item, Utterance
from emocache.extract.encoders import load
from emocache.extract.encoders.encoder import Clip
from emocache.extract.encoders.inference import Runtime
from emocache.extract.encoders.marlin import Marlin, windows
from emocache.extract.media.crops import crop_face
from emocache.extract.media.faces import FaceVideo

Weights = dict[str, Tensor]
CPU = Runtime(torch.device("cpu"), "float32")
DIM, DEPTH = 128, 2


def random_weights(dim: int = DIM, depth: int = DEPTH) -> Weights:
    """A state dict with the names and shapes of marlin_pytorch's, all of it random: biases and norms too."""
    generator = torch.Generator().manual_seed(6)

    def draw(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale + mean

    def linear(name: str, out: int, into: int) -> Weights:
        return {f"{name}.weight": draw(out, into, scale=into**-0.5), f"{name}.bias": draw(out, scale=0.3)}

    def norm(name: str) -> Weights:
        return {f"{name}.weight": draw(dim, scale=0.3, mean=1.0), f"{name}.bias": draw(dim, scale=0.3)}

    weights = {
        "encoder.patch_embedding.projection.weight": draw(dim, 3, 2, 16, 16, scale=0.03),
        "encoder.patch_embedding.projection.bias": draw(dim),
        "encoder.pos_embedding.emb": draw(1, 1568, dim),
        **norm("encoder.norm"),
    }
    for i in range(depth):
        block = f"encoder.blocks.{i}"
        weights |= {
            **norm(f"{block}.norm1"),
            f"{block}.attn.q_bias": draw(dim),
            f"{block}.attn.v_bias": draw(dim),
            f"{block}.attn.qkv.weight": draw(3 * dim, dim, scale=2 * dim**-0.5),
            **linear(f"{block}.attn.proj", dim, dim),
            **norm(f"{block}.norm2"),
            **linear(f"{block}.mlp.layers.0.linear", 4 * dim, dim),
            **linear(f"{block}.mlp.layers.1.linear", dim, 4 * dim),
        }
    return weights


def reference(weights: Weights, pixels: Tensor, depth: int = DEPTH) -> tuple[list[Tensor], Tensor]:
    """Means of what goes into and comes out of each block, and the last one normed; pixels (3, 16, 224, 224)."""
    w = {name.removeprefix("encoder."): value.double() for name, value in weights.items()}
    cubes = pixels.double().reshape(3, 8, 2, 14, 16, 14, 16).permute(1, 3, 5, 0, 2, 4, 6).reshape(1568, -1)
    patches = "patch_embedding.projection"
    x = cubes @ w[f"{patches}.weight"].flatten(1).T + w[f"{patches}.bias"] + w["pos_embedding.emb"][0]
    dim, means = x.shape[1], [x.mean(dim=0)]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    for block in (f"blocks.{i}" for i in range(depth)):
        y, attended = norm(f"{block}.norm1", x), []
        query, key, value = (y @ part.T for part in w[f"{block}.attn.qkv.weight"].reshape(3, dim, dim))
        query, value = query + w[f"{block}.attn.q_bias"], value + w[f"{block}.attn.v_bias"]
        for head in (slice(at, at + 64) for at in range(0, dim, 64)):
            attended.append((query[:, head] @ key[:, head].T / 8).softmax(dim=-1) @ value[:, head])
        x = x + torch.cat(attended, dim=1) @ w[f"{block}.attn.proj.weight"].T + w[f"{block}.attn.proj.bias"]
        first, second = f"{block}.mlp.layers.0.linear", f"{block}.mlp.layers.1.linear"
        y = F.gelu(norm(f"{block}.norm2", x) @ w[f"{first}.weight"].T + w[f"{first}.bias"])
        x = x + y @ w[f"{second}.weight"].T + w[f"{second}.bias"]
        means.append(x.mean(dim=0))
    return means, norm("norm", means[-1])


def video(count: int, found: npt.NDArray[np.bool_] | None = None) -> FaceVideo:
    """Frames that all differ, and a moving box."""
    generator = np.random.default_rng(count)
    image = generator.integers(0, 256, (70, 90, 3), np.uint8)
    starts = np.cumsum(generator.uniform(0.02, 0.06, count + 1))
    boxes = np.array([[10 + i % 9, 5 + i % 5, 50 + i % 9, 45 + i % 5] for i in range(count)], np.float32)

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        return (np.roll(image, i, axis=1) for i in range(count))

    everywhere = np.ones(count, np.bool_) if found is None else found
    return FaceVideo(np.stack([starts[:-1], starts[1:]], axis=1), boxes.reshape(count, 4), everywhere, frames)


def pixels(clip: FaceVideo, chosen: list[int]) -> Tensor:
    """(3, 16, 224, 224), 0 to 1."""
    images = list(clip.frames())
    faces = [crop_face(images[i], clip.boxes[i], 224, 0.0) for i in chosen]
    return torch.from_numpy(np.stack(faces)).permute(3, 0, 1, 2) / 255


def items(encoder: Marlin, clip: FaceVideo, *layers: int | None) -> dict[int | None, Item]:
    (result,) = encoder.encode([Clip("a", video=clip)], layers or (None,))
    assert not isinstance(result, InputFailure), result
    return {layer: item for layer, item in result.items() if isinstance(item, Item)}


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "marlin.safetensors"
    save_file(weights, file)
    return file


@pytest.fixture(scope="module")
def encoder(file: Path) -> Marlin:
    return Marlin("marlin-tiny", file, CPU)


def test_equals_the_plain_formulae_in_every_layer(encoder: Marlin, weights: Weights) -> None:
    clip = video(16)
    found = items(encoder, clip, 0, 1, None)
    means, last = reference(weights, pixels(clip, list(range(16))))
    for layer, expected in {0: means[0], 1: means[1], None: last}.items():
        assert found[layer].frames.shape == (1, DIM) and found[layer].frames.dtype == np.float32
        assert distance(found[layer].frames[0], expected.numpy()) <= 1e-5
    np.testing.assert_array_equal(items(encoder, clip, DEPTH)[DEPTH].frames, found[None].frames)


def test_equals_marlin_pytorch(encoder: Marlin, weights: Weights) -> None:
    package = pytest.importorskip("marlin_pytorch.model.encoder", reason="needs marlin-pytorch")
    theirs = package.MarlinEncoder(embed_dim=DIM, depth=DEPTH, num_heads=DIM // 64, qkv_bias=True).eval()
    theirs.load_state_dict({name.removeprefix("encoder."): value for name, value in weights.items()})
    clip = video(16)
    with torch.no_grad():
        expected = theirs.extract_features(pixels(clip, list(range(16)))[None], seq_mean_pool=True)
    measured = distance(items(encoder, clip)[None].frames, expected.numpy())
    print(f"marlin_pytorch: {measured:.1e}")
    assert measured <= 1e-5


def test_windows_are_those_of_marlin_pytorch() -> None:
    def slow(total: int) -> list[list[int]]:
        if total <= 16:
            return [[*range(total), *[total - 1] * (16 - total)]]
        if total <= 32:
            return [list(range(16))]
        starts = list(range(0, total - 32, 32))
        return [list(range(start, start + 32, 2)) for start in starts]

    for total in range(1, 200):
        assert windows(total).tolist() == slow(total)
    counts = {total: len(windows(total)) for total in (1, 16, 17, 32, 33, 64, 65, 96, 97, 100)}
    assert counts == {1: 1, 16: 1, 17: 1, 32: 1, 33: 1, 64: 1, 65: 2, 96: 2, 97: 3, 100: 3}


@pytest.mark.parametrize(
    ("count", "spans"),
    [
        (1, [(0, 0)]),
        (16, [(0, 15)]),
        (17, [(0, 15)]),
        (32, [(0, 15)]),
        (33, [(0, 31)]),
        (64, [(0, 31)]),
        (65, [(0, 31), (32, 63)]),
        (100, [(0, 31), (32, 63), (64, 95)]),
    ],
)
def test_a_vector_is_made_of_its_windows_frames(
    encoder: Marlin, count: int, spans: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    sizes: list[int] = []

    def network(pixels: Tensor) -> Tensor:
        seen.extend(pixels)
        sizes.append(len(pixels))
        return torch.zeros(len(pixels), DIM)

    monkeypatch.setattr(encoder._model, "forward", network)
    clip = video(count)
    item = items(encoder, clip)[None]
    assert item.times is not None
    assert item.times.tolist() == [[clip.times[first, 0], clip.times[last, 1]] for first, last in spans]
    assert len(item.frames) == len(spans) == len(seen) and max(sizes) <= 2
    for (first, last), window in zip(spans, seen, strict=True):
        step = 2 if last - first == 31 else 1
        chosen = [min(i, last) for i in range(first, first + 16 * step, step)]
        assert torch.equal(window, pixels(clip, chosen))


def test_face_found_needs_half_of_the_frames(encoder: Marlin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder._model, "forward", lambda pixels: torch.zeros(len(pixels), DIM))
    found = np.zeros(97, np.bool_)
    found[:16:2] = True  # 8 of the first window's 16
    found[32:46:2] = found[33:64:2] = True  # 7 of the second's, and all those between
    assert items(encoder, video(97, found))[None].aux["face_found"].tolist() == [True, False, False]
    assert encoder.recipe(None)["aux"] == {"face_found": {"dtype": "bool", "shape": []}}


def test_batched_equals_alone(encoder: Marlin) -> None:
    clips = [Clip("a", video=video(100)), Clip("b", video=video(3))]
    together = encoder.encode(clips, [1, None])
    for clip, result in zip(clips, together, strict=True):
        assert clip.video is not None and isinstance(result, dict)
        for row, chosen in enumerate(windows(len(clip.video.times))):
            images = list(clip.video.frames())
            alone = partial(iter, [images[i] for i in chosen])
            one = FaceVideo(np.zeros((16, 2)), clip.video.boxes[chosen], np.ones(16, np.bool_), alone)
            for layer, item in items(encoder, one, 1, None).items():
                assert distance(result[layer].frames[row], item.frames[0]) <= 1e-5


def test_lower_precision_runs_the_network_only(encoder: Marlin, file: Path) -> None:
    low = Marlin("marlin-tiny", file, Runtime(torch.device("cpu"), "bf16"))
    a, b = items(low, video(5), 1, None), items(encoder, video(5), 1, None)
    for layer in (1, None):
        assert a[layer].frames.dtype == np.float32
        assert 1e-5 < distance(a[layer].frames, b[layer].frames) < 0.05


def test_clips_that_cannot_be_encoded(encoder: Marlin) -> None:
    good = video(2)
    fewer = FaceVideo(good.times, good.boxes, good.found, lambda: iter(list(good.frames())[:1]))
    none, empty, last = encoder.encode([Clip("none"), Clip("empty", video=video(0)), Clip("good", video=good)], [None])
    assert (str(none), str(empty)) == ("no_video: the utterance has no video", "no_frames: the video has 0 frames")
    assert isinstance(last, dict)
    with pytest.raises(ValueError):
        encoder.encode([Clip("fewer", video=fewer)], [None])


def test_recipe_and_planning(encoder: Marlin, file: Path) -> None:
    recipe = encoder.recipe(None)
    assert recipe == encoder.recipe(DEPTH) and encoder.recipe(1)["layer"] == 1
    assert (recipe["dim"], encoder.dim, encoder.layers, encoder.rate) == (DIM, DIM, DEPTH, None)
    assert recipe["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert recipe["times"] is None and recipe["windowing"]["stride"] == 32 and recipe["precision"] == "float32"
    assert str(file) not in json.dumps(recipe)
    with pytest.raises(EmocacheError, match="encoder 'marlin-tiny' has layers 0 to 2; there is no layer 3"):
        encoder.encode([], [3])
    assert encoder.expected_frames(Utterance("a", duration=10.0)) == 9
    assert encoder.cost(Utterance("a", duration=10.0)) == 9 * encoder.cost(Utterance("a", duration=0.5))


def test_a_full_model_or_bare_names_will_do(encoder: Marlin, weights: Weights, tmp_path: Path) -> None:
    bare = {name.removeprefix("encoder."): value for name, value in weights.items()}
    save_file(weights | {"decoder.norm.weight": torch.ones(3), "enc_dec_proj.weight": torch.ones(3, 3)}, tmp_path / "f")
    save_file(bare, tmp_path / "b")
    expected = items(encoder, video(1))[None].frames
    for name in ("f", "b"):
        np.testing.assert_array_equal(items(Marlin("m", tmp_path / name, CPU), video(1))[None].frames, expected)


def drop(name: str) -> Callable[[Weights], object]:
    return lambda weights: weights.pop(name)


def put(name: str, value: Tensor) -> Callable[[Weights], object]:
    return lambda weights: weights.update({name: value})


NAN = torch.full((DIM,), torch.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop("encoder.blocks.1.attn.q_bias"),
            "weight encoder.blocks.1.attn.q_bias is missing, and 0 more; expected the",
        ),
        (
            lambda w: [w.pop(n) for n in list(w) if "norm2" in n],
            "weight encoder.blocks.0.norm2.weight is missing, and 3 more",
        ),
        (drop("encoder.norm.weight"), "weight encoder.norm.weight is missing"),
        (
            lambda w: w.clear() or w.update({"model.embed": torch.ones(2)}),
            "weight pos_embedding.emb is missing, and 4 more",
        ),
        (put("encoder.norm.weight", torch.ones(100)), "encoder.norm.weight has 100 values, not a multiple of 64"),
        (
            put("encoder.norm.weight", torch.ones(384)),
            "weight encoder.blocks.2.attn.qkv.weight is missing, and 129 more",
        ),
        (put("encoder.pos_embedding.emb", torch.ones(1, 784, DIM)), "has shape (1, 784, 128), expected (1, 1568, 128)"),
        (
            put("encoder.blocks.0.gamma_1", torch.ones(DIM)),
            "encoder.blocks.0.gamma_1 is none of a MARLIN encoder's with 2",
        ),
        (put("encoder.blocks.0.norm1.bias", NAN), "weight encoder.blocks.0.norm1.bias holds torch.float32, or NaN"),
        (put("encoder.norm.bias", torch.ones(DIM, dtype=torch.int64)), "encoder.norm.bias holds torch.int64, or NaN"),
    ],
)
def test_wrong_weights_are_named(change: Callable[[Weights], object], message: str, tmp_path: Path) -> None:
    file, weights = tmp_path / "marlin.safetensors", random_weights()
    change(weights)
    save_file(weights, file)
    with pytest.raises(EmocacheError) as caught:
        Marlin("marlin-tiny", file, CPU)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)


def test_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match="there is no such file; expected MARLIN's weights"):
        Marlin("m", tmp_path / "none.safetensors", CPU)
    (tmp_path / "text").write_text("not weights at all")
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-1000])
    for name in ("text", "cut"):
        with pytest.raises(EmocacheError, match=f"{name}: cannot be read as safetensors: .*header"):
            Marlin("m", tmp_path / name, CPU)


def test_a_pickle_below_checkpoints_is_the_same_encoder(encoder: Marlin, weights: Weights, tmp_path: Path) -> None:
    for name, old in (("marlin-base.ckpt", True), ("marlin-small.pt", False)):
        torch.save({"state_dict": weights, "epoch": 3}, tmp_path / name, _use_new_zipfile_serialization=not old)
        converted = load(name.partition(".")[0], checkpoints=tmp_path, device="cpu")
        assert isinstance(converted, Marlin)
        np.testing.assert_array_equal(items(converted, video(1))[None].frames, items(encoder, video(1))[None].frames)
        assert converted.recipe(None)["weights_sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    (tmp_path / "wrong.safetensors").write_bytes((tmp_path / "marlin-small.pt").read_bytes())
    with pytest.raises(EmocacheError, match=r"it is a pickle, call it wrong.pt"):
        Marlin("m", tmp_path / "wrong.safetensors", CPU)
