"""The heads of paper 4 under test, see `cases`."""

from .cases import Case

_ROLES = {"whisper": "toy", "mfcc": "slow", "spectrogram": "vector"}
_SMALL = (
    "head.kind=camulenet",
    "head.width=8",
    "head.gru_hidden=4",
    "head.hidden=8",
    "head.fusion_frames=32",  # fewer than the longest clip has
    "head.loss_constant=0.0",
)
_TASKS = (*_SMALL, "auxiliary=gender")
_CNN2D = ("head.kind=cnn2d", "head.frames=36", "head.channels=[4, 6]", "head.kernels=[3, 5]", "head.hidden=[8]")

CASES: list[Case] = [
    Case("cnn1d", ("head.kind=cnn1d", "head.channels=4", "head.hidden=8")),
    Case("cnn1d-intensity", ("head.kind=cnn1d", "head.channels=4", "head.hidden=8"), target="intensity"),
    Case("cnn2d", _CNN2D, {"frames": "picture"}),
    Case("camulenet", _TASKS, _ROLES),
    Case("camulenet-one-task", (*_SMALL, "head.gender=false"), _ROLES),
    Case("camulenet-no-coattention", (*_SMALL, "head.gender=false", "head.coattention=false"), _ROLES),
    Case(
        "camulenet-code",
        (*_TASKS, "head.coattn_norm=none", "head.layer_norm=false", "head.mfcc_pool=flatten", "head.mfcc_frames=12"),
        _ROLES,
    ),
]
