"""wav2vec 2.0, HuBERT and WavLM on small random models of the real classes; see conftest."""

import json
import logging
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import EmocacheError, Utterance
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.encoders import wav2vec2 as module

Samples = npt.NDArray[np.float32]
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
KINDS = ("wav2vec2", "hubert", "wavlm")
BOTH = list(product(KINDS, ("group", "layer")))


def stock_model(folder: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).eval()


def stock(folder: Path, audio: Samples) -> tuple[list[Samples], Samples]:
    """Hidden states and last hidden state of one clip by transformers alone."""
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    features = extractor(audio, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        out = stock_model(folder)(features.input_values, output_hidden_states=True)
    return [h[0].numpy() for h in out.hidden_states], out.last_hidden_state[0].numpy()


def relative(a: Samples, b: Samples) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_frame_counts() -> None:
    for n in (400, 719, 720, 48_000, 80_000, 128_000, 160_000, 240_000):
        assert module.frames(n) == (n - 400) // 320 + 1
    assert [module.frames(s * 16_000) for s in (3, 5, 8, 10, 15)] == [149, 249, 399, 499, 749]
    assert module.frames(1) == module.frames(399) == 1


@pytest.mark.parametrize(("kind", "norm"), BOTH)
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_transformers_on_one_clip(
    kind: str, norm: str, normalize: bool, make_speech_model: Callable[..., Path], voice: Callable[..., Samples]
) -> None:
    folder = make_speech_model(kind, norm, normalize)
    encoder = load(str(folder), device="cpu")
    audio = voice(1.7, 4)
    hidden, last = stock(folder, audio)
    (ours,) = encoder.encode([Clip("a", audio)], [0, 1, 2, None])
    assert isinstance(ours, dict)
    assert len(hidden) == 4 and encoder.layers == 3
    for layer in (0, 1, 2):
        assert relative(ours[layer].frames, hidden[layer]) < 1e-6
    assert relative(ours[None].frames, last) < 1e-6
    # What transformers calls the last of the hidden states lacks the final layer norm of the "stable" models.
    assert np.allclose(hidden[3], last, atol=1e-5) == (norm == "group")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "norm"), BOTH)
def test_batched_equals_alone(
    kind: str,
    norm: str,
    make_speech_model: Callable[..., Path],
    clips: list[Clip],
    worst_distance: Callable[..., float],
) -> None:
    encoder = load(str(make_speech_model(kind, norm)), device="cpu")
    assert worst_distance(encoder, clips, (None, 0, 2)) <= 1e-5


@pytest.mark.parametrize(
    ("kind", "norm", "changes"),
    [
        ("wav2vec2", "group", {"do_stable_layer_norm": True}),
        ("wavlm", "layer", {"do_stable_layer_norm": False}),
        ("hubert", "group", {"conv_pos_batch_norm": True}),
        ("hubert", "layer", {"feat_proj_layer_norm": False, "num_conv_pos_embeddings": 31}),
    ],
)
def test_batched_equals_alone_in_rarer_architectures(
    kind: str,
    norm: str,
    changes: dict[str, Any],
    make_speech_model: Callable[..., Path],
    clips: list[Clip],
    worst_distance: Callable[..., float],
    frames_of: Callable[..., Samples],
) -> None:
    folder = make_speech_model(kind, norm, **changes)
    encoder = load(str(folder), device="cpu")
    assert worst_distance(encoder, clips) <= 1e-5
    assert clips[2].audio is not None
    assert relative(frames_of(encoder, clips[2]), stock(folder, clips[2].audio)[1]) < 1e-6


def test_a_checkpoint_fine_tuned_for_recognition(
    make_speech_model: Callable[..., Path], tmp_path: Path, clips: list[Clip], frames_of: Callable[..., Samples]
) -> None:
    from transformers import Wav2Vec2ForCTC

    folder = make_speech_model("wav2vec2", "layer", True)
    Wav2Vec2ForCTC.from_pretrained(folder).save_pretrained(tmp_path / "ctc")
    shutil.copy(folder / "preprocessor_config.json", tmp_path / "ctc")
    plain, tuned = (load(str(f), device="cpu") for f in (folder, tmp_path / "ctc"))
    np.testing.assert_array_equal(frames_of(plain, clips[2]), frames_of(tuned, clips[2]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_trap_is_real(kind: str, make_speech_model: Callable[..., Path], voice: Callable[..., Samples]) -> None:
    model = stock_model(make_speech_model(kind, "group"))
    alone = torch.from_numpy(voice(1.0))[None]
    padded = torch.nn.functional.pad(alone, (0, 32_000))
    mask = (torch.arange(48_000) < 16_000).long()[None]
    with torch.no_grad():
        expected = model(alone).last_hidden_state
        for options in ({}, {"attention_mask": mask}):
            assert relative(model(padded, **options).last_hidden_state[:, :49].numpy(), expected.numpy()) > 0.01


def test_normalisation_is_per_clip_and_recorded(make_speech_model: Callable[..., Path]) -> None:
    for norm, stated in [("group", True), ("layer", False)]:
        encoder = load(str(make_speech_model("wav2vec2", norm, stated)), device="cpu")
        assert encoder.recipe(None)["preprocessing"]["normalize"] is stated


def test_very_short_clips_are_filled_up(
    make_speech_model: Callable[..., Path],
    voice: Callable[..., Samples],
    frames_of: Callable[..., Samples],
    worst_distance: Callable[..., float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = make_speech_model("hubert", "group")
    encoder = load(str(folder), device="cpu")
    audio = voice(0.1)[:250]
    with caplog.at_level(logging.WARNING):
        short = frames_of(encoder, Clip("blip", audio))
    assert "utterance blip: 250 samples, filled up with zeros to 400" in caplog.text
    normal = np.pad((audio - audio.mean()) / np.sqrt(audio.var() + 1e-7), (0, 150))
    with torch.no_grad():
        expected = stock_model(folder)(torch.from_numpy(normal)[None]).last_hidden_state[0].numpy()
    assert short.shape == (1, 48) and relative(short, expected) < 1e-6
    pair = [Clip("one sample", audio[:1]), Clip("long", voice(2.0))]
    assert worst_distance(encoder, pair) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "norm"), [("wav2vec2", "group"), ("wavlm", "layer")])
def test_long_clips_go_through_in_windows(
    kind: str,
    norm: str,
    make_speech_model: Callable[..., Path],
    voice: Callable[..., Samples],
    frames_of: Callable[..., Samples],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make_speech_model(kind, norm)
    encoder = load(str(folder), device="cpu")
    audio = voice(70.3, 5)
    clip = Clip("long", audio)
    ours = frames_of(encoder, clip)
    count = (len(audio) - 400) // 320 + 1
    assert len(ours) == count == encoder.expected_frames(Utterance("a", duration=70.3)) == 3514

    normal = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    model = stock_model(folder)

    def run(samples: Samples) -> Samples:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(samples)[None]).last_hidden_state[0])

    # The middle third, with 100 frames of context on either side, by hand.
    begin, end = count // 3, count * 2 // 3
    middle = run(normal[(begin - 100) * 320 : (end - 1 + 100) * 320 + 400])
    assert relative(ours[begin:end], middle[100 : 100 + end - begin]) < 1e-6

    whole = run(normal)
    monkeypatch.setattr(module, "_CONTEXT", 0)
    hard = frames_of(encoder, clip)
    joins = np.r_[begin - 10 : begin + 10, end - 10 : end + 10]

    def error(frames: Samples) -> float:
        return float((np.linalg.norm(frames - whole, axis=1) / np.linalg.norm(whole, axis=1))[joins].max())

    assert error(ours) < 0.01 and error(hard) > 0.1


def test_clips_of_up_to_30_seconds_stay_whole() -> None:
    assert len(module._cut([np.zeros(480_000, np.float32)])) == 1
    (one, two) = module._cut([np.zeros(481_000, np.float32)])
    assert (one.start, one.skip, two.skip, two.stop) == (0, 0, 100, 481_000)
    assert one.keep + two.keep == module.frames(481_000)


def test_layers_in_one_pass_equal_separate_passes(make_speech_model: Callable[..., Path], clips: list[Clip]) -> None:
    encoder = load(str(make_speech_model("wavlm", "layer")), device="cpu")
    (together,) = encoder.encode(clips[2:3], [0, 1, 2, 3, None])
    assert isinstance(together, dict)
    np.testing.assert_array_equal(together[3].frames, together[None].frames)
    for layer in (0, 1, 2, None):
        (apart,) = encoder.encode(clips[2:3], [layer])
        assert isinstance(apart, dict)
        np.testing.assert_array_equal(together[layer].frames, apart[layer].frames)


@pytest.mark.parametrize(("kind", "norm"), [("hubert", "group"), ("wavlm", "layer")])
def test_faults(
    kind: str, norm: str, make_speech_model: Callable[..., Path], check_faults: Callable[[Encoder], None]
) -> None:
    check_faults(load(str(make_speech_model(kind, norm)), device="cpu"))


@pytest.mark.parametrize(("kind", "norm"), BOTH)
def test_bf16_is_close(
    kind: str,
    norm: str,
    make_speech_model: Callable[..., Path],
    clips: list[Clip],
    frames_of: Callable[..., Samples],
) -> None:
    folder = make_speech_model(kind, norm)
    low, full = (load(str(folder), device="cpu", precision=p) for p in ("bf16", "float32"))
    distance = relative(frames_of(low, clips[2]), frames_of(full, clips[2]))
    assert 1e-6 < distance < 0.1
    assert low.recipe(None) == full.recipe(None) | {"precision": "bf16"}


def test_recipe_and_planning(make_speech_model: Callable[..., Path]) -> None:
    encoder = load(str(make_speech_model("hubert", "group")), device="cpu")
    recipe = encoder.recipe(None)
    assert recipe["times"] == {"rate": 50.0, "first_start": 0.0, "width": 0.025}
    assert recipe == encoder.recipe(3) and encoder.recipe(0)["layer"] == 0
    assert recipe["encoder"] == "tiny-speech" and recipe["inputs"] == ["audio"] and recipe["dim"] == 48
    assert encoder.cost(Utterance("a", duration=20.0)) == 20
    assert encoder.cost(Utterance("a", duration=70.3)) == pytest.approx(78.3)
    with pytest.raises(EmocacheError, match="has layers 0 to 3; there is no layer -1"):
        encoder.recipe(-1)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "50 frames a second"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "expects audio at 8000 Hz; only 16000"),
    ],
)
def test_other_front_ends_are_refused(
    file: str, changes: dict[str, Any], message: str, make_speech_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(make_speech_model("wav2vec2", "group"), tmp_path / "odd")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))
    with pytest.raises(EmocacheError, match=message):
        load(str(folder), device="cpu")


def test_out_of_memory_is_passed_on(make_speech_model: Callable[..., Path], clips: list[Clip]) -> None:
    encoder = load(str(make_speech_model("wav2vec2", "group")), device="cpu")
    assert isinstance(encoder, module.Wav2Vec2)

    def fail(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    encoder._model.forward = fail
    with pytest.raises(torch.cuda.OutOfMemoryError):
        encoder.encode(clips, [None, 1])


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_ten_seconds_are_the_clip_with_zeros_as_one_clip(
    norm: str, make_speech_model: Callable[..., Path], voice: Callable[..., Samples]
) -> None:
    folder = make_speech_model("wav2vec2", norm, True)
    encoder = load(f"{folder}-10s", device="cpu")
    for seconds_ in (1.3, 11.0):
        audio = voice(seconds_, 4)
        whole = np.zeros(160_000, np.float32)
        whole[: len(audio)] = audio[:160_000]
        (found,) = encoder.encode([Clip("a", audio)], [None])
        expected = stock(folder, whole)[1]
        assert isinstance(found, dict) and len(found[None].frames) == 499
        assert relative(found[None].frames, expected) < 1e-5
    assert encoder.recipe(None)["clips"] == {"samples": 160_000, "padding": "zeros, unmasked"}
    assert encoder.expected_frames(Utterance("a", duration=2.0)) == 499 and "clips" not in load(str(folder)).recipe(
        None
    )
