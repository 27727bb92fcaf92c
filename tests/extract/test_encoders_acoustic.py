from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError, Utterance
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.encoders.acoustic import log_mel

Samples = npt.NDArray[np.float32]


def naive_log_mel(audio: Samples) -> npt.NDArray[np.float64]:
    """The definition, frame by frame and band by band."""
    top = 2595 * np.log10(1 + 8000 / 700)
    edges = [700 * (10 ** (top * k / 41 / 2595) - 1) for k in range(42)]
    rows = []
    for frame in range(1 + len(audio) // 160):
        windowed = np.zeros(512)
        for k in range(400):
            at = 160 * frame - 200 + k
            sample = float(audio[at]) if 0 <= at < len(audio) else 0.0
            windowed[k] = sample * (0.54 - 0.46 * np.cos(2 * np.pi * k / 400))
        power = np.abs(np.fft.fft(windowed)[:257]) ** 2
        row = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            energy = 0.0
            for bin_, value in enumerate(power):
                hertz = bin_ * 16_000 / 512
                if low < hertz <= centre:
                    energy += value * (hertz - low) / (centre - low)
                elif centre < hertz < high:
                    energy += value * (high - hertz) / (high - centre)
            row.append(np.log(max(energy, 1e-10)))
        rows.append(row)
    return np.asarray(rows)


def naive_dct(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Orthonormal DCT-II by its sum."""
    k, n = np.arange(40)[:, None], np.arange(40)
    basis = np.cos(np.pi * k * (2 * n + 1) / 80) * np.where(k == 0, np.sqrt(1 / 40), np.sqrt(2 / 40))
    return np.asarray(rows @ basis.T)


@pytest.fixture(params=["logmel", "mfcc"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return load(request.param)


@pytest.mark.parametrize("n", [1, 159, 160, 200, 399, 3333])
def test_equals_the_naive_definition(n: int, voice: Callable[..., Samples], frames_of: Callable[..., Samples]) -> None:
    audio = voice(1.0)[:n]
    expected = naive_log_mel(audio)
    np.testing.assert_allclose(frames_of(load("logmel"), Clip("a", audio)), expected, atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(frames_of(load("mfcc"), Clip("a", audio)), naive_dct(expected), atol=2e-3, rtol=1e-4)


def test_a_pure_tone_lies_in_its_band(frames_of: Callable[..., Samples]) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    frames = frames_of(load("logmel"), Clip("tone", tone))
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)[1:-1] / 2595) - 1)
    assert (frames[5:-5].argmax(axis=1) == np.abs(centres - 1000).argmin()).all()


def test_silence_is_the_floor(frames_of: Callable[..., Samples]) -> None:
    frames = frames_of(load("logmel"), Clip("silence", np.zeros(4000, np.float32)))
    np.testing.assert_allclose(frames, np.log(1e-10), rtol=1e-6)


def test_long_recordings_are_done_in_blocks(voice: Callable[..., Samples]) -> None:
    audio = voice(100.0)
    frames = log_mel(audio)
    assert len(frames) == 10_001
    np.testing.assert_allclose(frames[8100:8300], log_mel(audio[8000 * 160 : 8500 * 160])[100:300], atol=1e-4)


def test_batched_equals_alone(encoder: Encoder, clips: list[Clip], worst_distance: Callable[..., float]) -> None:
    assert worst_distance(encoder, clips) == 0


def test_faults(encoder: Encoder, check_faults: Callable[[Encoder], None]) -> None:
    check_faults(encoder)


def test_recipe(encoder: Encoder, clips: list[Clip], frames_of: Callable[..., Samples]) -> None:
    recipe: dict[str, Any] = encoder.recipe(None)
    assert recipe["encoder"] == encoder.name and recipe["layer"] is None and recipe["aux"] == {}
    assert recipe["times"] == {"rate": 100.0, "first_start": -0.0125, "width": 0.025}
    assert recipe["dim"] == encoder.dim == 40 and encoder.layers == 0 and encoder.rate == 100
    assert "precision" not in recipe and load(encoder.name, precision="bf16").recipe(None) == recipe
    assert load("mfcc").recipe(None)["preprocessing"] != load("logmel").recipe(None)["preprocessing"]
    for clip in clips:
        assert clip.audio is not None
        utterance = Utterance("a", duration=len(clip.audio) / 16_000)
        assert encoder.expected_frames(utterance) == len(frames_of(encoder, clip))
        assert encoder.cost(utterance) == pytest.approx(len(clip.audio) / 16_000)


def test_there_are_no_layers(encoder: Encoder) -> None:
    with pytest.raises(EmocacheError, match=f"encoder '{encoder.name}' has no layers, but layer 3"):
        encoder.recipe(3)
    with pytest.raises(EmocacheError, match="has no layers"):
        encoder.encode([], [0])
