"""Encoders: frozen models and signal transforms that turn utterances into frames."""

from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cache import EmocacheError
from ...cache.outside import is_outside, load_outside
from ...cache.recipe import check_stream_name
from .encoder import Clip, Encoder
from .families import implementation
from .registry import REGISTRY, EncoderEntry

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
    alias: str | None = None,
    origins: Mapping[str, str] | None = None,
) -> Encoder:
    """Make an encoder ready to run.

    Args:
        name: a name of `REGISTRY`, a folder below `checkpoints`, a path, or a variant of these (see
            `families.VARIANTS`). What a folder holds is decided by its config.json, never by its name.
            `module:attribute` is an encoder of the user's own, called with those of `runtime` and `checkpoints` that
            it takes.
        checkpoints: folder with one checkpoint folder per name; looked into first.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: of the model's forward pass, one of `PRECISIONS`; signal transforms ignore it.
        offline: never ask the hub.
        alias: the encoder's name in stream names, in place of its own; of a checkpoint only.
        origins: {name: org/name[@revision]}, more names that stand for repositories of the hub.

    Returns:
        The encoder, its weights on the device; named after the folder where a checkpoint was given as one.

    Raises:
        EmocacheError: an unknown name, an unusable checkpoint, or no such device; says what to do.
    """
    if precision not in PRECISIONS:
        raise EmocacheError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    entry = REGISTRY.get(name)
    model: Encoder
    if alias is not None and (
        is_outside(name) or (entry is not None and (entry.hub is None or entry.file is not None))
    ):
        raise EmocacheError(f"encoder {name!r} keeps its name; --as is for checkpoints")
    if is_outside(name):
        return _outside(name, device, precision, checkpoints)
    if entry is not None and entry.hub is None and entry.file is None:
        model = implementation(entry.family)()
        return model
    if find_spec("transformers") is None:
        raise EmocacheError(f"encoder {name!r} needs transformers; install it with: pip install 'emocache[extract]'")
    from .lookup import find, find_file

    if entry is not None and entry.file is not None:
        file = find_file(name, entry.file, checkpoints) if entry.file else None
        model = implementation(entry.family)(name, file, _runtime(device, precision))
        return model
    short, family, checkpoint = find(name, checkpoints, offline, alias, origins)
    model = implementation(family)(check_stream_name(short), checkpoint, _runtime(device, precision))
    return model


def _outside(name: str, device: str, precision: str, checkpoints: Path | None) -> Encoder:
    factory = load_outside(name, "--encoder")
    given: dict[str, Any] = {"checkpoints": checkpoints}
    try:
        call = signature(factory)
        if "runtime" in call.parameters:
            given["runtime"] = _runtime(device, precision)
        given = {key: value for key, value in given.items() if key in call.parameters}
        call.bind(**given)
    except (TypeError, ValueError) as error:
        raise EmocacheError(
            f"--encoder {name}: cannot be called without arguments, or with `runtime` and `checkpoints` alone"
            f" ({error}); see `Encoder`"
        ) from error
    model: Encoder = factory(**given)
    lacking = [member for member in vars(Encoder) if not member.startswith("_") and not hasattr(model, member)]
    if lacking:
        raise EmocacheError(f"--encoder {name}: {type(model).__name__} is no encoder, it lacks {', '.join(lacking)}")
    check_stream_name(model.name)
    return model


def _runtime(device: str, precision: str) -> "Runtime":
    from .inference import Runtime

    return Runtime.create(device, precision)
