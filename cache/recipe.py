"""A stream's recipe, which is all that determines its numbers, and the keys that follow from it."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import EmocacheError

Recipe = dict[str, Any]
"""A JSON object. Required keys:

- `kind`: "frames" or "table";
- `encoder`: the encoder's name; `layer`: an int, or null for the last one or where there are none;
- `inputs`: what the numbers depend on, a list of `Input`;
- for frames: `dim` (int), `dtype` ("float16" | "float32"), `times` (null for explicit times, else
  `{"rate", "first_start", "width"}` in Hz, seconds, seconds), `aux` ({name: {"dtype", "shape"}}, shape per frame);
- whatever else the numbers depend on: checkpoint and `weights_sha256`, pre-processing, windowing, precision.
"""

Input = str | Mapping[str, Any]
"""An utterance field ("audio", "video", "text", "words"), or the item of another stream: `{"stream": its fingerprint,
"inputs": its inputs}`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CORPUS = re.compile(r"[a-z0-9][a-z0-9_-]*")


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes. NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def is_recipe(value: Any) -> bool:
    """Tell whether a value has the keys that readers rely on, with values they can work with, whoever has sealed it."""
    try:
        _rely_on(value)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def _rely_on(recipe: Any) -> None:
    base_inputs(recipe["inputs"])
    if recipe["kind"] == "table":
        return
    times, aux = recipe["times"], recipe["aux"].values()
    numbers = () if times is None else (times["rate"], times["first_start"], times["width"])
    types = (recipe["dtype"], *(one["dtype"] for one in aux))
    sizes = (recipe["dim"], *(size for one in aux for size in one["shape"]))
    if recipe["kind"] != "frames" or recipe["dtype"] not in ("float16", "float32"):
        raise ValueError
    if not all(np.dtype(one).kind in "biuf" for one in types):
        raise ValueError
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError
    if not all(math.isfinite(number) for number in numbers) or (numbers and numbers[0] <= 0):
        raise ValueError


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """sha256 (64 hex digits) of the recipe's canonical JSON."""
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


def item_key(stream_fingerprint: str, utterance_id: str, inputs_sha256: str) -> str:
    """The key (64 hex digits) under which one utterance of one stream is committed.

    It changes with the recipe, the id and every declared input, so an item is current exactly if its key is.
    """
    text = f"{stream_fingerprint}\n{inputs_sha256}\n{utterance_id}"
    return hashlib.sha256(text.encode()).hexdigest()


def base_inputs(inputs: Sequence[Input]) -> set[str]:
    """The utterance fields that inputs come down to, through the streams they name."""
    fields: set[str] = set()
    for one in inputs:
        fields |= {one} if isinstance(one, str) else base_inputs(one["inputs"])
    return fields


def stream_name(encoder: str, layer: int | None = None, pca: int | None = None) -> str:
    """`<encoder>[.L<layer>][.pca<N>]`; the last layer is `layer=None` and stays unmarked."""
    return encoder + (f".L{layer}" if layer is not None else "") + (f".pca{pca}" if pca is not None else "")


def check_stream_name(name: str) -> str:
    """The name itself, if it can be a folder's name; else an EmocacheError."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise EmocacheError(f"stream name {name!r}: letters, digits, '.', '_' and '-' only, starting with a letter")
    return name


def check_corpus_name(name: str) -> str:
    """The name itself, if it can be a folder's name; else an EmocacheError."""
    if not _CORPUS.fullmatch(name):
        raise EmocacheError(f"corpus name {name!r}: lower-case letters, digits, '_' and '-' only")
    return name
