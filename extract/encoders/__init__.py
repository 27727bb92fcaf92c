"""Encoders: frozen models and signal transforms that turn utterances into frames."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ...cache import EmocacheError
from ...cache.recipe import check_stream_name
from .base import Clip, Encoder
from .registry import IMPLEMENTATIONS, REGISTRY, EncoderEntry

__all__ = ["PRECISIONS", "REGISTRY", "Clip", "Encoder", "EncoderEntry", "load"]

PRECISIONS = ("float32", "bf16", "fp16")


def load(
    name: str,
    *,
    checkpoints: Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    offline: bool = False,
) -> Encoder:
    """Make an encoder ready to run.

    Args:
        name: a name of `REGISTRY`, a folder below `checkpoints`, or a path; `-cls` after a text model's for the first
            token's vector alone. What a folder holds is decided by its config.json, never by its name.
        checkpoints: folder with one checkpoint folder per name; looked into first.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: of the model's forward pass, one of `PRECISIONS`; signal transforms ignore it.
        offline: never ask the hub.

    Raises:
        EmocacheError: an unknown name, an unusable checkpoint, or no such device; says what to do.
    """
    if precision not in PRECISIONS:
        raise EmocacheError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    entry = REGISTRY.get(name)
    if entry is not None and entry.hub is None:
        transform: Encoder = _implementation(entry.family)()
        return transform
    if find_spec("transformers") is None:
        raise EmocacheError(f"encoder {name!r} needs transformers; install it with: pip install 'emocache[extract]'")
    from .checkpoints import find
    from .inference import Runtime

    short, family, checkpoint = find(name, checkpoints, offline)
    runtime = Runtime.create(device, precision)
    model: Encoder = _implementation(family)(check_stream_name(short), checkpoint, runtime)
    return model


def _implementation(family: str) -> type:
    module, _, class_name = IMPLEMENTATIONS[family].partition(":")
    found: type = getattr(import_module(f".{module}", __package__), class_name)
    return found
