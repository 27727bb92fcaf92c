"""AlexNet over the spectrogram of a whole utterance."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...cache import EmocacheError, InputFailure, Utterance
from ...cache.recipe import Recipe
from ..weights.pickles import weights_sha256
from .acoustic import Spectrogram
from .encoder import Audio, Clip, LayerItems, Layers, check_layer, encode_each, over_whole_clips, seconds
from .inference import Runtime

_LEAST, _MOST = 63, 6000  # columns: what the three poolings need, and a minute
_SILENCE, _RANGE = -100.0, 120.0  # dB
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SEED = 0
_COST = 8.0  # of a second of audio, next to the signal transforms; measured


class AlexNet(nn.Module):
    """The convolutions and the pooling of "one weird trick" AlexNet (Krizhevsky 2014), as in torchvision.

    Its state dict is the `features.*` part of torchvision's; the classifier is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))

    def forward(self, images: Tensor) -> Tensor:
        """Turn (B, 3, H, W), both at least 63, into (B, 9216)."""
        pooled: Tensor = self.avgpool(self.features(images))
        return pooled.flatten(1)


class SpectrogramAlexNet:
    """One vector of 9216 values per utterance: AlexNet's pooled convolutions over its spectrogram (CAMuLeNet).

    The picture is the `Spectrogram`, a row per band (the lowest first), a column per frame. -100 dB (silence) to 20 dB
    become 0 to 1, by one rule for every utterance, so that loudness is kept. This grey is repeated in three channels,
    and these are normalised as the pictures were that ImageNet's weights have seen. (CAMuLeNet's code feeds the power
    to a network whose first layer it replaces by one of a single channel and trains; frozen weights cannot do that.)

    An utterance of fewer than 63 frames is followed by silence. One of more than 6000 (a minute) is cut into the fewest
    parts of equal length, to a frame, that hold no more, and the vector is the mean of theirs.

    Args:
        name: the encoder's name in stream names.
        file: torchvision's state dict of `alexnet` as .safetensors; None for random weights, drawn as torch draws
            them but by NumPy's PCG64 from a fixed seed, so that they are the same on every machine.
        runtime: where and how precisely to run.

    Raises:
        EmocacheError: the file cannot be read or holds other weights.
    """

    inputs: tuple[str, ...] = ("audio",)
    layers = 0
    dim = 9216
    rate: float | None = None

    def __init__(self, name: str, file: Path | None, runtime: Runtime) -> None:
        self.name = name
        self._runtime = runtime
        model = AlexNet()
        if file is None:
            weights = _random_weights(model)
            self._weights_sha256 = hashlib.sha256(
                b"".join(w.astype("<f4").tobytes() for w in weights.values())
            ).hexdigest()
            model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
        else:
            model.load_state_dict(_read(file, model))
            self._weights_sha256 = weights_sha256([file])
        self._random = file is None
        self._model = model.eval().requires_grad_(False).to(runtime.device)
        self._mean, self._std = (torch.tensor(v, device=runtime.device)[:, None, None] for v in (_MEAN, _STD))

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        drawn = {"distribution": "uniform within 1 / sqrt(fan in)", "generator": "numpy PCG64", "seed": _SEED}
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None,
            "aux": {},
            "family": "alexnet",
            "version": 1,
            "weights_sha256": self._weights_sha256,
            **({"random": drawn} if self._random else {}),
            "precision": self._runtime.precision,
            "preprocessing": {
                **Spectrogram.spectrogram.describe(), "rows": "bands, lowest first", "columns": "frames",
                "zero_db": _SILENCE, "one_db": _SILENCE + _RANGE, "channels": "grey three times",
                "mean": list(_MEAN), "std": list(_STD), "shorter": f"silence after it, to {_LEAST} columns",
                "longer": f"mean over the fewest equal parts of at most {_MOST} columns",
            },
            "output": "features, adaptive average pooling to 6 x 6, flattened",
        }  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return 1

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return _COST * seconds(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        # One at a time: pictures differ in width, and padding them would reach into the pooling.
        return over_whole_clips(encode_each(self, clips, layers, self._vector), clips)

    def _vector(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Turn (n,) samples into (1, 9216)."""
        spectrogram = Spectrogram.spectrogram(audio)
        short = max(_LEAST - len(spectrogram), 0)
        spectrogram = np.pad(spectrogram, ((0, short), (0, 0)), constant_values=_SILENCE)
        parts = np.array_split(spectrogram, -(-len(spectrogram) // _MOST))
        vectors = [self._runtime.fetch({0: self._forward(part)})[0] for part in parts]
        mean: npt.NDArray[np.float32] = np.mean(vectors, axis=0, dtype=np.float32)
        return mean

    def _forward(self, spectrogram: npt.NDArray[np.float32]) -> Tensor:
        """Turn (T, 128) dB into (1, 9216)."""
        grey = self._runtime.send(torch.from_numpy((spectrogram.T - _SILENCE) / _RANGE))
        with self._runtime.model():
            vector: Tensor = self._model(((grey - self._mean) / self._std)[None])
        return vector


def _random_weights(model: AlexNet) -> dict[str, npt.NDArray[np.float32]]:
    """Draw {key: array} as torch initialises by default: uniform within 1 / sqrt(fan in), biases too."""
    # PCG64 by name: NumPy may change its default generator, and the weights with it.
    generator = np.random.Generator(np.random.PCG64(_SEED))
    weights = {}
    for position, layer in enumerate(model.features):
        if isinstance(layer, nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for kind, parameter in layer.named_parameters():
                uniform = 2 * generator.random(tuple(parameter.shape)) - 1
                weights[f"features.{position}.{kind}"] = (bound * uniform).astype(np.float32)
    return weights


def _read(file: Path, model: AlexNet) -> dict[str, Tensor]:
    expected = {key: list(parameter.shape) for key, parameter in model.state_dict().items()}
    try:
        with safe_open(file, "pt") as stored:
            missing = sorted(expected.keys() - set(stored.keys()))
            if missing:
                raise EmocacheError(
                    f"{file}: no {missing[0]}, which torchvision's AlexNet has; missing are {len(missing)} of"
                    f" {len(expected)} weights; save its whole state dict under torchvision's names"
                )
            for key, shape in expected.items():
                found = stored.get_slice(key).get_shape()
                if found != shape:
                    raise EmocacheError(
                        f"{file}: {key} has shape {found}, torchvision's AlexNet {shape}; is this another network?"
                    )
            weights = {key: stored.get_tensor(key).float() for key in expected}
    except FileNotFoundError as error:
        raise EmocacheError(f"{file}: there is no such file; it should hold torchvision's AlexNet") from error
    except (SafetensorError, OSError) as error:
        raise EmocacheError(f"{file} cannot be read as safetensors: {error}; save or copy it again") from error
    for key, weight in weights.items():
        if not weight.isfinite().all():  # else each utterance would fail for it
            raise EmocacheError(f"{file}: {key} holds NaN or infinity; save or copy it again")
    return weights
