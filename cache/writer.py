"""Writing one stream: shards first, then the record that makes them count."""

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from types import ModuleType
from typing import Any

import numpy as np

from . import index, shard_hdf5, shard_table, shard_zarr
from .commit import GRACE_SECONDS, FailureEntry, ItemEntry, Record, compacted, parse_name, standing
from .errors import EmocacheError, InputFailure
from .manifest import Manifest
from .objects import Objects, create_once
from .reading_back import check_frames, check_table
from .recipe import Recipe, fingerprint
from .sealed import DamagedError
from .stored_form import Item, check_values, checksum, finite_row, to_storage
from .stream_keys import StreamKeys
from .tombstones import is_taken

BACKENDS: dict[str, ModuleType] = {"zarr": shard_zarr, "hdf5": shard_hdf5}
_TRIES = 4  # to write a shard that gc takes before there is a record


@dataclass(frozen=True, slots=True)
class Committed:
    """The ids and bytes that one call of `commit` made part of the stream."""

    items: tuple[str, ...]
    failures: tuple[str, ...]
    bytes: int


class _UnfitError(Exception):
    """Values of items cannot be stored; `failures` says of which and why."""

    def __init__(self, failures: Mapping[str, InputFailure]) -> None:
        super().__init__()
        self.failures = failures


class StreamWriter:
    """Commits units of one stream. Made by `Cache.create_stream`.

    Args:
        objects: the folder of the stream.
        name: of the stream.
        recipe: see `recipe.Recipe`.
        backend: "zarr" or "hdf5".
        manifest: the current one of the corpus.

    Attributes:
        keys: item keys under that manifest.
    """

    def __init__(self, objects: Objects, name: str, recipe: Recipe, backend: str, manifest: Manifest) -> None:
        self.objects = objects
        self.name = name
        self.recipe = recipe
        self.backend = backend
        self.manifest = manifest
        self.fingerprint = fingerprint(recipe)
        self.keys = StreamKeys(manifest, self.fingerprint, recipe["inputs"])
        self._compactions: dict[str, Record] = {}

    def commit(
        self,
        unit: str,
        items: Mapping[str, Item | Mapping[str, Any]],
        failures: Mapping[str, InputFailure] | None = None,
    ) -> Committed:
        """Write one unit's results and make them part of the stream, all or nothing.

        An item whose values are not finite, or do not fit the storage dtype, becomes a failure. If another writer has
        committed some of the utterances meanwhile, only the others are committed; if all, nothing is.

        Args:
            unit: key of the unit, hex digits.
            items: {utterance id: Item}, or {utterance id: JSON object} for a table stream.
            failures: {utterance id: InputFailure}.

        Returns:
            what has become part of the stream; empty where others have committed all of it.

        Raises:
            EmocacheError: the store cannot take the shard or the record, or gives back other bytes than were written.
        """
        failed = dict(failures or {})
        keys = self.keys.of([*items, *failed])
        stored = self._stored(items, failed)
        superseded: tuple[str, ...] = ()
        while True:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            record = Record(unit, 0, secrets.token_hex(8), created, supersedes=superseded)
            started = time.monotonic()
            if stored:
                try:
                    record = self._write(record, stored, items, keys)
                except _UnfitError as error:  # rare enough for the others to be written once more
                    failed |= error.failures
                    stored = {i: item for i, item in stored.items() if i not in failed}
                    continue
            entries = tuple(FailureEntry(i, keys[i], f.reason, f.detail) for i, f in sorted(failed.items()))
            if time.monotonic() - started > GRACE_SECONDS / 2:
                raise EmocacheError(f"stream {self.name}: writing a shard took over {GRACE_SECONDS / 2:.0f} s, so gc"
                                    " might have taken it for garbage; run the same command again")  # fmt: skip
            record, done = self._create(record, entries)
            if not self._taken(record):
                return done
            # A gc took the shard for garbage, its record came too late to tell. Once more, under another name.
            superseded = (*superseded, record.name)

    def still_missing(self, unit: str, ids: Sequence[str], retry_failed: bool = False) -> list[str]:
        """Those of `ids` that no record of this unit has committed meanwhile."""
        keys = self.keys.of(ids)
        done = set()
        for record in standing(self._attempts(unit)[0]):
            done |= {entry.key for entry in record.items}
            if not retry_failed:
                done |= {entry.key for entry in record.failures}
        return [i for i in ids if keys[i] not in done]

    def finish(self) -> None:
        """Bring the stream's index up to date, so that readers need not go through the records.

        One that is up to date is left alone, and one that cannot be written stops nothing: readers can do without.
        """
        found = index.load(self.objects)
        if not index.is_current(self.objects, found, self.manifest.sha256):
            with contextlib.suppress(OSError):
                index.save(self.objects, index.mark_current(found, self.keys))

    def _stored(self, items: Mapping[str, Any], failed: dict[str, InputFailure]) -> dict[str, Any]:
        stored = {}
        for utterance, item in sorted(items.items()):
            try:
                stored[utterance] = to_storage(item, self.recipe) if isinstance(item, Item) else finite_row(item)
            except InputFailure as failure:
                failed[utterance] = failure
        return stored

    def _write(
        self, record: Record, stored: Mapping[str, Any], items: Mapping[str, Any], keys: Mapping[str, str]
    ) -> Record:
        """Write a shard and read it back.

        Args:
            record: of the attempt, with nothing in it yet.
            stored: {utterance id: item or row as it is stored}; at least one.
            items: {utterance id: item or row as the encoder gave it}.
            keys: {utterance id: item key}.

        Returns:
            the record with all that tells of the shard.

        Raises:
            EmocacheError: the store does not take it, or gives back other bytes than were written.
            _UnfitError: values of some items cannot be stored.
        """
        table = self.recipe["kind"] == "table"
        suffix = shard_table.SUFFIX if table else BACKENDS[self.backend].SUFFIX
        for left in reversed(range(_TRIES)):
            name = f"shards/{secrets.token_hex(12)}{suffix}"
            try:
                put = self._put_table if table else partial(self._put_frames, items=items)
                return put(name, record, stored, keys)
            except _UnfitError:
                raise
            except Exception as error:
                # A gc may have taken the shard, or the temporary file that was to become it, for garbage.
                if left and (isinstance(error, FileNotFoundError) or self._taken(replace(record, shard=name))):
                    continue
                if not isinstance(error, OSError):
                    raise
                raise EmocacheError(f"stream {self.name}: no shard can be written to {self.objects.url} ({error});"
                                    " what was committed is safe: mend the cause, such as a full disk, and run the same"
                                    " command again") from error  # fmt: skip
        raise AssertionError("unreachable")

    def _taken(self, record: Record) -> bool:
        """Tell whether a gc has taken the record's shard, or may be about to."""
        try:
            return is_taken(self.objects, record.shard, record.sizes)
        except OSError as error:
            raise EmocacheError(f"stream {self.name}: {record.shard} cannot be looked at after it was written"
                                f" ({error}); mend the cause and run the same command again") from error  # fmt: skip

    def _put_frames(
        self, name: str, record: Record, stored: Mapping[str, Item], keys: Mapping[str, str], items: Mapping[str, Item]
    ) -> Record:
        backend = BACKENDS[self.backend]
        values = list(stored.values())
        offsets = np.cumsum([0, *(len(item.frames) for item in values)], dtype="<i8")
        arrays = {"frames": [item.frames for item in values], "offsets": [offsets]}
        if values[0].times is not None:
            arrays["times"] = [item.times for item in values if item.times is not None]
        for aux in sorted(self.recipe["aux"]):
            arrays[f"aux/{aux}"] = [item.aux[aux] for item in values]
        files, located = backend.build(name, list(stored), arrays)
        checksums: list[int] = []

        def meanwhile(shard: str) -> None:
            unfit = {}
            for utterance, item in stored.items():
                try:
                    check_values(item, items[utterance])
                    checksums.append(checksum(item))
                except InputFailure as failure:
                    unfit[utterance] = failure
            if unfit:
                raise _UnfitError(unfit)
            check_frames(self.objects, backend, shard, values, list(files))

        put = self.objects.put_shard(name, files, meanwhile)
        entries = tuple(
            ItemEntry(i, keys[i], int(row), len(item.frames), crc32c)
            for (i, item), row, crc32c in zip(stored.items(), offsets, checksums, strict=False)
        )
        # Offsets are for whoever has the shard alone; readers go by the rows that the record tells.
        located.pop("offsets")
        return record.with_shard(name, put, located, entries)

    def _put_table(
        self, name: str, record: Record, rows: Mapping[str, Mapping[str, Any]], keys: Mapping[str, str]
    ) -> Record:
        files = shard_table.build(list(rows), list(rows.values()))
        stored = self.objects.put_shard(name, files, partial(check_table, self.objects, rows=rows))
        entries = tuple(
            ItemEntry(i, keys[i], row, 1, shard_table.checksum(values)) for row, (i, values) in enumerate(rows.items())
        )
        return record.with_shard(name, stored, {}, entries)

    def _create(self, record: Record, failures: tuple[FailureEntry, ...]) -> tuple[Record, Committed]:
        """Create the record under the unit's next free attempt, with what no other record of the unit has told yet.

        One that supersedes another is created even if it has nothing to tell.
        """
        items = record.items
        while True:
            existing, attempt = self._attempts(record.unit)
            existing = [r for r in standing(existing) if r.name not in record.supersedes]
            done = {entry.key for r in existing for entry in r.items}
            known = done | {entry.key for r in existing for entry in r.failures if entry in failures}
            items = tuple(entry for entry in items if entry.key not in done)
            failures = tuple(entry for entry in failures if entry.key not in known)
            if not items:
                record = replace(record, shard=None, objects={}, arrays={})
            record = replace(record, attempt=attempt, items=items, failures=failures)
            if not items and not failures and not record.supersedes:
                return record, Committed((), (), 0)
            if create_once(self.objects, f"commits/{record.name}", record.to_bytes()):
                size = sum(record.sizes.values())
                return record, Committed(tuple(e.id for e in items), tuple(e.id for e in failures), size)

    def _attempts(self, unit: str) -> tuple[list[Record], int]:
        """The intact records of a unit, in the order of their attempts, and the number of the next one.

        Both come from one listing: a record that is created meanwhile takes that number, and is not overlooked.
        """
        parsed = [parse_name(name) for name in self.objects.names("commits", f"{unit}.")]
        attempts = sorted(p[1] for p in parsed if p)
        records = []
        for attempt in attempts:
            name = f"{unit}.{attempt}.json"
            with contextlib.suppress(DamagedError, FileNotFoundError):
                records.append(Record.from_bytes(self.objects.get(f"commits/{name}"), name))
        # Nor does it take the name of a record that was deleted while the index still covers it, or after a compaction.
        gone = {*self._covered, *compacted(self.objects, self._compactions)}
        covered = [parsed[1] for parsed in map(parse_name, gone) if parsed and parsed[0] == unit]
        return records, max([*attempts, *covered], default=-1) + 1

    @cached_property
    def _covered(self) -> tuple[str, ...]:
        return index.covered(self.objects)
