"""Models in no family here, small and random and of real classes, against transformers run directly."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import EmocacheError
from emocache.extract.encoders import Clip, load

Samples = npt.NDArray[np.float32]
LENGTHS = (0.1, 12.0, 1.0, 0.5, 5.03, 2.4, 0.31, 7.7, 3.999, 1.513)  # seconds
TEXTS = ["Kids are talking by the door.", "the", "by the door, " * 9, "Zebra!"]


SIZE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SEW, whose layers have half the frames of its output."""
    import transformers

    torch.manual_seed(6)
    folder = tmp_path_factory.mktemp("any") / "tiny-other"
    config: Any = transformers.SEWConfig(
        **SIZE, conv_dim=[16] * 4, conv_kernel=[10, 3, 3, 3], conv_stride=[5, 4, 4, 4], squeeze_factor=2,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.SEWModel(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def test_sound_equals_transformers_whatever_the_batch(
    heard: Path, voice: Callable[..., Samples], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    with caplog.at_level(logging.WARNING):
        encoder = load(str(heard), device="cpu")
    assert "are in no family here, so clips are run one at a time" in caplog.text
    clips = [Clip(f"clip{i}", voice(seconds, i)) for i, seconds in enumerate(LENGTHS)]
    extractor = AutoFeatureExtractor.from_pretrained(heard)  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(heard).eval()
    assert encoder.layers == 2 and encoder.dim == 32
    for clip, found in zip(clips, encoder.encode(clips, [0, 1, None]), strict=True):
        assert isinstance(found, dict) and clip.audio is not None
        with torch.no_grad():
            out = model(**extractor(clip.audio, sampling_rate=16_000, return_tensors="pt"), output_hidden_states=True)
        for layer, expected in ((0, out.hidden_states[0]), (1, out.hidden_states[1]), (None, out.last_hidden_state)):
            np.testing.assert_array_equal(found[layer].frames, expected[0].numpy())
            times = found[layer].times
            assert times is not None and times.shape == (len(found[layer].frames), 2) and times[0, 0] == 0
            assert times[-1, 1] == pytest.approx(len(clip.audio) / 16_000)
            np.testing.assert_allclose(times[1:, 0], times[:-1, 1])
    recipe = encoder.recipe(1)
    assert recipe["family"] == "any-audio" and recipe["layer"] == 1 and recipe["times"] is None


def test_a_front_end_of_a_fixed_length_is_refused(tmp_path: Path) -> None:
    import transformers

    config: Any = transformers.ASTConfig(**SIZE, max_length=64, num_mel_bins=16, patch_size=8)
    transformers.ASTModel(config).save_pretrained(tmp_path / "fixed")
    front: Any = transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=16)  # type: ignore[no-untyped-call]
    front.save_pretrained(tmp_path / "fixed")
    with pytest.raises(EmocacheError, match=r"as many frames of 2 s as of 1 s: its front end cuts or pads every clip"):
        load(str(tmp_path / "fixed"), device="cpu")


def test_text_equals_transformers(tiny_bert: Path, tmp_path: Path) -> None:
    import transformers

    folder = tmp_path / "tiny-other"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    torch.manual_seed(7)
    size: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "embedding_size": 16, "max_position_embeddings": 40, "vocab_size": len(tokenizer),
    }  # fmt: skip
    transformers.AlbertModel(transformers.AlbertConfig(**size)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder = load(str(folder), device="cpu")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for text, found in zip(TEXTS, encoder.encode([Clip(t, text=t) for t in TEXTS], [1, None]), strict=True):
        assert isinstance(found, dict)
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=40)
        with torch.no_grad():
            out = model(**tokens, output_hidden_states=True)
        np.testing.assert_array_equal(found[None].frames, out.last_hidden_state[0].numpy())
        np.testing.assert_array_equal(found[1].frames, out.hidden_states[1][0].numpy())
        assert found[None].aux["word"].max() == len(text.split()) - 1 or len(found[None].frames) == 40
    assert encoder.recipe(None)["family"] == "any-text"


def test_positions_behind_the_padding_are_left_room_for(tiny_roberta: Path, tmp_path: Path) -> None:
    import transformers

    folder = tmp_path / "tiny-other"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_roberta)
    tokenizer.model_max_length = 10**6
    config = transformers.Data2VecTextConfig(
        **SIZE, vocab_size=len(tokenizer), max_position_embeddings=42, pad_token_id=1
    )
    transformers.Data2VecTextModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (found,) = load(str(folder), device="cpu").encode([Clip("a", text="by the door " * 40)], [None])
    assert isinstance(found, dict) and len(found[None].frames) == 40


def test_a_model_that_takes_more_than_one_clip_is_refused(tmp_path: Path) -> None:
    import transformers

    config = transformers.Speech2TextConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=20,
        encoder_attention_heads=2, decoder_attention_heads=2, input_feat_per_channel=80, conv_channels=16,
    )  # fmt: skip
    transformers.Speech2TextModel(config).save_pretrained(tmp_path / "two-halves")
    transformers.Speech2TextFeatureExtractor().save_pretrained(tmp_path / "two-halves")  # type: ignore[no-untyped-call]
    with pytest.raises(EmocacheError, match=r"a speech_to_text model cannot be run on one clip by itself .*; write an"):
        load(str(tmp_path / "two-halves"), device="cpu")
