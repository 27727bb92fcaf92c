"""Clips and small checkpoints for the encoder tests.

No HuBERT, wav2vec 2.0, WavLM or RoBERTa weights are at hand, so these models are the real classes of transformers with
small random weights, written by save_pretrained as real checkpoints are.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import InputFailure
from emocache.extract.encoders import REGISTRY, Clip, Encoder

from . import fixed_models

Samples = npt.NDArray[np.float32]
MakeCheckpoint = Callable[..., Path]

LENGTHS = (0.1, 12.0, 1.0, 0.5, 5.03, 2.4)  # seconds


@pytest.fixture(scope="session")
def voice() -> Callable[..., Samples]:
    """Makes something like speech: a gliding harmonic tone with syllables, noise and an offset."""

    def make(seconds: float, seed: int = 0) -> Samples:
        generator = np.random.default_rng(seed)
        t = np.arange(round(16_000 * seconds)) / 16_000
        pitch = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * t + seed)) / 16_000
        tone = sum(np.sin(k * pitch) / k for k in range(1, 12))
        syllables = np.clip(np.sin(2 * np.pi * 3.1 * t + generator.uniform(0, 6)), 0, 1)
        return (0.1 * tone * syllables + 0.01 * generator.standard_normal(len(t)) + 0.003).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def clips(voice: Callable[..., Samples]) -> list[Clip]:
    """Clips from 0.1 to 12 s."""
    return [Clip(f"clip{i}", voice(seconds, i)) for i, seconds in enumerate(LENGTHS)]


@pytest.fixture(scope="session")
def frames_of() -> Callable[..., Samples]:
    """Gives the frames of one clip encoded alone."""

    def frames(encoder: Encoder, clip: Clip, layer: int | None = None) -> Samples:
        (result,) = encoder.encode([clip], [layer])
        assert isinstance(result, dict), result
        return np.asarray(result[layer].frames)

    return frames


@pytest.fixture(scope="session")
def worst_distance(frames_of: Callable[..., Samples]) -> Callable[..., float]:
    """Gives max over clips and layers of ||batched - alone|| / ||alone||."""

    def worst(encoder: Encoder, clips: Sequence[Clip], layers: Sequence[int | None] = (None,)) -> float:
        distances = []
        for clip, together in zip(clips, encoder.encode(clips, layers), strict=True):
            assert isinstance(together, dict), together
            for layer in layers:
                a, b = together[layer].frames, frames_of(encoder, clip, layer)
                assert a.shape == b.shape and a.dtype == np.float32 and a.shape[1] == encoder.dim
                distances.append(float(np.linalg.norm(a - b) / np.linalg.norm(b)))
        return max(distances)

    return worst


@pytest.fixture(scope="session")
def check_faults(voice: Callable[..., Samples], frames_of: Callable[..., Samples]) -> Callable[[Encoder], None]:
    """Checks that an encoder of audio names each bad input, and that the good clip beside them is not disturbed."""

    def check(encoder: Encoder) -> None:
        good, nan, infinite = Clip("good", voice(1.0)), voice(1.0), voice(1.0)
        nan[7], infinite[7] = np.nan, -np.inf
        bad = {"not_finite": nan, "empty": np.zeros(0, np.float32), "no_audio": None}
        results = encoder.encode([*(Clip(k, v) for k, v in bad.items()), Clip("inf", infinite), good], [None])
        assert [r.reason for r in results[:-1] if isinstance(r, InputFailure)] == [*bad, "not_finite"]
        assert "1 of 16000 samples" in str(results[0])
        assert isinstance(results[-1], dict)
        np.testing.assert_allclose(results[-1][None].frames, frames_of(encoder, good), rtol=1e-5, atol=1e-5)
        assert all(isinstance(r, InputFailure) for r in encoder.encode([Clip("nan", nan)], [None]))
        assert encoder.encode([], [None]) == []

    return check


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small models are fastest so, and several test processes may share few cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_speech_model(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Write a small random checkpoint of the wav2vec 2.0 family and give its folder."""
    import transformers

    kinds = {
        "wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM", "unispeech-sat": "UniSpeechSat",
        "data2vec-audio": "Data2VecAudio", "wav2vec2-conformer": "Wav2Vec2Conformer",
    }  # fmt: skip

    def make(kind: str, norm: str, normalize: bool | None = True, **changes: object) -> Path:
        config_class, model_class = (getattr(transformers, kinds[kind] + part) for part in ("Config", "Model"))
        settings: dict[str, object] = {
            "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
            "conv_dim": (32,) * 7, "num_conv_pos_embeddings": 32, "num_conv_pos_embedding_groups": 4,
            "feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", "conv_bias": norm == "layer",
        }  # fmt: skip
        torch.manual_seed(1)
        model = model_class(config_class(**(settings | changes)))
        for parameter in model.parameters():
            if parameter.dim() == 1:  # fresh norms are all ones and zeros, which would hide mistakes
                torch.nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.3)
        folder = tmp_path_factory.mktemp(f"{kind}-{norm}") / "tiny-speech"
        model.save_pretrained(folder)
        if normalize is not None:
            front_end = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": normalize}
            (folder / "preprocessor_config.json").write_text(json.dumps(front_end | {"sampling_rate": 16_000}))
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Whisper with encoder and decoder."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(2)
    config = WhisperConfig(
        d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=60, num_mel_bins=80, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-whisper"
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random BERT with a word-piece tokenizer that lower-cases."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-bert"
    letters = [chr(code) for code in range(97, 123)]
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "kids",
        "are",
        "talk",
        "##ing",
        "by",
        "the",
        "door",
        ".",
        ",",
    ]
    vocabulary = [*pieces, *letters, *("##" + letter for letter in letters)]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    torch.manual_seed(3)
    BertModel(BertConfig(**_TEXT_SIZE, vocab_size=len(vocabulary), max_position_embeddings=40)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random RoBERTa, saved with a language-model head, with a byte-level BPE tokenizer."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-roberta"
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["Kids are talking by the door."] * 4, vocab_size=300, special_tokens=specials)
    folder.mkdir()
    bpe.save_model(str(folder))
    RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")).save_pretrained(folder)
    torch.manual_seed(4)
    config = RobertaConfig(**_TEXT_SIZE, vocab_size=bpe.get_vocab_size(), max_position_embeddings=42, pad_token_id=1)
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


_TEXT_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


LAYER_NORM = (
    "wav2vec2-large-lv60", "hubert-large", "hubert-large-ls960-ft", "wavlm-large", "audeering-dimensional"
)  # fmt: skip
NOT_NORMALISED = ("wavlm-base", "wavlm-base-plus")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small checkpoint under the name of every entry that needs one."""
    shelf = tmp_path_factory.mktemp("shelf")
    for name, entry in REGISTRY.items():
        model_type = (
            str(entry.hub).rpartition("/")[2].split("-")[0] if entry.family == "wav2vec2" else name.split("-")[0]
        )
        if entry.family == "whisper":
            fixed_models.whisper(shelf / name, 128 if "v3" in name else 80)
        elif entry.family == "text":
            fixed_models.text(shelf / name, model_type)
        elif entry.family == "wav2vec2":
            norm = "layer" if name in LAYER_NORM else "group"
            fixed_models.speech(shelf / name, model_type, norm, name not in NOT_NORMALISED)
    fixed_models.weight_files(shelf)
    return shelf
