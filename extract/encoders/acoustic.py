"""Signal transforms without a model: log-mel spectrogram and MFCC."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from ...cache import InputFailure, Utterance
from ...cache.recipe import Recipe
from .base import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, check_layer, encode_audio, samples, seconds

_WINDOW, _HOP, _N_FFT, _BANDS = 400, 160, 512, 40
_FLOOR = 1e-10
_BLOCK = 8192  # frames at a time; bounds memory on long recordings


class LogMel:
    """Log-mel spectrogram: 40 bands at 100 Hz, frame i centred on sample 160 i.

    25 ms periodic Hamming window, power spectrum of 512 points, triangular filters equally spaced on the HTK mel
    scale from 0 to 8000 Hz, natural logarithm of at least 1e-10. The clip is taken to be silent before and after.
    """

    name = "logmel"
    inputs: tuple[str, ...] = ("audio",)
    layers = 0
    dim = _BANDS
    rate: float | None = 100.0

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": {"rate": 100.0, "first_start": -0.0125, "width": 0.025},
            "aux": {},
            "family": self.name,
            "version": 1,
            "preprocessing": {
                "sample_rate": SAMPLE_RATE, "window": "periodic hamming", "window_samples": _WINDOW, "hop": _HOP,
                "n_fft": _N_FFT, "center": "zeros", "bands": _BANDS, "mel": "htk", "low_hz": 0, "high_hz": 8000,
                "log": "natural", "floor": _FLOOR,
            },
        }  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return 1 + samples(utterance) // _HOP

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return seconds(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        for layer in layers:
            check_layer(self.name, layer, self.layers)

        def run(audios: list[Audio]) -> list[Mapping[int | None, npt.NDArray[np.float32]]]:
            return [{None: self._transform(log_mel(audio))} for audio in audios]

        return encode_audio(clips, run)

    def _transform(self, spectrogram: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return spectrogram


class Mfcc(LogMel):
    """The 40 cepstral coefficients of `LogMel`: its orthonormal DCT-II over the bands, nothing dropped or liftered."""

    name = "mfcc"

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        recipe = super().recipe(layer)
        return {**recipe, "preprocessing": {**recipe["preprocessing"], "cepstra": _BANDS, "dct": "II, orthonormal"}}

    def _transform(self, spectrogram: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        cepstra: npt.NDArray[np.float32] = scipy.fft.dct(spectrogram, type=2, norm="ortho", axis=1)
        return cepstra


def log_mel(audio: Audio) -> npt.NDArray[np.float32]:
    """(n,) samples to (1 + n // 160, 40); see `LogMel`."""
    count = 1 + len(audio) // _HOP
    padded = np.zeros((count - 1) * _HOP + _WINDOW, np.float32)
    half = _WINDOW // 2
    inside = audio[: len(padded) - half]
    padded[half : half + len(inside)] = inside
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    out = np.empty((count, _BANDS), np.float32)
    for first in range(0, count, _BLOCK):
        spectrum = scipy.fft.rfft(windows[first : first + _BLOCK] * _hamming(), _N_FFT, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        out[first : first + _BLOCK] = np.log(np.maximum(power @ _filters(), _FLOOR))
    return out


@cache
def _hamming() -> npt.NDArray[np.float32]:
    return (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)


@cache
def _filters() -> npt.NDArray[np.float32]:
    """(257, 40) triangles of height 1 between neighbouring centres on the HTK mel scale."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(_N_FFT, 1 / SAMPLE_RATE)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
