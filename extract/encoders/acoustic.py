"""Signal transforms without a model: mel spectrograms and the cepstral coefficients taken from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from ...cache import InputFailure, Utterance
from ...cache.recipe import Recipe
from ...cache.spill import by_blocks
from .encoder import Audio, Clip, LayerItems, Layers, check_layer, encode_each, samples, seconds
from .spectrogram import MelSpectrogram


class LogMel:
    """Log-mel spectrogram: 40 bands at 100 Hz, frame i centred on sample 160 i.

    25 ms periodic Hamming window, power spectrum of 512 points, triangular filters equally spaced on the HTK mel
    scale from 0 to 8000 Hz, natural logarithm of at least 1e-10. The clip is taken to be silent before and after.

    The other encoders here are this one with another spectrogram and, in `_transform`, what is made of it.
    """

    name = "logmel"
    inputs: tuple[str, ...] = ("audio",)
    layers = 0
    spectrogram = MelSpectrogram(window=400, hop=160, n_fft=512, bands=40)

    @property
    def dim(self) -> int:
        """See `Encoder`."""
        return self.spectrogram.bands

    @property
    def rate(self) -> float | None:
        """See `Encoder`."""
        return self.spectrogram.rate

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": self.spectrogram.times,
            "aux": {},
            "family": self.name,
            "version": 1,
            "preprocessing": self._preprocessing(),
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return self.spectrogram.count(samples(utterance))

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return seconds(utterance) * self.spectrogram.rate / 100

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        return encode_each(self, clips, layers, self._transform)

    def _preprocessing(self) -> dict[str, Any]:
        return self.spectrogram.describe()

    def _transform(self, audio: Audio) -> npt.NDArray[np.float32]:
        return self.spectrogram(audio)


class Spectrogram(LogMel):
    """Log-mel spectrogram as the input of CAMuLeNet's AlexNet: 128 bands in dB at 100 Hz, frame i centred on 160 i.

    40 ms periodic Hamming window, power spectrum of 800 points: the paper's "window 40, hop 10, FFT 800" read in
    milliseconds, as its parent CA-MSER means them. Scale and filters are those of the released code, librosa's default
    (Slaney, equal area): on the HTK scale the lowest of 128 bands would be narrower than a bin of 20 Hz. The logarithm,
    10 log10 of at least 1e-10, which the code leaves out, makes it -100 dB or more; nothing is cut relative to the
    utterance's peak, so a frame does not depend on the others.
    """

    name = "spectrogram"
    spectrogram = MelSpectrogram(640, 160, 800, 128, mel="slaney", log="decibel", area="slaney")


class SpectrogramCode(LogMel):
    """Mel spectrogram as CAMuLeNet's released code takes it: 128 bands of power at 1600 Hz.

    `librosa.feature.melspectrogram(n_fft=800, win_length=40, hop_length=10, window="hamming")`: the milliseconds of
    `Spectrogram` taken as samples (2.5 ms every 0.625 ms), and no logarithm. An hour takes 2.9 GB as float32, in
    memory too. The power of speech at full scale stays far below float16's limit of 65,504, but what is 60 dB quieter
    falls below 6e-8, where float16 ends: it is stored as float32 unless `--dtype` says otherwise.
    """

    name = "spectrogram-code"
    storage = "float32"
    spectrogram = MelSpectrogram(40, 10, 800, 128, mel="slaney", log=None, area="slaney")


class Mfcc(LogMel):
    """The 40 cepstral coefficients of `LogMel`: its orthonormal DCT-II over the bands, nothing dropped or liftered."""

    name = "mfcc"
    dim = 40

    def _preprocessing(self) -> dict[str, Any]:
        return {**super()._preprocessing(), "cepstra": self.dim, "dct": "II, orthonormal"}

    def _transform(self, audio: Audio) -> npt.NDArray[np.float32]:
        return by_blocks(lambda block: _cepstra(block, 0, self.dim), self.spectrogram(audio))


class MfccCode(Mfcc):
    """MFCC as CAMuLeNet's released code takes them: 40 coefficients at 100 Hz, frame i centred on sample 160 i.

    `librosa.feature.mfcc(n_mfcc=40, hop_length=160, htk=True)` of librosa 0.10, whose defaults are a periodic Hann
    window of 2048 samples (128 ms), zeros around the clip, 128 filters of equal area, 10 log10 of at least 1e-10,
    nothing more than 80 dB below the utterance's peak, and an orthonormal DCT-II.
    """

    name = "mfcc-code"
    spectrogram = MelSpectrogram(
        2048, 160, 2048, 128, taper="periodic hann", log="decibel", top_db=80.0, area="slaney"
    )  # fmt: skip


class Mfcc39(LogMel):
    """MDRE's audio features: 12 cepstral coefficients and the log energy, their deltas and their accelerations.

    HTK's MFCC_E_D_A at 100 Hz as openSMILE's MFCC12_E_D_A.conf, which MDRE's authors used, computes them: frame i
    is samples 160 i to 160 i + 400; pre-emphasis 0.97; symmetric Hamming window; power spectrum of 512 points; 26
    triangular filters with straight sides on the mel scale; natural logarithm; DCT-II; lifter 22. The energy is that of
    the frame as it is, before pre-emphasis and window, and not normalised by the utterance's peak. Both logarithms are
    taken of 16-bit sample values, of at least 1.

    A clip shorter than a frame is followed by silence up to its end. Order: c1..c12, energy; deltas; accelerations.
    """

    name = "mfcc39"
    dim = 39
    spectrogram = MelSpectrogram(
        400, 160, 512, 26, taper="symmetric hamming", centred=False, floor=2.0**-30, triangles="mel", preemphasis=0.97
    )  # fmt: skip

    def _preprocessing(self) -> dict[str, Any]:
        return {
            **super()._preprocessing(), "cepstra": [1, 12], "dct": "II, orthonormal", "lifter": _LIFTER,
            "energy": "natural log of the sum of squares of a frame's 16-bit samples, at least 1; raw, not normalised",
            "deltas": "regression over 2 frames on each side, ends repeated; accelerations are deltas of deltas",
        }  # fmt: skip

    def _transform(self, audio: Audio) -> npt.NDArray[np.float32]:
        order = np.arange(1, 13)
        lifter = 1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)
        cepstra = _cepstra(self.spectrogram(audio), 1, 13) * lifter.astype(np.float32)
        # The energy is that of the frames themselves: pre-emphasis and window are the spectrogram's own affair.
        energy = np.concatenate([_log_energy(block) for block in self.spectrogram.frames(audio)])
        static = np.hstack([cepstra, energy])
        delta = deltas(static)
        return np.hstack([static, delta, deltas(delta)])


_LIFTER = 22
_FULL_SCALE = 32_768.0


def deltas(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn (T, D) into its slopes (T, D): sum of k (x[t+k] - x[t-k]) for k = 1, 2, over 10, the ends repeated.

    The regression formula of the HTK Book ("Delta and Acceleration Coefficients") with a window of 2.
    """
    padded = np.pad(frames, ((2, 2), (0, 0)), mode="edge")
    return np.asarray((padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10, np.float32)


def _cepstra(spectrogram: npt.NDArray[np.float32], first: int, stop: int) -> npt.NDArray[np.float32]:
    cepstra: npt.NDArray[np.float32] = scipy.fft.dct(spectrogram, type=2, norm="ortho", axis=1, overwrite_x=True)
    return np.ascontiguousarray(cepstra[:, first:stop])


def _log_energy(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # In float64, since the squares of 16-bit values soon pass the 24 bits of a float32.
    energy = np.einsum("tn,tn->t", frames, frames, dtype=np.float64) * _FULL_SCALE**2
    return np.asarray(np.log(np.maximum(energy, 1)), np.float32)[:, None]
