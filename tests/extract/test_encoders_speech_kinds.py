"""Relatives of wav2vec 2.0 on small random models of the real classes, against transformers run directly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from emocache.extract.encoders import Clip, Encoder, load

Samples = npt.NDArray[np.float32]
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": (16,) * 7, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 2, "output_hidden_size": 24}
# Kind, its classes in transformers, and what its config says beside SHAPE.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "unispeech-sat": ("UniSpeechSat", {"num_conv_pos_embeddings": 16}),
    "unispeech-sat-large": ("UniSpeechSat", {"num_conv_pos_embeddings": 16, **STABLE}),
    "data2vec-audio": ("Data2VecAudio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 19}),
    "conformer-relative": ("Wav2Vec2Conformer", {"position_embeddings_type": "relative", **STABLE}),
    "conformer-rotary": ("Wav2Vec2Conformer", {"position_embeddings_type": "rotary", **STABLE}),
    "conformer-plain": ("Wav2Vec2Conformer", {"position_embeddings_type": None}),
    "adapter": ("Wav2Vec2", {"num_conv_pos_embeddings": 16, **ADAPTER}),
    "bert": ("Wav2Vec2Bert", {"position_embeddings_type": "relative_key"}),
    "bert-rotary": ("Wav2Vec2Bert", {"position_embeddings_type": "rotary"}),
    "bert-adapter": ("Wav2Vec2Bert", {"position_embeddings_type": "relative_key", **ADAPTER}),
}
LENGTHS = (0.1, 12.0, 1.0, 0.5, 5.03, 2.4, 0.31, 7.7, 3.999, 1.513)  # seconds


@pytest.fixture(scope="session", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each kind as save_pretrained writes it."""
    import transformers

    kind, changes = KINDS[request.param]
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**SHAPE | changes)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # fresh norms are all ones and zeros, which would hide mistakes
            torch.nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.3)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2)
    folder = tmp_path_factory.mktemp(request.param) / "tiny-kind"
    model.save_pretrained(folder)
    if kind == "Wav2Vec2Bert":
        transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)  # type: ignore[no-untyped-call]
    else:
        front_end = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(front_end | {"sampling_rate": 16_000}))
    return folder


def stock(folder: Path, audio: Samples) -> tuple[list[Samples], Samples]:
    """Hidden states, and what comes out before any adapter, of one clip by transformers alone."""
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(folder).eval()
    features = extractor(audio, sampling_rate=16_000, return_tensors="pt")
    given = {"input_values": features["input_values"]} if "input_values" in features else dict(features)
    before: list[Samples] = []
    if getattr(model, "adapter", None) is not None:
        model.adapter.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0][0].numpy()))
    with torch.no_grad():
        out = model(**given, output_hidden_states=True)
    last = before[0] if before else out.last_hidden_state[0].numpy()
    count = int(given["attention_mask"].sum()) if "attention_mask" in given else len(last)
    return [h[0, :count].numpy() for h in out.hidden_states], last[:count]


def test_equals_transformers_on_one_clip(folder: Path, voice: Callable[..., Samples]) -> None:
    encoder = load(str(folder), device="cpu")
    for seconds in (1.7, 0.43):
        audio = voice(seconds, 4)
        hidden, last = stock(folder, audio)
        (ours,) = encoder.encode([Clip("a", audio)], [0, 1, None])
        assert isinstance(ours, dict) and encoder.layers == 2
        for layer, expected in ((0, hidden[0]), (1, hidden[1]), (None, last)):
            assert ours[layer].frames.shape == expected.shape
            assert np.linalg.norm(ours[layer].frames - expected) < 1e-5 * np.linalg.norm(expected)


def test_batched_equals_alone(
    folder: Path, voice: Callable[..., Samples], worst_distance: Callable[..., float]
) -> None:
    encoder = load(str(folder), device="cpu")
    clips = [Clip(f"clip{i}", voice(seconds, i)) for i, seconds in enumerate(LENGTHS)]
    assert worst_distance(encoder, clips, (None, 0, 1)) <= 1e-5


def test_long_clips_are_cut_with_context(folder: Path, voice: Callable[..., Samples]) -> None:
    encoder: Encoder = load(str(folder), device="cpu")
    audio = voice(31.0, 5)
    (ours,) = encoder.encode([Clip("a", audio)], [None])
    _, last = stock(folder, audio)
    assert isinstance(ours, dict) and ours[None].frames.shape == last.shape


def test_a_head_of_its_own_does_not_matter(tmp_path: Path, voice: Callable[..., Samples]) -> None:
    """As audeering's model of arousal, dominance and valence is stored: `wav2vec2.` before every weight, and a head."""
    import transformers

    torch.manual_seed(4)
    shape: dict[str, Any] = SHAPE | STABLE | {"num_conv_pos_embeddings": 16}
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**shape))
    model.save_pretrained(tmp_path / "plain")
    model.config.architectures = ["EmotionModel"]
    model.save_pretrained(tmp_path / "dimensional")
    file = tmp_path / "dimensional/model.safetensors"
    head = {"classifier.dense.weight": torch.randn(32, 32), "classifier.dense.bias": torch.randn(32),
            "classifier.out_proj.weight": torch.randn(3, 32), "classifier.out_proj.bias": torch.randn(3)}  # fmt: skip
    save_file({f"wav2vec2.{k}": v for k, v in load_file(file).items()} | head, file, {"format": "pt"})
    front_end = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True, "sampling_rate": 16_000}
    for name in ("plain", "dimensional"):
        (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(front_end))
    audio = voice(1.2, 6)
    (ours,) = load(str(tmp_path / "dimensional"), device="cpu").encode([Clip("a", audio)], [None])
    assert isinstance(ours, dict)
    expected = stock(tmp_path / "plain", audio)[1]
    assert np.linalg.norm(ours[None].frames - expected) < 1e-5 * np.linalg.norm(expected)
