"""MARLIN (Cai et al. 2023, MARLIN: Masked Autoencoder for facial video Representation LearnINg): clips of faces."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...cache import EmocacheError, InputFailure, Item, Utterance
from ...cache.recipe import Recipe
from ..faces import FaceVideo, crop_face
from .base import Clip, LayerItems, Layers, check_layer
from .inference import Runtime, captured
from .vgg_face import CHUNK, SIZE, encode_videos, file_sha256, images_and_boxes, pictures

_FRAMES, _EVERY = 16, 2  # frames the model takes; of a longer video every second one
_SPAN = _FRAMES * _EVERY
_MARGIN = 0.0  # marlin_pytorch crops the square round the centre of the box, as wide as its longer side
_TUBELET, _PATCH = 2, 16  # frames and pixels of one token
_TOKENS = _FRAMES // _TUBELET * (SIZE // _PATCH) ** 2
_HEAD = 64  # values per attention head, in all three sizes
_DEPTHS = {384: 12, 768: 12, 1024: 24}  # small, base, large
_COST = 16.0  # of a window, in seconds of audio
_PICKLES = (b"PK\x03\x04", b"\x80")  # how torch.save's files begin, new and old


def windows(frames: int) -> npt.NDArray[np.int64]:
    """Which frames of a video make up each vector, (W, 16): the rule of marlin_pytorch's `extract_video`.

    Up to 16 frames: all, the last repeated. Up to 32: the first 16. More: from every 32 frames every second one; a
    stretch of 32 that is not followed by at least one more frame is left out, as are frames after the last stretch.

    >>> windows(65)[:, [0, -1]].tolist()
    [[0, 30], [32, 62]]
    """
    if frames <= _SPAN:
        return np.minimum(np.arange(_FRAMES), frames - 1)[None]
    return np.arange(0, frames - _SPAN, _SPAN)[:, None] + np.arange(0, _SPAN, _EVERY)


class Marlin:
    """MARLIN's encoder, of any size: one vector for about 32 video frames, the mean over all tokens.

    A window is 16 faces, see `windows`, each cropped square at its box without a margin, as marlin_pytorch does, and
    stretched to 224 x 224; red, green, blue, 0 to 1. A vector's time runs from the start of the window's first frame
    to the end of the last one it spans. `face_found` says whether a face was detected in at least half of the 16.

    The last layer is the mean over tokens after the final layer norm, in marlin_pytorch's order: mean, then norm.
    Layer i is the mean over the output of the i-th block, without norm.

    Args:
        name: as in stream names.
        file: a .safetensors file with the state dict of marlin_vit_small_ytf, _base_ or _large_, the encoder's or the
            full model's.
        runtime: where to run.

    Raises:
        EmocacheError: the file cannot be read, or names the weight that is missing or has another shape.
    """

    inputs: tuple[str, ...] = ("video",)
    rate: float | None = None

    def __init__(self, name: str, file: Path, runtime: Runtime) -> None:
        self.name = name
        self._runtime = runtime
        self._model = _load(file).to(runtime.device)
        self._sha256 = file_sha256(file)
        self.dim = self._model.dim
        self.layers = len(self._model.blocks)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None,
            "aux": {"face_found": {"dtype": "bool", "shape": []}},
            "family": "marlin",
            "version": 1,
            "weights_sha256": self._sha256,
            "precision": self._runtime.precision,
            "preprocessing": {
                "crop": "square", "margin": _MARGIN, "size": SIZE, "resize": "stretched, bilinear", "colours": "RGB",
                "range": 1,
            },
            "windowing": {
                "frames": _FRAMES, "every": _EVERY, "stride": _SPAN, "short": "16 in a row, the last repeated",
                "last": "left out unless a frame follows",
            },
            "output": "mean over tokens",
        }  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return len(windows(pictures(utterance)))

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return _COST * self.expected_frames(utterance)

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        wanted = {layer: check_layer(self.name, layer, self.layers) for layer in layers}

        def run(video: FaceVideo) -> LayerItems:
            plan = windows(len(video.times))
            crops = _crops(video, plan)
            chunks = []
            while chunk := list(islice(crops, CHUNK // _FRAMES)):
                chunks.append(self._forward(np.stack(chunk), wanted))
            last = plan[:, -1] + (_EVERY - 1 if len(video.times) > _SPAN else 0)
            times = np.stack([video.times[plan[:, 0], 0], video.times[last, 1]], axis=1)
            found = video.found[plan].mean(axis=1) >= 0.5
            return {
                layer: Item(np.concatenate([chunk[layer] for chunk in chunks]), times, {"face_found": found})
                for layer in wanted
            }

        return encode_videos(clips, run)

    def _forward(
        self, faces: npt.NDArray[np.uint8], wanted: Mapping[int | None, int | None]
    ) -> dict[int | None, npt.NDArray[np.float32]]:
        """(B, 16, 224, 224, 3) RGB to {layer: (B, D)}."""
        with self._runtime.exact():
            pixels = self._runtime.send(torch.from_numpy(faces)).permute(0, 4, 1, 2, 3).float() / 255
        numbers = list(wanted.values())
        with self._runtime.model(), captured(self._model.blocks, numbers) as found:
            last = self._model(pixels)
            means = {layer: last if i is None else found[i].float().mean(dim=1) for layer, i in wanted.items()}
        return {layer: mean.float().cpu().numpy() for layer, mean in means.items()}


def _crops(video: FaceVideo, plan: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
    """The windows' faces, (16, 224, 224, 3) RGB each, holding no more than one window."""
    rows = iter(plan)
    row = next(rows)
    faces: dict[int, npt.NDArray[np.uint8]] = {}
    for i, (image, box) in enumerate(images_and_boxes(video)):
        if i in row:
            faces[i] = crop_face(image, box, SIZE, _MARGIN)
        if i == row[-1]:
            yield np.stack([faces[j] for j in row])
            faces.clear()
            following = next(rows, None)
            if following is None:
                return
            row = following


class _Network(nn.Module):
    """(B, 3, 16, 224, 224), red, green, blue from 0 to 1, to (B, D)."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.dim = dim
        tubelet = (_TUBELET, _PATCH, _PATCH)
        self.patches = nn.Conv3d(3, dim, tubelet, stride=tubelet)
        self.positions = nn.Parameter(torch.zeros(1, _TOKENS, dim))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, dim // _HEAD, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.patches(pixels).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        pooled: Tensor = self.norm(tokens.mean(dim=1))
        return pooled


# What marlin_pytorch calls its weights, and what torch does.
_NAMES = (
    ("patch_embedding.projection", "patches"),
    ("pos_embedding.emb", "positions"),
    ("attn.qkv.weight", "self_attn.in_proj_weight"),
    ("attn.proj", "self_attn.out_proj"),
    ("mlp.layers.0.linear", "linear1"),
    ("mlp.layers.1.linear", "linear2"),
)
_ATTENTION_BIAS = "self_attn.in_proj_bias"  # of queries, keys and values, of which MARLIN's keys have none


def _sources(name: str) -> list[str]:
    """marlin_pytorch's names of what one weight of `_Network` is made from."""
    if name.endswith(_ATTENTION_BIAS):
        return [name.replace(_ATTENTION_BIAS, theirs) for theirs in ("attn.q_bias", "attn.v_bias")]
    for theirs, ours in _NAMES:
        name = name.replace(ours, theirs)
    return [name]


def _load(file: Path) -> _Network:
    if not file.is_file():
        raise EmocacheError(f"{file}: there is no such file; expected MARLIN's weights as .safetensors")
    try:
        with safe_open(file, "pt") as opened_weights:
            return _network(opened_weights)
    except EmocacheError as error:
        raise EmocacheError(
            f"{file}: {error}; expected the state dict of marlin_vit_small_ytf, marlin_vit_base_ytf or"
            " marlin_vit_large_ytf"
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        with file.open("rb") as opened_file:
            pickled = opened_file.read(4).startswith(_PICKLES)
        raise EmocacheError(_convert(file) if pickled else f"{file}: cannot be read as safetensors: {error}") from error


def _network(file: Any) -> _Network:
    names = list(file.keys())
    prefix = "encoder." if any(name.startswith("encoder.") for name in names) else ""  # a full model has a decoder too
    found = {
        name.removeprefix(prefix): tuple(file.get_slice(name).get_shape()) for name in names if name.startswith(prefix)
    }
    (dim, *_) = found.get("norm.weight") or (_HEAD,)
    if not dim or dim % _HEAD:
        raise EmocacheError(f"weight {prefix}norm.weight has {dim} values, not a multiple of {_HEAD}")
    counted = len({match[1] for name in found if (match := re.match(r"blocks\.(\d+)\.", name))})
    with torch.device("meta"):
        network = _Network(dim, _DEPTHS.get(dim, counted))
    _check_shapes(network, found, prefix)
    state = {}
    for name in network.state_dict():
        parts = [_tensor(file, prefix + source) for source in _sources(name)]
        state[name] = torch.cat([parts[0], torch.zeros_like(parts[0]), parts[1]]) if len(parts) > 1 else parts[0]
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _check_shapes(network: _Network, found: Mapping[str, tuple[int, ...]], prefix: str) -> None:
    expected = {}
    for name, weight in network.state_dict().items():
        sources = _sources(name)
        expected.update(dict.fromkeys(sources, tuple(weight.shape) if len(sources) == 1 else (network.dim,)))
    missing = [name for name in expected if name not in found]
    if missing:
        raise EmocacheError(f"weight {prefix}{missing[0]} is missing, and {len(missing) - 1} more")
    unknown = [name for name in found if name not in expected]
    if unknown:
        depth = len(network.blocks)
        raise EmocacheError(f"weight {prefix}{unknown[0]} is none of a MARLIN encoder's with {depth} blocks")
    for name, shape in expected.items():
        if found[name] != shape:
            raise EmocacheError(f"weight {prefix}{name} has shape {found[name]}, expected {shape}")


def _tensor(file: Any, name: str) -> Tensor:
    tensor: Tensor = file.get_tensor(name)
    if not tensor.is_floating_point() or not tensor.isfinite().all():
        raise EmocacheError(f"weight {name} holds {tensor.dtype}, or NaN or infinity; expected finite numbers")
    return tensor.float()


def _convert(file: Path) -> str:
    code = (
        "import sys, torch, safetensors.torch as s; w = torch.load(sys.argv[1], map_location='cpu', weights_only=True);"
        " s.save_file({k: v.contiguous() for k, v in w.get('state_dict', w).items()}, sys.argv[2])"
    )
    return (
        f"{file}: this is a pickle, which can run code when it is opened, and is never read; convert it once with:"
        f' python -c "{code}" {shlex.quote(str(file))} {shlex.quote(str(file.with_suffix(".safetensors")))}'
    )
