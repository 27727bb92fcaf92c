"""MFCC of the sound of each word by itself."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ...cache import InputFailure, Item, Utterance
from ...cache.frames.segments import word_segments
from .acoustic import Mfcc
from .encoder import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, audio_fault, check_layer, seconds

_OVERLAP = 0.1


class WordMfcc(Mfcc):
    """`Mfcc` of each word's sound alone, one word after the other, as paper 5 (Lee et al. 2020, section 3.1.2) has it.

    The sound is cut as `word_segments` says, neighbours 10 % over each other, and each piece is taken to be silent
    before and after. All frames of a word have one place in time, the word's span without the overlap, so that spans
    follow each other and a head that cuts by words, without an overlap of its own, gets each word's frames.
    """

    name = "mfcc-words"
    inputs = ("audio", "words")

    @property
    def rate(self) -> float | None:
        """See `Encoder`: frames of two words may be of the same moment."""
        return None

    def recipe(self, layer: int | None) -> dict[str, Any]:
        """See `Encoder.recipe`."""
        return {**super().recipe(layer), "times": None}

    def _preprocessing(self) -> dict[str, Any]:
        return {**super()._preprocessing(), "segments": {"of": "words", "overlap": _OVERLAP}}

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`: each piece has one more than its hops, and the overlap."""
        return round(110 * seconds(utterance)) + len(utterance.words)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        for layer in layers:
            check_layer(self.name, layer, self.layers)
        return [self._encode(clip, layers) for clip in clips]

    def _encode(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
        if fault := audio_fault(clip.audio):
            return fault
        audio = cast(Audio, clip.audio)
        duration = len(audio) / SAMPLE_RATE
        heard = word_segments(clip.words, duration, overlap=_OVERLAP)
        spans = word_segments(clip.words, duration, overlap=0.0)
        if not len(heard):
            return InputFailure("no_words", "the corpus gives no words with times for the utterance")
        cuts = np.round(heard * SAMPLE_RATE).astype(int)
        starts = np.minimum(cuts[:, 0], len(audio) - 1)
        pieces = [
            self._transform(audio[start : max(end, start + 1)]) for start, end in zip(starts, cuts[:, 1], strict=True)
        ]
        times = np.repeat(spans, [len(piece) for piece in pieces], axis=0)
        return {layer: Item(np.concatenate(pieces), times) for layer in layers}
