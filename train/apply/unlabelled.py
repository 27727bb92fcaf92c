"""Utterances whose labels nobody knows, as the dataset that a stored head is given."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..config.sections import FeatureSettings
from ..config.settings import Settings
from ..data.coverage import usable
from ..data.dataset import Dataset, Features
from ..data.example import Example
from ..data.memory import Memory
from ..data.reading import bytes_of
from ..data.stored_frames import Place, StoredFrames


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


def read_unlabelled(utterances: Sequence[Unlabelled], settings: Settings, memory: Memory | None = None) -> Dataset:
    """Read the frames of utterances, as `reading.load_dataset` does.

    Args:
        utterances: at least one.
        settings: of the run.
        memory: the room for frames; None: what the machine has. Where it is too small they stay in the cache.

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
    memory = Memory() if memory is None else memory
    kept = {}
    for name in there:
        covered = present if settings.modalities == "all" else there[name]
        kept[name] = [one.places[name] if have else None for one, have in zip(utterances, covered, strict=True)]
    needed = sum(bytes_of(place[0], [place[1]]) for places in kept.values() for place in places if place)
    features = {name: _read(places, wheres.get(name), needed > memory.limit)
                for name, places in kept.items() if any(places)}  # fmt: skip
    return Dataset(examples, (), features, present, memory=memory)


def _has(place: Place | None, settings: Settings, name: str) -> bool:
    return place is not None and all(
        usable(*place, how) for own, how in _uses(settings) if own == name and (how.words or how.where is not None)
    )


def _uses(settings: Settings) -> Iterator[tuple[str, FeatureSettings]]:
    return ((name, settings.features.of(role)) for role, names in settings.streams.items() for name in names)


def _read(places: Sequence[Place | None], where: str | None, stays: bool) -> Features:
    found = [place for place in places if place is not None]
    lengths = np.array([0 if place is None else place[0].lengths([place[1]])[0] for place in places], np.int64)
    stored = StoredFrames(places) if stays else None
    masked = where is not None and all(where in stream.recipe.get("aux", {}) for stream, _ in found)
    return Features(
        np.empty((0, stored.dim), stored.dtype) if stored else np.concatenate([s.read(i) for s, i in found]),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([stream.times(id_) for stream, id_ in found]),
        np.concatenate([stream.aux(id_)[where] for stream, id_ in found]) if masked and where is not None else None,
        stored=stored,
    )
