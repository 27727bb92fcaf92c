"""The plan of what is to be made: each stream, its weights, what is there, what is missing, and what it takes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..cache import Cache, EmocacheError, Manifest
from .encoders.encoder import seconds
from .encoders.fetching import forbids_commerce
from .encoders.lookup import repository_of
from .encoders.needs import Need, need_of
from .encoders.registry import REGISTRY
from .goals.passes import Goal, Making
from .goals.times import Work

_BYTES = {"float16": 2, "float32": 4}


@dataclass(frozen=True)
class StreamPlan:
    """The plan of one stream: what is known of it before anything is done.

    Attributes:
        name: of the stream.
        needs: of its encoder, and of the one that its texts are from.
        there: utterances in the cache. failed: of the others, those that could not be encoded.
        utterances: of the corpus.
        gigabytes: 10^9 bytes that are still to be written; None where nobody knows.
        works: the encoders that have to run for it, the one that others rest on first.
    """

    name: str
    needs: tuple[Need, ...]
    there: int
    failed: int
    utterances: int
    gigabytes: float | None
    works: tuple[Work, ...] = ()

    @property
    def complete(self) -> bool:
        """True where nothing is left to do."""
        return self.there + self.failed >= self.utterances > 0

    @property
    def lacking(self) -> list[Need]:
        """The needs that keep it from being made here; none of a stream that is complete."""
        return [] if self.complete else [need for need in self.needs if need.missing]

    def can_be_made(self, fetches: bool) -> bool:
        """Tell whether it is there or can be made here."""
        return all(fetches and comes_by_itself(need) for need in self.lacking)


def plan_streams(
    cache: Cache, manifest: Manifest, goals: Sequence[Goal], checkpoints: Path | None, dtype: str | None
) -> Iterator[StreamPlan]:
    """Look at each goal beside what is in the cache and on this machine.

    Args:
        cache: to be filled.
        manifest: of the corpus as it is now.
        goals: the streams that are wanted.
        checkpoints: as `encoders.load` takes it.
        dtype: of the frames; None: as each encoder needs.

    Yields:
        The plan of each stream, in the order of the goals.
    """
    length = sum(map(seconds, manifest))
    corpus = manifest.corpus
    known = {info.name for info in cache.streams(corpus)} if corpus in cache.corpora() else set()
    for goal in goals:
        parts = goal.parts
        needs = tuple(need_of(name, checkpoints, goal.origins) for name in parts.encoders)
        there, failed = _counts(cache, corpus, goal.name, manifest) if goal.name in known else (0, 0)
        entry = REGISTRY.get(parts.encoder)
        size = None
        if entry is not None and entry.rate is not None and len(manifest):
            share = 1 - (there + failed) / len(manifest)
            values = share * length * entry.rate * (parts.pca or entry.dim)
            size = values * _BYTES[dtype or entry.storage] / 1e9
        weights = {need.name: need.weights for need in needs}
        works = []
        for encoder, stream, text_from, how in _rests(goal):
            done = sum(_counts(cache, corpus, stream, manifest)) if stream in known else 0
            media = length * (1 - done / len(manifest)) if len(manifest) else 0.0
            works.append(Work(encoder, weights.get(encoder, encoder), text_from, how, media))
        yield StreamPlan(goal.name, needs, there, failed, len(manifest), size, tuple(works))


def _rests(goal: Goal) -> Iterator[tuple[str, str, str, Making]]:
    """The encoders that run for a stream: (encoder, the stream that it fills, where its texts are from, how)."""
    parts, how = goal.parts, replace(goal.how, fit_on="all")
    first = replace(how, words_from=None)
    for before in (parts.transcript, goal.how.words_from):
        if before is not None:
            encoder = before.partition("@")[0]
            yield encoder, encoder, "", first
    text_from = "" if parts.transcript is None else parts.transcript + ":translation" * parts.translation
    yield parts.encoder, re.sub(r"\.pca\d+$", "", goal.name.partition("@")[0]), text_from, how


def _counts(cache: Cache, corpus: str, name: str, manifest: Manifest) -> tuple[int, int]:
    """Count the utterances of a stream that are there, and that failed; of several of that name the fullest counts."""
    ids = set(manifest.ids)
    found = [(0, 0)]
    for info in cache.streams(corpus, name):
        try:
            stream = cache.open_info(info)
        except EmocacheError:
            continue  # a damaged one is told when it is made or read
        found.append((len(ids & set(stream.ids)), len(ids & set(stream.failures))))
    return max(found)


def comes_by_itself(need: Need) -> bool:
    """Tell whether an extraction fetches what is missing: from the hub, under a licence that allows it."""
    return not need.package and repository_of(need.weights) is not None and not forbids_commerce(need.licence)
