"""Removing: streams by name, and what nothing refers to any more."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from .commit import GRACE_SECONDS, Record, parse_name
from .errors import EmocacheError
from .objects import Listed, Objects
from .sealed import DamagedError
from .store import Cache, StreamInfo


def remove_stream(cache: Cache, info: StreamInfo) -> None:
    """Remove a stream. Its recipe and records go first, so that an interrupted removal leaves nothing that looks whole.

    What it leaves is garbage to a new extraction and is finished by `remove_corpus` or a second `remove_stream`.
    """
    objects = cache.objects.below(info.folder)
    for part in ("recipe.json", "index.arrow", "commits"):
        objects.delete(part)
    cache.objects.delete(info.folder)


def remove_corpus(cache: Cache, corpus: str) -> None:
    """Remove a corpus with its manifests and streams."""
    cache.manifest(corpus)
    for info in cache.streams(corpus):
        remove_stream(cache, info)
    cache.objects.delete(corpus)


def collect(cache: Cache, grace: float = GRACE_SECONDS, *, dry_run: bool = False) -> tuple[list[str], int]:
    """Remove what no record refers to and what is older than the grace period.

    That is shards whose writer lost or died, temporary files, claimed names that were never filled, and records that
    another one supersedes, with their shards. Stale items are kept: they become current again when the manifest does.

    Args:
        cache: the cache.
        grace: seconds; shorter than the default only where no writer is at work.
        dry_run: only tell.

    Returns:
        (paths below the cache root, of objects and of folders, sum of their sizes in bytes).

    Raises:
        EmocacheError: a damaged record; what it refers to is unknown, so nothing of its stream may be removed.
    """
    before = datetime.now(UTC) - timedelta(seconds=grace)
    garbage: list[Listed] = []
    for corpus in cache.corpora():
        objects = cache.objects.below(corpus)
        folders = [name for name in objects.names("") if "@" in name]
        streams = tuple(f"{folder}/" for folder in folders)
        found = _grouped((entry for entry in objects.list("") if not entry.path.startswith(streams)), None)
        for folder in folders:
            found += _below(folder, _unreferenced(objects.below(folder)))
        garbage += _below(corpus, found)
    old = [entry for entry in garbage if entry.modified < before]
    for entry in [] if dry_run else old:
        cache.objects.delete(entry.path)
    return [entry.path for entry in old], sum(entry.size for entry in old)


def _unreferenced(objects: Objects) -> list[Listed]:
    # Listed before the records are read: an object committed in between is not in the list.
    listed = list(objects.list(""))
    empty = {entry.path for entry in listed if not entry.size and entry.path.startswith(("commits/", "plans/"))}
    records = [
        _record(objects, f"commits/{name}")
        for name in objects.names("commits")
        if parse_name(name) and f"commits/{name}" not in empty
    ]
    gone = {f"commits/{name}" for record in records for name in record.supersedes}
    kept = {record.shard for record in records if f"commits/{record.name}" not in gone}
    return [entry for entry in listed if entry.path in gone | empty] + _grouped(listed, kept)


def _grouped(listed: Iterable[Listed], kept: Collection[str | None] | None) -> list[Listed]:
    """Temporary files and folders, and shards that are not kept: each whole, as old as the youngest of its objects.

    Outside a stream's folder `kept` is None, and nothing is taken for a shard.
    """
    groups: dict[str, list[Listed]] = {}
    for entry in listed:
        parts = entry.path.split("/")
        temporary = [n for n, part in enumerate(parts, start=1) if part.startswith(".") and part.endswith(".tmp")]
        shard = "/".join(parts[:2])
        if temporary:
            groups.setdefault("/".join(parts[: temporary[0]]), []).append(entry)
        elif kept is not None and parts[0] == "shards" and shard not in {*kept, "shards"}:
            groups.setdefault(shard, []).append(entry)
    return [Listed(path, sum(e.size for e in found), max(e.modified for e in found)) for path, found in groups.items()]


def _record(objects: Objects, path: str) -> Record:
    try:
        return Record.from_bytes(objects.get(path), f"{objects.url}/{path}")
    except DamagedError as error:
        raise EmocacheError(f"{error}. Nothing was removed.") from error


def _below(folder: str, found: Iterable[Listed]) -> list[Listed]:
    return [Listed(f"{folder}/{entry.path}", entry.size, entry.modified) for entry in found]
