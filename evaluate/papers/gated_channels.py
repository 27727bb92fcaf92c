"""The channels of a gate that its figures are about, and their streams: told from the run's settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..scoring.result_groups import flat_texts

_SOUND = re.compile(
    r"(wav2vec2|hubert|wavlm|unispeech|data2vec-audio|audeering|whisper|mfcc|logmel|spectrogram|alexnet|egemaps)"
)
"""Beginnings of the names of streams that are made of the sound; `transcript-whisper-...` is text, and is not one."""
_PROJECTED = re.compile(r"\.pca(\d+)$")


@dataclass(frozen=True)
class GatedChannels:
    """The channels that a figure looks at."""

    streams: str  # those that they belong to, joined by `+`
    first: int | None = None  # how many of the gate's first channels; None: all

    def count(self, width: int) -> int:
        """Return how many of a gate's channels count, of as many as it has."""
        return width if self.first is None else min(self.first, width)

    def told(self, width: int) -> str:
        """Say in a few words which channels of a gate of that width they are."""
        count = self.count(width)
        return f"{f'the first {count} of {width}' if count < width else f'all {width}'}, of {self.streams}"


def gated_channels(config: Mapping[str, Any]) -> GatedChannels:
    """Choose the channels: those of the sound, as in paper 1, where it stands first and the settings tell its width.

    In any other case these are all channels: of a head of one stream, whichever that is; where another stream stands
    first; and where the first one's width is not known, which only the name of a projected stream says.

    Args:
        config: the settings in a run's record.

    Returns:
        The first stream's channels, or all of them with every stream's name in the order in which they stand.
    """
    roles: Mapping[str, list[str]] = config.get("streams", {})
    names = [name for streams in roles.values() for name in streams]
    everything = GatedChannels("+".join(names))
    if len(roles) != 1 or len(names) < 2 or _mixed(config):
        return everything
    width = _PROJECTED.search(names[0])
    return GatedChannels(names[0], int(width[1])) if width and _SOUND.match(names[0]) else everything


def _mixed(config: Mapping[str, Any]) -> bool:
    """Tell whether a gate's channels are not those of the streams one after another, or of others in each run."""
    flat = flat_texts(config)
    features = {key.rpartition(".")[2]: value for key, value in flat.items() if key.startswith("features.")}
    # A search may choose other streams, or another PCA over all of them, in every fold.
    searched = any(key.startswith(("search.streams", "search.features")) for key in flat)
    return searched or features.get("pca", "null") != "null" or features.get("combine") == "weighted"
