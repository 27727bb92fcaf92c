"""wav2vec2-bert (w2v-BERT 2.0): a conformer over log-mel filter banks."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel

from ...cache import EmocacheError, InputFailure, Utterance
from ...cache.recipe import Recipe
from .checkpoints import Checkpoint
from .encoder import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, check_layer, encode_audio, samples, seconds
from .front_end import filter_banks
from .inference import Runtime, captured
from .masked_norm import FrameMask
from .wav2vec2 import drop_adapter
from .windows import Window, encode_windows, equal_parts

_HOP, _SHORTEST = 320, 560  # samples between frames; samples that a frame sees: two of 400, 160 apart
_CORE, _CONTEXT = 1500, 100  # frames: 30 s and 2 s


def frames(n: int) -> int:
    """Count the frames of n samples; fewer than 560 are filled up with zeros and give one."""
    return (max(n, _SHORTEST) - _SHORTEST) // _HOP + 1


class Wav2Vec2Bert:
    """A model of the kind of w2v-BERT 2.0: frames at 50 Hz, frame i seeing samples [320 i, 320 i + 560) directly.

    The features are those of transformers' SeamlessM4TFeatureExtractor: log-mel filter banks as Kaldi takes them, every
    10 ms, each band of zero mean and unit variance over the clip, two in a row making one frame. A last one without a
    second gives no frame: the model is told to pass over it.

    A clip's frames do not depend on its batch: padding comes after the features, it is masked in attention, and the
    convolutions look back only. Clips over 30 s are cut as `Wav2Vec2` does it, with the features of the whole clip.

    The last layer is the encoder's last hidden state; an adapter behind it (`add_adapter`) is left out.
    """

    inputs: tuple[str, ...] = ("audio",)
    rate: float | None = 50.0

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._runtime = runtime
        self._model = runtime.load(AutoModel, checkpoint)
        self._extractor = filter_banks(checkpoint)
        width, expected = 2 * int(self._extractor.num_mel_bins), int(self._model.config.feature_projection_input_dim)
        if width != expected:
            raise EmocacheError(
                f"{checkpoint.folder}: the feature extractor gives {width} values a frame, the model takes {expected};"
                " copy the feature extractor of the model that the checkpoint was made from"
            )
        self.dim = int(self._model.config.hidden_size)
        self.layers = int(self._model.config.num_hidden_layers)
        self._adapter = drop_adapter(self._model)
        self._frame_mask = FrameMask(self._model, runtime.send)

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
                "sample_rate": SAMPLE_RATE, "features": "log-mel filter banks (Kaldi)",
                "bands": int(self._extractor.num_mel_bins), "stride": 2, "normalize": "each band over the clip",
                "short_clips": "zeros up to 560 samples",
            },
            "windowing": {"seconds": 30, "context_seconds": 2, "cut": "equal parts"},
            **({"output": "before the adapter"} if self._adapter else {}),
        }  # fmt: skip

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
            values = self._padded(rows)
            with self._runtime.model(), captured(self._model.encoder.layers, list(wanted.values())) as found:
                self._frame_mask.lengths = [len(row) for row in rows]
                last = self._model(values).last_hidden_state
            return {layer: last if number is None else found[number] for layer, number in wanted.items()}

        def run(audios: list[Audio]) -> list[Mapping[int | None, np.ndarray[tuple[int, int], np.dtype[np.float32]]]]:
            features = [self._features(audio) for audio in audios]
            return encode_windows(features, _cut(features), forward, self._runtime)

        return encode_audio(clips, run)

    def _features(self, audio: Audio) -> Audio:
        """Compute (T, 2 * bands) of one clip, for it alone: the extractor would pad a batch."""
        audio = np.pad(audio, (0, max(0, _SHORTEST - len(audio))))
        found = self._extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="np")
        return np.asarray(found["input_features"][0][: frames(len(audio))], np.float32)

    def _padded(self, rows: Sequence[Audio]) -> Tensor:
        """Pad features to (B, T, 2 * bands), on the device."""
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
        return self._runtime.send(padded)


def _cut(features: Sequence[Audio]) -> list[Window]:
    """Cut clips into windows, whose samples are frames here."""
    windows = []
    for clip, rows in enumerate(features):
        for begin, end in equal_parts(len(rows), _CORE):
            first, stop = max(0, begin - _CONTEXT), min(len(rows), end + _CONTEXT)
            windows.append(Window(clip, first, stop, begin - first, end - begin))
    return windows
