"""Removing: streams by name, and what nothing refers to any more."""

from datetime import UTC, datetime, timedelta

from .commit import GRACE_SECONDS, Record, parse_name
from .errors import EmocacheError
from .objects import Listed, Objects
from .sealed import DamagedError
from .store import Cache, StreamInfo


def remove_stream(cache: Cache, info: StreamInfo) -> None:
    """Remove a stream. Its recipe goes first, so that an interrupted removal leaves nothing that looks whole."""
    objects = cache.objects.below(info.folder)
    objects.delete("recipe.json")
    cache.objects.delete(info.folder)


def remove_corpus(cache: Cache, corpus: str) -> None:
    """Remove a corpus with its manifests and streams."""
    cache.manifest(corpus)
    for info in cache.streams(corpus):
        remove_stream(cache, info)
    cache.objects.delete(corpus)


def collect(cache: Cache, grace: float = GRACE_SECONDS, *, dry_run: bool = False) -> tuple[list[str], int]:
    """Remove what no record refers to and what is older than the grace period.

    That is shards whose writer lost or died, temporary files, and records that another one supersedes, with their
    shards. Stale items are kept: they become current again when the manifest does.

    Args:
        cache: the cache.
        grace: seconds; shorter than the default only where no writer is at work.
        dry_run: only tell.

    Returns:
        (paths below the cache root, sum of their sizes in bytes).

    Raises:
        EmocacheError: a damaged record; what it refers to is unknown, so nothing of its stream may be removed.
    """
    before = datetime.now(UTC) - timedelta(seconds=grace)
    garbage: list[Listed] = []
    for corpus in cache.objects.names(""):
        for folder in cache.objects.names(corpus):
            if "@" in folder:
                garbage += _unreferenced(cache.objects.below(f"{corpus}/{folder}"), f"{corpus}/{folder}")
    old = [found for found in garbage if found.modified < before]
    for found in [] if dry_run else old:
        cache.objects.delete(found.path)
    return [found.path for found in old], sum(found.size for found in old)


def _unreferenced(objects: Objects, folder: str) -> list[Listed]:
    # Listed before the records are read: an object committed in between is not in the list.
    listed = list(objects.list(""))
    records = []
    for name in objects.names("commits"):
        if parse_name(name):
            try:
                records.append(Record.from_bytes(objects.get(f"commits/{name}"), f"{objects.url}/commits/{name}"))
            except DamagedError as error:
                raise EmocacheError(f"{error} Nothing of {folder} was removed.") from error
    gone = {name for record in records for name in record.supersedes}
    kept = {path for record in records if record.name not in gone for path in record.objects}
    found = []
    for entry in listed:
        top, _, rest = entry.path.partition("/")
        temporary = any(part.startswith(".") and part.endswith(".tmp") for part in entry.path.split("/"))
        orphan = top == "shards" and entry.path not in kept
        superseded = top == "commits" and rest in gone
        if temporary or orphan or superseded:
            found.append(Listed(f"{folder}/{entry.path}", entry.size, entry.modified))
    return found
