"""The models built like wav2vec 2.0, and w2v-BERT: small random ones of the real classes against transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from emocache.cache import EmocacheError, Utterance
from emocache.extract.encoders import Clip, Encoder, inference, load
from emocache.extract.encoders import wav2vec2_bert as bert

from ..pretend_cuda import pretend_cuda

Samples = npt.NDArray[np.float32]
Make = Callable[..., Path]

SECONDS = (0.1, 0.2, 12.0, 0.41, 0.7, 1.0, 5.03, 1.6, 2.5, 3.3)
SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 8,
    "output_hidden_size": 32,
}  # fmt: skip
WAVES: dict[str, Any] = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
STACK: dict[str, Any] = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 9}  # of data2vec
GROUP: dict[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
LAYER: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "unispeech-sat-base": ("UniSpeechSat", GROUP),
    "unispeech-sat-large": ("UniSpeechSat", LAYER),
    "data2vec": ("Data2VecAudio", STACK),
    "data2vec-odd-even": ("Data2VecAudio", STACK | {"conv_pos_kernel_size": 8, "conv_bias": True}),
    "conformer-relative": ("Wav2Vec2Conformer", LAYER | {"position_embeddings_type": "relative"}),
    "conformer-rotary": ("Wav2Vec2Conformer", LAYER | {"position_embeddings_type": "rotary"}),
    "conformer-group": ("Wav2Vec2Conformer", GROUP | {"position_embeddings_type": None}),
    "conformer-few-positions": ("Wav2Vec2Conformer", LAYER | {"max_source_positions": 100}),
    "bert-relative-key": ("Wav2Vec2Bert", {}),
    "bert-relative": ("Wav2Vec2Bert", {"position_embeddings_type": "relative"}),
    "bert-rotary": ("Wav2Vec2Bert", {"position_embeddings_type": "rotary"}),
    "adapter-base": ("Wav2Vec2", GROUP | {"add_adapter": True}),
    "adapter-large": ("Wav2Vec2", LAYER | {"add_adapter": True, "output_hidden_size": 24}),
    "adapter-data2vec": ("Data2VecAudio", STACK | {"add_adapter": True}),
    "adapter-conformer": ("Wav2Vec2Conformer", LAYER | {"add_adapter": True}),
    "adapter-bert": ("Wav2Vec2Bert", {"add_adapter": True, "output_hidden_size": 24}),
    "adapter-bert-ffn": ("Wav2Vec2Bert", {"add_adapter": True, "use_intermediate_ffn_before_adapter": True}),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Writes the checkpoint of one of KINDS, with changes to its config, and gives its folder."""
    import transformers

    def write(kind: str, head: str = "Model", **changes: object) -> Path:
        name, settings = KINDS[kind]
        waves = {} if name == "Wav2Vec2Bert" else WAVES
        config = getattr(transformers, f"{name}Config")(**(SMALL | waves | settings | changes))
        torch.manual_seed(5)
        model = getattr(transformers, f"{name}{head}")(config)
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                if value.dim() == 1 and value.is_floating_point():  # fresh norms would hide mistakes
                    value += 0.2 * torch.rand_like(value)
        folder = tmp_path_factory.mktemp(kind) / f"tiny-{kind}"
        model.save_pretrained(folder)
        if name == "Wav2Vec2Bert":
            # As the published model's.
            front = {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": 80, "num_mel_bins": 80,
                     "padding_side": "right", "padding_value": 1, "sampling_rate": 16_000, "stride": 2}  # fmt: skip
        else:
            front = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(front))
        return folder

    return write


@pytest.fixture(scope="module")
def ten(voice: Callable[..., Samples]) -> list[Clip]:
    """Ten clips from 0.1 to 12 s."""
    return [Clip(f"clip{i}", voice(seconds, i)) for i, seconds in enumerate(SECONDS)]


def stock(folder: Path, audios: list[Samples], model: Any = None) -> list[dict[int | None, Samples]]:
    """Hidden states of each clip alone by transformers, {None: what the encoder gives to an adapter or a head}."""
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(folder).eval() if model is None else model
    given: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda _m, _i, out: given.append(out.last_hidden_state))
    found = []
    for audio in audios:
        inputs = extractor(audio, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            out = model(**inputs, output_hidden_states=True)
        # w2v-BERT's extractor fills up an odd number of filter banks, and masks the frame that has the filling in it.
        count = int(inputs["attention_mask"].sum()) if "input_features" in inputs else len(given[-1][0])
        states: dict[int | None, Samples] = {i: h[0, :count].numpy() for i, h in enumerate(out.hidden_states[:-1])}
        if getattr(model, "adapter", None) is None:
            assert torch.equal(out.last_hidden_state, given[-1])
        found.append(states | {None: given[-1][0, :count].numpy()})
    return found


def relative(a: Samples, b: Samples) -> float:
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def encoded(encoder: Encoder, clips: list[Clip], layers: list[int | None]) -> list[dict[int | None, Samples]]:
    results = encoder.encode(clips, layers)
    assert all(isinstance(result, dict) for result in results)
    return [{layer: result[layer].frames for layer in layers} for result in results]  # type: ignore[index,union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_batched_equals_alone_and_transformers(kind: str, make: Make, ten: list[Clip]) -> None:
    folder = make(kind)
    encoder = load(str(folder), device="cpu")
    layers: list[int | None] = [0, 1, None]
    together = encoded(encoder, ten, layers)
    expected = stock(folder, [clip.audio for clip in ten if clip.audio is not None])
    assert encoder.layers == 2 and len(expected) == len(ten)
    worst = 0.0
    for clip, batched, direct in zip(ten, together, expected, strict=True):
        (alone,) = encoded(encoder, [clip], layers)
        assert clip.audio is not None
        assert len(batched[None]) == encoder.expected_frames(Utterance("a", duration=len(clip.audio) / 16_000))
        assert batched[None].shape[1] == encoder.dim == 32 and direct.keys() == batched.keys()
        for layer in layers:
            worst = max(worst, relative(batched[layer], alone[layer]), relative(alone[layer], direct[layer]))
    print(f"worst distance of {kind}: {worst:.1e}")
    assert worst <= 1e-5
    # Every frame by itself: a norm over a whole clip could hide its last ones.
    ends = [relative(b[None][-1:], d[None][-1:]) for b, d in zip(together, expected, strict=True)]
    assert max(ends) <= 2e-5
    assert encoder.recipe(None).get("output") == ("before the adapter" if kind.startswith("adapter") else None)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("adapter")])
def test_frames_are_masked_as_transformers_masks_them(kind: str, precision: str, make: Make, ten: list[Clip]) -> None:
    """The hooks that ask the device for nothing give the numbers of `attention_mask`."""
    folder = make(kind)
    ours, usual = (load(str(folder), device="cpu", precision=precision) for _ in range(2))
    model: Any = usual._model  # type: ignore[attr-defined]
    for module in (model.encoder, *model.encoder.layers):
        module._forward_pre_hooks.clear()
    batch = [clip for clip in ten[3:] if clip.audio is not None]

    def mask(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        longest = sorted((len(clip.audio) for clip in batch if clip.audio is not None), reverse=True)
        counts = torch.tensor([bert.frames(n) if given[0].dim() == 3 else n for n in longest])
        return given, named | {"attention_mask": torch.arange(given[0].shape[1]) < counts[:, None]}

    model.register_forward_pre_hook(mask, with_kwargs=True)
    for a, b in zip(encoded(ours, batch, [0, 1, None]), encoded(usual, batch, [0, 1, None]), strict=True):
        assert all(np.abs(a[layer] - b[layer]).max() <= 1e-6 for layer in a)


@pytest.mark.parametrize("kind", KINDS)
def test_no_family_asks_the_device_for_values(kind: str, make: Make, ten: list[Clip]) -> None:
    here = encoded(load(str(make(kind)), device="cpu"), ten[3:6], [0, None])
    with pretend_cuda() as device:
        device.lock = inference._LAUNCHING
        encoder = load(str(make(kind)), device="cuda")
        device.counts.clear()
        there = encoded(encoder, ten[3:6], [0, None])
    # transformers makes the table of rotary positions on the host, when a length is new.
    assert device.counts["waits in the lock"] == kind.endswith("rotary")
    assert device.counts["waits"] - device.counts["waits in the lock"] == 1
    for a, b in zip(here, there, strict=True):
        assert all(np.allclose(a[layer], b[layer], atol=1e-5) for layer in a)


@pytest.mark.parametrize("kind", ["data2vec", "conformer-rotary"])
def test_the_trap_is_real(kind: str, make: Make, voice: Callable[..., Samples]) -> None:
    """With transformers' own attention mask, padding still reaches the last frames of a clip."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(make(kind)).eval()
    alone = torch.from_numpy(voice(1.0))[None]
    padded = torch.nn.functional.pad(alone, (0, 32_000))
    mask = (torch.arange(48_000) < 16_000).long()[None]
    with torch.no_grad():
        expected, found = model(alone).last_hidden_state, model(padded, attention_mask=mask).last_hidden_state
    assert relative(found[:, :49].numpy(), expected.numpy()) > 1e-3


@pytest.mark.parametrize("kind", ["data2vec", "bert-relative-key"])
def test_long_clips_go_through_in_windows(kind: str, make: Make, voice: Callable[..., Samples]) -> None:
    folder = make(kind)
    encoder = load(str(folder), device="cpu")
    audio = voice(31.3, 5)
    (ours,) = encoded(encoder, [Clip("long", audio)], [None])
    (whole,) = stock(folder, [audio])
    assert len(ours[None]) == len(whole[None]) == encoder.expected_frames(Utterance("a", duration=31.3))
    assert relative(ours[None], whole[None]) < 0.02
    assert encoder.cost(Utterance("a", duration=31.3)) == pytest.approx(35.3)
    (start, end) = bert._cut([np.zeros((1563, 160), np.float32)])
    assert (start.start, start.stop, start.keep, end.start, end.stop, end.skip) == (0, 881, 781, 681, 1563, 100)


def test_windows_of_filter_banks_are_those_of_the_whole_clip(make: Make, voice: Callable[..., Samples]) -> None:
    """The second half of a long clip, with 2 s of context in front, by hand."""
    from transformers import AutoModel

    folder = make("bert-relative")
    encoder = load(str(folder), device="cpu")
    assert isinstance(encoder, bert.Wav2Vec2Bert)
    audio = voice(31.3, 6)
    (ours,) = encoded(encoder, [Clip("long", audio)], [None])
    features = encoder._features(audio)
    middle = len(features) // 2
    with torch.no_grad():
        part = AutoModel.from_pretrained(folder).eval()(torch.from_numpy(features[middle - 100 :])[None])
    assert relative(ours[None][middle:], part.last_hidden_state[0, 100:].numpy()) < 1e-5


def test_frames_of_filter_banks_see_560_samples(make: Make) -> None:
    """Frame i of the features changes with samples [320 i, 320 i + 560) alone, before bands are normalised."""
    encoder = load(str(make("bert-rotary")), device="cpu")
    assert isinstance(encoder, bert.Wav2Vec2Bert)
    recipe = encoder.recipe(None)
    assert recipe["times"] == {"rate": 50.0, "first_start": 0.0, "width": 0.035}
    assert [bert.frames(n) for n in (1, 560, 879, 880, 16_000)] == [1, 1, 1, 2, 49]
    noise = np.random.default_rng(0).standard_normal(3200).astype(np.float32)

    def banks(audio: Samples) -> Samples:
        options = {"sampling_rate": 16_000, "do_normalize_per_mel_bins": False, "return_tensors": "np"}
        return np.asarray(encoder._extractor(audio, **options)["input_features"][0])

    for sample in (319, 320, 1000, 1519, 1520):
        changed = noise.copy()
        changed[sample] += 5
        moved = np.flatnonzero(np.abs(banks(changed) - banks(noise)).max(1) > 1e-6)
        assert list(moved) == [i for i in range(9) if 320 * i <= sample < 320 * i + 560]


def test_very_short_clips_of_filter_banks(make: Make, voice: Callable[..., Samples]) -> None:
    """Under 560 samples there is no frame, and under 400 no filter bank: zeros make up for it."""
    folder = make("bert-relative-key")
    encoder = load(str(folder), device="cpu")
    blips = [voice(1.0)[:n] for n in (1, 399, 400, 559, 560)]
    filled = [np.pad(blip, (0, 560 - len(blip))) for blip in blips]
    together = encoded(encoder, [*(Clip("blip", blip) for blip in blips), Clip("long", voice(2.0))], [None])
    for ours, expected in zip(together[:-1], stock(folder, filled), strict=True):
        assert ours[None].shape == (1, 32) and relative(ours[None], expected[None]) < 1e-5


@pytest.mark.parametrize("kind", ["data2vec", "conformer-group", "bert-relative-key"])
def test_faults(kind: str, make: Make, check_faults: Callable[[Encoder], None]) -> None:
    check_faults(load(str(make(kind)), device="cpu"))


@pytest.mark.parametrize("kind", ["unispeech-sat-large", "data2vec", "conformer-relative", "bert-relative-key"])
def test_bf16_is_close(kind: str, make: Make, ten: list[Clip]) -> None:
    folder = make(kind)
    low, full = (load(str(folder), device="cpu", precision=p) for p in ("bf16", "float32"))
    found, expected = (encoded(encoder, ten[5:7], [None]) for encoder in (low, full))
    for a, b in zip(found, expected, strict=True):
        assert 1e-6 < relative(a[None], b[None]) < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 1}, "says stride 1; this model needs 2"),
        ({"sampling_rate": 8000}, "says sampling_rate 8000; this model needs 16000"),
        ({"padding_side": "left"}, "says padding_side 'left'; this model needs 'right'"),
        ({"num_mel_bins": 40}, "says feature_size 80; this model needs 40"),
        ({"num_mel_bins": 40, "feature_size": 40}, "gives 80 values a frame, the model takes 160; copy"),
        ({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, "a wav2vec2-bert model is run with a SeamlessM4T"),
        (None, "neither processor_config.json nor preprocessor_config.json tells of the feature extractor"),
    ],
)
def test_other_filter_banks_are_refused(
    changes: dict[str, object] | None, message: str, make: Make, tmp_path: Path
) -> None:
    folder = shutil.copytree(make("bert-relative-key"), tmp_path / "odd")
    file = folder / "preprocessor_config.json"
    if changes is None:
        file.unlink()
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(EmocacheError, match=message) as caught:
        load(str(folder), device="cpu")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["unispeech-sat-large", "data2vec", "conformer-relative"])
def test_recognisers_of_the_family_can_align(kind: str, make: Make, tmp_path: Path, ten: list[Clip]) -> None:
    """The labels' logits are those of transformers' model with its head, and give every word a span."""
    from transformers import AutoModelForCTC

    folder = shutil.copytree(make(kind, "ForCTC"), tmp_path / "odd")
    letters = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "E": 6, "T": 7}
    (folder / "vocab.json").write_text(json.dumps(letters))
    encoder: Any = load("align-odd", checkpoints=tmp_path, device="cpu")
    (hidden,) = encoded(load("odd", checkpoints=tmp_path, device="cpu"), [ten[6]], [None])
    audio = ten[6].audio
    assert audio is not None
    normal = torch.from_numpy((audio - audio.mean()) / np.sqrt(audio.var() + 1e-7))[None]
    with torch.no_grad():
        logits = AutoModelForCTC.from_pretrained(folder).eval()(normal).logits[0].numpy()
    assert relative(hidden[None] @ encoder._weight.T + encoder._bias, logits) < 1e-5
    (row,) = encoder.encode([Clip("a", audio, text="tea at eat")], [None])
    assert [word["word"] for word in row[None]["words"]] == ["tea", "at", "eat"]


def test_no_alignment_behind_an_adapter(make: Make, tmp_path: Path) -> None:
    shutil.copytree(make("adapter-base", "ForCTC"), tmp_path / "odd")
    with pytest.raises(EmocacheError, match="its labels follow an adapter, of other than 50 frames a second; align"):
        load("align-odd", checkpoints=tmp_path, device="cpu")


@pytest.mark.parametrize("old_names", [True, False])
def test_a_model_with_a_regression_head_of_its_own(old_names: bool, make: Make, ten: list[Clip]) -> None:
    """As audeering's of arousal, dominance and valence: wav2vec2.* and classifier.*, of a class transformers lacks."""
    from transformers import Wav2Vec2Model

    folder = make("adapter-large", add_adapter=False, output_hidden_size=None)
    weights = {f"wav2vec2.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    if old_names:  # of weight norm, as torch wrote them when it was published
        new = "conv.parametrizations.weight.original"
        weights = {
            key.replace(f"{new}0", "conv.weight_g").replace(f"{new}1", "conv.weight_v"): value
            for key, value in weights.items()
        }
        assert any(key.endswith("weight_g") for key in weights)
    shapes = {"dense.weight": (32, 32), "dense.bias": (32,), "out_proj.weight": (3, 32), "out_proj.bias": (3,)}
    weights |= {f"classifier.{key}": torch.randn(shape) for key, shape in shapes.items()}
    plain: Any = Wav2Vec2Model.from_pretrained(folder)
    plain.eval()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["EmotionModel"], "problem_type": "regression", "vocab_size": None}
    config |= {"finetuning_task": "wav2vec2_reg", "id2label": {"0": "arousal", "1": "dominance", "2": "valence"}}
    (folder / "config.json").write_text(json.dumps(config))
    encoder = load(str(folder), device="cpu")
    clips = ten[3:6]
    found = encoded(encoder, clips, [0, 1, None])
    expected = stock(folder, [clip.audio for clip in clips if clip.audio is not None], plain)
    for ours, direct in zip(found, expected, strict=True):
        assert max(relative(ours[layer], direct[layer]) for layer in (0, 1, None)) <= 1e-5
