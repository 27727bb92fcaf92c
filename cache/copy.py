"""Copying and merging caches: shards, then records, then the manifest pointer, each checked on the way."""

import contextlib
import errno
import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from .commit import FailureEntry, Record, create_record, parse_name, standing
from .errors import EmocacheError
from .index import covered, mark_current, rebuilt, save
from .objects import Objects, create_once
from .sealed import DamagedError
from .store import Cache, StreamInfo
from .stream_keys import StreamKeys
from .tombstones import is_taken

_BLOCK = 16 << 20


@dataclass
class Copied:
    """The streams that a copy went through, and the items and bytes it has written."""

    streams: int = 0
    items: int = 0
    bytes: int = 0


def copy(
    source: Cache,
    target: Cache,
    streams: Iterable[StreamInfo],
    tell: Callable[[str], None] = lambda line: None,
    step: Callable[[], object] = lambda: None,
) -> Copied:
    """Copy streams and the manifests of their corpora; what the target has already is left as it is.

    Interrupted, it goes on where it stopped. Into a cache that holds other items of the same stream it merges.

    Args:
        source: where from.
        target: where to.
        streams: those to copy, see `Cache.streams`.
        tell: called with one line per stream.
        step: called after each record.

    Returns:
        the streams gone through, and the items and bytes that the target did not have.

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
        items, size = _copy_stream(source.objects.below(info.folder), target.objects.below(info.folder), step)
        done.streams, done.items, done.bytes = done.streams + 1, done.items + items, done.bytes + size
        tell(f"{info.folder}: {items} utterances, {size / 1e6:.1f} MB copied")
    # Manifests last: a corpus without one is not read, so nobody takes half of it for the whole.
    for manifest in manifests.values():
        target.put_manifest(manifest)
    for info in chosen:
        objects = target.objects.below(info.folder)
        keys = StreamKeys(manifests[info.corpus], info.fingerprint, info.recipe["inputs"])
        save(objects, mark_current(rebuilt(objects), keys))
    return done


def count_records(cache: Cache, stream: StreamInfo) -> int:
    """Count the records of a stream, with those that newer ones supersede, which copying leaves out."""
    return len(list(filter(parse_name, cache.objects.names(f"{stream.folder}/commits"))))


def _copy_stream(source: Objects, target: Objects, step: Callable[[], object]) -> tuple[int, int]:
    for name in source.names("fitted"):
        data = source.get(f"fitted/{name}")
        if hashlib.sha256(data).hexdigest() != name.split(".")[0]:
            raise EmocacheError(
                f"{source.url}/fitted/{name}: damaged; run `emocache cache verify --full` on the source"
            )
        target.replace(f"fitted/{name}", data)
    create_once(target, "recipe.json", source.get("recipe.json"))
    # In this order: a shard whose record is seen here was there before, so it is in the list.
    known = standing(_records(target))
    there = {found.path: found.size for found in target.list("shards")}
    present: set[str] = set()
    told: set[FailureEntry] = set()
    for record in known:
        if _is_whole(record, there):
            present |= {entry.key for entry in record.items}
        told |= set(record.failures)
    used = {record.shard for record in known}
    names = covered(target)
    items, size = 0, 0
    for record in standing(_records(source, strict=True)):
        step()
        fresh = tuple(entry for entry in record.items if entry.key not in present)
        if not fresh and set(record.failures) <= told:
            continue
        size += _copy_record(source, target, replace(record, items=fresh, supersedes=()), there, used, names)
        present |= {entry.key for entry in fresh}
        told |= set(record.failures)
        items += len(fresh)
    return items, size


def _records(objects: Objects, *, strict: bool = False) -> list[Record]:
    """The records of a stream; a damaged one is an error, or counts as absent."""
    found = []
    for name in filter(parse_name, objects.names("commits")):
        with contextlib.suppress(*([] if strict else [DamagedError])):
            found.append(Record.from_bytes(objects.get(f"commits/{name}"), f"{objects.url}/commits/{name}"))
    return found


def _is_whole(record: Record, there: Mapping[str, int]) -> bool:
    return all(there.get(path) == size for path, size in record.sizes.items())


def _copy_record(
    source: Objects,
    target: Objects,
    record: Record,
    there: Mapping[str, int],
    used: Collection[str | None],
    names: Collection[str],
) -> int:
    """Copy a record and its shard, under none of these names; gives the bytes that were copied.

    The shard keeps its name where that is free or a record of the target lacks it, else it gets another one.
    """
    if not record.items:
        create_record(target, replace(record, shard=None, objects={}, arrays={}), names)
        return 0
    shard = str(record.shard)
    begun = any(path == shard or path.startswith(f"{shard}/") for path in there)
    copied, size = record, 0
    if not _is_whole(record, there) or not _same_bytes(target, record):
        if begun and shard in used:
            target.delete(shard)  # a record of the target refers to it, and it is damaged
        elif begun:
            copied = _renamed(record)
        try:
            size = _copy_shard(source, record, target, copied)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
                raise
            copied = _renamed(record)  # another copy was faster, or a gc took what was half written
            size = _copy_shard(source, record, target, copied)
    created = create_record(target, copied, names)
    while is_taken(target, created.shard, created.sizes):
        # A gc took the shard for garbage, its record came too late to tell. Once more, under another name.
        copied = replace(_renamed(record), supersedes=(created.name, *created.supersedes))
        size += _copy_shard(source, record, target, copied)
        created = create_record(target, copied, names)
    return size


def _renamed(record: Record) -> Record:
    """The record with a new name for its shard."""
    return record.moved(f"shards/{secrets.token_hex(12)}{PurePosixPath(str(record.shard)).suffix}")


def _same_bytes(objects: Objects, record: Record) -> bool:
    """Tell whether a shard that an interrupted copy has left is whole, and not taken by a gc meanwhile."""
    try:
        return all(hashlib.sha256(objects.get(path)).hexdigest() == sha for path, (_, sha) in record.objects.items())
    except FileNotFoundError:
        return False


def _copy_shard(source: Objects, record: Record, target: Objects, copied: Record) -> int:
    """Copy the objects of a record to where `copied` has them; gives the bytes."""
    pairs = list(zip(record.objects.items(), copied.objects, strict=True))
    start = len(str(copied.shard))
    files = {path[start:].lstrip("/"): _blocks(source, origin, size) for (origin, (size, _)), path in pairs}
    written = target.put_shard(str(copied.shard), files)
    for (origin, (size, sha256)), path in pairs:
        if (written[path].size, written[path].sha256) != (size, sha256):
            target.delete(str(copied.shard))
            raise EmocacheError(f"{source.url}/{origin}: damaged; run `emocache cache verify --full` on the source")
    return sum(record.sizes.values())


def _blocks(source: Objects, path: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, _BLOCK):
        yield source.get_range(path, start, min(_BLOCK, size - start))
