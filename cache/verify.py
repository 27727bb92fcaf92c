"""Checking a cache: is everything the records promise there, and (in full) is every byte as it was written?"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from . import plan
from .commit import ItemEntry, Record, parse_name, standing
from .errors import EmocacheError
from .objects import Objects
from .sealed import DamagedError, unseal
from .store import Cache
from .stream import stored_crc32c


class Problem(NamedTuple):
    """One thing that is wrong. `str` gives "stream utterance object reason", '-' where a column does not apply."""

    stream: str
    utterance: str
    object: str
    reason: str

    def __str__(self) -> str:
        return " ".join(self)


def verify(cache: Cache, corpus: str | None = None, *, full: bool = False) -> Iterator[Problem]:
    """Problems of one corpus, or of all.

    Args:
        cache: the cache.
        corpus: its name; None for all.
        full: recompute every checksum instead of comparing sizes.
    """
    for name in [corpus] if corpus else _corpora(cache):
        objects = cache.objects.below(name)
        try:
            cache.manifest(name)
        except EmocacheError as error:
            yield Problem(f"{name}/-", "-", "manifest.json", str(error))
        yield from _old_manifests(objects, name)
        for folder in objects.names(""):
            if "@" in folder:
                yield from _stream(cache, f"{name}/{folder}", full)


def _corpora(cache: Cache) -> list[str]:
    return [name for name in cache.objects.names("") if cache.objects.names(name)]


def _old_manifests(objects: Objects, corpus: str) -> Iterator[Problem]:
    for name in objects.names("manifests"):
        if hashlib.sha256(objects.get(f"manifests/{name}")).hexdigest()[:12] != name.split(".")[0]:
            yield Problem(f"{corpus}/-", "-", f"manifests/{name}", "damaged: checksum differs")


def _stream(cache: Cache, folder: str, full: bool) -> Iterator[Problem]:
    objects = cache.objects.below(folder)
    try:
        recipe = unseal(objects.get("recipe.json"), "recipe.json")["recipe"]
    except FileNotFoundError:
        if objects.names("commits"):  # without any, the stream is about to be created, or removed
            yield Problem(folder, "-", "recipe.json", "missing: the stream cannot be read; extract again")
        return
    except EmocacheError as error:
        yield Problem(folder, "-", "recipe.json", str(error))
        return
    matrix = f"{(recipe.get('projection') or {}).get('matrix_sha256')}.safetensors"
    if recipe.get("projection") and matrix not in objects.names("fitted"):
        yield Problem(folder, "-", f"fitted/{matrix}", "missing: restore it, or remove the stream and project again")
    for name in objects.names("fitted"):
        if hashlib.sha256(objects.get(f"fitted/{name}")).hexdigest() != name.split(".")[0]:
            yield Problem(folder, "-", f"fitted/{name}", "damaged: checksum differs; every utterance depends on it")
    for name in objects.names("plans"):
        try:
            plan.from_bytes(objects.get(f"plans/{name}"), name)
        except EmocacheError as error:
            yield Problem(folder, "-", f"plans/{name}", str(error))
    listed = {found.path: found.size for found in objects.list("shards")}
    records = []
    for name in filter(parse_name, objects.names("commits")):
        try:
            records.append(Record.from_bytes(objects.get(f"commits/{name}"), name))
        except EmocacheError as error:
            yield Problem(folder, "-", f"commits/{name}", str(error))
    for record in standing(records):  # of a superseded one gc may have taken the shard
        yield from _record(objects, folder, record, listed, full)


def _record(objects: Objects, folder: str, record: Record, listed: dict[str, int], full: bool) -> Iterator[Problem]:
    remedy = f"; restore it, or delete commits/{record.name} and extract again"
    for path, (size, sha256) in sorted(record.objects.items()):
        if path not in listed:
            hit, reason = [e.id for e in record.items], "incomplete: the object is missing"
        elif listed[path] != size:
            hit, reason = [e.id for e in record.items], f"damaged: {listed[path]} bytes, the record says {size}"
        elif full and hashlib.sha256(objects.get(path)).hexdigest() != sha256:
            hit, reason = _damage(objects, record, path)
        else:
            continue
        yield from (Problem(folder, utterance, path, reason + remedy) for utterance in hit)


def _damage(objects: Objects, record: Record, path: str) -> tuple[list[str], str]:
    """Which utterances a damaged object takes with it: those whose own bytes changed, else all that depend on it."""
    if any(located.object == path for located in record.arrays.values()):
        hit = [entry.id for entry in record.items if not _intact(objects, record, entry)]
        if hit:
            return hit, "damaged: checksum of the utterance differs"
    return [entry.id for entry in record.items], "damaged: checksum of the object differs, which it needs"


def _intact(objects: Objects, record: Record, entry: ItemEntry) -> bool:
    try:
        return stored_crc32c(objects, record.arrays, entry.row, entry.length) == entry.crc32c
    except (OSError, DamagedError):  # another object of the shard is gone or cut short
        return False
