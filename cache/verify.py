"""Checking a cache: is everything the records promise there, and (in full) is every byte as it was written?

In full, three tellings are compared with each other: the recipe, the records, and what the shards hold. So a record
that was sealed over wrong rows is found as well as a bit that has flipped.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from . import contents, index, media_hashes, plan
from .commit import Record, contradiction, parse_name, standing
from .errors import EmocacheError
from .manifest import Manifest
from .objects import Objects
from .recipe import Recipe
from .recipe_document import check_document
from .sealed import unseal
from .store import Cache
from .stream_keys import StreamKeys


class Problem(NamedTuple):
    """One thing that is wrong. `str` gives "stream utterance object reason", '-' where a column does not apply."""

    stream: str
    utterance: str
    object: str
    reason: str

    def __str__(self) -> str:
        return " ".join(self)


def records(cache: Cache, corpus: str | None = None) -> int:
    """Count the records that `verify` goes through, with those that newer ones supersede."""
    names = [corpus] if corpus else _corpora(cache)
    folders = [f"{name}/{folder}" for name in names for folder in cache.objects.names(name) if "@" in folder]
    return sum(len(list(filter(parse_name, cache.objects.names(f"{folder}/commits")))) for folder in folders)


def verify(
    cache: Cache, corpus: str | None = None, *, full: bool = False, step: Callable[[], object] = lambda: None
) -> Iterator[Problem]:
    """Problems of one corpus, or of all.

    Args:
        cache: the cache.
        corpus: its name; None for all.
        full: recompute every checksum instead of comparing sizes, and look into every shard.
        step: called after each record.
    """
    for name in [corpus] if corpus else _corpora(cache):
        objects = cache.objects.below(name)
        manifest = None
        try:
            manifest = cache.manifest(name)
        except EmocacheError as error:
            yield Problem(f"{name}/-", "-", "manifest.json", str(error))
        yield from _old_manifests(objects, name)
        for folder in objects.names(""):
            if "@" in folder:
                yield from _stream(cache, f"{name}/{folder}", manifest, full, step)
    for name in [corpus] if corpus else cache.objects.names(""):
        if full and (wrong := media_hashes.fault(cache.objects.local(f"{name}/{media_hashes.FILE}"))):
            remedy = "; the next extraction hashes those media again"
            yield Problem(f"{name}/-", "-", media_hashes.FILE, wrong + remedy)


def _corpora(cache: Cache) -> list[str]:
    return [name for name in cache.objects.names("") if cache.objects.names(name)]


def _old_manifests(objects: Objects, corpus: str) -> Iterator[Problem]:
    for name in objects.names("manifests"):
        if hashlib.sha256(objects.get(f"manifests/{name}")).hexdigest()[:12] != name.split(".")[0]:
            yield Problem(f"{corpus}/-", "-", f"manifests/{name}", "damaged: checksum differs")


@dataclass(frozen=True)
class _Checked:
    """A stream that is being checked.

    Attributes:
        objects: its folder. folder: that, below the cache root. recipe: what it says.
        listed: {path: size} of what lies under shards. known: {item key: id} of the manifest.
    """

    objects: Objects
    folder: str
    recipe: Recipe
    listed: Mapping[str, int]
    known: Mapping[str, str]


def _stream(
    cache: Cache, folder: str, manifest: Manifest | None, full: bool, step: Callable[[], object]
) -> Iterator[Problem]:
    objects = cache.objects.below(folder)
    try:
        document = unseal(objects.get("recipe.json"), "recipe.json")
        check_document(document, "recipe.json")
    except FileNotFoundError:
        if objects.names("commits"):  # without any, the stream is about to be created, or removed
            yield Problem(folder, "-", "recipe.json", "missing: the stream cannot be read; extract again")
        return
    except EmocacheError as error:
        yield Problem(folder, "-", "recipe.json", str(error))
        return
    recipe, fingerprint = document["recipe"], document["fingerprint"]
    if folder.rpartition("@")[2] != fingerprint[:12]:
        yield Problem(
            folder, "-", "recipe.json", f"is that of a stream @{fingerprint[:12]}; give the folder its name back"
        )
    yield from _beside(objects, folder, recipe)
    # Keys are compared with today's manifest, which takes hashing; the quick check leaves that out.
    keys = manifest.item_keys(fingerprint, recipe["inputs"]) if manifest and full else {}
    listed = {found.path: found.size for found in objects.list("shards")}
    checked = _Checked(objects, folder, recipe, listed, {key: utterance for utterance, key in keys.items()})
    found = []  # without their items, which are read once more where they are needed
    for name in filter(parse_name, objects.names("commits")):
        try:
            record = Record.from_bytes(objects.get(f"commits/{name}"), name).bare()
        except EmocacheError as error:
            yield Problem(folder, "-", f"commits/{name}", str(error))
            continue
        if record.name == name:
            found.append(record)
        else:
            yield Problem(folder, "-", f"commits/{name}", f"is the record {record.name}; give it its name back")
        if not full:
            step()
    for record in standing(found):  # of one that is superseded gc may have taken the shard
        if full or any(listed.get(path) != size for path, size in record.sizes.items()):
            whole = Record.from_bytes(objects.get(f"commits/{record.name}"), record.name)
            yield from _objects(checked, whole)
            if full:
                yield from _contents(checked, whole)
        if full:
            step()
    if full and manifest and (wrong := index.fault(objects, StreamKeys(manifest, fingerprint, recipe["inputs"]))):
        yield Problem(folder, "-", index.FILE, f"{wrong}; delete it, the next extraction makes it again")


def _beside(objects: Objects, folder: str, recipe: Recipe) -> Iterator[Problem]:
    """Check what lies beside shards and records: fitted matrices and plans."""
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


def _remedy(record: Record) -> str:
    return f"; restore it, or delete commits/{record.name} and extract again"


def _objects(checked: _Checked, record: Record) -> Iterator[Problem]:
    """Objects of a record that are not there, or of another size."""
    for path, (size, _) in sorted(record.objects.items()):
        found = checked.listed.get(path)
        if found != size:
            reason = "incomplete: the object is missing"
            if found is not None:
                reason = f"damaged: {found} bytes, the record says {size}"
            yield from (Problem(checked.folder, e.id, path, reason + _remedy(record)) for e in record.items)


def _contents(checked: _Checked, record: Record) -> Iterator[Problem]:
    """Check what the shard holds against the record and the recipe."""
    if not record.items:
        return
    problem = {"stream": checked.folder, "object": f"commits/{record.name}"}
    if wrong := contradiction(record.arrays, checked.recipe):
        yield Problem(utterance="-", reason=wrong + _remedy(record), **problem)
        return
    for entry in record.items:
        if checked.known.get(entry.key, entry.id) != entry.id:
            reason = f"wrong: its item key is that of {checked.known[entry.key]!r}"
            yield Problem(utterance=entry.id, reason=reason + _remedy(record), **problem)
    there = {p: size for p, (size, _) in record.objects.items() if checked.listed.get(p) == size}
    data = {path: checked.objects.get(path) for path in there}
    changed = {path for path in there if hashlib.sha256(data[path]).hexdigest() != record.objects[path][1]}
    for damage in contents.damages(record, data, changed):
        yield Problem(checked.folder, damage.utterance, damage.object, damage.reason + _remedy(record))
