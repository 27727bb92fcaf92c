"""Text models beside BERT and RoBERTa, small and random and of the real classes, against transformers run directly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from emocache.cache import EmocacheError, Word
from emocache.extract.encoders import Clip, load
from emocache.extract.encoders.checkpoints import read

Samples = npt.NDArray[np.float32]
CORPUS = ["Kids are talking by the door.", "Dogs are sitting by the door!", "Üben, naïve café: 你好 world"] * 4
SIZE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {  # classes, tokenizer, config beside SIZE
    "deberta": ("DebertaV2", "unigram", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                                         "position_biased_input": False, "position_buckets": 8, "share_att_key": True,
                                         "norm_rel_ebd": "layer_norm", "max_position_embeddings": 60}),
    "deberta-conv": ("DebertaV2", "unigram", {"relative_attention": True, "conv_kernel_size": 3, "conv_act": "gelu",
                                              "pos_att_type": ["c2p", "p2c"], "max_position_embeddings": 60}),
    "modernbert": ("ModernBert", "bytes", {"local_attention": 8, "global_attn_every_n_layers": 2,
                                           "max_position_embeddings": 60}),
    "mpnet": ("MPNet", "pieces", {"max_position_embeddings": 62}),
    "llama": ("Llama", "bytes", {"num_key_value_heads": 1, "max_position_embeddings": 60}),
    "qwen3": ("Qwen3", "bytes", {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 60}),
}  # fmt: skip
TEXTS = ["Kids are talking by the door.", "the", "by the door, " * 9, "Zebra!", "naïve café 你好", "Dogs", "a b c d",
         "Kids by the door " * 4, "!?", "Üben sitting are Kids."]  # fmt: skip


def tokenizer(kind: str) -> Any:
    """A small tokenizer as models of the kind have it: SentencePiece-like, byte-level or word pieces."""
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    own: Any
    trainer: Any
    if kind == "unigram":
        own = Tokenizer(models.Unigram())
        own.pre_tokenizer, own.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=specials, unk_token="[UNK]")
    elif kind == "bytes":
        own = Tokenizer(models.BPE())
        own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=290, special_tokens=specials, initial_alphabet=alphabet)
    else:
        own = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        own.normalizer, own.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=specials)
    own.train_from_iterator(CORPUS, trainer)
    own.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]" if kind != "bytes" else "[CLS] $A", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=own, **names)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each kind as save_pretrained writes it."""
    import transformers

    kind, words, changes = KINDS[request.param]
    known = tokenizer(words)
    torch.manual_seed(5)
    config = getattr(transformers, f"{kind}Config")(
        **SIZE | changes | {"vocab_size": len(known), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    )
    folder = tmp_path_factory.mktemp(request.param) / "tiny-kind"
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    known.save_pretrained(folder)
    return folder


def stock(folder: Path, text: str, most: int) -> tuple[list[Samples], Samples]:
    """Hidden states and last hidden state of one text by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True, max_length=most)
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        out = AutoModel.from_pretrained(folder).eval()(**tokens, output_hidden_states=True)
    return [h[0].numpy() for h in out.hidden_states], out.last_hidden_state[0].numpy()


def test_equals_transformers_on_one_text(folder: Path) -> None:
    encoder = load(str(folder), device="cpu")
    assert encoder.layers == 2 and encoder.dim == 32 and encoder.inputs == ("text", "words")
    assert encoder.recipe(None)["preprocessing"]["max_length"] == 60
    for text in TEXTS:
        hidden, last = stock(folder, text, 60)
        (ours,) = encoder.encode([Clip("a", text=text)], [0, 1, None])
        assert isinstance(ours, dict)
        for layer, expected in ((0, hidden[0]), (1, hidden[1]), (None, last)):
            assert ours[layer].frames.shape == expected.shape
            assert np.linalg.norm(ours[layer].frames - expected) < 1e-5 * np.linalg.norm(expected)


def test_batched_equals_alone(folder: Path, worst_distance: Callable[..., float]) -> None:
    clips = [Clip(str(i), text=text) for i, text in enumerate(TEXTS)]
    assert worst_distance(load(str(folder), device="cpu"), clips, (None, 0, 1)) <= 1e-5


def test_tokens_know_their_word(folder: Path) -> None:
    encoder = load(str(folder), device="cpu")
    for text in (TEXTS[0], "naïve café 你好 door"):
        words = tuple(Word(word, i * 0.5, i * 0.5 + 0.4) for i, word in enumerate(text.split()))
        (ours,) = encoder.encode([Clip("a", text=text, words=words)], [None])
        assert isinstance(ours, dict)
        index, times = ours[None].aux["word"], ours[None].times
        assert list(dict.fromkeys(index[index >= 0].tolist())) == list(range(len(words)))
        assert index[0] == -1 and times is not None
        np.testing.assert_array_equal(times[index >= 0, 0], index[index >= 0] * 0.5)


def test_the_first_token_of_a_causal_model_is_refused(folder: Path) -> None:
    if json.loads((folder / "config.json").read_text())["model_type"] in ("llama", "qwen3"):
        with pytest.raises(EmocacheError, match=r"has seen nothing of the text; leave -cls out"):
            load(f"{folder}-cls", device="cpu")
    else:
        (ours,) = load(f"{folder}-cls", device="cpu").encode([Clip("a", text=TEXTS[0])], [None])
        assert isinstance(ours, dict)
        expected = stock(folder, TEXTS[0], 60)[1][:1]
        assert np.linalg.norm(ours[None].frames - expected) < 1e-5 * np.linalg.norm(expected)


def test_a_tokenizer_that_is_a_sentencepiece_model_alone(tmp_path: Path) -> None:
    """As the repositories of DeBERTa v3 have it."""
    import transformers
    from sentencepiece import SentencePieceTrainer

    (tmp_path / "text.txt").write_text("\n".join(CORPUS))
    SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "spm"), vocab_size=40, hard_vocab_limit=False,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
        unk_piece="[UNK]", minloglevel=2,
    )  # fmt: skip
    folder = tmp_path / "tiny-kind"
    shape = KINDS["deberta"][2]
    transformers.DebertaV2Model(transformers.DebertaV2Config(**SIZE | shape | {"vocab_size": 60})).save_pretrained(
        folder
    )
    (tmp_path / "spm.model").rename(folder / "spm.model")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    encoder = load(str(folder), device="cpu")
    _, last = stock(folder, TEXTS[0], 60)
    (ours,) = encoder.encode([Clip("a", text=TEXTS[0])], [None])
    assert isinstance(ours, dict)
    assert np.linalg.norm(ours[None].frames - last) < 1e-5 * np.linalg.norm(last)
    # The vocabulary's bytes are part of what the stream is filed under.
    before = encoder.recipe(None)["config_sha256"]
    with (folder / "spm.model").open("ab") as file:
        file.write(b"\x00")
    assert read(folder).identity()["config_sha256"] != before
