"""The heads of paper 2 under test, see `cases`."""

from .cases import Case

# A linear output, because the test corpus has targets outside the range of the others.
_SMALL = (
    "head.kind=emotion_share",
    "head.output=linear",
    "head.channels=[8, 6, 5]",
    "head.hidden=16",
    "head.feedforward=[16, 16]",
    "head.padded_frames=40",
)

_ARCHITECTURES = {
    "clean-arch1": ("clean", "false", "false"),
    "clean-arch2": ("clean", "true", "false"),
    "clean-arch2-layer-norm": ("clean", "true", "true"),
    "faithful-arch1": ("faithful", "false", "false"),
    "faithful-arch2": ("faithful", "true", "true"),
}

CASES = [
    Case(
        f"emotion-share-{name}",
        (*_SMALL, f"head.variant={variant}", f"head.attention={attention}", f"head.layer_norm={layer_norm}"),
        target="intensity",
    )
    for name, (variant, attention, layer_norm) in _ARCHITECTURES.items()
]
