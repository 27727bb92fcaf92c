"""Checkpoints of real shapes with random weights, for measuring speed where the real ones are not at hand."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from emocache.extract.encoders.inference import quiet

_VGG = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions of each block


_SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32,) * 7,
}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def write_hubert(folder: Path, small: bool) -> None:
    """HuBERT-large: 24 layers of 1024, layer norms in the convolutions. Small: 2 layers of 64."""
    _write_speech(folder, HubertModel, HubertConfig, small)


def write_wavlm(folder: Path, small: bool) -> None:
    """WavLM-large: HuBERT-large's shape, with a gated position bias in every layer. Small: 2 layers of 64."""
    _write_speech(folder, WavLMModel, WavLMConfig, small)


def _write_speech(folder: Path, model: Any, config: Any, small: bool) -> None:
    torch.manual_seed(0)
    shape = config(**(_SMALL if small else LARGE), feat_extract_norm="layer", conv_bias=True,
                   do_stable_layer_norm=True)  # fmt: skip
    with quiet():
        model(shape).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)  # type: ignore[no-untyped-call]


def write_hubert_base(folder: Path, layers: int = 12) -> None:
    """HuBERT-base: 12 layers of 768, a group norm in the first convolution."""
    torch.manual_seed(0)
    with quiet():
        HubertModel(HubertConfig(num_hidden_layers=layers)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)  # type: ignore[no-untyped-call]


def write_whisper(folder: Path, small: bool) -> None:
    """The encoder of Whisper-large-v3: 32 layers of 1280 over 128 mel bands. Small: 2 layers of 64."""
    torch.manual_seed(0)
    size: dict[str, Any] = {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128}
    large = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
    config = WhisperConfig(**(size if small else large), num_mel_bins=128, decoder_layers=1, decoder_ffn_dim=64,
                           decoder_attention_heads=4, vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                           decoder_start_token_id=3)  # fmt: skip
    with quiet():
        WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)  # type: ignore[no-untyped-call]


def write_vgg_face(folder: Path, small: bool) -> None:
    """The convolutions of VGG16, laid out as keras-vggface's file; they come in one size."""
    del small
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    with h5py.File(folder / "vgg-face.h5", "w") as h5:
        names, channels = [], 3
        for block, (width, count) in enumerate(_VGG, start=1):
            for n in range(1, count + 1):
                name = f"conv{block}_{n}"
                kernel = rng.standard_normal((3, 3, channels, width)) * np.sqrt(2 / (9 * channels))
                group = h5.create_group(name)
                group[f"{name}_W_1:0"] = kernel.astype(np.float32)
                group[f"{name}_b_1:0"] = np.zeros(width, np.float32)
                group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
                names.append(name.encode())
                channels = width
        h5.attrs["layer_names"] = names
