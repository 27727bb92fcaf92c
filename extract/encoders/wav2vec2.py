"""wav2vec 2.0 and the models built like it: one convolutional front, one transformer, and what sets them apart.

HuBERT, WavLM and UniSpeech-SAT have the very layers of wav2vec 2.0; data2vec takes positions from a stack of
convolutions, and the conformer has one in each block.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel

from ...cache import EmocacheError, InputFailure, Utterance
from ...cache.recipe import Recipe
from ...cache.spill import by_blocks
from .checkpoints import Checkpoint
from .encoder import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, check_layer, encode_audio, samples, seconds
from .front_end import normalizes
from .inference import Runtime, captured
from .masked_norm import FrameMask, MaskedBatchNorm, MaskedConvolution, MaskedGroupNorm
from .windows import Window, encode_windows, equal_parts, moments

_LOG = logging.getLogger(__name__)
# WavLM gives torch a boolean mask beside its float position bias; both are applied as they should be.
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
_FIELD, _HOP = 400, 320  # samples a frame sees, samples between frames
_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
_CORE, _CONTEXT = 1500, 100  # frames: 30 s and 2 s


def frames(n: int) -> int:
    """Count the frames of n samples; fewer than 400 are filled up with zeros and give one."""
    return (max(n, _FIELD) - _FIELD) // _HOP + 1


class Wav2Vec2:
    """A model of the wav2vec 2.0 family: frames at 50 Hz, frame i seeing samples [320 i, 320 i + 400) directly.

    A clip's frames do not depend on its batch: each clip is normalised before it is padded, padding is zeroed before
    every convolution over frames and masked in attention, and group norms are taken over each clip alone.

    Up to 30 s a clip is encoded whole. A longer one is cut into equal parts of at most 30 s, each encoded with 2 s of
    context on either side that is then dropped; the waveform is normalised over the whole clip.

    The last layer is the encoder's last hidden state: with `do_stable_layer_norm`, and of conformers, that is after
    the final layer norm. An adapter behind it (`add_adapter`), which takes frames together, is left out.
    """

    inputs: tuple[str, ...] = ("audio",)
    rate: float | None = 50.0
    _length: int | None = None  # samples that every clip is cut or padded to; None: its own

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._runtime = runtime
        self._model = runtime.load(AutoModel, checkpoint)
        _check_convolutions(checkpoint, self._model.config)
        self._normalize = normalizes(checkpoint)
        self.dim = int(self._model.config.hidden_size)
        self.layers = int(self._model.config.num_hidden_layers)
        self._group_norm, self._framewise = _mask_layers(self._model)
        self._frame_mask = FrameMask(self._model, runtime.send)
        self._adapter = drop_adapter(self._model)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": {"rate": 50.0, "first_start": 0.0, "width": 0.025},
            "aux": {},
            "family": "wav2vec2",
            "version": 1,
            **self._checkpoint.identity(),
            "precision": self._runtime.precision,
            "preprocessing": {
                "sample_rate": SAMPLE_RATE, "normalize": self._normalize, "short_clips": "zeros up to 400 samples",
            },
            "windowing": {"seconds": 30, "context_seconds": 2, "cut": "equal parts"},
            **({} if self._length is None else {"clips": {"samples": self._length, "padding": "zeros, unmasked"}}),
            **({"output": "before the adapter"} if self._adapter else {}),
        }  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return frames(self._length or samples(utterance))

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        length = seconds(utterance) if self._length is None else self._length / SAMPLE_RATE
        parts = -(-self.expected_frames(utterance) // _CORE)
        return length + 2 * (parts - 1) * _CONTEXT / 50

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}
        for clip in clips:
            if clip.audio is not None and 0 < clip.audio.size < _FIELD:
                _LOG.warning("utterance %s: %d samples, filled up with zeros to %d", clip.id, clip.audio.size, _FIELD)

        def forward(rows: list[Audio]) -> Mapping[int | None, Tensor]:
            lengths = [len(row) for row in rows]
            values = self._padded(rows)
            with self._runtime.model(), captured(self._model.encoder.layers, list(wanted.values())) as found:
                last = self._forward(values, lengths)
            return {layer: last if number is None else found[number] for layer, number in wanted.items()}

        def run(audios: list[Audio]) -> list[Mapping[int | None, np.ndarray[tuple[int, int], np.dtype[np.float32]]]]:
            ready = [self._prepare(audio) for audio in audios]
            return encode_windows(ready, _cut(ready), forward, self._runtime)

        return encode_audio(clips, run)

    def _prepare(self, audio: Audio) -> Audio:
        if self._length is not None:
            audio = np.pad(audio[: self._length], (0, max(0, self._length - len(audio))))
        if self._normalize:
            # As in transformers' Wav2Vec2FeatureExtractor, but always before padding.
            mean, variance = moments(audio)
            audio = by_blocks(lambda block: (block - mean) / np.sqrt(variance + 1e-7), audio)
        return audio if len(audio) >= _FIELD else np.pad(audio, (0, _FIELD - len(audio)))

    def _padded(self, rows: Sequence[Audio]) -> Tensor:
        """Pad clips to samples, (B, n) float32, on the device."""
        padded = np.zeros((len(rows), max(map(len, rows))), np.float32)
        for target, row in zip(padded, rows, strict=True):
            target[: len(row)] = row
        return self._runtime.send(torch.from_numpy(padded))

    def _forward(self, values: Tensor, lengths: Sequence[int]) -> Tensor:
        if self._group_norm is not None:
            # It stands right behind the first convolution, so it counts that one's outputs.
            self._group_norm.lengths = [(n - _KERNELS[0]) // _STRIDES[0] + 1 for n in lengths]
        for layer in (self._frame_mask, *self._framewise):
            layer.lengths = [frames(n) for n in lengths]
        hidden: Tensor = self._model(values).last_hidden_state
        return hidden


class TenSecondWav2Vec2(Wav2Vec2):
    """The same on the first 10 s of a clip, with zeros after a shorter one that count as sound: always 499 frames.

    For systems that were published so (paper 3's 499 frames); a clip's true length is not stored.
    """

    _length = 10 * SAMPLE_RATE


def drop_adapter(model: Any) -> bool:
    """Leave out the layers behind a model's encoder that take its frames together; tell if it has any."""
    if getattr(model, "adapter", None) is None:
        return False
    model.adapter = None
    # A feed-forward layer of wav2vec2-bert that there is for the adapter's sake only.
    model.intermediate_ffn = None
    return True


def _cut(audios: Sequence[Audio]) -> list[Window]:
    windows = []
    for clip, audio in enumerate(audios):
        parts = equal_parts(frames(len(audio)), _CORE)
        for begin, end in parts:
            # Cut where frames begin, so that a part's frames lie where those of the whole clip would.
            first = max(0, begin - _CONTEXT)
            stop = len(audio) if len(parts) == 1 else min(len(audio), (end - 1 + _CONTEXT) * _HOP + _FIELD)
            windows.append(Window(clip, first * _HOP, stop, begin - first, end - begin))
    return windows


def _mask_layers(model: Any) -> tuple[MaskedGroupNorm | None, list[MaskedBatchNorm | MaskedConvolution]]:
    """Put masks on the layers that padding would leak through: a norm of the first convolution's outputs, and others.

    Args:
        model: of the wav2vec 2.0 family; its layers are replaced.

    Returns:
        The norm, if there is one, and the layers that work on frames.
    """
    group = None
    framewise: list[MaskedBatchNorm | MaskedConvolution] = []
    first = model.feature_extractor.conv_layers[0]
    norm = getattr(first, "layer_norm", None)
    if isinstance(norm, nn.GroupNorm):
        group = first.layer_norm = MaskedGroupNorm(norm)
    # A convolution over positions: what a norm leaves behind a clip's end would leak into its last frames.
    positions = model.encoder.pos_conv_embed
    norm = getattr(positions, "batch_norm", None)
    if isinstance(norm, nn.Module):
        positions.batch_norm = MaskedBatchNorm(norm)
        framewise.append(positions.batch_norm)
    for layer in getattr(positions, "layers", ()):  # data2vec
        layer.conv = MaskedConvolution(layer.conv)
        framewise.append(layer.conv)
    for block in model.encoder.layers:
        convolutions = getattr(block, "conv_module", None)  # of a conformer
        if convolutions is not None:
            convolutions.depthwise_conv = MaskedConvolution(convolutions.depthwise_conv)
            framewise.append(convolutions.depthwise_conv)
    return group, framewise


def _check_convolutions(checkpoint: Checkpoint, config: Any) -> None:
    if (tuple(config.conv_kernel), tuple(config.conv_stride)) != (_KERNELS, _STRIDES):
        raise EmocacheError(
            f"{checkpoint.folder}: convolutions {config.conv_kernel} with strides {config.conv_stride};"
            f" only {_KERNELS} with {_STRIDES} (50 frames a second) are supported"
        )
