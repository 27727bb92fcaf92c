"""Checking a cache: is everything the records promise there, and (in full) is every byte as it was written?"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from . import plan
from .commit import Record, parse_name
from .errors import EmocacheError
from .objects import Objects
from .sealed import unseal
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
        document = unseal(objects.get("recipe.json"), "recipe.json")
    except FileNotFoundError:
        yield Problem(folder, "-", "recipe.json", "missing: the stream cannot be read")
        return
    except EmocacheError as error:
        yield Problem(folder, "-", "recipe.json", str(error))
        return
    for name in objects.names("fitted"):
        if hashlib.sha256(objects.get(f"fitted/{name}")).hexdigest() != name.split(".")[0]:
            yield Problem(folder, "-", f"fitted/{name}", "damaged: checksum differs; every utterance depends on it")
    for name in objects.names("plans"):
        try:
            plan.from_bytes(objects.get(f"plans/{name}"), name)
        except EmocacheError as error:
            yield Problem(folder, "-", f"plans/{name}", str(error))
    listed = {found.path: found.size for found in objects.list("shards")}
    for name in objects.names("commits"):
        if parse_name(name) is None:
            continue
        try:
            record = Record.from_bytes(objects.get(f"commits/{name}"), name)
        except EmocacheError as error:
            yield Problem(folder, "-", f"commits/{name}", str(error))
            continue
        yield from _record(objects, folder, record, listed, full, document["recipe"]["kind"])


def _record(
    objects: Objects, folder: str, record: Record, listed: dict[str, int], full: bool, kind: str
) -> Iterator[Problem]:
    for path, (size, sha256) in sorted(record.objects.items()):
        if path not in listed:
            yield from (Problem(folder, e.id, path, "incomplete: the object is missing") for e in record.items)
        elif listed[path] != size:
            reason = f"damaged: {listed[path]} bytes, the record says {size}"
            yield from (Problem(folder, e.id, path, reason) for e in record.items)
        elif full and hashlib.sha256(objects.get(path)).hexdigest() != sha256:
            yield from _damage(objects, folder, record, path, kind)


def _damage(objects: Objects, folder: str, record: Record, path: str, kind: str) -> Iterator[Problem]:
    """Which utterances a damaged object takes with it: those whose own bytes changed, else all that depend on it."""
    hit = []
    if kind == "frames":
        hit = [e.id for e in record.items if stored_crc32c(objects, record.arrays, e.row, e.length) != e.crc32c]
    for utterance in hit:
        yield Problem(folder, utterance, path, "damaged: checksum of the utterance differs")
    if not hit:
        for entry in record.items:
            yield Problem(folder, entry.id, path, "damaged: checksum of the object differs, which it needs")
