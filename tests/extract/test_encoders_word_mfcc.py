"""MFCC of single words against `Mfcc` of each word's sound, and what a trainer cuts out of them."""

import numpy as np

from emocache.cache import InputFailure, Item, Word
from emocache.cache.frames.segments import segment_frames, word_segments
from emocache.extract.encoders.acoustic import Mfcc
from emocache.extract.encoders.encoder import Clip
from emocache.extract.encoders.word_mfcc import WordMfcc

WORDS = (Word("<s>", 0.0, 0.2), Word("kids", 0.2, 0.5), Word("are", 0.5, 0.52), Word("<sil>", 0.52, 0.9),
         Word("talking", 0.9, 1.4))  # fmt: skip
AUDIO = np.random.default_rng(0).normal(size=24_000).astype(np.float32)


def encoded(words: tuple[Word, ...]) -> Item:
    (result,) = WordMfcc().encode([Clip("a", audio=AUDIO, words=words)], [None])
    assert not isinstance(result, InputFailure)
    item = result[None]
    assert isinstance(item, Item)
    return item


def test_a_head_that_cuts_by_words_gets_the_mfcc_of_each_words_sound() -> None:
    item = encoded(WORDS)
    assert item.times is not None
    pieces = segment_frames(item.times, word_segments(WORDS, 1.5, overlap=0.0))
    sound = word_segments(WORDS, 1.5, overlap=0.1)
    assert len(pieces) == 3 and pieces[0, 0] == 0 and pieces[-1, 1] == len(item.frames)
    for (first, stop), (start, end) in zip(pieces, sound, strict=True):
        samples = AUDIO[round(start * 16_000) : round(end * 16_000)]
        (alone,) = Mfcc().encode([Clip("b", audio=samples)], [None])
        assert not isinstance(alone, InputFailure)
        assert np.array_equal(item.frames[first:stop], alone[None].frames)  # type: ignore[union-attr]


def test_a_word_beyond_the_sound_has_a_frame_and_no_words_are_told() -> None:
    assert np.isfinite(encoded((*WORDS, Word("late", 2.0, 2.5))).frames).all()
    (result,) = WordMfcc().encode([Clip("a", audio=AUDIO, words=WORDS[:1])], [None])
    assert isinstance(result, InputFailure) and result.reason == "no_words"
