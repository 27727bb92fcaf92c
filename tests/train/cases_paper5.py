"""The heads of paper 5 under test, see `cases`."""

from .cases import Case

_BOTH = {"text": "words", "audio": "toy"}


def _can(name: str, *more: str) -> Case:
    return Case(name, ("head.kind=can", "head.hidden=6", "head.heads=3", *more), _BOTH)


CASES: list[Case] = [
    _can("can"),
    _can("can-equal-multi-query", "head.segmentation=equal", "head.max_frames=3", "head.head_split=multi_query"),
    _can("can-neither", "head.stop_gradient=false", "head.alpha=0"),
    _can("can-no-cross", "head.cross=false", "head.alpha=0"),
    Case(
        "can-trained-words",
        ("head.kind=can", "head.hidden=6", "features.text.trainable_words=vector", "features.text.normalise=none"),
        _BOTH,
    ),
    Case("global-attention", ("head.kind=global_attention", "head.hidden=6")),
    Case("global-attention-words", ("head.kind=global_attention", "head.hidden=6"), {"frames": "words"}),
    Case("mha2", ("head.kind=mha2", "head.hidden=6"), _BOTH),
    *(
        Case(f"xu-{score}", ("head.kind=xu", "head.hidden=6", "head.dense=12", "head.heads=3", f"head.score={score}"),
             _BOTH)
        for score in ("dot_mha", "additive")
    ),
]  # fmt: skip
