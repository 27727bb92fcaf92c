"""A corpus folder beside what its owner says a complete one holds; nothing is decoded or extracted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ...cache import Manifest
from ...cache.recordings import components, shared_recordings
from . import REGISTRY, load
from .files import MediaHasher, Published, media_files

MAX_CLASSES = 20
"""A label with more values than this is not counted by class."""
_SHOWN = 5  # examples in a list that could be long
_KINDS = {(True, False): "audio only", (True, True): "audio and video", (False, True): "video only",
          (False, False): "no media"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Census:
    """The finds in one corpus folder.

    Attributes:
        corpus: its name in the cache.
        root: the folder.
        utterances: how many there are.
        speakers: how many are named.
        seconds: sum of the durations that the media's headers give.
        unreadable: utterances without a duration, because a header cannot be read.
        media: {"audio only", "video only", "audio and video", "no media": utterances}.
        given: {"text", "words" and each track: utterances that have it}.
        fields: {"gender", "language", "culture" and "split" where any utterance has it: {value: utterances}}.
        labels: {label: {value: utterances}}, of labels with at most `MAX_CLASSES` values.
        ranges: {label: a description} of the others.
        duplicates: groups of files with the same bytes, paths relative to the root.
        voices: {speakers that have recordings in common, as in "46 = 53": the utterances of each such recording}.
        unused: media files below the root that no utterance uses.
        published: what a complete corpus holds, the loader module's `PUBLISHED`; None where it has none, or where the
            corpus is what another function than its `load` makes of it.
        not_known: what no public source tells of the corpus, for its owner to look at: the module's `NOT_KNOWN`.
    """

    corpus: str
    root: Path
    utterances: int
    speakers: int
    seconds: float
    unreadable: int
    media: Mapping[str, int]
    given: Mapping[str, int]
    fields: Mapping[str, Mapping[str, int]]
    labels: Mapping[str, Mapping[str, int]]
    ranges: Mapping[str, str]
    duplicates: Sequence[Sequence[str]]
    voices: Mapping[str, Sequence[Sequence[str]]]
    unused: Sequence[str]
    published: Published | None
    not_known: Sequence[str] = ()


def take_census(name: str, root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Census:
    """Load a corpus and count.

    Args:
        name: a corpus as `corpora.load` takes it.
        root: the corpus folder.
        mapping: what `--map` gave.
        hasher: hashes the media files, which the manifest and the search for duplicates need.

    Returns:
        The counts, beside what the owner publishes where that is known.

    Raises:
        EmocacheError: whatever `corpora.load` raises.
    """
    manifest = load(name, root, mapping=mapping, hasher=hasher)
    kinds = Counter(dict.fromkeys(_KINDS.values(), 0))
    given = Counter({"text": 0, "words": 0, **{f"track {track}": 0 for track in manifest.track_names}})
    files: dict[str, str] = {}
    durations = []
    for row in manifest:  # one at a time: words and tracks of a large corpus are large
        kinds[_KINDS[row.media_of("audio") is not None, row.media_of("video") is not None]] += 1
        given.update({"text": bool(row.text), "words": bool(row.words), **{f"track {name}": 1 for name in row.tracks}})
        files.update((media.path, media.sha256) for media in row.media)
        if row.media:
            durations.append(row.duration)
    module = REGISTRY[name].module if name in REGISTRY else ":"
    loader = None if ":" in module else import_module(f".{module}", __package__)
    below = [path.relative_to(root).as_posix() for path in media_files(root)]
    fields = {field: _count(manifest.column(field)) for field in ("gender", "language", "culture", "split")}
    labels, ranges = _labels(manifest)
    return Census(
        corpus=manifest.corpus,
        root=root,
        utterances=len(manifest),
        speakers=len({*manifest.column("speaker")} - {None}),
        seconds=sum(duration for duration in durations if duration is not None),
        unreadable=durations.count(None),
        media=kinds,
        given=given,
        fields={field: counts for field, counts in fields.items() if counts},
        labels=labels,
        ranges=ranges,
        duplicates=_same(files),
        voices=_voices(manifest),
        unused=[path for path in below if path not in files],
        published=getattr(loader, "PUBLISHED", None),
        not_known=getattr(loader, "NOT_KNOWN", ()),
    )


def lines(census: Census) -> list[str]:
    """The report: an aligned table, and below it what is no number. Differences are found minus published."""
    published = census.published
    rows = [
        ("", "found", "published", "difference") if published else ("", "found", "", ""),
        _row("utterances", census.utterances, published.utterances if published else None),
        _row("speakers", census.speakers, published.speakers if published else None),
        ("hours", f"{census.seconds / 3600:.3f}", "", ""),
        _row("unreadable headers", census.unreadable),
        *_group("media", {kind: count for kind, count in census.media.items() if count}),
        *_group("given", census.given),
    ]
    splits = published.splits if published else {}
    for field, counts in census.fields.items():
        rows += _group(field, counts, splits if splits and field == "split" else None)
    classes = published.classes if published else {}
    for label in sorted({*census.labels, *classes}):
        rows += _group(f"label {label}", census.labels.get(label, {}), classes.get(label))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ("  ".join((name.ljust(widths[0]), *map(str.rjust, cells, widths[1:]))).rstrip() for name, *cells in rows)
    return [f"corpus {census.corpus} in {census.root}", *table, *_notes(census)]


def _count(cells: Iterable[object]) -> dict[str, int]:
    counts = Counter(f"{c:g}" if isinstance(c, float) else str(c) for c in cells if c is not None)
    return dict(sorted(counts.items()))


def _labels(manifest: Manifest) -> tuple[dict[str, Mapping[str, int]], dict[str, str]]:
    counted: dict[str, Mapping[str, int]] = {}
    described = {}
    for label in manifest.label_names:
        cells = [cell for cell in manifest.column(f"label.{label}") if cell is not None]
        counts = _count(cells)
        fractions = any(isinstance(cell, float) and not cell.is_integer() for cell in cells)
        if len(counts) <= MAX_CLASSES and not fractions:
            counted[label] = counts
        else:
            span = f", {min(cells):g} to {max(cells):g}" if isinstance(cells[0], float) else ""
            described[label] = f"{len(cells)} utterances, {len(counts)} values{span}"
    return counted, described


def _same(files: Mapping[str, str]) -> list[list[str]]:
    groups = defaultdict(list)
    for path, sha256 in sorted(files.items()):
        groups[sha256].append(path)
    return [paths for paths in groups.values() if len(paths) > 1]


def _voices(manifest: Manifest) -> dict[str, list[list[str]]]:
    """The utterances of each recording that is told to be of several speakers, by these."""
    held: dict[int, list[tuple[str, str]]] = defaultdict(list)
    speakers = manifest.column("speaker")
    for id_, speaker, number in zip(manifest.ids, speakers, components(shared_recordings(manifest)), strict=True):
        held[number].append((speaker or "unknown", id_))
    voices: dict[str, list[list[str]]] = defaultdict(list)
    for those in held.values():
        if len(names := sorted({speaker for speaker, _ in those})) > 1:
            voices[" = ".join(names)].append([id_ for _, id_ in those])
    return dict(sorted(voices.items()))


def _row(name: str, found: int, published: int | None = None) -> tuple[str, str, str, str]:
    if published is None:
        return name, str(found), "", ""
    return name, str(found), str(published), f"{found - published:+d}" if found != published else "0"


def _group(
    name: str, found: Mapping[str, int], published: Mapping[str, int] | None = None
) -> list[tuple[str, str, str, str]]:
    keys = dict.fromkeys((*(published or {}), *found))
    rows = [_row(f"  {key}", found.get(key, 0), None if published is None else published.get(key, 0)) for key in keys]
    return [(name, "", "", ""), *rows]


def _notes(census: Census) -> list[str]:
    notes = [f"label {label}: {description}" for label, description in census.ranges.items()]
    if census.published is not None:
        notes.append(f"published in: {census.published.source}")
    copies = [" = ".join(paths) for paths in census.duplicates]
    notes += _listed("groups of files with the same bytes", copies)
    if census.voices:
        several = [
            f"{who}: {len(same)} recordings, such as {' = '.join(same[0])}" for who, same in census.voices.items()
        ]
        notes += _listed("speakers that share recordings, whom training counts as one", several)
    notes += _listed("media files used by no utterance", census.unused)
    if census.not_known:
        notes += ["not known here, so look yourself:", *(f"  {one}" for one in census.not_known)]
    return notes


def _listed(what: str, found: Sequence[str]) -> list[str]:
    more = ["  ..."] if len(found) > _SHOWN else []
    return [f"{what}: {len(found)}", *(f"  {item}" for item in found[:_SHOWN]), *more]
