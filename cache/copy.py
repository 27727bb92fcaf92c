"""Copying and merging caches: shards, then records, then the manifest pointer, each checked on the way."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .commit import FailureEntry, Record, parse_name
from .errors import EmocacheError
from .index import rebuilt, save
from .objects import Objects, create_once
from .sealed import DamagedError
from .store import Cache, StreamInfo

_BLOCK = 16 << 20


@dataclass
class Copied:
    """What a copy did."""

    streams: int = 0
    items: int = 0
    bytes: int = 0


def copy(
    source: Cache, target: Cache, streams: Iterable[StreamInfo], tell: Callable[[str], None] = lambda line: None
) -> Copied:
    """Copy streams and the manifests of their corpora; what the target has already is left as it is.

    Interrupted, it goes on where it stopped. Into a cache that holds other items of the same stream it merges.

    Args:
        source: where from.
        target: where to.
        streams: those to copy, see `Cache.streams`.
        tell: called with one line per stream.

    Raises:
        EmocacheError: bytes of the source do not have their checksum, or the target's manifest differs from the
            source's, so that items current there would become stale.
    """
    done = Copied()
    chosen = list(streams)
    manifests = {corpus: source.manifest(corpus) for corpus in sorted({info.corpus for info in chosen})}
    for corpus, manifest in manifests.items():
        if corpus in target.corpora() and target.manifest(corpus) != manifest:
            raise EmocacheError(
                f"corpus {corpus!r} has another manifest in {target.objects.url}; items current there would become"
                " stale. Extract from the same media first, or copy into an empty cache"
            )
    for info in chosen:
        items, size = _copy_stream(source.objects.below(info.folder), target.objects.below(info.folder))
        done.streams, done.items, done.bytes = done.streams + 1, done.items + items, done.bytes + size
        tell(f"{info.folder}: {items} utterances, {size / 1e6:.1f} MB copied")
    for manifest in manifests.values():
        target.put_manifest(manifest)
    for info in chosen:
        objects = target.objects.below(info.folder)
        manifest = manifests[info.corpus]
        save(objects, rebuilt(objects), manifest.item_keys(info.fingerprint, info.recipe["inputs"]), manifest.sha256)
    return done


def _copy_stream(source: Objects, target: Objects) -> tuple[int, int]:
    for name in source.names("fitted"):
        data = source.get(f"fitted/{name}")
        if hashlib.sha256(data).hexdigest() != name.split(".")[0]:
            raise EmocacheError(
                f"{source.url}/fitted/{name}: damaged; run `emocache cache verify --full` on the source"
            )
        target.replace(f"fitted/{name}", data)
    create_once(target, "recipe.json", source.get("recipe.json"))
    there = {found.path: found.size for found in target.list("shards")}
    present: set[str] = set()
    told: set[FailureEntry] = set()
    for name in _records(target):
        with contextlib.suppress(DamagedError):  # what it committed counts as absent
            record = Record.from_bytes(target.get(f"commits/{name}"), name)
            if all(there.get(path) == size for path, (size, _) in record.objects.items()):
                present |= {entry.key for entry in record.items}
            told |= set(record.failures)
    items, size = 0, 0
    for name in _records(source):
        record = Record.from_bytes(source.get(f"commits/{name}"), f"{source.url}/commits/{name}")
        fresh = tuple(entry for entry in record.items if entry.key not in present)
        if fresh:
            size += _copy_shard(source, target, record, there)
        elif set(record.failures) <= told:
            continue
        else:
            record = replace(record, shard=None, objects={}, arrays={})
        _create(target, replace(record, items=fresh, supersedes=()))
        present |= {entry.key for entry in fresh}
        told |= set(record.failures)
        items += len(fresh)
    return items, size


def _records(objects: Objects) -> list[str]:
    return [name for name in objects.names("commits") if parse_name(name)]


def _create(target: Objects, record: Record) -> None:
    """Under the record's own name if it is free, else as a later attempt."""
    while not create_once(target, f"commits/{record.name}", record.to_bytes()):
        record = replace(record, attempt=record.attempt + 1)


def _copy_shard(source: Objects, target: Objects, record: Record, there: Mapping[str, int]) -> int:
    shard = str(record.shard)
    if all(there.get(path) == size for path, (size, _) in record.objects.items()) and all(
        hashlib.sha256(target.get(path)).hexdigest() == sha256 for path, (_, sha256) in record.objects.items()
    ):
        return 0  # copied by an interrupted run
    target.delete(shard)
    files = {path[len(shard) :].lstrip("/"): _blocks(source, path, size) for path, (size, _) in record.objects.items()}
    written = target.put_shard(shard, files)
    for path, (size, sha256) in record.objects.items():
        if (written[path].size, written[path].sha256) != (size, sha256):
            target.delete(shard)
            raise EmocacheError(f"{source.url}/{path}: damaged; run `emocache cache verify --full` on the source")
    return sum(size for size, _ in record.objects.values())


def _blocks(source: Objects, path: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, _BLOCK):
        yield source.get_range(path, start, min(_BLOCK, size - start))
