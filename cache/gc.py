"""Removing: streams by name, and what nothing refers to any more."""

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from .commit import GRACE_SECONDS, Record, parse_name, standing
from .errors import EmocacheError
from .objects import Listed, Objects
from .sealed import DamagedError
from .store import Cache, StreamInfo
from .tombstones import FOLDER, raise_tombstone


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

    No clock is trusted with a shard, see `tombstones`: one that a writer commits meanwhile stays, or its writer notices
    and writes it again.

    Args:
        cache: the cache.
        grace: seconds. What is younger is left alone, so that no writer at work has to write twice.
        dry_run: only tell.

    Returns:
        (paths below the cache root, of objects and of folders, sum of their sizes in bytes).

    Raises:
        EmocacheError: a damaged record; what it refers to is unknown, so nothing of its stream may be removed.
    """
    before = datetime.now(UTC) - timedelta(seconds=grace)
    found: list[tuple[str, _Sweep, Listed]] = []  # folder, what sweeps it, and what is garbage in it
    for corpus in cache.corpora():
        objects = cache.objects.below(corpus)
        folders = [name for name in objects.names("") if "@" in name]
        streams = tuple(f"{folder}/" for folder in folders)
        outside = _grouped((entry for entry in objects.list("") if not entry.path.startswith(streams)), None)
        found += [(corpus, _Sweep(objects), entry) for entry in outside]
        for folder in folders:
            sweep = _Sweep(objects.below(folder))
            found += [(f"{corpus}/{folder}", sweep, entry) for entry in sweep.garbage()]
    old = [(folder, sweep, entry) for folder, sweep, entry in found if entry.modified < before]
    removed = [(folder, entry) for folder, sweep, entry in old if dry_run or sweep.remove(entry.path)]
    for sweep in dict.fromkeys(sweep for _, sweep, _ in old):
        sweep.leave_no_folder()
    return [f"{folder}/{entry.path}" for folder, entry in removed], sum(entry.size for _, entry in removed)


class _Sweep:
    """The removal of garbage from one stream's folder."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._records: dict[str, Record] = {}  # read so far; none of them ever changes

    def garbage(self) -> list[Listed]:
        """List what no record refers to, superseded records, and claimed names that were never filled."""
        # Listed before the records are read: an object committed in between is not in the list.
        listed = list(self.objects.list(""))
        empty = {entry.path for entry in listed if not entry.size and entry.path.startswith(("commits/", "plans/"))}
        kept = self._standing()
        gone = {f"commits/{name}" for name in self._records} - {f"commits/{record.name}" for record in kept}
        found = [entry for entry in listed if entry.path in gone | empty] + _grouped(listed, {r.shard for r in kept})
        since = self._superseded_since({entry.path: entry.modified for entry in listed})
        return [replace(entry, modified=max(entry.modified, since.get(entry.path, entry.modified))) for entry in found]

    def _superseded_since(self, modified: Mapping[str, datetime]) -> dict[str, datetime]:
        """{path of a superseded record, or of its shard: when it became so}; a reader may have it open since before.

        A compaction supersedes records that are old, so their own age says nothing.
        """
        since: dict[str, datetime] = {}
        for record in self._records.values():
            when = modified.get(f"commits/{record.name}")
            for name in record.supersedes if when else ():
                shard = self._records[name].shard if name in self._records else None
                for path in (f"commits/{name}", shard):
                    if path is not None and when is not None:
                        since[path] = max(when, since.get(path, when))
        return since

    def remove(self, path: str) -> bool:
        """Remove one thing for good; False for a shard that a record has come to refer to meanwhile."""
        if not path.startswith("shards/") or path.endswith(".tmp"):
            self.objects.delete(path)
            return True
        tombstone = raise_tombstone(self.objects, path)
        try:
            free = path not in {record.shard for record in self._standing()}
        except EmocacheError as error:
            self.objects.delete(tombstone)
            raise EmocacheError(f"{error} from then on") from error
        if free:
            self.objects.delete(path)
        self.objects.delete(tombstone)  # only ever my own: another gc may still be about to act on its
        return free

    def leave_no_folder(self) -> None:
        """Remove the folder in which tombstones stood, if it is a folder and none stands there."""
        if (folder := self.objects.local(FOLDER)) is not None:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _standing(self) -> list[Record]:
        """The records that there are now and that no other one supersedes."""
        names = [name for name in self.objects.names("commits") if parse_name(name)]
        for name in names:
            if name not in self._records and (data := self.objects.get(f"commits/{name}")):  # empty: claimed only
                self._records[name] = _record(data, f"{self.objects.url}/commits/{name}")
        return standing(self._records[name] for name in names if name in self._records)


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


def _record(data: bytes, what: str) -> Record:
    try:
        return Record.from_bytes(data, what).bare()
    except DamagedError as error:
        raise EmocacheError(f"{error}. What it refers to is unknown. Nothing was removed") from error
