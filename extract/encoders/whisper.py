"""The encoder half of Whisper, of any size (Radford et al. 2022, arXiv:2212.04356)."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ...cache import InputFailure, Utterance
from ...cache.recipe import Recipe
from .checkpoints import Checkpoint
from .encoder import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, check_layer, encode_audio, samples
from .front_end import HOP, N_FFT, check_whisper
from .inference import Runtime, captured
from .windows import Window, encode_windows

WINDOW = 30 * SAMPLE_RATE
POSITIONS = 1500  # that the model knows: 30 s
_CONTEXT = 5 * SAMPLE_RATE  # of windows that overlap, on either side


def frames(n: int) -> int:
    """Count the frames of n samples: one per two mel frames, of which there is one per started hop of 10 ms."""
    mel_frames = -(-n // HOP)
    return -(-mel_frames // 2)


class Whisper:
    """Whisper's encoder: frames at 50 Hz, every one seeing its whole 30 s window.

    The model knows 30 s and nothing else, so each window is filled up with silence and only the frames of the clip
    itself are kept. Longer clips are cut every 30 s. The last layer is taken after the final layer norm.
    """

    inputs: tuple[str, ...] = ("audio",)
    rate: float | None = 50.0
    _kept = "valid"  # frames
    _overlap = 0  # seconds

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._runtime = runtime
        # The decoder's weights are never read.
        self._model = runtime.load(WhisperEncoder, checkpoint, key_mapping={r"^(model\.)?encoder\.": ""})
        self.dim = int(self._model.config.d_model)
        self.layers = int(self._model.config.encoder_layers)
        self._bands = int(self._model.config.num_mel_bins)
        check_whisper(checkpoint, self._bands)
        self._filters = torch.from_numpy(_mel_filters(self._bands)).to(runtime.device, torch.float32)
        self._hann = torch.hann_window(N_FFT, device=runtime.device)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": {"rate": 50.0, "first_start": 0.0, "width": 0.02},
            "aux": {},
            "family": "whisper",
            "version": 1,
            **self._checkpoint.identity(),
            "precision": self._runtime.precision,
            "preprocessing": {
                "sample_rate": SAMPLE_RATE, "features": "log-mel", "bands": self._bands, "n_fft": N_FFT, "hop": HOP,
            },
            "windowing": {
                "seconds": 30, "overlap_seconds": self._overlap, "padding": "silence", "frames": self._kept,
            },
        }  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        whole, rest = divmod(samples(utterance), WINDOW)
        return whole * frames(WINDOW) + (self._frames(rest) if rest else 0)

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`; 30 s for every started window."""
        return 30.0 * -(-samples(utterance) // WINDOW)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}

        depth = max((self.layers if layer is None else layer for layer in wanted.values()), default=0)

        def forward(rows: list[Audio]) -> Mapping[int | None, Tensor]:
            positions = [self._positions(len(row)) for row in rows]
            mel = self._log_mel(rows, _mel_frames(max(positions)))
            with self._runtime.model(), captured(self._model.layers, list(wanted.values())) as found:
                last = self._forward(mel, positions, depth)
            return {layer: last if number is None else found[number] for layer, number in wanted.items()}

        return encode_audio(clips, lambda audios: encode_windows(audios, self._cut(audios), forward, self._runtime))

    def _frames(self, n: int) -> int:
        return frames(n)

    def _positions(self, n: int) -> int:
        """Count the positions that the layers are given for n samples."""
        del n
        return POSITIONS

    def _forward(self, mel: Tensor, positions: Sequence[int], depth: int) -> Tensor:
        """Run the model's first `depth` layers at least: (B, bands, M) to (B, T, D), the last hidden state of them all.

        Of each row the first `positions` count.
        """
        del positions, depth
        hidden: Tensor = self._model(mel).last_hidden_state
        return hidden

    def _cut(self, audios: Sequence[Audio]) -> list[Window]:
        windows = []
        for clip, audio in enumerate(audios):
            for start in range(0, len(audio), WINDOW):
                stop = min(start + WINDOW, len(audio))
                windows.append(Window(clip, start, stop, 0, self._frames(stop - start)))
        return windows

    def _log_mel(self, rows: Sequence[Audio], count: int = 2 * POSITIONS) -> Tensor:
        """Compute (B, bands, count) log-mel with silence behind each row.

        The numbers of transformers' WhisperFeatureExtractor, of whose 3000 fewer are the beginning.
        """
        padded = np.zeros((len(rows), count * HOP), np.float32)
        for row, audio in zip(padded, rows, strict=True):
            row[: len(audio)] = audio
        with self._runtime.exact():
            waves = self._runtime.send(torch.from_numpy(padded))
            spectrum = torch.stft(waves, N_FFT, HOP, window=self._hann, return_complex=True)
            # The last of 3001 frames is left out, as Whisper does.
            mel = self._filters.T @ (spectrum[..., :-1].abs() ** 2).contiguous()
            log = torch.clamp(mel, min=1e-10).log10()
            # The floor is 80 dB under the loudest of a window's own frames, not of the batch.
            log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
            return (log + 4.0) / 4.0


class PaddedWhisper(Whisper):
    """The same with every frame of each 30 s window, those of the silence behind the clip included.

    For systems that were published so (CAMuLeNet's co-attention over 1500 frames); a clip's true length is not stored.
    """

    _kept = "all"

    def _frames(self, n: int) -> int:
        return frames(WINDOW)


class OverlappingWhisper(Whisper):
    """The same with windows of 30 s every 20 s: away from its ends, every frame has at least 5 s on either side.

    Clips of up to 30 s are what they are without overlap.
    """

    _overlap = 10

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return 30.0 * len(_overlapping(samples(utterance)))

    def _cut(self, audios: Sequence[Audio]) -> list[Window]:
        windows = []
        for clip, audio in enumerate(audios):
            starts = _overlapping(len(audio))
            for start, following in zip(starts, [*starts[1:], None], strict=True):
                stop = min(start + WINDOW, len(audio))
                skip = frames(_CONTEXT) if start else 0
                end = frames(stop - start) if following is None else frames(following + _CONTEXT - start)
                windows.append(Window(clip, start, stop, skip, end - skip))
        return windows


def _mel_frames(positions: int) -> int:
    """Count the mel frames that so many positions see: two each, and the silence that convolutions see behind them."""
    return 2 * min(positions + 1, POSITIONS)


def _overlapping(n: int) -> list[int]:
    """List the first samples of the windows of n samples; the last window holds the end."""
    return [0, *range(WINDOW - 2 * _CONTEXT, n - 2 * _CONTEXT, WINDOW - 2 * _CONTEXT)]


def _mel_filters(bands: int) -> npt.NDArray[np.float64]:
    """Return the filters of transformers' feature extractor, (201, bands)."""
    front_end = WhisperFeatureExtractor(feature_size=bands)  # type: ignore[no-untyped-call]
    return np.asarray(front_end.mel_filters)
