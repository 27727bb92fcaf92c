"""An utterance cut into one piece per word, or into equal pieces, and the frames of each.

Both kinds are those of Lee, Yoon and Jung 2020, "Multimodal Speech Emotion Recognition using Cross Attention with
Aligned Audio and Text".
"""

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..utterance import Word

_SPECIAL = re.compile(r"<.*>|\+\+.*\+\+|\[.*\]", re.DOTALL)


def is_special(word: str) -> bool:
    """Tell whether an aligner's token is no word: `<s>`, `</s>`, `<sil>`, `++LAUGHTER++`, `[NOISE]`, or nothing.

    >>> [is_special(word) for word in ("<sil>", "++BREATHING++", "hello", "C++")]
    [True, True, False, False]
    """
    return not word.strip() or _SPECIAL.fullmatch(word.strip()) is not None


def word_segments(words: Sequence[Word], duration: float, *, overlap: float = 0.1) -> npt.NDArray[np.float64]:
    """The span of every word, the pauses shared out between the neighbours: the paper's aligned segmentation.

    Special tokens (`is_special`) are dropped. What lies between two words, be it tokens or a gap, goes half to each of
    them, and what lies before the first or after the last goes to that one alone, so the spans tile [0, duration];
    words that overlap meet in the middle. Then both ends of each span move outwards by overlap / 2 of its length,
    inside the audio.

    Segment i belongs to the i-th word that is not special. Words out of order or beyond the duration keep their place
    in the sequence, and may be left with a segment of no length.

    Args:
        words: in the order in which they are said.
        duration: of the utterance, in seconds.
        overlap: share of a span's length by which it grows.

    Returns:
        (L, 2) seconds, start and end; (0, 2) where no word is left: such an utterance cannot be used.

    Raises:
        ValueError: a duration that is not positive, a negative overlap, or word times that are NaN or infinite.
    """
    _check(duration, overlap)
    spans = np.asarray([(w.start, w.end) for w in words if not is_special(w.word)], np.float64).reshape(-1, 2)
    if not np.isfinite(spans).all():
        raise ValueError("word times hold NaN or infinity")
    if not len(spans):
        return spans
    inner = np.clip((spans[:-1, 1] + spans[1:, 0]) / 2, 0, duration)
    return _pieces(np.concatenate([[0.0], np.maximum.accumulate(inner), [duration]]), overlap)


def equal_segments(count: int, duration: float, *, overlap: float = 0.1) -> npt.NDArray[np.float64]:
    """The utterance in equal pieces, with the overlap of `word_segments`: the paper's equal segmentation.

    Args:
        count: L, how many.
        duration: of the utterance, in seconds.
        overlap: share of a piece's length by which it grows.

    Returns:
        (L, 2) seconds, start and end.

    Raises:
        ValueError: a negative count or overlap, or a duration that is not positive.
    """
    _check(duration, overlap)
    if count < 0:
        raise ValueError(f"{count} segments; expected 0 or more")
    return _pieces(np.linspace(0, duration, count + 1), overlap)


def segment_frames(times: npt.NDArray[np.float64], segments: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The frames whose centres fall into each segment, its end left out; the nearest frame where none does.

    Args:
        times: (T, 2) seconds, start and end of every frame, in order of their centres.
        segments: (L, 2) seconds.

    Returns:
        (L, 2), the first frame of each segment and the one after its last; never empty.

    Raises:
        ValueError: no frames, frames out of order, or frames without a place in time.
    """
    centres = times.mean(axis=1)
    if not len(centres) or not (np.isfinite(centres).all() and (np.diff(centres) >= 0).all()):
        raise ValueError("segments need frames, each with a place in time, in order")
    bounds = np.searchsorted(centres, segments).astype(np.int64)
    empty = bounds[:, 0] >= bounds[:, 1]
    nearest = _nearest(centres, segments[empty].mean(axis=1))
    bounds[empty] = np.stack([nearest, nearest + 1], axis=1)
    return bounds


def _check(duration: float, overlap: float) -> None:
    if not 0 < duration < math.inf or not 0 <= overlap < math.inf:
        raise ValueError(f"duration {duration} s, overlap {overlap}; expected a positive and a non-negative number")


def _pieces(edges: npt.NDArray[np.float64], overlap: float) -> npt.NDArray[np.float64]:
    """(L + 1,) edges to (L, 2) pieces, each grown by its share of overlap."""
    starts, ends = edges[:-1], edges[1:]
    margin = overlap / 2 * (ends - starts)
    return np.stack([np.maximum(starts - margin, edges[0]), np.minimum(ends + margin, edges[-1])], axis=1)


def _nearest(centres: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index of the centre nearest to each point, the earlier of two."""
    right = np.clip(np.searchsorted(centres, points), 1, max(len(centres) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(centres) - 1)
    closer: npt.NDArray[np.int64] = np.where(points - centres[left] <= centres[right] - points, left, right)
    return closer
