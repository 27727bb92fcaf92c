import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from emocache.cache import EmocacheError, InputFailure, Item, Utterance
from emocache.cache.recipe import fingerprint
from emocache.cache.stored_form import to_storage
from emocache.extract.encoders import Clip, load
from emocache.extract.encoders.acoustic import Spectrogram
from emocache.extract.encoders.alexnet import AlexNet, SpectrogramAlexNet
from emocache.extract.encoders.inference import Runtime

Samples = npt.NDArray[np.float32]
Weights = dict[str, torch.Tensor]

# {key: shape} of torchvision.models.alexnet().state_dict()
TORCHVISION = {
    "features.0.weight": (64, 3, 11, 11), "features.0.bias": (64,),
    "features.3.weight": (192, 64, 5, 5), "features.3.bias": (192,),
    "features.6.weight": (384, 192, 3, 3), "features.6.bias": (384,),
    "features.8.weight": (256, 384, 3, 3), "features.8.bias": (256,),
    "features.10.weight": (256, 256, 3, 3), "features.10.bias": (256,),
    "classifier.1.weight": (4096, 9216), "classifier.1.bias": (4096,),
    "classifier.4.weight": (4096, 4096), "classifier.4.bias": (4096,),
    "classifier.6.weight": (1000, 4096), "classifier.6.bias": (1000,),
}  # fmt: skip
RUNTIME = Runtime.create("cpu", "float32")


@pytest.fixture(scope="module")
def weights() -> Weights:
    """As torchvision's file has them, but for the large matrices of the classifier, which are ignored."""
    generator = torch.Generator().manual_seed(5)
    made = {}
    for key, shape in TORCHVISION.items():
        shape = shape if key.startswith("features") else shape[:1]
        made[key] = torch.randn(shape, generator=generator) * 0.03
    return made


@pytest.fixture(scope="module")
def file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alexnet.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def encoder(file: Path) -> SpectrogramAlexNet:
    return SpectrogramAlexNet("alexnet", file, RUNTIME)


def naive_vector(audio: Samples, weights: Weights) -> npt.NDArray[np.float32]:
    """AlexNet, layer by layer, over the spectrogram as a picture."""
    grey = (torch.from_numpy(Spectrogram().spectrogram(audio)).T + 100) / 120
    x = torch.stack([(grey - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))])[None]

    def convolve(x: torch.Tensor, layer: int, **options: int) -> torch.Tensor:
        return F.relu(F.conv2d(x, weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"], **options))

    x = F.max_pool2d(convolve(x, 0, stride=4, padding=2), 3, 2)
    x = F.max_pool2d(convolve(x, 3, padding=2), 3, 2)
    x = convolve(convolve(convolve(x, 6, padding=1), 8, padding=1), 10, padding=1)
    return np.asarray(F.adaptive_avg_pool2d(F.max_pool2d(x, 3, 2), (6, 6)).reshape(1, 9216).numpy())


def test_equals_the_naive_network(
    encoder: SpectrogramAlexNet, weights: Weights, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    audio = voice(1.3)
    expected = naive_vector(audio, weights)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(frames_of(encoder, Clip("a", audio)), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_state_dict_is_torchvisions_without_the_classifier() -> None:
    shapes = {key: tuple(value.shape) for key, value in AlexNet().state_dict().items()}
    assert shapes == {key: shape for key, shape in TORCHVISION.items() if key.startswith("features")}


def test_equals_torchvision(voice: Callable[..., Samples]) -> None:
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    theirs, ours = models.alexnet().eval(), AlexNet().eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k.startswith("features")})
    images = torch.randn(1, 3, 128, 237)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs.avgpool(theirs.features(images)).flatten(1))


def test_batched_equals_alone(
    encoder: SpectrogramAlexNet, clips: list[Clip], worst_distance: Callable[..., float]
) -> None:
    assert worst_distance(encoder, clips) < 1e-5


def test_faults(encoder: SpectrogramAlexNet, check_faults: Callable[[SpectrogramAlexNet], None]) -> None:
    check_faults(encoder)


def test_one_vector_spans_the_utterance_and_fits_float16(
    encoder: SpectrogramAlexNet, voice: Callable[..., Samples]
) -> None:
    (result, fault) = encoder.encode([Clip("a", voice(1.5)), Clip("b", None)], [None])
    assert isinstance(result, dict) and isinstance(fault, InputFailure)
    stored = to_storage(result[None], encoder.recipe(None) | {"dtype": "float16"})
    assert stored.frames.shape == (1, 9216) and stored.times is not None
    np.testing.assert_array_equal(stored.times, [[0.0, 1.5]])
    assert encoder.expected_frames(Utterance("a", duration=1.5)) == 1
    assert encoder.cost(Utterance("a", duration=3.0)) == 2 * encoder.cost(Utterance("a", duration=1.5)) > 0


@pytest.mark.parametrize("n", [1, 8000, 9919])  # 9920 samples are 63 frames
def test_a_short_clip_is_followed_by_silence(
    encoder: SpectrogramAlexNet, n: int, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    """The padded columns are at the floor, as they are in the spectrogram of silence."""
    audio = voice(1.0)[:n]
    long_enough = np.concatenate([audio, np.zeros(9920 - n, np.float32)])
    frames = Spectrogram().spectrogram(long_enough)
    frames[1 + n // 160 :] = -100  # the windows that still reach into the clip
    vector = encoder._forward(frames).numpy()
    np.testing.assert_allclose(frames_of(encoder, Clip("a", audio)), vector, rtol=1e-5, atol=1e-6 * vector.max())


def test_a_long_recording_is_the_mean_of_equal_parts(
    encoder: SpectrogramAlexNet, voice: Callable[..., Samples], frames_of: Callable[..., Samples],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    audio = voice(2.50)  # 251 frames
    whole = Spectrogram().spectrogram(audio)
    monkeypatch.setattr("emocache.extract.encoders.alexnet._MOST", 100)
    expected = np.mean([encoder._forward(whole[a:b]).numpy() for a, b in ((0, 84), (84, 168), (168, 251))], axis=0)
    np.testing.assert_allclose(frames_of(encoder, Clip("a", audio)), expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_recipe_names_the_weights(encoder: SpectrogramAlexNet, file: Path) -> None:
    recipe = encoder.recipe(None)
    assert recipe["encoder"] == "alexnet" and recipe["times"] is None and recipe["aux"] == {}
    assert recipe["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() and "random" not in recipe
    assert recipe["preprocessing"]["n_fft"] == 800 and recipe["precision"] == "float32"
    other = SpectrogramAlexNet("alexnet", file, Runtime.create("cpu", "bf16")).recipe(None)
    assert fingerprint(other) != fingerprint(recipe)
    with pytest.raises(EmocacheError, match="encoder 'alexnet' has no layers, but layer 2"):
        encoder.recipe(2)
    with pytest.raises(EmocacheError, match="has no layers"):
        encoder.encode([], [0])


def test_random_weights_are_the_same_everywhere(voice: Callable[..., Samples]) -> None:
    one = SpectrogramAlexNet("alexnet-random", None, RUNTIME)
    recipe = one.recipe(None)
    assert recipe["weights_sha256"] == "f5659afacc6b90b5c4db28129f5dcaf6fd3270c9a57bdf77671784f4c7850ed8"
    assert recipe["random"]["seed"] == 0 and recipe["random"]["generator"] == "numpy PCG64"
    torch.manual_seed(1)  # torch's own generator has no say
    assert SpectrogramAlexNet("alexnet-random", None, RUNTIME).recipe(None) == recipe
    for key, value in one._model.state_dict().items():
        fan_in = np.prod(TORCHVISION[key.replace("bias", "weight")][1:])
        assert 0.9 < value.abs().max() * fan_in**0.5 <= 1 and abs(value.mean()) * fan_in**0.5 < 0.2


def test_random_weights_tell_clips_apart(voice: Callable[..., Samples], frames_of: Callable[..., Samples]) -> None:
    random = SpectrogramAlexNet("alexnet-random", None, RUNTIME)
    a, b = (frames_of(random, Clip("a", voice(1.0, seed))) for seed in (0, 1))
    assert np.linalg.norm(a - b) > 0.01 * np.linalg.norm(a) > 0


def test_a_pickle_below_checkpoints_is_the_same_encoder(weights: Weights, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "alexnet.pth")
    encoder = load("alexnet", checkpoints=tmp_path, device="cpu")
    assert encoder.recipe(None)["weights_sha256"] == hashlib.sha256((tmp_path / "alexnet.pth").read_bytes()).hexdigest()


def test_other_weights_are_refused(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"

    def refused(words: str) -> None:
        with pytest.raises(EmocacheError, match=words) as caught:
            SpectrogramAlexNet("alexnet", path, RUNTIME)
        assert "\n" not in str(caught.value)

    refused(r"other.safetensors: there is no such file; it should hold torchvision's AlexNet")
    path.write_bytes(b"not weights")
    refused(r"other.safetensors cannot be read as safetensors: .*; save or copy it again")
    save_file({k: v for k, v in weights.items() if "features.6" not in k}, path)
    refused(r"no features.6.bias, which torchvision's AlexNet has; missing are 2 of 10 weights")
    save_file(weights | {"features.0.bias": torch.full((64,), torch.nan)}, path)
    refused(r"features.0.bias holds NaN or infinity; save or copy it again")
    save_file(weights | {"features.0.weight": torch.zeros(64, 1, 11, 11)}, path)
    refused(r"features.0.weight has shape \[64, 1, 11, 11\], torchvision's AlexNet \[64, 3, 11, 11\]")


def test_weights_of_another_precision_are_read_as_float32(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({key: value.half() for key, value in weights.items()}, path)
    (result,) = SpectrogramAlexNet("alexnet", path, RUNTIME).encode([Clip("a", np.ones(9999, np.float32))], [None])
    assert isinstance(result, dict) and isinstance(result[None], Item) and result[None].frames.dtype == np.float32
