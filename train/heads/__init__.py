"""The heads: one file each, one entry each in `HEADS`."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...cache import EmocacheError
from .base import Frames, Head, HeadSettings, Outputs, Shape
from .frontend import Frontend, Learned
from .probe import Probe, ProbeSettings
from .recurrent import Recurrent, RecurrentSettings
from .transformer import Transformer, TransformerSettings


@dataclass(frozen=True)
class HeadEntry:
    """A head's typed settings and its module, built as `module(settings, shape)`."""

    settings: type[HeadSettings]
    module: type[Head]


__all__ = [
    "HEADS",
    "Frames",
    "Head",
    "HeadEntry",
    "HeadSettings",
    "Learned",
    "Outputs",
    "Shape",
    "build_head",
    "head_entry",
]


HEADS: dict[str, HeadEntry] = {
    "probe": HeadEntry(ProbeSettings, Probe),
    "recurrent": HeadEntry(RecurrentSettings, Recurrent),
    "transformer": HeadEntry(TransformerSettings, Transformer),
}


def head_entry(kind: object) -> HeadEntry:
    """The entry of one kind of head.

    Raises:
        EmocacheError: there is no such head; the message lists those there are.
    """
    if kind not in HEADS:
        raise EmocacheError(f"head.kind {kind!r} is unknown; the heads are: {', '.join(HEADS)}")
    return HEADS[str(kind)]


def build_head(settings: HeadSettings, shape: Shape, learned: Mapping[str, Learned] | None = None) -> Head:
    """A freshly initialised head; torch's global generator decides the weights.

    Args:
        settings: the `[head]` table.
        shape: what it is built for.
        learned: what is learned at its inputs, if anything.
    """
    head = head_entry(settings.kind).module(settings, shape)
    used = {role: one for role, one in (learned or {}).items() if one.layers > 1 or one.vectors is not None}
    return Frontend(head, used) if used else head
