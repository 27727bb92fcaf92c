"""The heads of paper 1 under test, see `cases`."""

from .cases import Case

_CATS = (
    "head.kind=cats",
    "head.width=32",
    "head.heads=4",
    "head.layers=1",
    "head.feedforward=64",
    "head.dropout=0.0",
    "training.learning_rate=0.01",
)
_VARIANTS: dict[str, tuple[str, ...]] = {
    "": (),
    "-single-fc": ("head.gate=single_fc",),
    "-no-gate": ("head.gate=off",),
    "-causal": ("head.causal=full",),
    "-both-directions": ("head.causal=none",),
    "-no-decoder": ("head.decoder=none",),
    "-teacher-forced": ("head.decode=teacher_forced",),
    "-scheduled-sampling": ("head.scheduled_sampling=1.0", "head.causal=full"),
}

CASES: list[Case] = [
    *(Case(f"cats{name}", (*_CATS, *changes), target="valence") for name, changes in _VARIANTS.items()),
    Case("lstm-attention", ("head.kind=lstm_attention", "head.hidden=6", "head.dropout=0.0"), target="valence"),
]
