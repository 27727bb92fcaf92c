import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import EmocacheError, Utterance
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.encoders.whisper import Whisper, frames

Samples = npt.NDArray[np.float32]


def stock(folder: Path, audio: Samples) -> tuple[list[Samples], Samples]:
    """Hidden states and last hidden state of one clip of up to 30 s, by transformers alone; all 1500 frames."""
    from transformers import WhisperFeatureExtractor, WhisperModel

    model: Any = WhisperModel.from_pretrained(folder, dtype=torch.float32)
    features = WhisperFeatureExtractor.from_pretrained(folder)(audio, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        out = model.eval().encoder(features.input_features, output_hidden_states=True)
    return [h[0].numpy() for h in out.hidden_states], out.last_hidden_state[0].numpy()


@pytest.fixture(scope="module")
def tiny(tiny_whisper: Path) -> Encoder:
    return load(str(tiny_whisper), device="cpu")


def test_frame_counts() -> None:
    for n in (1, 159, 160, 161, 320, 321, 48_000, 479_999, 480_000):
        assert frames(n) == int(np.ceil(np.ceil(n / 160) / 2))
    assert frames(480_000) == 1500


def test_equals_transformers_on_one_clip(
    tiny: Encoder, tiny_whisper: Path, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    for audio in (voice(3.3, 1), voice(0.1, 2)[:1234]):
        hidden, last = stock(tiny_whisper, audio)
        count = frames(len(audio))
        np.testing.assert_allclose(frames_of(tiny, Clip("a", audio)), last[:count], atol=1e-6)
        for layer in (0, 1):
            np.testing.assert_allclose(frames_of(tiny, Clip("a", audio), layer), hidden[layer][:count], atol=1e-6)


def test_the_front_end_is_transformers_own(tiny: Encoder, clips: list[Clip]) -> None:
    from transformers import WhisperFeatureExtractor

    assert isinstance(tiny, Whisper)
    audios = [clip.audio for clip in clips if clip.audio is not None]
    extractor = WhisperFeatureExtractor(feature_size=80)  # type: ignore[no-untyped-call]
    expected = extractor(audios, sampling_rate=16_000, return_tensors="pt")
    batched = tiny._log_mel(audios)
    np.testing.assert_allclose(batched.numpy(), expected.input_features.numpy(), atol=1e-6)
    for row, audio in zip(batched, audios, strict=True):
        assert torch.equal(tiny._log_mel([audio])[0], row)


def test_batched_equals_alone(tiny: Encoder, clips: list[Clip], worst_distance: Callable[..., float]) -> None:
    assert worst_distance(tiny, clips, (None, 0, 1)) <= 1e-5


def test_layers_in_one_pass_equal_separate_passes(tiny: Encoder, clips: list[Clip]) -> None:
    (together,) = tiny.encode(clips[:1], [1, None, 0])
    assert isinstance(together, dict) and set(together) == {1, None, 0}
    for layer in (0, 1, None):
        (apart,) = tiny.encode(clips[:1], [layer])
        assert isinstance(apart, dict)
        np.testing.assert_array_equal(together[layer].frames, apart[layer].frames)


def test_long_clips_are_cut_every_30_seconds(
    tiny: Encoder, voice: Callable[..., Samples], frames_of: Callable[..., Samples]
) -> None:
    audio = voice(61.017)
    pieces = [frames_of(tiny, Clip("piece", audio[at : at + 480_000])) for at in range(0, len(audio), 480_000)]
    long, short = Clip("long", audio), Clip("short", audio[:8000])
    together = tiny.encode([short, long], [None])
    assert isinstance(together[0], dict) and isinstance(together[1], dict)
    np.testing.assert_allclose(together[1][None].frames, np.concatenate(pieces), atol=1e-6)
    assert len(together[1][None].frames) == frames(len(audio)) == 3051
    assert len(together[0][None].frames) == 25
    assert len(frames_of(tiny, Clip("edge", audio[:480_000]))) == 1500


def test_faults(tiny: Encoder, check_faults: Callable[[Encoder], None]) -> None:
    check_faults(tiny)


def test_recipe_and_planning(tiny: Encoder, tiny_whisper: Path) -> None:
    recipe = tiny.recipe(None)
    assert recipe == tiny.recipe(2) and recipe["layer"] is None and tiny.recipe(1)["layer"] == 1
    assert recipe["times"] == {"rate": 50.0, "first_start": 0.0, "width": 0.02}
    assert recipe["precision"] == "float32" and load(str(tiny_whisper), precision="bf16").recipe(None) != recipe
    assert str(tiny_whisper) not in json.dumps(recipe)
    with pytest.raises(EmocacheError, match="encoder 'tiny-whisper' has layers 0 to 2; there is no layer 3"):
        tiny.recipe(3)
    assert tiny.cost(Utterance("a", duration=2.0)) == 30 and tiny.cost(Utterance("a", duration=30.1)) == 60
    assert tiny.expected_frames(Utterance("a", start=1.0, end=3.5, duration=90.0)) == 125


def test_the_decoder_is_not_kept(tiny: Encoder) -> None:
    assert isinstance(tiny, Whisper)
    assert type(tiny._model).__name__ == "WhisperEncoder" and not hasattr(tiny._model, "decoder")


def test_a_checkpoint_saved_without_the_head(
    tiny: Encoder, tiny_whisper: Path, tmp_path: Path, clips: list[Clip], frames_of: Callable[..., Samples]
) -> None:
    from transformers import WhisperModel

    WhisperModel.from_pretrained(tiny_whisper).save_pretrained(tmp_path / "bare")
    bare = load(str(tmp_path / "bare"), device="cpu")
    np.testing.assert_array_equal(frames_of(bare, clips[0]), frames_of(tiny, clips[0]))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_runs_the_model_only(
    precision: str, tiny: Encoder, tiny_whisper: Path, clips: list[Clip], frames_of: Callable[..., Samples]
) -> None:
    low = load(str(tiny_whisper), device="cpu", precision=precision)
    a, b = frames_of(low, clips[2]), frames_of(tiny, clips[2])
    assert a.dtype == np.float32
    assert 1e-6 < np.linalg.norm(a - b) / np.linalg.norm(b) < 0.05
    assert isinstance(low, Whisper) and isinstance(tiny, Whisper) and clips[2].audio is not None
    assert torch.equal(low._log_mel([clips[2].audio]), tiny._log_mel([clips[2].audio]))


def test_another_front_end_is_refused(tiny_whisper: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_whisper, tmp_path / "odd")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"hop_length": 200}))
    with pytest.raises(EmocacheError, match="says hop_length 200; this model needs 160"):
        load(str(folder), device="cpu")


@pytest.mark.slow
def test_whisper_base(
    shared: Callable[[str], Path],
    voice: Callable[..., Samples],
    frames_of: Callable[..., Samples],
    worst_distance: Callable[..., float],
) -> None:
    folder = shared("checkpoints/whisper-base")
    encoder = load("whisper-base", checkpoints=folder.parent, device="cpu")
    assert (encoder.name, encoder.dim, encoder.layers) == ("whisper-base", 512, 6)
    some = [Clip(f"clip{i}", voice(seconds, i)) for i, seconds in enumerate((0.1, 12.0, 2.5))]
    assert worst_distance(encoder, some) <= 1e-5
    assert some[2].audio is not None
    hidden, last = stock(folder, some[2].audio)
    (both,) = encoder.encode(some[2:], [4, None])
    assert isinstance(both, dict)
    np.testing.assert_allclose(both[None].frames, last[:125], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(both[4].frames, hidden[4][:125], rtol=1e-4, atol=1e-4)


def test_padded_frames_are_those_of_the_whole_window(tiny_whisper: Path, voice: Callable[..., Samples]) -> None:
    audio = voice(31.0, 3)
    valid, padded = (load(f"{tiny_whisper}{suffix}", device="cpu") for suffix in ("", "-padded"))
    ((few,), (all_,)) = (encoder.encode([Clip("a", audio)], [None]) for encoder in (valid, padded))
    assert isinstance(few, dict) and isinstance(all_, dict)
    assert len(few[None].frames) == 1550 and len(all_[None].frames) == 3000 == padded.expected_frames(
        Utterance("a", duration=31.0)
    )
    assert np.array_equal(few[None].frames, all_[None].frames[:1550])
    assert padded.name == f"{valid.name}-padded" and padded.recipe(None)["windowing"]["frames"] == "all"


@pytest.mark.parametrize("length", [29.9, 30.0, 30.01, 31.0, 50.0, 50.02, 71.3])
def test_overlapping_windows_keep_the_middle_of_each(
    length: float, tiny_whisper: Path, voice: Callable[..., Samples]
) -> None:
    audio = voice(length, 3)
    encoder = load(f"{tiny_whisper}-overlap", device="cpu")
    (result,) = encoder.encode([Clip("a", audio)], [None])
    assert isinstance(result, dict)
    found = result[None].frames
    assert len(found) == frames(len(audio)) == encoder.expected_frames(Utterance("a", duration=length))
    plain = load(str(tiny_whisper), device="cpu")
    starts = [0]
    while starts[-1] + 30 < length:
        starts.append(starts[-1] + 20)
    for start in starts:  # frame by frame, each from the window where it has most on either side
        (alone,) = plain.encode([Clip("w", audio[start * 16_000 : (start + 30) * 16_000])], [None])
        assert isinstance(alone, dict)
        low = 0 if start == 0 else 250
        high = len(alone[None].frames) if start == starts[-1] else 1250
        np.testing.assert_allclose(
            found[start * 50 + low : start * 50 + high], alone[None].frames[low:high], rtol=1e-4, atol=1e-5
        )
    assert encoder.recipe(None)["windowing"]["overlap_seconds"] == 10
    assert encoder.cost(Utterance("a", duration=length)) == 30.0 * len(starts)
