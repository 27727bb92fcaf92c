"""Encoders: frozen models and signal transforms that turn utterances into frames."""

from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from ...cache import EmocacheError
from ...cache.recipe import check_stream_name
from ..plugins import is_outside, load_outside
from .encoder import Clip, Encoder
from .registry import IMPLEMENTATIONS, REGISTRY, EncoderEntry

if TYPE_CHECKING:
    from .inference import Runtime

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
        name: a name of `REGISTRY`, a folder below `checkpoints`, a path, or a variant of these (see
            `registry.VARIANTS`). What a folder holds is decided by its config.json, never by its name.
            `module:attribute` is an encoder of the user's own, called without arguments or with a `runtime`.
        checkpoints: folder with one checkpoint folder per name; looked into first.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: of the model's forward pass, one of `PRECISIONS`; signal transforms ignore it.
        offline: never ask the hub.

    Returns:
        The encoder, its weights on the device; named after the folder where a checkpoint was given as one.

    Raises:
        EmocacheError: an unknown name, an unusable checkpoint, or no such device; says what to do.
    """
    if precision not in PRECISIONS:
        raise EmocacheError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    entry = REGISTRY.get(name)
    model: Encoder
    if is_outside(name):
        return _outside(name, device, precision)
    if entry is not None and entry.hub is None and entry.file is None:
        model = _implementation(entry.family)()
        return model
    if find_spec("transformers") is None:
        raise EmocacheError(f"encoder {name!r} needs transformers; install it with: pip install 'emocache[extract]'")
    from .lookup import find, find_file

    if entry is not None and entry.file is not None:
        file = find_file(name, entry.file, checkpoints) if entry.file else None
        model = _implementation(entry.family)(name, file, _runtime(device, precision))
        return model
    short, family, checkpoint = find(name, checkpoints, offline)
    model = _implementation(family)(check_stream_name(short), checkpoint, _runtime(device, precision))
    return model


def _outside(name: str, device: str, precision: str) -> Encoder:
    factory = load_outside(name, "--encoder")
    try:
        call = signature(factory)
        wants = ["runtime"] if "runtime" in call.parameters else []
        call.bind(**dict.fromkeys(wants))
    except (TypeError, ValueError) as error:
        raise EmocacheError(
            f"--encoder {name}: cannot be called without arguments, or with `runtime` alone ({error}); see `Encoder`"
        ) from error
    model: Encoder = factory(**{key: _runtime(device, precision) for key in wants})
    lacking = [member for member in vars(Encoder) if not member.startswith("_") and not hasattr(model, member)]
    if lacking:
        raise EmocacheError(f"--encoder {name}: {type(model).__name__} is no encoder, it lacks {', '.join(lacking)}")
    check_stream_name(model.name)
    return model


def _runtime(device: str, precision: str) -> "Runtime":
    from .inference import Runtime

    return Runtime.create(device, precision)


def _implementation(family: str) -> type:
    module, _, class_name = IMPLEMENTATIONS[family].partition(":")
    found: type = getattr(import_module(f".{module}", __package__), class_name)
    return found
