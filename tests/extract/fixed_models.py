"""Small checkpoints of every kind whose settings are written out here, so that no library has a say in their bytes.

What `save_pretrained` writes changes with the version of transformers; what a stream is filed under must not. The
weights are those of fresh models: their bytes may change, and are not looked at (see `test_fingerprints`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.torch import save_file

SPEECH: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": [8] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 8, "pad_token_id": 0,
}  # fmt: skip
WHISPER: dict[str, Any] = {
    "model_type": "whisper", "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_target_positions": 40,
    "suppress_tokens": None, "begin_suppress_tokens": None, "vocab_size": 266,
}  # fmt: skip
BERT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 40,
}  # fmt: skip
DISTILBERT: dict[str, Any] = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 40}

FRONT_END: dict[str, Any] = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "padding_side": "right",
    "padding_value": 0.0, "return_attention_mask": False, "sampling_rate": 16_000,
}  # fmt: skip
WHISPER_FRONT_END: dict[str, Any] = {
    "feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 30, "hop_length": 160, "n_fft": 400,
    "n_samples": 480_000, "nb_max_frames": 3000, "padding_side": "right", "padding_value": 0.0,
    "return_attention_mask": False, "sampling_rate": 16_000,
}  # fmt: skip

LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "E": 6, "T": 7}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "door", "##s", "."]
BYTES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120", *(chr(code) for code in range(33, 127))]
SPOKEN = [
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
]  # fmt: skip


def write_json(file: Path, value: object) -> None:
    """A JSON file with the same bytes everywhere."""
    file.write_bytes(json.dumps(value, indent=2, sort_keys=True).encode())


def speech(folder: Path, model_type: str, norm: str, normalize: bool | None, **changes: object) -> Path:
    """wav2vec2, hubert or wavlm with a CTC head and its vocabulary; `normalize` None: no preprocessor_config.json."""
    stable = norm == "layer"
    shape = {"model_type": model_type, "feat_extract_norm": norm, "do_stable_layer_norm": stable, "conv_bias": stable}
    _write_model(folder, SPEECH | shape | changes, "AutoModelForCTC")
    write_json(folder / "vocab.json", LETTERS)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "Wav2Vec2CTCTokenizer"})
    if normalize is not None:
        write_json(folder / "preprocessor_config.json", FRONT_END | {"do_normalize": normalize})
    return folder


def whisper(folder: Path, bands: int, **changes: object) -> Path:
    """A Whisper of English and French with a tokenizer of 256 signs."""
    number = {token: 256 + i for i, token in enumerate(SPOKEN)}
    ids = {
        "decoder_start_token_id": number["<|startoftranscript|>"], "pad_token_id": 256, "bos_token_id": 256,
        "eos_token_id": 256,
    }  # fmt: skip
    _write_model(folder, WHISPER | ids | {"num_mel_bins": bands} | changes, "WhisperForConditionalGeneration")
    write_json(folder / "preprocessor_config.json", WHISPER_FRONT_END | {"feature_size": bands})
    generation = ids | {
        "is_multilingual": True, "no_timestamps_token_id": number["<|notimestamps|>"],
        "lang_to_id": {token: number[token] for token in ("<|en|>", "<|fr|>")},
        "task_to_id": {task: number[f"<|{task}|>"] for task in ("translate", "transcribe")},
    }  # fmt: skip
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "vocab.json", {chr(256 + i): i for i in range(256)} | {"<|endoftext|>": 256})
    (folder / "merges.txt").write_bytes(b"#version: 0.2\n")
    write_json(folder / "added_tokens.json", number)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "WhisperTokenizer"})
    return folder


def text(folder: Path, model_type: str) -> Path:
    """bert or distilbert with word pieces, or roberta with bytes."""
    pieces = BYTES if model_type == "roberta" else PIECES
    size = {"vocab_size": len(pieces), "pad_token_id": pieces.index("<pad>" if model_type == "roberta" else "[PAD]")}
    shape = DISTILBERT if model_type == "distilbert" else BERT
    _write_model(folder, shape | size | {"model_type": model_type}, "AutoModel")
    if model_type == "roberta":
        write_json(folder / "vocab.json", {piece: i for i, piece in enumerate(pieces)})
        (folder / "merges.txt").write_bytes(b"#version: 0.2\n")
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})
    else:
        (folder / "vocab.txt").write_bytes("\n".join(pieces).encode())
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    return folder


def weight_files(shelf: Path) -> None:
    """The weights that are one file, of zeros: vgg-face, alexnet, marlin-small, -base, -large; and glove-840b."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    names = [f"conv{block}_{i}" for block, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]
    with h5py.File(shelf / "vgg-face.h5", "w") as root:
        root.attrs["layer_names"] = [name.encode() for name in names]
        for name, into, out in zip(names, widths, widths[1:], strict=False):
            group = root.create_group(name)
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
            group.create_dataset("kernel:0", data=np.zeros((3, 3, into, out), np.float32))
            group.create_dataset("bias:0", data=np.zeros(out, np.float32))
    convolutions = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    alexnet = {f"features.{i}.weight": torch.zeros(o, n, side, side) for i, (o, n, side) in convolutions.items()}
    alexnet |= {f"features.{i}.bias": torch.zeros(out) for i, (out, _, _) in convolutions.items()}
    save_file(alexnet, shelf / "alexnet.safetensors")
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.projection.weight": (64, 3, 2, 16, 16), "patch_embedding.projection.bias": (64,),
        "pos_embedding.emb": (1, 1568, 64), "norm.weight": (64,), "norm.bias": (64,),
        "blocks.0.norm1.weight": (64,), "blocks.0.norm1.bias": (64,), "blocks.0.attn.q_bias": (64,),
        "blocks.0.attn.v_bias": (64,), "blocks.0.attn.qkv.weight": (192, 64), "blocks.0.attn.proj.weight": (64, 64),
        "blocks.0.attn.proj.bias": (64,), "blocks.0.norm2.weight": (64,), "blocks.0.norm2.bias": (64,),
        "blocks.0.mlp.layers.0.linear.weight": (256, 64), "blocks.0.mlp.layers.0.linear.bias": (256,),
        "blocks.0.mlp.layers.1.linear.weight": (64, 256), "blocks.0.mlp.layers.1.linear.bias": (64,),
    }  # fmt: skip
    for size in ("small", "base", "large"):
        marlin = {f"encoder.{key}": torch.zeros(shape) for key, shape in shapes.items()}
        save_file(marlin, shelf / f"marlin-{size}.safetensors")
    (shelf / "glove-840b.txt").write_bytes(b"the 0.5 -0.25 1\ndoor 1 2 3\n")


def _write_model(folder: Path, config: Mapping[str, Any], model_class: str) -> None:
    import transformers

    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    torch.manual_seed(0)
    kind, settings = getattr(transformers, model_class), transformers.AutoConfig.from_pretrained(folder)
    model = kind.from_config(settings) if model_class.startswith("Auto") else kind(settings)
    weights = {key: value.clone() for key, value in model.state_dict().items()}  # some share their memory
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
