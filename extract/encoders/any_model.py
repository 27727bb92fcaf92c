"""Models that are in no family here, through transformers' Auto classes: one clip at a time, and so exact."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoFeatureExtractor, AutoModel

from ...cache import EmocacheError, InputFailure, Item, Utterance
from ...cache.device import is_device_lost, is_out_of_memory
from ...cache.recipe import Recipe
from .checkpoints import Checkpoint, first_line, refuse_own_code
from .encoder import SAMPLE_RATE, Audio, Clip, LayerItems, Layers, audio_fault, check_layer, seconds
from .inference import Key, Runtime, quiet
from .text import TokenText, load_fast_tokenizer, text_fault

_LOG = logging.getLogger(__name__)
_LONGEST = 512  # tokens, where neither model nor tokenizer tells how many it can take
Hidden = tuple[Sequence[torch.Tensor], torch.Tensor]


class AnyModel:
    """A model that turns one clip into hidden states, whatever it is: what `AnyAudio` and `AnyText` share.

    Layer i is the i-th of the hidden states that transformers gives, the last layer the last hidden state.
    """

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.folder = checkpoint.folder
        self._checkpoint = checkpoint
        self._runtime = runtime
        self._model = runtime.load(AutoModel, checkpoint)
        _LOG.warning(
            "encoder %s: %s models are in no family here, so clips are run one at a time", name, checkpoint.model_type
        )

    def run(self, inputs: Mapping[str, torch.Tensor]) -> Hidden:
        """Run the model on one clip.

        Args:
            inputs: what its front end gives, each (1, ...).

        Returns:
            (the hidden states, the last one), each (1, T, D).

        Raises:
            EmocacheError: the model does not take such input alone, or gives something else.
        """
        given = {key: self._runtime.send(value) for key, value in inputs.items()}
        try:
            with self._runtime.model():
                out = self._model(**given, output_hidden_states=True)
            states, last = out.hidden_states, out.last_hidden_state
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            raise EmocacheError(
                f"{self._checkpoint.folder}: a {self._checkpoint.model_type} model cannot be run on one clip by itself"
                f" ({first_line(error)}); write an encoder for it (docs/adding-an-encoder.md)"
            ) from error
        if last is None or last.dim() != 3 or not states:
            raise EmocacheError(
                f"{self._checkpoint.folder}: a {self._checkpoint.model_type} model gives no frames of hidden states"
            )
        return states, last

    def fetch(self, states: Mapping[Key, torch.Tensor]) -> dict[Key, npt.NDArray[np.float32]]:
        """See `Runtime.fetch`."""
        return self._runtime.fetch(states)

    def told(self) -> dict[str, Any]:
        """Return what a recipe says of the checkpoint and of how it is run."""
        return {
            "version": 1,
            "model_type": self._checkpoint.model_type,
            **self._checkpoint.identity(),
            "precision": self._runtime.precision,
        }


class AnyAudio:
    """A model of sound with a feature extractor of its own; its frames are spread evenly over the clip."""

    inputs: tuple[str, ...] = ("audio",)
    rate: float | None = None

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._any = AnyModel(name, checkpoint, runtime)
        self._extractor = _extractor(checkpoint)
        noise = np.random.default_rng(0).normal(0, 0.01, 2 * SAMPLE_RATE).astype(np.float32)
        states, last = self._hidden(noise[:SAMPLE_RATE])
        if self._hidden(noise)[1].shape[1] == last.shape[1]:
            raise EmocacheError(
                f"{checkpoint.folder}: a {checkpoint.model_type} model gives as many frames of 2 s as of 1 s: its front"
                " end cuts or pads every clip, and no frame's time is known; write an encoder for it"
                " (docs/adding-an-encoder.md)"
            )
        self._per_second, self.dim, self.layers = last.shape[1], int(last.shape[2]), len(states) - 1

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        settings = {key: value for key, value in self._extractor.to_dict().items() if _is_plain(value)}
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None,
            "aux": {},
            "family": "any-audio",
            **self._any.told(),
            "preprocessing": {"sample_rate": SAMPLE_RATE, "feature_extractor": settings},
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return max(1, round(self._per_second * seconds(utterance)))

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return seconds(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}
        return [audio_fault(clip.audio) or self._encode(np.asarray(clip.audio), wanted) for clip in clips]

    def _encode(self, audio: Audio, wanted: Mapping[int | None, int | None]) -> LayerItems:
        states, last = self._hidden(audio)
        found = self._any.fetch({layer: (last if i is None else states[i])[0] for layer, i in wanted.items()})
        # Layers of one model may differ in their number of frames (SEW squeezes them, and spreads them again).
        return {layer: Item(frames, _spread(len(frames), len(audio))) for layer, frames in found.items()}

    def _hidden(self, audio: Audio) -> Hidden:
        return self._any.run(self._extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt"))


class AnyText(TokenText):
    """A model of text: one frame per token, as `TokenText` gives them."""

    def __init__(self, name: str, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.name = name
        self._any = AnyModel(name, checkpoint, runtime)
        self._tokenizer = load_fast_tokenizer(checkpoint)
        # Some count positions from behind the padding's number; none takes fewer than this.
        padding = int(checkpoint.config.get("pad_token_id") or -1) + 1
        most = int(checkpoint.config.get("max_position_embeddings") or _LONGEST) - padding
        self._max_length = min(most, int(self._tokenizer.model_max_length))
        states, last = self._hidden("a")[0]
        self.dim, self.layers = int(last.shape[2]), len(states) - 1

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None,
            "aux": {"word": {"dtype": "int32", "shape": []}},
            "family": "any-text",
            **self._any.told(),
            "preprocessing": {"max_length": self._max_length, "longer": "cut at the end"},
            "output": "tokens",
        }

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}
        return [text_fault(clip.text) or self._encode(clip, wanted) for clip in clips]

    def _encode(self, clip: Clip, wanted: Mapping[int | None, int | None]) -> LayerItems:
        (states, last), offsets = self._hidden(clip.text or "")
        found = self._any.fetch({layer: (last if i is None else states[i])[0] for layer, i in wanted.items()})
        if wrong := next((len(frames) for frames in found.values() if len(frames) != len(offsets)), 0):
            raise EmocacheError(
                f"{self._any.folder}: the model gives {wrong} frames for {len(offsets)} tokens, so that none has a word"
            )
        return {layer: self._item(frames, offsets, clip) for layer, frames in found.items()}

    def _hidden(self, text: str) -> tuple[Hidden, npt.NDArray[np.int64]]:
        encoded = self._tokenizer(
            text, truncation=True, max_length=self._max_length, return_offsets_mapping=True, return_tensors="pt"
        )
        offsets = encoded.pop("offset_mapping")[0].numpy().astype(np.int64)
        return self._any.run(encoded), offsets


def _spread(count: int, samples: int) -> npt.NDArray[np.float64]:
    """Spread frames evenly over a clip: (T, 2) seconds."""
    edges = np.linspace(0, samples / SAMPLE_RATE, count + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _extractor(checkpoint: Checkpoint) -> Any:
    try:
        with quiet():
            found: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
                checkpoint.folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # of missing keys, wrong types and unknown classes; they share no base class
        raise EmocacheError(
            f"{checkpoint.folder}: transformers finds no feature extractor there ({first_line(error)}); copy the"
            " preprocessor_config.json of the model that the checkpoint was made from"
        ) from error
    refuse_own_code(checkpoint.folder, vars(found), "AutoFeatureExtractor")
    rate = getattr(found, "sampling_rate", None)
    if rate != SAMPLE_RATE:
        raise EmocacheError(f"{checkpoint.folder}: expects audio at {rate} Hz; only {SAMPLE_RATE} is supported")
    return found


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value)) and len(value) < 64
    return value is None or isinstance(value, str | int | float | bool)
