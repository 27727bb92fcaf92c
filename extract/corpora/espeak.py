"""eSpeak NG through ctypes: words with their prosody in, samples and word times out."""

import ctypes
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.errors import EmocacheError

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, and espeak_Synth returns when all are there
_PHONEME_EVENTS, _DONT_EXIT = 0x0001, 0x8000
_UTF8 = 1
_WORD, _PHONEME = 1, 7  # kinds of events


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One word and how it is said."""

    text: str  # with its punctuation
    pitch: int  # 0 to 99, 50 is the voice's own
    range: int  # 0 to 99, 50 is the voice's own
    rate: int  # words per minute, 80 to 450


@dataclass(frozen=True, slots=True)
class Speech:
    """Speech from eSpeak.

    Attributes:
        samples: (n,) int16 at `sample_rate` Hz, mono.
        words: (start, end) in seconds, one for each word said.
    """

    samples: npt.NDArray[np.int16]
    words: tuple[tuple[float, float], ...]


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """The library, initialised. Its state is the process's: what it says depends on all it has said before.

    Raises:
        EmocacheError: the library or its data are not there.
    """

    def __init__(self) -> None:
        self._library = _load()
        self._chunks: list[bytes] = []
        self._words: list[tuple[int, float]] = []  # character position from 0, seconds
        self._pauses: list[float] = []  # seconds at which they begin
        self._callback = _Callback(self._receive)  # kept alive: the library holds only its address
        self._library.espeak_SetSynthCallback(self._callback)
        loader = importlib.import_module("espeakng_loader")
        # The library looks for espeak-ng-data below the path it is given.
        data = str(Path(loader.get_data_path()).parent).encode()
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _DONT_EXIT)
        if self.sample_rate <= 0:
            raise EmocacheError(f"eSpeak NG found no voice data in {data.decode()}; {_REMEDY}")

    def seed(self, value: int) -> None:
        """Seed the noise of breath and fricatives."""
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(value))

    def say(self, voice: str, words: Sequence[SpokenWord]) -> Speech:
        """Say the words as one text.

        Args:
            voice: language and variant, like "de+f3".
            words: what to say; their texts are joined by spaces.

        Returns:
            The samples, and when each word begins.

        Raises:
            EmocacheError: there is no such voice, or nothing was said.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise EmocacheError(f"eSpeak NG has no voice {voice!r}; {_REMEDY}")
        self._chunks.clear()
        self._words.clear()
        self._pauses.clear()
        # Ctrl-A, a number and a letter set pitch, range or speed from here on: prosody per word, within one phrase.
        marked = [f"\x01{w.rate}S\x01{w.pitch}P\x01{w.range}R{w.text}" for w in words]
        text = " ".join(marked).encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(self._chunks), np.int16)
        if samples.size == 0:
            raise EmocacheError(f"eSpeak NG said nothing with voice {voice!r}; {_REMEDY}")
        return Speech(samples, _word_times(marked, self._words, self._pauses, samples.size / self.sample_rate))

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type:
            event, seconds = events[index], events[index].audio_position / 1000
            if event.type == _WORD:
                self._words.append((event.text_position - 1, seconds))
            elif event.type == _PHONEME and event.id.string.startswith(b"_:"):
                self._pauses.append(seconds)
            index += 1
        return 0


_REMEDY = "reinstall it: pip install --force-reinstall 'emocache[demo]'"


def _load() -> ctypes.CDLL:
    try:
        loader = importlib.import_module("espeakng_loader")
        library = ctypes.CDLL(loader.get_library_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise EmocacheError(
            f"the demo corpus needs the eSpeak NG library ({error}): pip install 'emocache[demo]'"
        ) from error
    library.espeak_SetSynthCallback.argtypes = [_Callback]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return library


def _word_times(
    marked: Sequence[str], words: Sequence[tuple[int, float]], pauses: Sequence[float], duration: float
) -> tuple[tuple[float, float], ...]:
    """(start, end) of every word: from its first event to a pause, the next word's event, or the end.

    eSpeak runs some function words together under one event; such words share its span evenly.
    """
    first: list[float | None] = []
    position = 0
    for text in marked:
        first.append(min((t for at, t in words if position <= at < position + len(text)), default=None))
        position += len(text) + 1
    first[0] = first[0] or 0.0
    heard = [k for k, start in enumerate(first) if start is not None]
    times: list[tuple[float, float]] = []
    for k, following in pairwise([*heard, len(marked)]):
        start = first[k] or 0.0
        end = (first[following] or 0.0) if following < len(marked) else duration
        end = min((t for t in pauses if start < t < end), default=end)
        times.extend(pairwise(np.linspace(start, end, following - k + 1).tolist()))
    return tuple(times)
