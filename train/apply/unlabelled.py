"""Utterances whose labels nobody knows, as the dataset that a stored head is given."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...cache import Stream
from ..config.sections import FeatureSettings
from ..config.settings import Settings
from ..data.coverage import usable
from ..data.dataset import Dataset, Features
from ..data.example import Example

Place = tuple[Stream, str]
"""The stream that serves an utterance, and its id there."""


@dataclass(frozen=True)
class Unlabelled:
    """One utterance.

    Attributes:
        key: names it. speaker: None where nobody knows.
        places: {stream: where its frames are}; without a stream that has nothing of it.
    """

    key: str
    places: Mapping[str, Place]
    speaker: str | None = None


def read_unlabelled(utterances: Sequence[Unlabelled], settings: Settings) -> Dataset:
    """Read the frames of utterances, as `reading.load_dataset` does.

    Args:
        utterances: at least one.
        settings: of the run.

    Returns:
        The dataset in the same order; no reference in it means anything.
    """
    examples = [Example("", one.key, one.speaker, None, None, None, reference=-1) for one in utterances]
    wheres = {name: how.where for name, how in _uses(settings) if how.where is not None}
    there = {
        name: np.array([_has(one.places.get(name), settings, name) for one in utterances])
        for name in settings.stream_names
    }
    combine = np.logical_and if settings.modalities == "all" else np.logical_or
    present = combine.reduce(list(there.values()))
    features = {}
    for name in there:
        covered = present if settings.modalities == "all" else there[name]
        kept = [one.places[name] if have else None for one, have in zip(utterances, covered, strict=True)]
        if any(kept):
            features[name] = _read(kept, wheres.get(name))
    return Dataset(examples, (), features, present)


def _has(place: Place | None, settings: Settings, name: str) -> bool:
    return place is not None and all(
        usable(*place, how) for own, how in _uses(settings) if own == name and (how.words or how.where is not None)
    )


def _uses(settings: Settings) -> Iterator[tuple[str, FeatureSettings]]:
    return ((name, settings.features.of(role)) for role, names in settings.streams.items() for name in names)


def _read(places: Sequence[Place | None], where: str | None) -> Features:
    found = [place for place in places if place is not None]
    frames = [stream.read(id_) for stream, id_ in found]
    lengths = np.zeros(len(places), np.int64)
    lengths[[place is not None for place in places]] = [len(one) for one in frames]
    masked = where is not None and all(where in stream.recipe.get("aux", {}) for stream, _ in found)
    return Features(
        np.concatenate(frames),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([stream.times(id_) for stream, id_ in found]),
        np.concatenate([stream.aux(id_)[where] for stream, id_ in found]) if masked and where is not None else None,
    )
