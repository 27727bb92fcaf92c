"""The streams of a result in a few words, however many layers of an encoder they are."""

import re
from collections.abc import Sequence
from itertools import groupby

_FEWEST = 3  # layers that are told by the name of their encoder
_LAYER = re.compile(r"(?P<encoder>.+?)(?:\.L(?P<layer>\d+))?(?P<pca>\.pca\d+)?")


def layers_told(streams: Sequence[str]) -> str:
    """Tell streams in one text, three or more layers of an encoder that stand together by its name.

    Args:
        streams: their names.

    Returns:
        The names joined by `+`.

    >>> layers_told(["mfcc", "whisper-base.L3", "whisper-base.L4", "whisper-base.L5", "whisper-base"])
    'mfcc+whisper-base (L3-L5, last)'
    >>> layers_told(["a.L1.pca8", "a.L2.pca8", "a.L4.pca8", "b.L2", "b"])
    'a (L1, L2, L4).pca8+b.L2+b'
    """
    found = []
    for (encoder, pca), group in groupby(streams, _encoder):
        names = list(group)
        found += [f"{encoder} ({_numbers(names)}){pca}"] if len(names) >= _FEWEST else names
    return "+".join(found)


def _encoder(stream: str) -> tuple[str, str]:
    parts = _LAYER.fullmatch(stream)
    return (stream, "") if parts is None else (parts["encoder"], parts["pca"] or "")


def _numbers(streams: Sequence[str]) -> str:
    """Name the layers, three or more that follow each other by the first and the last of them."""
    layers = [found["layer"] for name in streams if (found := _LAYER.fullmatch(name))]
    words: list[str] = []
    for _, group in groupby(enumerate(layers), lambda one: "last" if one[1] is None else int(one[1]) - one[0]):
        names = ["last" if layer is None else f"L{layer}" for _, layer in group]
        words += [f"{names[0]}-{names[-1]}"] if len(names) >= _FEWEST else names
    return ", ".join(words)
