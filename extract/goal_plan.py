"""The plan of what is to be made: each stream, its weights, what is there, what is missing, and what it takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache import Cache, EmocacheError, Manifest
from .encoders.encoder import seconds
from .encoders.fetching import forbids_commerce
from .encoders.lookup import repository_of
from .encoders.needs import Need, need_of
from .encoders.registry import REGISTRY
from .goals.passes import Goal

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
    """

    name: str
    needs: tuple[Need, ...]
    there: int
    failed: int
    utterances: int
    gigabytes: float | None

    @property
    def complete(self) -> bool:
        """True where nothing is left to do."""
        return self.there + self.failed >= self.utterances > 0

    @property
    def lacking(self) -> list[Need]:
        """The needs that keep it from being made here; none of a stream that is complete."""
        return [] if self.complete else [need for need in self.needs if need.missing]

    def line(self, fetches: bool) -> str:
        """Tell it in a line.

        Args:
            fetches: weights of the hub come by themselves.

        Returns:
            The stream, its weights, its utterances and its size.
        """
        left = self.utterances - self.there - self.failed
        counts = f"{self.there} of {self.utterances} utterances there" + (f", {self.failed} failed" * bool(self.failed))
        size = "" if self.gigabytes is None or not left else f", about {self.gigabytes:.2f} GB to write"
        sources = ", ".join(need.source for need in self.needs)
        told = f"{self.name}: {counts}{size}; {sources}"
        missing = [need for need in self.lacking if not (fetches and _comes_by_itself(need))]
        if not missing:
            return told + ("; weights will be fetched" if self.lacking else "")
        return f"{told}; cannot be made here, {missing[0].missing} missing: {missing[0].remedies[0]}"

    def can_be_made(self, fetches: bool) -> bool:
        """Tell whether it is there or can be made here."""
        return all(fetches and _comes_by_itself(need) for need in self.lacking)


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
        yield StreamPlan(goal.name, needs, there, failed, len(manifest), size)


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


def _comes_by_itself(need: Need) -> bool:
    """Tell whether an extraction fetches what is missing: from the hub, under a licence that allows it."""
    return not need.package and repository_of(need.weights) is not None and not forbids_commerce(need.licence)
