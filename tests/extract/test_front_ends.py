"""A checkpoint's files on sound, words and weights: they count as in transformers, or are refused."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from emocache.cache import EmocacheError
from emocache.extract.encoders import Clip, load
from emocache.extract.encoders.checkpoints import SETTINGS
from emocache.extract.encoders.families import FAMILY_OF_MODEL_TYPE
from emocache.extract.encoders.lookup import find
from emocache.extract.media.audio import decode_audio

from . import fixed_models
from .fixed_models import FRONT_END, WHISPER_FRONT_END, write_json

Samples = npt.NDArray[np.float32]
Settings = dict[str, Any]
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
ALONE, NESTED = "preprocessor_config.json", "processor_config.json"
SHAPES = [
    (kind, shape)
    for kind, family in FAMILY_OF_MODEL_TYPE.items()
    if family in ("wav2vec2", "whisper")
    for shape in (("group", "layer") if family == "wav2vec2" else (80, 128))
    if (kind, shape) != ("data2vec-audio", "group")  # it has none
]


def layouts(settings: Settings) -> dict[str, dict[str, Settings]]:
    """{layout: {file: what it holds}} of one feature extractor, and of some that say nothing."""
    other = settings | {"do_normalize": not settings["do_normalize"]}
    untyped = {key: value for key, value in settings.items() if key != "feature_extractor_type"}
    return {
        "alone": {ALONE: settings},
        "alone, class not named": {ALONE: untyped},
        "alone, beside a processor of old": {ALONE: settings, NESTED: {"processor_class": "Wav2Vec2Processor"}},
        "nested": {NESTED: {"feature_extractor": settings}},
        "nested, class not named": {NESTED: {"feature_extractor": untyped}},
        "nested as audio_processor": {NESTED: {"audio_processor": settings}},
        "both": {ALONE: settings, NESTED: {"feature_extractor": settings}},
        "both, at odds": {ALONE: other, NESTED: {"feature_extractor": settings}},
        "none": {},
        "a processor of old alone": {NESTED: {"processor_class": "Wav2Vec2Processor"}},
        "nested, but empty": {NESTED: {"feature_extractor": None}},
    }


@pytest.fixture
def make_model(make_speech_model: Callable[..., Path], tmp_path: Path) -> Callable[[str, Any], Path]:
    """Writes a small checkpoint of a kind and a norm, or of so many bands, without any feature extractor."""

    def make(kind: str, shape: Any) -> Path:
        if kind != "whisper":
            return make_speech_model(kind, shape, None)
        folder = fixed_models.whisper(tmp_path / "whisper", shape)
        (folder / ALONE).unlink()
        return folder

    return make


def reference(folder: Path, model: Any, audio: Samples) -> Samples | None:
    """Encode one clip with transformers alone; None where it finds no feature extractor."""
    from transformers import AutoFeatureExtractor, WhisperFeatureExtractor

    try:
        extractor: Any = AutoFeatureExtractor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    except (OSError, ValueError):
        if model.config.model_type != "whisper":
            return None
        # Whisper's front end has no settings but the number of bands, which the model tells.
        extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)  # type: ignore[no-untyped-call]
    inputs = extractor(audio, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        if model.config.model_type == "whisper":
            hidden = model.encoder(inputs.input_features).last_hidden_state
            return np.asarray(hidden[0, : -(-len(audio) // 320)])
        return np.asarray(model(inputs.input_values).last_hidden_state[0])


def relative(a: Samples, b: Samples) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shape"), SHAPES)
def test_equal_to_transformers_or_refused(
    kind: str, shape: Any, make_model: Callable[[str, Any], Path], voice: Callable[..., Samples], tmp_path: Path
) -> None:
    """Every kind of model x norm x do_normalize x layout, alone and in a batch; `pytest -s` prints the counts."""
    from transformers import AutoModel

    bare = make_model(kind, shape)
    model = AutoModel.from_pretrained(bare).eval()
    audio, longer = voice(0.61, 3), voice(0.9, 4)
    base = WHISPER_FRONT_END | {"feature_size": shape} if kind == "whisper" else FRONT_END
    counts: Counter[str] = Counter()
    worst, seen = 0.0, []
    for normalize in (True, False):
        for number, (layout, files) in enumerate(layouts(base | {"do_normalize": normalize}).items()):
            folder = shutil.copytree(bare, tmp_path / f"{number}-{normalize}")
            for name, settings in files.items():
                write_json(folder / name, settings)
            expected = reference(folder, model, audio)
            if expected is None:
                with pytest.raises(EmocacheError, match=f"{folder}: "):
                    load(str(folder), device="cpu")
                counts["refused"] += 1
                continue
            encoder = load(str(folder), device="cpu")
            for batch in ([Clip("a", audio)], [Clip("a", audio), Clip("b", longer)]):
                ours = encoder.encode(batch, [None])[0]
                assert isinstance(ours, dict), layout
                worst = max(worst, relative(ours[None].frames, expected))
                assert worst < 1e-5, (layout, normalize)
            counts["equal"] += 1
            seen.append(expected)
    print(f"\n{kind} {shape}: {counts['equal']} equal to transformers ({worst:.1e}), {counts['refused']} refused")
    if kind == "whisper":
        assert counts == {"equal": 2 * 11}
        other = reference(bare, model, longer)
        assert other is not None and relative(seen[0], other[: len(seen[0])]) > 1e-3  # it does hear
    else:
        assert counts == {"equal": 2 * 8, "refused": 2 * 3}
        assert relative(seen[0], seen[-1]) > 1e-3  # normalised and not are not the same


@pytest.mark.parametrize("name", ["group-norm-preprocessor-config", "group-norm-processor-config"])
def test_speech_through_folders_as_transformers_saves_them(name: str, shared: Callable[[str], Path]) -> None:
    """The second was run without normalisation: 0.4 relative error."""
    from transformers import AutoModel

    folder = shared(f"cases/checkpoints/{name}")
    encoder, model = load(name, checkpoints=folder.parent, device="cpu"), AutoModel.from_pretrained(folder).eval()
    for path in sorted(shared("data/ravdess").glob("Actor_01/*.flac"))[:3]:
        audio = decode_audio(path)
        expected = reference(folder, model, audio)
        (ours,) = encoder.encode([Clip(path.stem, audio)], [None])
        assert isinstance(ours, dict) and expected is not None
        assert relative(ours[None].frames, expected) < 1e-5


SEAMLESS = {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": 80, "num_mel_bins": 80}
OWN = {"auto_map": {"AutoFeatureExtractor": "mine.MyExtractor"}}
EITHER = "tells of: "


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SEAMLESS, "its feature extractor is a SeamlessM4TFeatureExtractor; a wav2vec2 model is run with a Wav2Vec2Fe"),
        (WHISPER_FRONT_END, "its feature extractor is a WhisperFeatureExtractor; a wav2vec2 model"),
        (FRONT_END | {"feature_extractor_type": "MyExtractor"}, EITHER + "Unrecognized feature extractor"),
        (FRONT_END | OWN, "auto_map names code of the checkpoint's own for AutoFeatureExtractor, which is never run"),
        (FRONT_END | {"do_normalize": "false"}, "do_normalize of the feature extractor is 'false'; expected true or f"),
        (FRONT_END | {"sampling_rate": 8000}, "expects audio at 8000 Hz; only 16000 is supported"),
        ("not settings", "transformers cannot make the feature extractor|cannot be read|expected a JSON object"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_feature_extractors_that_are_refused(settings: Any, message: str, nested: bool, tmp_path: Path) -> None:
    folder = fixed_models.speech(tmp_path / "odd", "wav2vec2", "group", None)
    write_json(folder / (NESTED if nested else ALONE), {"feature_extractor": settings} if nested else settings)
    with pytest.raises(EmocacheError, match=message) as caught:
        load(str(folder), device="cpu")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("transcript", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_length": 200}, "the feature extractor says hop_length 200; this model needs 160"),
        ({"feature_size": 128}, "the feature extractor says feature_size 128; this model needs 80"),
        ({"dither": 0.1}, "says dither 0.1; this model needs 0"),
        ({"padding_side": "left"}, "says padding_side 'left'; this model needs 'right'"),
        (FRONT_END, "its feature extractor is a Wav2Vec2FeatureExtractor; a whisper model is run with a Whisper"),
    ],
)
def test_other_spectrograms_are_refused(
    changes: Settings, message: str, nested: bool, transcript: bool, tmp_path: Path
) -> None:
    folder = fixed_models.whisper(tmp_path / "odd", 80)
    settings = WHISPER_FRONT_END | {"feature_size": 80} | changes
    write_json(folder / (NESTED if nested else ALONE), {"feature_extractor": settings} if nested else settings)
    with pytest.raises(EmocacheError, match=message):
        load("transcript-odd" if transcript else "odd", checkpoints=tmp_path, device="cpu")


@pytest.mark.parametrize(
    "name", ["odd", "odd-padded", "odd-overlap", "odd-clip", "transcript-odd", "transcript-odd-15s"]
)
@pytest.mark.parametrize("positions", [500, 3000])
def test_a_whisper_of_other_windows_is_refused(positions: int, name: str, tmp_path: Path) -> None:
    folder = fixed_models.whisper(tmp_path / "odd", 80, max_source_positions=positions)
    message = f"max_source_positions {positions}, windows of {positions} frames; only Whisper's 1500"
    with pytest.raises(EmocacheError, match=message) as caught:
        load(name, checkpoints=tmp_path, device="cpu")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_folder_without_a_front_end_is_to_be_given(tmp_path: Path) -> None:
    """The settings that the error dictates give the stream that was stored before they were asked for."""
    folder = fixed_models.speech(tmp_path / "odd", "hubert", "layer", None)
    with pytest.raises(EmocacheError, match=r"neither processor_config.json nor .* asked took true, and go") as caught:
        load(str(folder), device="cpu")
    told = '{"feature_extractor": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": true}}'
    assert told in str(caught.value)
    (folder / NESTED).write_text(told)
    recipe = load(str(folder), device="cpu").recipe(None)
    assert recipe["preprocessing"]["normalize"] is True
    (folder / NESTED).unlink()
    assert recipe["config_sha256"] == find(str(folder), None, True)[2].identity()["config_sha256"]


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_tokenizers_that_are_refused(kind: str, tmp_path: Path) -> None:
    """Each of these gave numbers: of unknown words alone, or of a vocabulary that the recipe does not know of."""
    from transformers import AutoTokenizer

    folder = fixed_models.text(tmp_path / "odd", kind)
    settings = json.loads((folder / "tokenizer_config.json").read_text())

    def refused(message: str) -> None:
        with pytest.raises(EmocacheError, match=message):
            load(str(folder), device="cpu")

    write_json(folder / "tokenizer_config.json", settings | {"auto_map": {"AutoTokenizer": ["mine.Slow", "mine.Fast"]}})
    refused("auto_map names code of the checkpoint's own for AutoTokenizer")
    write_json(folder / "tokenizer_config.json", settings)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    assert load(str(folder), device="cpu").dim == 16
    write_json(folder / "tokenizer_config.json", settings | {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]})
    shutil.copy(folder / "tokenizer.json", folder / "tokenizer.4.0.0.json")
    refused(r"tokenizer.4.0.0.json may be read in place of tokenizer.json, and is not hashed; save the checkpoint's")
    write_json(folder / "tokenizer_config.json", settings)
    (folder / "tokenizer.json").unlink()
    refused(r"there is no tokenizer.json or vocab.\w+, without which no word is known; save the checkpoint's fast")
    (folder / "tokenizer_config.json").unlink()
    refused("there is no tokenizer.json or vocab")


def test_models_that_are_not_what_their_files_say_are_refused(tmp_path: Path) -> None:
    folder = fixed_models.text(tmp_path / "odd", "bert")
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")

    def refused(message: str) -> None:
        with pytest.raises(EmocacheError, match=message):
            load(str(folder), device="cpu")

    # transformers loads this file, the recipe held the hash of the other.
    save_file({k: v + 1 for k, v in weights.items()}, folder / "other.safetensors", {"format": "pt"})
    write_json(folder / "config.json", config | {"transformers_weights": "other.safetensors"})
    refused(r"config.json names its weights itself \(transformers_weights\); rename the file to model.safetensors")
    write_json(folder / "config.json", config | {"auto_map": {"AutoModel": "mine.MyBert"}})
    refused("auto_map names code of the checkpoint's own for AutoModel")
    write_json(folder / "config.json", config | {"auto_map": {"AutoModelForMaskedLM": "mine.MyBert"}})
    assert load(str(folder), device="cpu").dim == 16
    write_json(folder / "adapter_config.json", {"peft_type": "LORA"})
    refused("adapter_config.json tells of an adapter")
    (folder / "adapter_config.json").unlink()
    # A BERT of relative positions, which transformers 5 runs without them.
    relative_positions = {"bert.encoder.layer.0.attention.self.distance_embedding.weight": torch.ones(79, 8)}
    heads = {"cls.predictions.bias": torch.ones(9), "bert.embeddings.position_ids": torch.arange(40)[None]}
    inner = {f"bert.{key}": value for key, value in weights.items()}
    save_file(inner | heads, folder / "model.safetensors", {"format": "pt"})
    assert load(str(folder), device="cpu").dim == 16
    save_file(inner | heads | relative_positions, folder / "model.safetensors", {"format": "pt"})
    refused("1 weights have no place in a bert model of transformers, such as bert.encoder.layer.0.*distance_embedding")


def test_the_file_that_processors_are_saved_in_is_fetched_too() -> None:
    assert {ALONE, NESTED} <= set(SETTINGS)
