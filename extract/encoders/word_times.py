"""From frames to words: the best monotonic path, and word times from the attention of a speech-to-text decoder."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

Scores = npt.NDArray[np.floating[Any]]

_MEDIAN = 7  # frames; Whisper's own width
_FRAME = 320  # samples


def best_path(scores: Scores, skip: npt.NDArray[np.bool_], ends: int) -> npt.NDArray[np.int64]:
    """Find the states with the highest sum of scores (Viterbi), each frame staying or moving on by one state.

    Args:
        scores: (T, S) score of being in a state in a frame.
        skip: (S,) whether a state may also be entered from two before it.
        ends: how many of the first states the path may begin in, and of the last it may end in.

    Returns:
        (T,) the state of each frame.

    Raises:
        ValueError: T frames are too few to get through the states.
    """
    count = scores.shape[1]
    total = np.full(count, -np.inf)
    total[:ends] = scores[0, :ends]
    # 0 stay, 1 move on, 2 leave a state out; a byte each, since this is the array that grows with frames times states.
    moves = np.zeros(scores.shape, np.int8)
    choices = np.full((3, count), -np.inf)
    for t in range(1, len(scores)):
        choices[0] = total
        choices[1, 1:] = total[:-1]
        choices[2, 2:] = np.where(skip[2:], total[:-2], -np.inf)
        # Of equal sums the first counts, staying: paths are the same on every machine.
        moves[t] = choices.argmax(axis=0)
        total = choices.max(axis=0) + scores[t]
    state = int(count - ends + total[-ends:].argmax())
    if total[state] == -np.inf:
        raise ValueError(f"{len(scores)} frames are too few for {count} states")
    path = np.empty(len(scores), np.int64)
    for t in range(len(scores) - 1, -1, -1):
        path[t] = state
        state -= int(moves[t, state])  # of an int8, which would make the state one
    return path


def token_starts(attention: Scores, first: int) -> npt.NDArray[np.int64]:
    """Find the frame in which each token begins, by dynamic time warping of the cross-attention that predicts it.

    As in `find_alignment` of github.com/openai/whisper, timing.py: attention is brought to mean 0 and variance 1 over
    the tokens, median-filtered over 7 frames and averaged over the heads. But every token takes at least one frame.

    Args:
        attention: (H, L, T) weights of the heads that follow the words; row i predicts token i + 1.
        first: the row that predicts the first token of the text; all after it belong to the text.

    Returns:
        (L - first,) frame of each token and, last, of the end of the text; they increase where there are frames enough.
    """
    # A frame that all tokens attend to alike has no spread, and says nothing about them.
    spread = np.maximum(attention.std(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    normal = (attention - attention.mean(axis=1, keepdims=True)) / spread
    scores = scipy.ndimage.median_filter(normal, size=(1, 1, _MEDIAN), mode="mirror").mean(axis=0)[first:].T
    count, rows = scores.shape
    tokens = np.arange(rows)
    # With fewer frames than tokens no path gives each one a frame; they then share the frames evenly.
    starts: npt.NDArray[np.int64] = (
        np.searchsorted(best_path(scores, np.zeros(rows, bool), ends=1), tokens)
        if count >= rows
        else tokens * count // rows
    )
    return starts


def group_words(
    tokens: Sequence[int], decode: Callable[[list[int]], str], spaceless: bool
) -> list[tuple[str, int, int]]:
    """Put tokens together to words.

    Args:
        tokens: of a text.
        decode: tokens to text; part of a character's bytes gives U+FFFD.
        spaceless: whether the language writes no blanks; then every sign is a word, with the punctuation after it.

    Returns:
        (word, first token, token after the last) for each word; the tokens of punctuation at its ends, which nobody
        speaks, are not counted. Where blanks part words, the words are those of the text's `split()`.
    """
    words: list[tuple[str, int, int]] = []
    begin = 0
    for end in range(1, len(tokens) + 1):
        piece = decode(list(tokens[begin:end]))
        if piece.endswith("\N{REPLACEMENT CHARACTER}") and end < len(tokens):
            continue  # a character whose other bytes are in the next token
        spoken = _has_letters(piece)
        if not words or (spoken if spaceless else piece[:1].isspace()):
            words.append((piece, begin, end))
        else:
            word, first, stop = words[-1]
            before = _has_letters(word)
            # Punctuation joins the word's text but not its span: a quote does not begin it, a comma does not end it.
            words[-1] = word + piece, begin if spoken and not before else first, end if spoken or not before else stop
        begin = end
    return [(word.strip(), first, end) for word, first, end in words if word.strip()]


def loud_frames(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Mark the 20 ms of 16 kHz samples (n,) that lie less than 40 dB below the loudest, (ceil(n / 320),)."""
    padded = np.pad(audio.astype(np.float64), (0, -len(audio) % _FRAME))
    power = np.square(padded).reshape(-1, _FRAME).mean(axis=1)
    loud: npt.NDArray[np.bool_] = power > 1e-4 * power.max()
    return loud


def trim(first: int, stop: int, loud: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Take the quiet frames off both ends of a word's span [first, stop), if any frame in it is loud.

    Attention gives every frame to some token, and with it the silence before the first word and in pauses.
    """
    places = np.flatnonzero(loud[first:stop])
    return (first + int(places[0]), first + int(places[-1]) + 1) if len(places) else (first, stop)


def _has_letters(text: str) -> bool:
    return any(character.isalnum() for character in text)
