"""The mel spectrogram: the parameters in which its variants differ, and the one transform they all are."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
from threadpoolctl import ThreadpoolController

from ...cache.spill import Tape, blocks, release
from .encoder import SAMPLE_RATE, Audio

_FFT_POINTS = 1 << 22  # at a time; bounds memory on long recordings
# So small a product is no faster on two cores, and several times slower where the other one decodes, as BLAS's threads
# spin while they wait. The numbers are the same.
_BLAS = threading.Lock()


@dataclass(frozen=True, slots=True)
class MelSpectrogram:
    """The settings of a mel spectrogram of 16 kHz audio, which it computes when called. Bands reach to 8000 Hz.

    Attributes:
        window: length of a frame in samples.
        hop: samples from one frame to the next.
        n_fft: points of the Fourier transform; the windowed frame is followed by zeros.
        bands: triangular filters, their edges equally spaced on the mel scale.
        taper: the window function.
        centred: frame i is centred on sample hop * i, the clip taken to be silent before and after. Otherwise frame i
            starts there, only whole frames count, and a clip shorter than one is followed by silence.
        mel: the mel scale: "htk", 2595 log10(1 + f / 700), or "slaney", linear below 1000 Hz.
        log: of the band's power; None for the power itself.
        floor: the least power the logarithm is taken of.
        top_db: what is further below the utterance's loudest value is raised to that distance; None for no such limit.
        triangles: the scale on which the filters' sides are straight.
        area: filters of equal area ("slaney"), 2 / (their width in Hz) high, rather than of height 1 (None).
        preemphasis: k in x[t] - k x[t-1], within each frame as HTK does; x[-1] is x[0].
    """

    window: int
    hop: int
    n_fft: int
    bands: int
    taper: Literal["periodic hamming", "symmetric hamming", "periodic hann"] = "periodic hamming"
    centred: bool = True
    mel: Literal["htk", "slaney"] = "htk"
    log: Literal["natural", "decibel"] | None = "natural"
    floor: float = 1e-10
    top_db: float | None = None
    triangles: Literal["hertz", "mel"] = "hertz"
    area: Literal["slaney"] | None = None
    preemphasis: float = 0.0

    @property
    def rate(self) -> float:
        """Frames a second in Hz."""
        return SAMPLE_RATE / self.hop

    @property
    def times(self) -> dict[str, float]:
        """The frames' places in time, as recipes say it: rate in Hz, first start and width in seconds."""
        first = -(self.window // 2) / SAMPLE_RATE if self.centred else 0.0
        return {"rate": self.rate, "first_start": first, "width": self.window / SAMPLE_RATE}

    def count(self, samples: int) -> int:
        """Count the frames of a clip of so many samples."""
        return 1 + (samples if self.centred else max(samples - self.window, 0)) // self.hop

    def describe(self) -> dict[str, Any]:
        """Tell the settings as recipes hold them; those added later only where they are not at their default."""
        described: dict[str, Any] = {
            "sample_rate": SAMPLE_RATE, "window": self.taper, "window_samples": self.window, "hop": self.hop,
            "n_fft": self.n_fft, "center": "zeros" if self.centred else "none", "bands": self.bands, "mel": self.mel,
            "low_hz": 0, "high_hz": SAMPLE_RATE // 2, "log": self.log,
        }  # fmt: skip
        if self.log is not None:
            described["floor"] = self.floor
        later = ("top_db", "triangles", "area", "preemphasis")
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return described | {name: given[name] for name in later if name in given}

    def frames(self, audio: Audio) -> Iterator[npt.NDArray[np.float32]]:
        """Cut (n,) samples into those of each frame: block after block, (some of count(n), window) views."""
        count, rows = self.count(len(audio)), _FFT_POINTS // self.n_fft
        before = self.window // 2 if self.centred else 0
        for first in range(0, count, rows):
            some = min(rows, count - first)
            padded = np.zeros((some - 1) * self.hop + self.window, np.float32)
            at = first * self.hop - before  # of the first sample, which may lie in the silence before the clip
            # Samples that no whole frame reaches are left out at the end.
            inside = audio[max(at, 0) : at + len(padded)]
            padded[max(-at, 0) : max(-at, 0) + len(inside)] = inside
            release(inside)
            yield np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop]

    def __call__(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Turn (n,) samples into (count(n), bands) float32."""
        tape, loudest = Tape(), -np.inf
        for frames in self.frames(audio):
            part = _emphasised(frames, self.preemphasis)
            spectrum = scipy.fft.rfft(part * _taper(self.taper, self.window), self.n_fft, axis=1)
            power = spectrum.real**2 + spectrum.imag**2
            with _BLAS, _blas().limit(limits=1, user_api="blas"):
                bands = power @ _filters(self)
            block = self._logarithm(bands)
            loudest = max(loudest, block.max())
            tape.append(block)
        out = tape.whole()
        if self.top_db is not None:
            least = loudest - np.float32(self.top_db)
            for block in blocks(out):
                np.maximum(block, least, out=block)
        return out

    def _logarithm(self, power: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self.log is None:
            return power
        logarithm = np.log(np.maximum(power, self.floor))
        return np.asarray(logarithm if self.log == "natural" else logarithm * (10 / np.log(10)), np.float32)


def _emphasised(frames: npt.NDArray[np.float32], k: float) -> npt.NDArray[np.float32]:
    if not k:
        return frames
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    return np.asarray(frames - np.float32(k) * before, np.float32)


@cache
def _blas() -> Any:
    return ThreadpoolController()


@cache
def _taper(name: str, length: int) -> npt.NDArray[np.float32]:
    constant = 0.5 if name.endswith("hann") else 0.54
    period = length - 1 if name.startswith("symmetric") else length
    taper = constant - (1 - constant) * np.cos(2 * np.pi * np.arange(length) / period)
    return np.asarray(taper, np.float32)


@cache
def _filters(spectrogram: MelSpectrogram) -> npt.NDArray[np.float32]:
    """Make the (n_fft // 2 + 1, bands) weights of the power spectrum in each band."""
    scale = spectrogram.mel
    hertz = np.fft.rfftfreq(spectrogram.n_fft, 1 / SAMPLE_RATE)[:, None]
    edges = _to_hertz(np.linspace(0, _to_mel(np.float64(SAMPLE_RATE / 2), scale), spectrogram.bands + 2), scale)
    # librosa draws the sides of a filter straight in hertz, HTK in mel; the corners are the same.
    at, corners = hertz, edges
    if spectrogram.triangles == "mel":
        at, corners = _to_mel(hertz, scale), _to_mel(edges, scale)
    rising = (at - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - at) / (corners[2:] - corners[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    if spectrogram.area is not None:
        weights = weights * 2 / (edges[2:] - edges[:-2])
    return np.asarray(weights, np.float32)


# Slaney's scale: 15 mel up to 1000 Hz, from there on 27 mel for each factor of 6.4 (librosa.hz_to_mel's default).
_KNEE_HERTZ, _KNEE_MEL, _STEP = 1000.0, 15.0, np.log(6.4) / 27


def _to_mel(hertz: Any, scale: str) -> Any:
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    above = _KNEE_MEL + np.log(np.maximum(hertz, _KNEE_HERTZ) / _KNEE_HERTZ) / _STEP
    return np.where(hertz < _KNEE_HERTZ, hertz * _KNEE_MEL / _KNEE_HERTZ, above)


def _to_hertz(mel: Any, scale: str) -> Any:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = _KNEE_HERTZ * np.exp(_STEP * (np.maximum(mel, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _KNEE_HERTZ / _KNEE_MEL, above)
