"""MARLIN's network, and its weights under the names of marlin_pytorch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...cache import EmocacheError
from .face_clips import SIZE

FRAMES = 16
"""Pictures the model takes."""

_TUBELET, _PATCH = 2, 16  # frames and pixels of one token
_TOKENS = FRAMES // _TUBELET * (SIZE // _PATCH) ** 2
_HEAD = 64  # values per attention head, in all three sizes
_DEPTHS = {384: 12, 768: 12, 1024: 24}  # small, base, large
_PICKLES = (b"PK\x03\x04", b"\x80")  # how torch.save's files begin, new and old


class MarlinNetwork(nn.Module):
    """The encoder of MARLIN: (B, 3, 16, 224, 224), red, green, blue from 0 to 1, to (B, D)."""

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
        """Turn (B, 3, 16, 224, 224) into (B, D)."""
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
    """List marlin_pytorch's names of the weights that one of `MarlinNetwork` is made from."""
    if name.endswith(_ATTENTION_BIAS):
        return [name.replace(_ATTENTION_BIAS, theirs) for theirs in ("attn.q_bias", "attn.v_bias")]
    for theirs, ours in _NAMES:
        name = name.replace(ours, theirs)
    return [name]


def load_marlin(file: Path) -> MarlinNetwork:
    """Read MARLIN's encoder from a file.

    Args:
        file: .safetensors, with marlin_pytorch's names, of the encoder or of the full model.

    Returns:
        The network in float32, on the CPU, to be run only.

    Raises:
        EmocacheError: the file is unreadable, or not MARLIN's; names the weight at fault.
    """
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
        remedy = f"; it is a pickle, call it {file.stem}.pt" if pickled else ""
        raise EmocacheError(f"{file}: cannot be read as safetensors: {error}{remedy}") from error


def _network(file: Any) -> MarlinNetwork:
    names = list(file.keys())
    prefix = "encoder." if any(name.startswith("encoder.") for name in names) else ""  # a full model has a decoder too
    found = {
        name.removeprefix(prefix): tuple(file.get_slice(name).get_shape()) for name in names if name.startswith(prefix)
    }
    (dim, *_) = found.get("norm.weight") or (_HEAD,)
    if not dim or dim % _HEAD:
        raise EmocacheError(f"weight {prefix}norm.weight has {dim} values, not a multiple of {_HEAD}")
    # Known sizes have their depth, so that a file without its last blocks is refused and not run shallower.
    counted = len({match[1] for name in found if (match := re.match(r"blocks\.(\d+)\.", name))})
    # Without memory or random numbers for weights that the file's take the place of.
    with torch.device("meta"):
        network = MarlinNetwork(dim, _DEPTHS.get(dim, counted))
    _check_shapes(network, found, prefix)
    state = {}
    for name in network.state_dict():
        parts = [_tensor(file, prefix + source) for source in _sources(name)]
        # Queries, keys, values: torch's one bias has keys in the middle, and zeros are what having none means.
        state[name] = torch.cat([parts[0], torch.zeros_like(parts[0]), parts[1]]) if len(parts) > 1 else parts[0]
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _check_shapes(network: MarlinNetwork, found: Mapping[str, tuple[int, ...]], prefix: str) -> None:
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
