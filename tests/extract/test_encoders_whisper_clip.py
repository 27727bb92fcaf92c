from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import Utterance
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.encoders.whisper import frames
from emocache.extract.encoders.whisper_clip import ClipWhisper

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def faithful(tiny_whisper: Path) -> Encoder:
    return load(str(tiny_whisper), device="cpu")


@pytest.fixture(scope="module")
def encoder(tiny_whisper: Path) -> ClipWhisper:
    found = load(f"{tiny_whisper}-clip", device="cpu")
    assert isinstance(found, ClipWhisper)
    return found


def of_positions(folder: Path, audio: Samples, positions: int) -> list[Samples]:
    """Hidden states of one clip of up to 30 s by transformers, whose layers get the first `positions` only."""
    from transformers import WhisperFeatureExtractor, WhisperModel

    whole: Any = WhisperModel.from_pretrained(folder, dtype=torch.float32)
    model = whole.eval().encoder
    features = WhisperFeatureExtractor.from_pretrained(folder)(audio, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        found = [model(features.input_features, output_hidden_states=True).hidden_states[0][:, :positions]]
        for layer in model.layers:
            found.append(layer(found[-1], None))
        found.append(model.layer_norm(found[-1]))
    return [states[0].numpy() for states in found]


@pytest.mark.parametrize("length", [53_000, 1, 1234, 470_000])
@pytest.mark.parametrize("tail", [0.0, 0.5, 2.0])
def test_equals_transformers_layers_over_the_first_positions(
    length: int, tail: float, tiny_whisper: Path, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    encoder: Any = load(f"{tiny_whisper}-clip", device="cpu")
    encoder.tail = tail
    audio = voice(30.0, 1)[:length]
    expected = of_positions(tiny_whisper, audio, min(1500, frames(length) + round(50 * tail)))
    for layer, states in ((0, expected[0]), (1, expected[1]), (None, expected[-1])):
        found = frames_of(encoder, Clip("a", audio), layer)
        assert len(found) == frames(length)
        np.testing.assert_allclose(found, states[: len(found)], atol=1e-6)


def test_thirty_seconds_are_those_of_the_faithful_encoder(
    faithful: Encoder, encoder: Encoder, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    for n in (480_000, 479_999, 476_500):  # the tail reaches the window's end
        clip = Clip("a", voice(30.0)[:n])
        for layer in (None, 0, 1):
            np.testing.assert_allclose(frames_of(encoder, clip, layer), frames_of(faithful, clip, layer), atol=1e-6)


def test_the_first_layer_is_given_what_the_faithful_one_is(
    faithful: Encoder, encoder: Encoder, clips: list[Clip], frames_of: Callable[..., Samples]
) -> None:
    for clip in clips:
        np.testing.assert_allclose(frames_of(encoder, clip, 0), frames_of(faithful, clip, 0), atol=1e-6)
        assert np.abs(frames_of(encoder, clip) - frames_of(faithful, clip)).max() > 1e-3


@pytest.mark.parametrize("tail", [0.0, 0.5])
def test_batched_equals_alone(
    tail: float,
    tiny_whisper: Path,
    clips: list[Clip],
    voice: Callable[..., Samples],
    worst_distance: Callable[..., float],
) -> None:
    encoder: Any = load(f"{tiny_whisper}-clip", device="cpu")
    encoder.tail = tail
    ends = [Clip(f"end{n}", voice(30.0, 7)[:n]) for n in (1, 480_000, 479_680, 471_000)]
    assert worst_distance(encoder, [*clips, *ends], (None, 0, 1)) <= 1e-5


def test_layers_in_one_pass_equal_separate_passes(encoder: Encoder, clips: list[Clip]) -> None:
    (together,) = encoder.encode(clips[:1], [1, None, 0])
    assert isinstance(together, dict) and set(together) == {1, None, 0}
    for layer in (0, 1, None):
        (apart,) = encoder.encode(clips[:1], [layer])
        assert isinstance(apart, dict)
        np.testing.assert_array_equal(together[layer].frames, apart[layer].frames)


def test_layers_that_nobody_asked_for_are_left_out(tiny_whisper: Path, clips: list[Clip]) -> None:
    encoder: Any = load(f"{tiny_whisper}-clip", device="cpu")
    ran: list[int] = []
    for number, layer in enumerate(encoder._model.layers, start=1):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    for asked, expected in (([0], [1]), ([1, 0], [1]), ([1, None], [1, 2]), ([2], [1, 2])):
        ran.clear()
        encoder.encode(clips[:2], asked)
        assert ran == expected


def test_long_clips_are_cut_every_30_seconds(
    encoder: Encoder, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    audio = voice(61.017)
    pieces = [frames_of(encoder, Clip("piece", audio[at : at + 480_000])) for at in range(0, len(audio), 480_000)]
    long, short = encoder.encode([Clip("long", audio), Clip("short", audio[:8000])], [None])
    assert isinstance(long, dict) and isinstance(short, dict)
    np.testing.assert_allclose(long[None].frames, np.concatenate(pieces), atol=1e-5)
    assert len(long[None].frames) == frames(len(audio)) == encoder.expected_frames(Utterance("a", duration=61.017))
    assert len(short[None].frames) == 25


def test_faults(encoder: Encoder, check_faults: Callable[[Encoder], None]) -> None:
    check_faults(encoder)


def test_the_recipe_is_of_its_own_and_the_cost_that_of_the_clip(faithful: Encoder, tiny_whisper: Path) -> None:
    encoder: Any = load(f"{tiny_whisper}-clip", device="cpu")
    ours, theirs = encoder.recipe(1), faithful.recipe(1)
    assert {key for key in ours if ours[key] != theirs[key]} == {"encoder", "windowing"}
    assert ours["windowing"] == {**theirs["windowing"], "positions": "clip and tail", "tail_seconds": encoder.tail}
    encoder.tail = 0.25
    assert encoder.recipe(1)["windowing"]["tail_seconds"] == 0.25
    costs = [encoder.cost(Utterance("a", duration=seconds)) for seconds in (2.0, 29.9, 30.0, 62.0)]
    assert costs == [2.25, 30.0, 30.0, 62.25]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_near(
    precision: str, encoder: Encoder, tiny_whisper: Path, clips: list[Clip], frames_of: Callable[..., Samples]
) -> None:
    low = load(f"{tiny_whisper}-clip", device="cpu", precision=precision)
    together = low.encode(clips, [None])  # under a mask
    for clip, found in zip(clips, together, strict=True):
        exact = frames_of(encoder, clip)
        assert isinstance(found, dict)
        for frames_ in (found[None].frames, frames_of(low, clip)):
            assert 1e-6 < np.linalg.norm(frames_ - exact) / np.linalg.norm(exact) < 0.05


@pytest.mark.slow
def test_whisper_base(
    shared: Callable[[str], Path], voice: Callable[..., Samples], worst_distance: Callable[..., float]
) -> None:
    folder = shared("checkpoints/whisper-base")
    encoder = load("whisper-base-clip", checkpoints=folder.parent, device="cpu")
    some = [Clip(f"clip{i}", voice(seconds, i)) for i, seconds in enumerate((0.1, 12.0, 2.5, 30.0))]
    assert worst_distance(encoder, some, (None, 0, 4)) <= 1e-5
