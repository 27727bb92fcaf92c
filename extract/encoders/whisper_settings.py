"""The part of a Whisper checkpoint's settings that decides what its decoder is: tokens, heads and the tokenizer."""

from collections.abc import Mapping
from typing import Any

from transformers import WhisperTokenizer

from ...cache import EmocacheError
from .checkpoints import Checkpoint, read_json
from .tokenizer import load_tokenizer

_REMEDY = "copy generation_config.json from the Whisper model that the checkpoint was made from"


def read_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read the checkpoint's generation_config.json, which has to name the tokens every Whisper has."""
    found = read_json(checkpoint.folder / "generation_config.json")
    if found is None:
        raise EmocacheError(f"{checkpoint.folder}: there is no generation_config.json; {_REMEDY}")
    needed = ["decoder_start_token_id", "eos_token_id", "no_timestamps_token_id", "is_multilingual"]
    needed += ["lang_to_id", "task_to_id"] if found.get("is_multilingual") else []
    lacking = ", ".join(key for key in needed if found.get(key) is None)
    if lacking:
        raise EmocacheError(f"{checkpoint.folder}: generation_config.json lacks {lacking}; {_REMEDY}")
    return found


def alignment_heads(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Choose (layer, head) of the cross-attention that follows the words; without a list, the decoder's upper half.

    That is what Whisper's own code does with models it has no list for (model.py).
    """
    layers, heads = (int(checkpoint.config[f"decoder_{key}"]) for key in ("layers", "attention_heads"))
    every = [(layer, head) for layer in range(layers) for head in range(heads)]
    if settings.get("alignment_heads") is None:
        return every[layers // 2 * heads :]
    chosen = [(layer, head) for layer, head in settings["alignment_heads"]]
    if not chosen or not set(chosen) <= set(every):
        raise EmocacheError(
            f"{checkpoint.folder}: alignment_heads of generation_config.json do not fit a decoder of {layers} layers"
            f" with {heads} heads; {_REMEDY}"
        )
    return chosen


def read_tokenizer(checkpoint: Checkpoint, needed: int) -> Any:
    """Load the tokenizer, which has to know at least the `needed` first tokens, those of text."""
    tokenizer = load_tokenizer(checkpoint, WhisperTokenizer)
    if len(tokenizer) < needed:  # without its files it is an empty one
        raise EmocacheError(
            f"{checkpoint.folder}: the tokenizer knows {len(tokenizer)} tokens, the model {needed};"
            " is tokenizer.json there?"
        )
    return tokenizer
