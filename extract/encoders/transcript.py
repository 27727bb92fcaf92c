"""Transcripts by Whisper, of any size: text, English translation, language and word times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...cache import InputFailure, Utterance
from ...cache.recipe import Recipe
from .checkpoints import Checkpoint
from .encoder import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, audio_fault, check_layer, samples
from .inference import Runtime
from .transcript_checks import RULES, Passage, clip_flag, is_digital_silence, repeats
from .whisper import frames
from .whisper_decoder import Opening, Score, WhisperDecoder
from .word_times import group_words, loud_frames, token_starts, trim

_WINDOW, _SEARCH, _PAUSE = 30 * SAMPLE_RATE, 5 * SAMPLE_RATE, SAMPLE_RATE // 5  # samples
_FRAME = 0.02  # seconds
_FEW = 8
_FILES = (
    "preprocessor_config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_SPACELESS = ("zh", "ja", "th", "lo", "my", "yue")  # as in github.com/openai/whisper, tokenizer.py
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Window:
    clip: int  # position in the batch
    start: float  # seconds from the clip's start
    audio: Audio


@dataclass(frozen=True, slots=True)
class _Heard:
    passage: Passage
    words: list[Row]
    translation: str | None


class Transcript:
    """The words said in a clip, by the most probable token at every step.

    A row has the columns
    - `text`: in the language spoken; "" where nothing is said or the decoder ran in circles;
    - `raw_text`: the same without the rules of `transcript_checks`;
    - `translation`: in English, `text` itself where that is English; null where the translation only repeats itself or
      the model was not made to translate (English-only, turbo, distilled);
    - `language`, `language_probability`: the most probable one in the first window with a signal, as a code ("en");
    - `avg_logprob`: mean log probability of the sampled tokens; `no_speech_prob`: the windows' least;
    - `flag`: null, "silence", "repetition" or "truncated" (the limit of tokens was hit), see `transcript_checks`;
    - `words`: [{"word", "start", "end"}], those of `text` in order, cut at blanks, in languages that write none at
      every sign; seconds from the utterance's start, inside the clip.
    A clip without any signal has no language and no probabilities.

    Up to 30 s a clip is one window. A longer one is cut in the quietest 0.2 s of each window's last 5 s, and the
    windows are read independently. Rows do not depend on the batch, see `WhisperDecoder`.
    """

    inputs: tuple[str, ...] = ("audio",)
    layers = 0
    dim = 0
    rate: float | None = None
    _taken: int | None = None  # samples from the clip's start that are transcribed; None: all

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._precision = runtime.precision
        self._decoder = WhisperDecoder(checkpoint, runtime)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        decoder = self._decoder
        return {
            "kind": "table",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "family": "transcript",
            "version": 1,
            "weights_sha256": self._checkpoint.weights_sha256(),
            "config_sha256": self._checkpoint.config_sha256(_FILES),
            "precision": self._precision,
            "preprocessing": {"sample_rate": SAMPLE_RATE, "features": "log-mel", "bands": decoder.bands},
            "tasks": ["transcribe", "translate"] if decoder.translates else ["transcribe"],
            "language": "detected in the first window with a signal" if decoder.languages else "en",
            "decoding": {"search": "greedy", "temperature": 0, "timestamps": False, "max_tokens": decoder.max_tokens},
            "windowing": {"seconds": 30, "padding": "silence", "cut": "quietest 0.2 s of the last 5", "prompt": None},
            **({} if self._taken is None else {"clips": {"samples": self._taken}}),
            "checks": RULES,
            "words": {"times": "cross-attention", "median_filter_frames": 7, "quiet_ends_below_db": -40},
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return 1

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`; 30 s for every started window."""
        taken = samples(utterance) if self._taken is None else min(samples(utterance), self._taken)
        return 30.0 * -(-taken // _WINDOW)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        for layer in layers:
            check_layer(self.name, layer, self.layers)
        results: list[LayerItems | InputFailure | None] = [audio_fault(clip.audio) for clip in clips]
        sound = [i for i, fault in enumerate(results) if fault is None]
        audios = [np.ascontiguousarray(clips[i].audio, np.float32)[: self._taken] for i in sound]
        for i, row in zip(sound, self._rows(audios), strict=True):
            results[i] = {None: row}
        return [result for result in results if result is not None]

    def _rows(self, audios: Sequence[Audio]) -> list[Row]:
        windows = [_Window(clip, start, part) for clip, audio in enumerate(audios) for start, part in cut(audio)]
        sounding = [window for window in windows if not is_digital_silence(window.audio)]
        openings: dict[int, Opening] = {}
        heard: list[list[_Heard]] = [[] for _ in audios]
        # A pass holds as many windows as there are clips, or 8: one long clip does not become a huge batch.
        width = max(len(audios), _FEW)
        for begin in range(0, len(sounding), width):
            chosen = sounding[begin : begin + width]
            for window, result in zip(chosen, self._hear(chosen, openings), strict=True):
                heard[window.clip].append(result)
        return [_row(parts, openings.get(clip)) for clip, parts in enumerate(heard)]

    def _hear(self, windows: Sequence[_Window], openings: dict[int, Opening]) -> list[_Heard]:
        """Transcribe each window; `openings` gets {clip: that of its first window} of clips that are new."""
        decoder = self._decoder
        states = decoder.states([window.audio for window in windows])
        opened = decoder.open(states)
        for window, opening in zip(windows, opened, strict=True):
            # Windows come in the order of time, so the first to tell is the clip's first with a signal.
            openings.setdefault(window.clip, opening)
        languages = [openings[window.clip].language for window in windows]
        sampled = decoder.sample(states, languages, "transcribe")
        scores = decoder.score(states, languages, sampled)
        heard = [
            self._read(*each)
            for each in zip(windows, scores, languages, sampled, (o.no_speech_prob for o in opened), strict=True)
        ]
        # A text that does not count is not worth a translation, and English is its own.
        foreign = [i for i, language in enumerate(languages) if language != "en" and heard[i].passage.valid]
        if foreign and decoder.translates:
            english = decoder.sample(states[foreign], [languages[i] for i in foreign], "translate")
            for i, text in zip(foreign, (decoder.text(tokens).strip() for tokens in english), strict=True):
                heard[i] = replace(heard[i], translation=None if repeats(text) else text)
        return heard

    def _read(self, window: _Window, score: Score, language: str, sampled: list[int], no_speech: float) -> _Heard:
        decoder = self._decoder
        complete = decoder.complete(sampled)
        # The end of the text counts even where it was not reached, as in Whisper's own code.
        count = len(sampled) + (not complete)
        passage = Passage(decoder.text(sampled).strip(), no_speech, float(score.logprobs.sum()), count, complete)
        if not passage.valid:
            return _Heard(passage, [], None)
        # Attention reaches over the silence that fills the window up as well; words lie in the clip's own frames.
        starts = token_starts(score.attention[..., : frames(len(window.audio))], score.first)
        loud = loud_frames(window.audio)
        places = [i for i, token in enumerate(sampled) if decoder.is_text(token)]
        words = []
        for word, first, stop in group_words([sampled[i] for i in places], decoder.text, language in _SPACELESS):
            span = trim(int(starts[places[first]]), int(starts[places[stop - 1] + 1]), loud)
            start, end = (window.start + min(frame * _FRAME, len(window.audio) / SAMPLE_RATE) for frame in span)
            words.append({"word": word, "start": start, "end": end})
        return _Heard(passage, words, passage.text if language == "en" else None)


class FifteenSecondTranscript(Transcript):
    """Of the first 15 s of a clip, for systems whose labels, sound and pictures are those (paper 1)."""

    _taken = 15 * SAMPLE_RATE


def cut(audio: Audio) -> list[tuple[float, Audio]]:
    """Cut a clip into windows, (start in seconds, samples) each, see `Transcript`."""
    windows, start = [], 0
    while len(audio) - start > _WINDOW:
        tail = audio[start + _WINDOW - _SEARCH : start + _WINDOW].astype(np.float64)
        # Differences of running sums are the energies of all stretches of 0.2 s at once.
        energy = np.cumsum(np.r_[0.0, tail**2])
        quietest = int(np.argmin(energy[_PAUSE:] - energy[:-_PAUSE]))
        stop = start + _WINDOW - _SEARCH + quietest + _PAUSE // 2
        windows.append((start / SAMPLE_RATE, audio[start:stop]))
        start = stop
    return [*windows, (start / SAMPLE_RATE, audio[start:])]


def _row(parts: Sequence[_Heard], opening: Opening | None) -> Row:
    valid = [part for part in parts if part.passage.valid]
    language = opening.language if opening else None
    blank = "" if language in _SPACELESS else " "
    tokens = sum(part.passage.tokens for part in parts)
    translations = [part.translation for part in valid]
    return {
        "text": blank.join(part.passage.text for part in valid),
        "raw_text": blank.join(part.passage.text for part in parts),
        # Half a translation would pass for the whole: one window without is the clip without.
        "translation": None if None in translations else " ".join(filter(None, translations)),
        "language": language,
        "language_probability": opening.language_probability if opening else None,
        "avg_logprob": sum(part.passage.logprob for part in parts) / tokens if parts else None,
        "no_speech_prob": min((part.passage.no_speech_prob for part in parts), default=None),
        "flag": clip_flag([part.passage.flag for part in parts]),
        "words": [word for part in parts for word in part.words],
    }
