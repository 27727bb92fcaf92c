"""wav2vec 2.0 BERT (Seamless Communication 2023): a conformer over filter-bank frames, two of 10 ms side by side."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoModel

from ...cache import InputFailure, Utterance
from ...cache.recipe import Recipe
from .checkpoints import Checkpoint
from .encoder import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, check_layer, encode_audio, samples, seconds
from .front_end import filter_bank
from .inference import Runtime, captured
from .windows import Window, encode_windows

_WINDOW, _HOP, _STRIDE = 400, 160, 2  # samples of a filter-bank frame and between two; of these in one of the model's
_LEAST = _WINDOW + (2 * _STRIDE - 1) * _HOP  # samples for two frames: of one alone no variance can be taken
_CORE, _CONTEXT = 1500, 100  # frames: 30 s and 2 s


def frames(n: int) -> int:
    """Count the frames of n samples; fewer than two frames' worth are filled up with zeros."""
    return ((max(n, _LEAST) - _WINDOW) // _HOP + 1) // _STRIDE


class Wav2Vec2Bert:
    """A wav2vec 2.0 BERT: frames at 50 Hz, frame i seeing samples [320 i, 320 i + 560) directly.

    The filter bank is that of the checkpoint's feature extractor, each band normalised over the whole clip. Up to 30 s
    a clip is encoded whole; a longer one is cut into equal parts of at most 30 s with 2 s of context on either side.

    The last layer is the model's `last_hidden_state`; an adapter behind it is left out.
    """

    inputs: tuple[str, ...] = ("audio",)
    rate: float | None = 50.0

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._runtime = runtime
        self._filter_bank = filter_bank(checkpoint, _STRIDE)
        self._model = runtime.load(AutoModel, checkpoint)
        self._model.adapter = None
        self.dim = int(self._model.config.hidden_size)
        self.layers = int(self._model.config.num_hidden_layers)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": {"rate": 50.0, "first_start": 0.0, "width": 0.035},
            "aux": {},
            "family": "wav2vec2-bert",
            "version": 1,
            **self._checkpoint.identity(),
            "precision": self._runtime.precision,
            "preprocessing": {
                "sample_rate": SAMPLE_RATE, "filter_bank": "SeamlessM4TFeatureExtractor", "bands": self._bands,
                "normalize": "each band over the clip", "short_clips": f"zeros up to {_LEAST} samples",
            },
            "windowing": {"seconds": 30, "context_seconds": 2, "cut": "equal parts"},
        }  # fmt: skip

    @property
    def _bands(self) -> int:
        return int(self._filter_bank.num_mel_bins)

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return frames(samples(utterance))

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        parts = -(-self.expected_frames(utterance) // _CORE)
        return seconds(utterance) + 2 * (parts - 1) * _CONTEXT / 50

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}

        def forward(rows: list[Audio]) -> Mapping[int | None, Tensor]:
            lengths = torch.tensor([len(row) for row in rows])
            padded = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), np.float32)
            for target, row in zip(padded, rows, strict=True):
                target[: len(row)] = row
            mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
            send = self._runtime.send
            with self._runtime.model(), captured(self._model.encoder.layers, list(wanted.values())) as found:
                last = self._model(send(torch.from_numpy(padded)), attention_mask=send(mask)).last_hidden_state
            return {layer: last if number is None else found[number] for layer, number in wanted.items()}

        def run(audios: list[Audio]) -> list[Mapping[int | None, npt.NDArray[np.float32]]]:
            ready = [self._prepare(audio) for audio in audios]
            return encode_windows(ready, _cut(ready), forward, self._runtime.few)

        return encode_audio(clips, run)

    def _prepare(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Turn (n,) samples into (T, 160) normalised filter-bank frames, those of this clip alone."""
        audio = np.pad(audio, (0, max(0, _LEAST - len(audio))))
        found: Any = self._filter_bank(audio, sampling_rate=SAMPLE_RATE, return_tensors="np", padding=False)
        features: npt.NDArray[np.float32] = found["input_features"][0].astype(np.float32)
        return features


def _cut(features: Sequence[npt.NDArray[np.float32]]) -> list[Window]:
    windows = []
    for clip, own in enumerate(features):
        parts = -(-len(own) // _CORE)
        bounds = [len(own) * part // parts for part in range(parts + 1)]
        for begin, end in pairwise(bounds):
            first = max(0, begin - _CONTEXT)
            windows.append(Window(clip, first, min(len(own), end + _CONTEXT), begin - first, end - begin))
    return windows
