"""Reading the dataset of an experiment from a cache."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from ...cache import Cache, EmocacheError, Manifest, Stream
from ...cache.expression import text_of
from ...cache.recipe import canonical_json
from ..config.search import search_points
from ..config.settings import Settings
from .coverage import coverage_of_streams, stored_masks
from .dataset import Dataset, Features, Source
from .examples import make_examples
from .label_checks import check_members, check_targets
from .memory import Memory
from .stored_frames import StoredFrames


def load_dataset(
    cache: Cache,
    corpora: Sequence[str],
    settings: Settings,
    allow_incomplete: bool = False,
    memory: Memory | None = None,
) -> Dataset:
    """Read manifests and streams.

    Args:
        cache: holds them.
        corpora: names, in the order of the dataset's utterances.
        settings: streams, targets and protocol of the experiment.
        allow_incomplete: streams may lack utterances that were never extracted.
        memory: the room for frames; None: what the machine has.

    Returns:
        The utterances with a label and a place in the protocol; their frames are read when first asked for. Where
        memory has no room for all of them they stay in the cache.

    Raises:
        EmocacheError: an unknown corpus, stream or target; no utterance with a label; a stream that lacks
            utterances that did not fail, unless allowed; streams that differ in recipe between the corpora; see also
            `label_checks.check_targets`, `coverage`, and of what is read `StoredFrames`.
    """
    manifests = [cache.manifest(corpus) for corpus in corpora]
    examples = make_examples(manifests, settings)
    if settings.labels:
        present = {text_of(label) for manifest in manifests for label in manifest.column(settings.targets[0])}
        check_members(settings, present, examples.dropped)
    check_targets(examples, settings)
    points = [point for _, point in search_points(settings)]
    names = list(dict.fromkeys(name for point in points for name in point.stream_names))
    streams = {name: [cache.stream(corpus, name) for corpus in corpora] for name in names}
    for group in streams.values():
        _check_recipes(group)
    wheres = stored_masks(streams, points)
    keys = [(example.corpus, example.id) for example in examples.rows]
    there, incomplete = coverage_of_streams(streams, keys, points, allow_incomplete)
    combine = np.logical_and if settings.modalities == "all" else np.logical_or
    present = combine.reduce(list(there.values()))
    if settings.modalities == "all":
        # Frames of an utterance that lacks another stream would be read and never used.
        there = {name: present for name in there}  # noqa: C420
    keep = {
        name: {s.corpus: [i for (c, i), kept in zip(keys, there[name], strict=True) if kept and c == s.corpus]
               for s in group}
        for name, group in streams.items()
    }  # fmt: skip
    digests = [[s.corpus, name, s.digest(keep[name][s.corpus])] for name, group in streams.items() for s in group]
    memory = Memory() if memory is None else memory
    frames = {name: sum(int(s.lengths(keep[name][s.corpus]).sum()) for s in group) for name, group in streams.items()}
    sizes = {name: count * streams[name][0].dim * streams[name][0].dtype.itemsize for name, count in frames.items()}
    # All of them or none: what is made of frames that stay in the cache is mostly smaller, and finds room then.
    stays = sum(sizes.values()) > memory.limit
    anew = stays and cache.objects.local("") is None and cache.local_copy is None
    features = _Lazy(streams, keep, there, wheres, memory, stays, anew)
    return Dataset(
        examples.rows,
        examples.classes,
        features,
        present,
        [_source(s) for group in streams.values() for s in group],
        {m.corpus: m.sha256 for m in manifests},
        sha256(canonical_json(digests)).hexdigest(),
        incomplete,
        examples.dropped,
        examples.unlabelled,
        examples.auxiliary,
        _recordings(manifests),
        max((s for m in manifests for s in m.column("duration") if s is not None), default=None),
        memory,
        sizes,
        frames,
        examples.listing,
    )


def _source(stream: Stream) -> Source:
    projection, weights = stream.recipe.get("projection"), stream.environment.get("weights")
    matrix = None
    if projection is not None and "matrix_sha256" in projection:
        with contextlib.suppress(FileNotFoundError):  # training does without
            matrix = stream.objects.get(f"fitted/{projection['matrix_sha256']}.safetensors")
    return Source(stream.corpus, stream.name, stream.fingerprint, projection, weights, stream.recipe, matrix)


def _recordings(manifests: Sequence[Manifest]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for manifest in manifests:
        for id_, media in zip(manifest.ids, manifest.column("media"), strict=True):
            for sha256_ in {medium["sha256"] for medium in media or ()}:
                found.setdefault(sha256_, []).append(f"{manifest.corpus}/{id_}")
    return found


_Keep = Mapping[str, Sequence[str]]  # corpus -> ids


class _Lazy(Mapping[str, Features]):
    """The streams, each read when first asked for: when every run is stored already, nothing is read.

    What another dataset of the same memory has read, and holds, is taken from there.
    """

    def __init__(
        self,
        streams: Mapping[str, Sequence[Stream]],
        keep: Mapping[str, _Keep],
        covered: Mapping[str, npt.NDArray[np.bool_]],
        wheres: Mapping[str, str | None],
        memory: Memory,
        stays: bool,
        anew: bool,
    ) -> None:
        self._streams, self._keep, self._covered, self._wheres = streams, keep, covered, wheres
        self._memory, self._stays, self._anew = memory, stays, anew
        self._read: dict[str, Features] = {}

    def __getitem__(self, name: str) -> Features:
        if name not in self._read:
            group, keep, covered = self._streams[name], self._keep[name], self._covered[name]
            key = _key(group, keep, covered, self._wheres[name], self._stays)
            one = self._memory.read.get(key)
            if one is None:
                if self._anew:
                    self._memory.tell_fetched(group[0].objects.url, sum(bytes_of(s, keep[s.corpus]) for s in group))
                one = _read(group, keep, covered, self._wheres[name], self._stays)
                self._memory.hold(one.frames)
                self._memory.read[key] = one
            self._read[name] = one
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)


def _key(group: Sequence[Stream], keep: _Keep, covered: npt.NDArray[np.bool_], where: str | None, stays: bool) -> bytes:
    """Everything that decides what `_read` gives."""
    told = [[s.objects.url, s.corpus, s.name, s.fingerprint, s.digest(keep[s.corpus]), keep[s.corpus]] for s in group]
    return sha256(canonical_json([told, where, stays]) + covered.tobytes()).digest()


def _check_recipes(group: Sequence[Stream]) -> None:
    if len({stream.fingerprint for stream in group}) > 1:
        told = ", ".join(f"{s.corpus}/{s.name}@{s.fingerprint[:12]}" for s in group)
        raise EmocacheError(f"the corpora's streams have different recipes: {told}; extract them with the same one")


def _read(
    group: Sequence[Stream], keep: _Keep, covered: npt.NDArray[np.bool_], where: str | None, stays: bool
) -> Features:
    """Read one stream over all corpora, or let it stay in the cache; rows that are not `covered` get no frames."""
    stored = None
    if stays and covered.any():
        found = iter([(stream, id_) for stream in group for id_ in keep[stream.corpus]])
        stored = StoredFrames([next(found) if there else None for there in covered])
        stored.check()
        frames, lengths = np.empty((0, stored.dim), stored.dtype), stored.lengths
    else:
        parts = [stream.read_many(keep[stream.corpus]) for stream in group]
        # Rows keep their numbers whatever a stream lacks: an utterance without frames has length 0.
        lengths = np.zeros(len(covered), np.int64)
        lengths[covered] = np.concatenate([np.diff(offsets) for _, offsets in parts])
        frames = parts[0][0] if len(parts) == 1 else np.concatenate([frames for frames, _ in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    times = np.concatenate([np.zeros((0, 2)), *(s.times(i) for s in group for i in keep[s.corpus])])
    used = None
    if where is not None and all(where in s.recipe.get("aux", {}) for s in group):
        used = np.concatenate([np.zeros(0, bool), *(s.aux(i)[where] for s in group for i in keep[s.corpus])])
    return Features(frames, offsets, times, used, stored=stored)


def bytes_of(stream: Stream, ids: Sequence[str]) -> int:
    """Return the bytes of the frames of some utterances."""
    return int(stream.lengths(ids).sum()) * stream.dim * stream.dtype.itemsize
