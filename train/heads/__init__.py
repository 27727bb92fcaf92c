"""The heads: one file each, one entry each in `HEADS`."""

from dataclasses import dataclass

from ...cache import EmocacheError
from .base import Head, HeadSettings
from .probe import Probe, ProbeSettings
from .recurrent import Recurrent, RecurrentSettings
from .transformer import Transformer, TransformerSettings


@dataclass(frozen=True)
class HeadEntry:
    """A head's typed settings and its module, built as `module(settings, input_dim, outputs, per_frame)`."""

    settings: type[HeadSettings]
    module: type[Head]


__all__ = ["HEADS", "Head", "HeadEntry", "HeadSettings", "build_head", "head_entry"]


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


def build_head(settings: HeadSettings, input_dim: int, outputs: int, per_frame: bool) -> Head:
    """A freshly initialised head; torch's global generator decides the weights.

    Args:
        settings: the `[head]` table.
        input_dim: D of the (B, T, D) frames it will be given.
        outputs: number of classes, or of regression targets.
        per_frame: (B, T, outputs) instead of (B, outputs).
    """
    return head_entry(settings.kind).module(settings, input_dim, outputs, per_frame)
