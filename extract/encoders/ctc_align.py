"""Forced alignment: when each word of a known text is spoken, by a recogniser of the wav2vec 2.0 family (CTC)."""

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from ...cache import EmocacheError, InputFailure, Item, Utterance
from ...cache.recipe import Recipe
from .checkpoints import Checkpoint, read_json
from .encoder import SAMPLE_RATE, Clip, LayerItems, Layers, check_layer
from .inference import Runtime
from .wav2vec2 import Wav2Vec2
from .word_times import Scores, best_path

_FRAME = 0.02  # seconds
_MAX_CELLS = 1 << 26  # frames times states of the search, 5 bytes each: some three minutes of speech
_FILES = ("preprocessor_config.json", "vocab.json", "tokenizer_config.json")
_APOSTROPHES = "\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}"
Span = tuple[float, float, float | None]
"""First frame, frame after the last, mean probability of the labels over their frames."""


class CtcAlign:
    """The time span of every word of the text: what is said is taken as given, only when is searched.

    The text is cut at white space. Of each word the letters that the vocabulary has are kept, in the case it has them,
    without accents where it lacks the accented letter, typographic apostrophes as plain ones; between words stands the
    word delimiter. The best path through the frames' label probabilities (20 ms each) gives each word the frames from
    its first letter to its last. A word without any known letter (a number, a dash) gets the gap between its
    neighbours, and no score.

    A row is {"words": [{"word", "start", "end", "score"}], "source": "ctc-<model>"}: the words of `text.split()` in
    order; seconds from the utterance's start, inside the clip; `score` is the mean probability of the word's letters
    over their frames, 0 to 1.
    """

    inputs: tuple[str, ...] = ("audio", "text")
    layers = 0
    dim = 0
    rate: float | None = None

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        if checkpoint.config.get("add_adapter"):
            raise EmocacheError(
                f"{checkpoint.folder}: its labels follow an adapter, of other than 50 frames a second; align with a"
                " checkpoint without one (add_adapter false in config.json), such as wav2vec2-base-960h"
            )
        # Gives the hidden states: windows, batches and normalisation are those of the encoder of the same name.
        self._backbone = Wav2Vec2(name, checkpoint, runtime)
        self._weight, self._bias = _head(checkpoint)
        self._vocabulary, self._delimiter = _vocabulary(checkpoint, len(self._bias))
        # transformers trains CTC with the padding token as the blank.
        self._blank = int(checkpoint.config.get("pad_token_id") or 0)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        backbone = self._backbone.recipe(None)
        return {
            "kind": "table",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "family": "ctc-align",
            "version": 1,
            "weights_sha256": self._checkpoint.weights_sha256(),
            "config_sha256": self._checkpoint.config_sha256(_FILES),
            **{key: backbone[key] for key in ("precision", "preprocessing", "windowing")},
            "text": "letters of the vocabulary, words joined by its delimiter",
            "search": "Viterbi over the CTC states, spans from first to last letter",
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return 1

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return self._backbone.cost(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        for layer in layers:
            check_layer(self.name, layer, self.layers)
        missing = InputFailure("no_text", "the corpus gives no text for the utterance")
        results: list[LayerItems | InputFailure] = [missing] * len(clips)
        sound = [i for i, clip in enumerate(clips) if clip.text and clip.text.strip()]
        for i, hidden in zip(sound, self._backbone.encode([clips[i] for i in sound], [None]), strict=True):
            results[i] = hidden if isinstance(hidden, InputFailure) else self._row(clips[i], hidden[None])
        return results

    def _row(self, clip: Clip, hidden: Item | Mapping[str, Any]) -> LayerItems | InputFailure:
        assert clip.text is not None and clip.audio is not None and isinstance(hidden, Item)
        # The head is one matrix product, so it is taken here, of the frames that the backbone gives clip by clip.
        logits = hidden.frames @ self._weight.T + self._bias
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        words = clip.text.split()
        spelled = [spell(word, self._vocabulary) for word in words]
        try:
            spans = align(log_probs, spelled, self._blank, self._delimiter)
        except InputFailure as failure:
            return failure
        seconds = len(clip.audio) / SAMPLE_RATE
        # A clip under 20 ms is filled up to one frame, which then ends after it.
        rows = [
            {"word": word, "start": min(first * _FRAME, seconds), "end": min(last * _FRAME, seconds), "score": score}
            for word, (first, last, score) in zip(words, spans, strict=True)
        ]
        return {None: {"words": rows, "source": "ctc-" + self.name.removeprefix("align-")}}


def align(log_probs: Scores, spelled: Sequence[Sequence[int]], blank: int, delimiter: int | None) -> list[Span]:
    """Find where each word is spoken, by the best CTC path (Graves et al. 2006, section 4.1) of the words' letters.

    Args:
        log_probs: (T, V) log probability of each label in each frame.
        spelled: for each word its labels; empty for a word without any.
        blank: the label that stands for none.
        delimiter: the label between words; None where the vocabulary has none.

    Returns:
        The span of each word; one without labels fills the gap between its neighbours, shared equally with others
        there, and has no probability.

    Raises:
        InputFailure: no word has a label, or there are more labels than frames can hold.
    """
    labels: list[int] = []
    owners: list[int] = []  # the word each label belongs to, -1 for delimiters
    for number, letters in enumerate(spelled):
        if letters and labels and delimiter is not None:
            labels.append(delimiter)
            owners.append(-1)
        labels += letters
        owners += [number] * len(letters)
    if not labels:
        raise InputFailure("no_words", "not one letter of the text is in the model's vocabulary")
    path = _label_path(log_probs, labels, blank)
    # A blank, -1, would take the last label's owner; it has none.
    spoken = np.where(path < 0, -1, np.asarray(owners)[path])
    spans: dict[int, Span] = {}
    for number in dict.fromkeys(owner for owner in owners if owner >= 0):
        frames = np.flatnonzero(spoken == number)
        certainty = np.exp(log_probs[frames, np.asarray(labels)[path[frames]]])
        spans[number] = float(frames[0]), float(frames[-1] + 1), float(certainty.mean())
    return _with_gaps(spans, len(spelled), float(len(log_probs)))


def spell(word: str, vocabulary: Mapping[str, int]) -> list[int]:
    """List the labels of a word's letters, see `CtcAlign`; characters the vocabulary does not have are left out."""
    labels: list[int] = []
    for letter in unicodedata.normalize("NFC", word):
        plain = "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
        straight = "'" if letter in _APOSTROPHES else letter
        # As written before any other form: a vocabulary that has both cases, or the accent, is taken at its word.
        for form in (letter, letter.upper(), letter.lower(), plain, plain.upper(), plain.lower(), straight):
            # A form can be of several letters, such as SS for ß.
            if all(c in vocabulary for c in form):
                labels += [vocabulary[c] for c in form]
                break
    return labels


def _label_path(log_probs: Scores, labels: Sequence[int], blank: int) -> npt.NDArray[np.int64]:
    """Return (T,) the position in `labels` that each frame speaks on the best path, -1 for blanks."""
    needed = len(labels) + sum(a == b for a, b in pairwise(labels))  # a blank must part equal neighbours
    if needed > len(log_probs):
        raise InputFailure("no_words", f"the text needs {needed} frames of 20 ms, the audio has {len(log_probs)}")
    # CTC's states: every label (odd) with a blank before and after it (even), in which no label is spoken.
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    if states.size * len(log_probs) > _MAX_CELLS:
        raise InputFailure("no_words", f"{len(labels)} letters in {len(log_probs)} frames are too many; cut the clip")
    # The blank between two labels may be left out, unless they are equal: then nothing else would tell them apart.
    skip = np.zeros(len(states), bool)
    skip[3::2] = states[3::2] != states[1:-2:2]
    path = best_path(log_probs[:, states], skip, ends=2)
    return np.where(path % 2 == 1, path // 2, -1)


def _with_gaps(spans: Mapping[int, Span], count: int, frames: float) -> list[Span]:
    out: list[Span] = []
    # Two words that do not exist, -1 and `count`, make the gaps at both ends like those between words.
    for before, after in pairwise([-1, *sorted(spans), count]):
        start = spans[before][1] if before >= 0 else 0.0
        end = spans[after][0] if after < count else frames
        width = (end - start) / max(after - before - 1, 1)
        out += [(start + width * i, start + width * (i + 1), None) for i in range(after - before - 1)]
        out += [spans[after]] if after < count else []
    return out


def _head(checkpoint: Checkpoint) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Read the (V, D) weight and (V,) bias of the layer that gives the labels' logits."""
    found: dict[str, npt.NDArray[np.float32]] = {}
    for path in checkpoint.weight_files():
        with safe_open(path, framework="pt") as file:
            for key in {"lm_head.weight", "lm_head.bias"} & set(file.keys()):
                found[key] = file.get_tensor(key).float().numpy()
    if len(found) != 2:
        raise EmocacheError(
            f"{checkpoint.folder}: no lm_head in the weights; alignment needs a checkpoint fine-tuned for recognition"
            " with CTC, such as wav2vec2-base-960h"
        )
    return found["lm_head.weight"], found["lm_head.bias"]


def _vocabulary(checkpoint: Checkpoint, size: int) -> tuple[dict[str, int], int | None]:
    """Read ({letter: label}, label of the word delimiter or None where there is none)."""
    file = checkpoint.folder / "vocab.json"
    found = read_json(file)
    if found is None:
        raise EmocacheError(f"{file} is missing; copy it from where the checkpoint comes from")
    bad = next((k for k, v in found.items() if type(v) is not int or not 0 <= v < size), None)
    if bad is not None:
        raise EmocacheError(f"{file}: {bad!r} is {found[bad]!r}; expected one label below {size} for each letter")
    settings = read_json(checkpoint.folder / "tokenizer_config.json") or {}
    told = settings.get("word_delimiter_token", "|")
    delimiter = str(told.get("content") if isinstance(told, dict) else told)  # with its flags, as it was saved of old
    # Longer entries, such as <s> and <pad>, stand for no letter.
    return {k: v for k, v in found.items() if len(k) == 1 and k != delimiter}, found.get(delimiter)
