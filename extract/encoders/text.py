"""BERT and its relatives, and causal language models: the hidden states of a text's tokens, or the first's alone."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

from ...cache import EmocacheError, InputFailure, Item, Utterance, Word
from ...cache.frames.segments import is_special
from ...cache.recipe import Recipe
from .checkpoints import Checkpoint
from .encoder import Clip, LayerItems, Layers, check_layer, seconds
from .inference import Runtime, captured
from .tokenizer import load_tokenizer

CAUSAL = ("llama", "qwen3")
"""Kinds of models whose tokens see what is before them only."""

_TOKENS_PER_SECOND = 4.0


class TokenText:
    """One frame per token, special tokens included.

    `aux["word"]` is the index of the whitespace-separated word a token belongs to, -1 for special tokens and blanks. A
    token's times are those of its word, if the utterance's words are known and are the words of its text (letter case
    and punctuation aside); they are NaN otherwise, and where the token has no word or one without letters and digits.
    Texts longer than the model can take are cut at the recipe's `max_length` tokens. The text reaches the tokenizer as
    it is: the checkpoint decides about case.
    """

    inputs: tuple[str, ...] = ("text", "words")
    rate: float | None = None
    _output = "tokens"

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._runtime = runtime
        self._model = runtime.load(AutoModel, checkpoint)
        self._blocks = _blocks(self._model, checkpoint.model_type)
        self._tokenizer = load_fast_tokenizer(checkpoint)
        self.layers = len(self._blocks)
        self.dim = int(self._model.config.hidden_size)
        self._max_length = _max_length(self._tokenizer, self._model.config)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None,
            "aux": {"word": {"dtype": "int32", "shape": []}} if "words" in self.inputs else {},
            "family": "text",
            "version": 1,
            **self._checkpoint.identity(),
            "precision": self._runtime.precision,
            "preprocessing": {"max_length": self._max_length, "longer": "cut at the end"},
            "output": self._output,
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return self._expected_tokens(utterance)

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return self._expected_tokens(utterance) / 50

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}
        results: list[LayerItems | InputFailure | None] = [text_fault(clip.text) for clip in clips]
        sound = [i for i, fault in enumerate(results) if fault is None]
        if sound:
            encoded = self._tokenizer(
                [clips[i].text for i in sound], truncation=True, max_length=self._max_length, padding=False,
                return_offsets_mapping=True, return_attention_mask=False, return_token_type_ids=False,
            )  # fmt: skip
            tokens = encoded["input_ids"]
            with self._runtime.model(), captured(self._blocks, list(wanted.values())) as found:
                last = self._forward(tokens)
            hidden = {layer: last if number is None else found[number] for layer, number in wanted.items()}
            arrays = self._runtime.fetch(hidden)
            for row, i in enumerate(sound):
                offsets = np.asarray(encoded["offset_mapping"][row], np.int64).reshape(-1, 2)
                results[i] = {layer: self._item(states[row], offsets, clips[i]) for layer, states in arrays.items()}
        return [result for result in results if result is not None]

    def _forward(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        lengths = [len(row) for row in tokens]
        # Causal models may have no token for padding; behind a text, masked, any will do.
        padding = self._tokenizer.pad_token_id
        ids = np.full((len(tokens), max(lengths)), 0 if padding is None else padding, np.int64)
        # Padded here and not by the tokenizer, which could pad on the left: positions count from the first column.
        for target, row in zip(ids, tokens, strict=True):
            target[: len(row)] = row
        mask = (np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]).astype(np.int64)
        send = self._runtime.send
        states = self._model(input_ids=send(torch.from_numpy(ids)), attention_mask=send(torch.from_numpy(mask)))
        last: torch.Tensor = states.last_hidden_state
        return last

    def _item(self, states: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64], clip: Clip) -> Item:
        word = token_words(clip.text or "", offsets)
        return Item(states[: len(offsets)].copy(), token_times(word, clip.text or "", clip.words), {"word": word})

    def _expected_tokens(self, utterance: Utterance) -> int:
        if utterance.text is None:
            return round(_TOKENS_PER_SECOND * seconds(utterance)) + 2
        return min(round(1.3 * len(utterance.text.split())) + 2, self._max_length)


class ClsText(TokenText):
    """The first token's vector ("CLS"; `<s>` in RoBERTa) as the only frame, without a place in time."""

    inputs = ("text",)
    _output = "first token"

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        if checkpoint.model_type in CAUSAL:
            raise EmocacheError(
                f"encoder {name!r}: the first token of a causal model ({checkpoint.model_type}) has seen nothing of the"
                " text; leave -cls out, and let the head pool over the tokens"
            )
        super().__init__(name, checkpoint, runtime)

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return 1

    def _item(self, states: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64], clip: Clip) -> Item:
        return Item(states[:1].copy(), np.full((1, 2), np.nan))


def token_words(text: str, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Find the whitespace-separated word that each token lies in.

    Args:
        text: what was tokenized.
        offsets: (T, 2), first character and character after the last of each token; (0, 0) for special tokens.

    Returns:
        (T,) index of the word, -1 where the token lies in none.
    """
    of_character = np.full(len(text), -1, np.int32)
    for index, match in enumerate(re.finditer(r"\S+", text)):
        of_character[match.start() : match.end()] = index
    # Some tokenizers put the blank before a word into its first token; the largest index within is the word's.
    return np.asarray([of_character[start:end].max(initial=-1) for start, end in offsets], np.int32)


def token_times(word: npt.NDArray[np.int32], text: str, words: Sequence[Word]) -> npt.NDArray[np.float64]:
    """Give each token the span of its word, (T, 2) seconds; NaN where it has none or `words` are not the text's.

    Words are compared by their letters and digits. Those without any, such as a dash, and what stands for a noise, such
    as [LAUGHTER], have no times, and need not be the same in both.
    """
    written = [_plain(word) for word in text.split()]
    said = [w for w in words if _plain(w.word)]
    spans = np.full((len(written) + 1, 2), np.nan)  # the last stands for no word, -1
    if list(filter(None, written)) == [_plain(w.word) for w in said]:
        spans[[i for i, plain in enumerate(written) if plain]] = np.reshape([(w.start, w.end) for w in said], (-1, 2))
    return spans[word]


def _plain(word: str) -> str:
    return "" if is_special(word) else re.sub(r"\W", "", unicodedata.normalize("NFKC", word)).casefold()


def _blocks(model: Any, model_type: str) -> nn.ModuleList:
    """Return the layers of a model, in whose outputs its hidden states are found."""
    if model_type in (*CAUSAL, "modernbert"):
        return model.layers  # type: ignore[no-any-return]
    found: nn.ModuleList = (model.transformer if model_type == "distilbert" else model.encoder).layer
    if getattr(model, "encoder", None) is not None and getattr(model.encoder, "conv", None) is not None:
        # DeBERTa: a convolution adds to the output of the first layer, and is given the same input.
        return nn.ModuleList([model.encoder.conv, *found[1:]])
    return found


def text_fault(text: str | None) -> InputFailure | None:
    """Tell what is wrong with a clip's text; None where nothing is."""
    if text is None or not text.strip():
        return InputFailure("no_text", "the utterance has no text")
    return None


def load_fast_tokenizer(checkpoint: Checkpoint) -> Any:
    """Load the tokenizer of a text model; EmocacheError where there is none that tells of characters."""
    tokenizer = load_tokenizer(checkpoint, AutoTokenizer)
    if not tokenizer.is_fast:
        raise EmocacheError(f"{checkpoint.folder}: no tokenizer.json; save the checkpoint's fast tokenizer there")
    return tokenizer


def _max_length(tokenizer: Any, config: Any) -> int:
    positions = int(config.max_position_embeddings)
    if config.model_type == "mpnet":
        positions -= 2  # they are counted from there, whatever token pads
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(config.pad_token_id) + 1  # they are counted from the padding token's id on
    return min(positions, int(tokenizer.model_max_length))
