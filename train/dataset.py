"""What one experiment reads: the protocol's utterances, their references, and the frames of its streams in memory."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache import Cache, EmocacheError, Manifest, Stream
from ..cache.recipe import canonical_json
from .reading import search_points
from .references import Reference, references
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance of the protocol, with features or without."""

    corpus: str
    id: str
    speaker: str | None
    session: str | None
    gender: str | None
    split: str | None
    reference: Reference

    @property
    def group(self) -> str:
        """What a bootstrap draws: the speaker, else the session, else the utterance."""
        return self.speaker or self.session or self.id

    @property
    def key(self) -> str:
        """Unique over corpora."""
        return f"{self.corpus}/{self.id}"


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Frames of all U utterances, one after the other; an utterance without features has none.

    Attributes:
        frames: (N, D), storage dtype. offsets: (U + 1,) int64.
        times: (N, 2) float64 seconds, or None where no target needs them.
    """

    frames: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64] | None = None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(U,) number of frames."""
        return np.diff(self.offsets)

    def of(self, row: int | np.integer[Any]) -> npt.NDArray[Any]:
        """(T, D) frames of one utterance."""
        return self.frames[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of one corpus."""

    corpus: str
    name: str
    fingerprint: str
    projection: dict[str, Any] | None  # of its recipe: what a stored PCA was fitted on


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything that training reads.

    Attributes:
        examples: U utterances, in the order of corpora and ids. classes: sorted; empty for a regression.
        features: {stream as named in the settings: Features}, each read when it is first asked for.
        present: (U,) bool, has features in all streams.
        incomplete: some utterances are not extracted yet, and that was allowed.
        dropped: {label: utterances} left out by the label map. unlabelled: utterances without a reference.
    """

    examples: list[Example]
    classes: tuple[str, ...]
    features: Mapping[str, Features]
    present: npt.NDArray[np.bool_]
    sources: list[Source] = field(default_factory=list)
    manifests: dict[str, str] = field(default_factory=dict)
    item_digest: str = ""
    incomplete: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0


def load_dataset(cache: Cache, corpora: Sequence[str], settings: Settings, allow_incomplete: bool = False) -> Dataset:
    """Read manifests and streams.

    Raises:
        EmocacheError: an unknown corpus, stream or target; no utterance with a reference; a stream that lacks
            utterances that did not fail, unless allowed; streams that differ in recipe between the corpora; frames
            that do not fit into memory.
    """
    manifests = [cache.manifest(corpus) for corpus in corpora]
    examples, classes, dropped, unlabelled = _examples(manifests, settings)
    names = list(dict.fromkeys(name for _, point in search_points(settings) for name in point.streams))
    rows = {m.corpus: [r for r, e in enumerate(examples) if e.corpus == m.corpus] for m in manifests}
    streams = {name: [cache.stream(corpus, name) for corpus in corpora] for name in names}
    for group in streams.values():
        _check_recipes(group)
    present = np.zeros(len(examples), bool)
    incomplete = False
    for corpus in corpora:
        ids = [examples[row].id for row in rows[corpus]]
        own = [stream for group in streams.values() for stream in group if stream.corpus == corpus]
        incomplete |= bool(sum(_lacks(stream, ids, allow_incomplete) for stream in own))
        served = set.intersection(*(set(stream.ids) for stream in own))
        present[rows[corpus]] = [i in served for i in ids]
    keep = {c: [examples[row].id for row in rows[c] if present[row]] for c in corpora}
    _check_memory([(stream, keep[stream.corpus]) for group in streams.values() for stream in group])
    digests = [[s.corpus, n, s.digest(keep[s.corpus])] for n, group in streams.items() for s in group]
    return Dataset(
        examples,
        classes,
        _Lazy(streams, keep, present, settings.per_frame),
        present,
        [Source(s.corpus, s.name, s.fingerprint, s.recipe.get("projection")) for g in streams.values() for s in g],
        {m.corpus: m.sha256 for m in manifests},
        sha256(canonical_json(digests)).hexdigest(),
        incomplete,
        dropped,
        unlabelled,
    )


def _examples(
    manifests: Sequence[Manifest], settings: Settings
) -> tuple[list[Example], tuple[str, ...], dict[str, int], int]:
    examples: list[Example] = []
    dropped: Counter[str] = Counter()
    unlabelled = 0
    found = [references(manifest, settings, dropped) for manifest in manifests]
    labels = sorted({ref for refs in found for ref in refs if isinstance(ref, str)})
    classes = tuple(sorted(settings.labels)) if settings.labels else tuple(labels)
    for manifest, refs in zip(manifests, found, strict=True):
        columns = (manifest.column(name) for name in ("speaker", "session", "gender", "split"))
        for id_, ref, speaker, session, gender, split in zip(manifest.ids, refs, *columns, strict=True):
            if ref is None:
                unlabelled += 1
            elif settings.protocol.name != "official" or split in ("train", "valid", "test"):
                known = classes.index(ref) if isinstance(ref, str) else ref
                examples.append(Example(manifest.corpus, id_, speaker, session, gender, split, known))
    unlabelled -= sum(dropped.values())
    if not examples:
        where = " + ".join(m.corpus for m in manifests)
        reason = f"; the label map drops {dict(dropped)}" if dropped else ""
        raise EmocacheError(f"no utterance of {where} has {' and '.join(settings.targets)}{reason}")
    return examples, classes, dict(sorted(dropped.items())), unlabelled


def _lacks(stream: Stream, ids: Sequence[str], allowed: bool) -> bool:
    """Whether protocol utterances are neither served nor failed; an error unless that is allowed."""
    if stream.recipe["kind"] != "frames":
        raise EmocacheError(f"stream {stream.corpus}/{stream.name} is a table; heads train on streams of frames")
    missing = sorted(set(ids) & set(stream.missing))
    if missing and not allowed:
        raise EmocacheError(
            f"stream {stream.corpus}/{stream.name} is incomplete: {len(missing)} of {len(ids)} protocol utterances are"
            f" neither extracted nor failed, such as {missing[0]!r}; run `emocache extract {stream.corpus}` again, or"
            " pass --allow-incomplete, which marks the runs"
        )
    return bool(missing)


class _Lazy(Mapping[str, Features]):
    """Reads a stream when it is first asked for: when every run is stored already, nothing is read."""

    def __init__(
        self,
        streams: Mapping[str, Sequence[Stream]],
        keep: Mapping[str, Sequence[str]],
        present: npt.NDArray[np.bool_],
        with_times: bool,
    ) -> None:
        self._streams = streams
        self._arguments = (keep, present, with_times)
        self._read: dict[str, Features] = {}

    def __getitem__(self, name: str) -> Features:
        if name not in self._read:
            self._read[name] = _read(self._streams[name], *self._arguments)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)


def _check_recipes(group: Sequence[Stream]) -> None:
    if len({stream.fingerprint for stream in group}) > 1:
        told = ", ".join(f"{s.corpus}/{s.name}@{s.fingerprint[:12]}" for s in group)
        raise EmocacheError(f"the corpora's streams have different recipes: {told}; extract them with the same one")


def _read(
    group: Sequence[Stream], keep: Mapping[str, Sequence[str]], present: npt.NDArray[np.bool_], with_times: bool
) -> Features:
    """One stream over all corpora; rows that are not `present` get no frames."""
    parts = [stream.read_many(keep[stream.corpus]) for stream in group]
    lengths = np.zeros(len(present), np.int64)
    lengths[present] = np.concatenate([np.diff(offsets) for _, offsets in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    frames = parts[0][0] if len(parts) == 1 else np.concatenate([frames for frames, _ in parts])
    times = None
    if with_times:
        times = np.concatenate([np.zeros((0, 2)), *(s.times(i) for s in group for i in keep[s.corpus])])
    return Features(frames, offsets, times)


def _check_memory(reads: Sequence[tuple[Stream, Sequence[str]]]) -> None:
    needed = sum(int(s.lengths(ids).sum()) * s.dim * s.dtype.itemsize for s, ids in reads)
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows does not tell this way
        return
    if needed > 0.9 * physical:
        raise EmocacheError(
            f"the streams hold {needed / 1e9:.1f} GB of frames and this machine has {physical / 1e9:.1f} GB of memory;"
            " train on a projected stream (emocache extract ... --pca N) or on fewer streams"
        )
