"""The extended Geneva minimalistic acoustic parameter set (Eyben et al. 2016), computed by openSMILE."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, InputFailure, Item, Utterance
from ...cache.recipe import Recipe
from .encoder import (
    SAMPLE_RATE,
    Audio,
    Clip,
    LayerItems,
    Layers,
    check_layer,
    encode_each,
    over_whole_clips,
    samples,
    seconds,
)

_HOP = 160
_COST = 30.0  # of a second of audio, next to the other signal transforms; measured
_LEAST = 960  # samples: the 60 ms window of the pitch, without which openSMILE gives nothing


class Egemaps:
    """The 25 low-level descriptors of eGeMAPSv02 at 100 Hz, frame i from 0.01 i s on.

    Loudness, spectral slopes and flux, four MFCC, pitch, jitter, shimmer, harmonics-to-noise ratio and three formants,
    as openSMILE smooths and orders them. Its windows begin with the frame and last 20 ms, for the pitch and what
    follows from it 60 ms: a clip of n samples has 2 + (n - 960) // 160 frames, and one under 960 samples fails.

    openSMILE works on 16-bit samples; audio beyond [-1, 1), which it would wrap around, is clipped first.
    The Python package keeps no state between clips, so threads may share an encoder.

    Raises:
        EmocacheError: the package opensmile is not installed.
    """

    name = "egemaps"
    inputs: tuple[str, ...] = ("audio",)
    layers = 0
    dim = 25
    rate: float | None = 100.0
    _level = "LowLevelDescriptors"

    def __init__(self) -> None:
        try:
            import opensmile
        except ImportError as error:
            raise EmocacheError(
                f"encoder {self.name!r} needs openSMILE; install it with: pip install 'emocache[egemaps]'"
            ) from error
        self._smile: Any = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel[self._level])

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None if self.rate is None else {"rate": self.rate, "first_start": 0.0, "width": 0.02},
            "aux": {},
            "family": self.name,
            "version": 1,
            "preprocessing": {
                "sample_rate": SAMPLE_RATE, "samples": "16 bit, clipped", "feature_set": "eGeMAPSv02",
                "feature_level": self._level,
            },
        }  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return max(2 + (samples(utterance) - _LEAST) // _HOP, 1)

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return _COST * seconds(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        results = encode_each(self, clips, layers, self._describe)
        return [_too_short(clip) if _is_empty(result) else result for result, clip in zip(results, clips, strict=True)]

    def _describe(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Turn (n,) samples into (T, dim); T is 0 where the clip is too short."""
        if len(audio) < _LEAST:
            return np.empty((0, self.dim), np.float32)
        described = self._smile(np.clip(audio, -1, 32_767 / 32_768), SAMPLE_RATE)
        return np.ascontiguousarray(described[0].T, np.float32)


class EgemapsFunctionals(Egemaps):
    """The 88 functionals of eGeMAPSv02: one vector for the whole utterance."""

    name = "egemaps-functionals"
    dim = 88
    rate = None
    _level = "Functionals"

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return 1

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        return over_whole_clips(super().encode(clips, layers), clips)


def _is_empty(result: LayerItems | InputFailure) -> bool:
    return not isinstance(result, InputFailure) and any(
        isinstance(item, Item) and not len(item.frames) for item in result.values()
    )


def _too_short(clip: Clip) -> InputFailure:
    found = 0 if clip.audio is None else len(clip.audio)
    return InputFailure("no_frames", f"{found} samples; eGeMAPS needs {_LEAST} (60 ms), so leave the clip out")
