"""Streams of one name, for messages that ask which of them is meant."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .nesting import flatten

if TYPE_CHECKING:
    from .store import StreamInfo

_LONGEST = 60  # signs of a setting in a message


def settings_of(found: Sequence["StreamInfo"]) -> str:
    """List streams of one name, with their dates and the settings that tell several apart."""
    flat = [flatten(info.recipe) for info in found]
    differing = sorted({k for one in flat for k in one if len({json.dumps(other.get(k)) for other in flat}) > 1})
    lines = []
    for info, one in zip(found, flat, strict=True):
        told = ", ".join(f"{key}={_short(one.get(key))}" for key in differing)
        lines.append(f"{info.name}@{info.fingerprint[:12]} ({info.created}{f': {told}' if told else ''})")
    return "; ".join(lines)


def _short(value: Any) -> str:
    """Write a setting so that it fits a message: of a long list, such as all speakers, the count and the first."""
    text = repr(value)
    if len(text) <= _LONGEST:
        return text
    return f"{len(value)} values, the first {_short(value[0])}" if isinstance(value, list) else f"{text[:_LONGEST]}..."
