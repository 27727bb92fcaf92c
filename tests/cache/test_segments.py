"""Segments of utterances, against a walk over tokens that hands out one pause after the other."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emocache.cache import Word
from emocache.cache.frames.segments import equal_segments, is_special, segment_frames, word_segments

SPECIALS = ("<s>", "</s>", "<sil>", "++LAUGHTER++", "++BREATHING++", "[NOISE]", "<unk>", " ")


def tokens(drawn: Sequence[tuple[str, float]], gaps: bool) -> tuple[list[Word], float]:
    """Tokens one after the other, with their total length; `gaps`: the special ones are not told, as silence."""
    words, at = [], 0.0
    for token, length in drawn:
        if not (gaps and is_special(token)):
            words.append(Word(token, at, at + length))
        at += length
    return words, at


def naive(drawn: Sequence[tuple[str, float]]) -> list[list[float]]:
    """Each pause to its neighbours, token by token."""
    pieces: list[list[float]] = []
    at = pause = 0.0
    for token, length in drawn:
        if is_special(token):
            pause += length
        else:
            if pieces:
                pieces[-1][1] += pause / 2
            pieces.append([at - pause / 2 if pieces else 0.0, at + length])
            pause = 0.0
        at += length
    if pieces:
        pieces[-1][1] = at
    return pieces


token = st.one_of(st.sampled_from(SPECIALS), st.sampled_from(["what", "C++", "i'm", "<3"]))
sequence = st.lists(st.tuples(token, st.integers(1, 300).map(lambda n: n / 100)), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(sequence, st.booleans(), st.sampled_from([0.0, 0.1, 0.5]))
def test_equals_a_walk_over_the_tokens(drawn: list[tuple[str, float]], gaps: bool, overlap: float) -> None:
    words, duration = tokens(drawn, gaps)
    tiles = np.reshape(naive(drawn), (-1, 2))
    margin = overlap / 2 * np.diff(tiles, axis=1)
    expected = np.clip(tiles + margin * [-1, 1], 0, duration)
    segments = word_segments(words, duration, overlap=overlap)
    assert segments.shape == expected.shape and segments.dtype == np.float64
    np.testing.assert_allclose(segments, expected, atol=1e-9)


any_word = st.builds(Word, st.sampled_from(["a", "<sil>"]), st.floats(-2, 9), st.floats(-2, 9))


@settings(max_examples=200, deadline=None)
@given(st.lists(any_word, max_size=8), st.floats(0.01, 7))
def test_whatever_the_words_their_spans_tile_the_utterance(words: list[Word], duration: float) -> None:
    segments = word_segments(words, duration, overlap=0)
    assert len(segments) == sum(w.word == "a" for w in words)
    if len(segments):
        assert segments[0, 0] == 0 and segments[-1, 1] == duration
        np.testing.assert_array_equal(segments[1:, 0], segments[:-1, 1])
        assert (segments[:, 0] <= segments[:, 1]).all()


def test_a_sentence_by_hand() -> None:
    told = [("<s>", 0.2), ("<sil>", 0.2), ("what", 0.6), ("<sil>", 0.2), ("++BREATHING++", 0.4), ("is", 0.4)]
    words, _ = tokens([*told, ("it", 0.5), ("</s>", 0.5)], gaps=False)
    tiles = np.asarray([[0, 1.3], [1.3, 2.0], [2.0, 3.0]])
    np.testing.assert_allclose(word_segments(words, 3.0, overlap=0), tiles)
    grown = word_segments(words, 3.0)
    np.testing.assert_allclose(grown, [[0, 1.365], [1.265, 2.035], [1.95, 3.0]])


def test_words_that_overlap_or_have_no_length() -> None:
    def of(*spans: tuple[float, float]) -> list[list[float]]:
        return word_segments([Word("a", *span) for span in spans], 4.0, overlap=0).tolist()  # type: ignore[no-any-return]

    assert of((0, 2), (1, 4)) == [[0, 1.5], [1.5, 4]]
    assert of((0, 1), (2, 2), (3, 4)) == [[0, 1.5], [1.5, 2.5], [2.5, 4]]
    assert of((1, 1)) == [[0, 4]]
    assert of((0, 1), (9, 10), (10, 11)) == [[0, 4], [4, 4], [4, 4]]  # beyond the duration
    assert of((2, 3), (0, 1), (3, 4)) == [[0, 1.5], [1.5, 2], [2, 4]]  # out of order


def test_no_words_no_segments() -> None:
    for words in ([], [Word("<sil>", 0, 1), Word("++LAUGHTER++", 1, 2)]):
        segments = word_segments(words, 2.0)
        assert segments.shape == (0, 2) and segments.dtype == np.float64
    assert equal_segments(0, 2.0).shape == (0, 2)


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_equal_segments(count: int, overlap: float) -> None:
    segments = equal_segments(count, 5.6, overlap=overlap)
    length = 5.6 / count
    assert segments.shape == (count, 2)
    np.testing.assert_allclose(np.diff(segments[1:-1]), length * (1 + overlap))
    np.testing.assert_allclose(segments[:-1, 1] - segments[1:, 0], length * overlap, atol=1e-12)
    assert segments[0, 0] == 0 and segments[-1, 1] == 5.6


def test_special_tokens() -> None:
    assert all(is_special(token) for token in (*SPECIALS, "", "++GARBAGE++", "[LAUGHTER]"))
    assert not any(is_special(token) for token in ("what", "C++", "<3", "[sic", "++", "a<b>", "I"))


def naive_frames(times: npt.NDArray[np.float64], start: float, end: float) -> list[int]:
    """The frames of one segment, by their definition."""
    centres = [(a + b) / 2 for a, b in times]
    inside = [i for i, centre in enumerate(centres) if start <= centre < end]
    middle = (start + end) / 2
    return inside or [min(range(len(centres)), key=lambda i: (abs(centres[i] - middle), i))]


tick = st.integers(0, 200).map(lambda n: n / 16)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(tick, tick), min_size=1, max_size=20, unique_by=sum),
    st.lists(st.tuples(tick, tick).map(sorted), max_size=6),
)
def test_frames_of_segments(frames: list[tuple[float, float]], drawn: list[list[float]]) -> None:
    times = np.asarray(sorted(frames, key=sum), np.float64)
    segments = np.asarray(drawn, np.float64).reshape(-1, 2)
    found = segment_frames(times, segments)
    assert found.dtype == np.int64 and found.shape == segments.shape
    assert [list(range(*bounds)) for bounds in found] == [naive_frames(times, *segment) for segment in segments]


def test_tiles_share_every_frame_out() -> None:
    starts = np.arange(500) / 100
    frames = segment_frames(np.stack([starts, starts + 0.025], 1), equal_segments(7, 5.1, overlap=0))
    assert frames[0, 0] == 0 and frames[-1, 1] == 500
    np.testing.assert_array_equal(frames[1:, 0], frames[:-1, 1])


def test_misuse_is_refused() -> None:
    word, nan = Word("a", 0, 1), math.nan
    for duration, overlap in [(0, 0.1), (nan, 0.1), (1, -0.1), (1, nan)]:
        with pytest.raises(ValueError, match="expected a positive and a non-negative number"):
            word_segments([word], duration, overlap=overlap)
        with pytest.raises(ValueError, match="expected a positive and a non-negative number"):
            equal_segments(2, duration, overlap=overlap)
    with pytest.raises(ValueError, match="NaN or infinity"):
        word_segments([Word("a", nan, 1)], 2)
    with pytest.raises(ValueError, match="-1 segments"):
        equal_segments(-1, 2)
    for times in (np.zeros((0, 2)), np.asarray([[0, 1], [nan, nan]]), np.asarray([[1, 2], [0, 1]])):
        with pytest.raises(ValueError, match="segments need frames, each with a place in time, in order"):
            segment_frames(times, np.asarray([[0.0, 1.0]]))
