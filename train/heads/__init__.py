"""The heads: one file each, one entry each in `HEADS`."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...cache import EmocacheError
from ...cache.hints import did_you_mean
from .camulenet import CAMuLeNet, CAMuLeNetSettings
from .can import CAN, CANSettings
from .cats import CATS, CATSSettings
from .cnn import CNN1D, CNN2D, CNN1DSettings, CNN2DSettings
from .emotion_share import EmotionShare, EmotionShareSettings
from .frontend import Frontend
from .head import Frames, Head, HeadSettings, Outputs, Shape
from .layers.learned_inputs import Learned
from .lstm_attention import LSTMAttention, LSTMAttentionSettings
from .mdre import MDRE, MDRESettings
from .mha_fusion import MHA, MHAFusion, MHAFusionSettings, MHASettings
from .mlp import MLP, MLPSettings
from .probe import Probe, ProbeSettings
from .recurrent import Recurrent, RecurrentSettings
from .transformer import Transformer, TransformerSettings
from .word_attention import MHA2, GlobalAttention, GlobalAttentionSettings, MHA2Settings, Xu, XuSettings


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
    "cats": HeadEntry(CATSSettings, CATS),
    "camulenet": HeadEntry(CAMuLeNetSettings, CAMuLeNet),
    "cnn1d": HeadEntry(CNN1DSettings, CNN1D),
    "cnn2d": HeadEntry(CNN2DSettings, CNN2D),
    "emotion_share": HeadEntry(EmotionShareSettings, EmotionShare),
    "lstm_attention": HeadEntry(LSTMAttentionSettings, LSTMAttention),
    "mdre": HeadEntry(MDRESettings, MDRE),
    "mha": HeadEntry(MHASettings, MHA),
    "mha_fusion": HeadEntry(MHAFusionSettings, MHAFusion),
    "mlp": HeadEntry(MLPSettings, MLP),
    "probe": HeadEntry(ProbeSettings, Probe),
    "recurrent": HeadEntry(RecurrentSettings, Recurrent),
    "transformer": HeadEntry(TransformerSettings, Transformer),
    "can": HeadEntry(CANSettings, CAN),
    "global_attention": HeadEntry(GlobalAttentionSettings, GlobalAttention),
    "mha2": HeadEntry(MHA2Settings, MHA2),
    "xu": HeadEntry(XuSettings, Xu),
}


def head_entry(kind: object) -> HeadEntry:
    """Find the entry of one kind of head.

    Args:
        kind: a name in `HEADS`, as an experiment gives it.

    Returns:
        Its settings' class and its module's.

    Raises:
        EmocacheError: there is no such head; the message lists those there are.
    """
    if not isinstance(kind, str) or kind not in HEADS:
        hint = did_you_mean(kind, HEADS) if isinstance(kind, str) else ""
        raise EmocacheError(f"head.kind {kind!r} is unknown; {hint}the heads are: {', '.join(HEADS)}")
    return HEADS[kind]


def build_head(settings: HeadSettings, shape: Shape, learned: Mapping[str, Learned] | None = None) -> Head:
    """Build a head with fresh weights, which torch's global generator decides.

    Args:
        settings: the `[head]` table.
        shape: what it is built for.
        learned: what is learned at its inputs, if anything.

    Returns:
        The head; behind a `Frontend` where something is learned at an input.
    """
    head = head_entry(settings.kind).module(settings, shape)
    # A head without learned inputs stays bare, so the names of its stored weights have no prefix.
    used = {role: one for role, one in (learned or {}).items() if one.layers > 1 or one.vectors is not None}
    return Frontend(head, used) if used else head
