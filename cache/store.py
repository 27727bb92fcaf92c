"""The cache itself: corpora, their manifests and their streams."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .alternatives import settings_of
from .errors import EmocacheError
from .hints import did_you_mean
from .local_copy import LocalCopy
from .manifest import Manifest
from .objects import Objects
from .opening import open_objects
from .recipe import Recipe, check_corpus_name, check_stream_name, fingerprint
from .recipe_document import check_document, create_recipe, existing_recipe
from .sealed import DamagedError, seal, unseal
from .stream import Stream
from .writer import BACKENDS, StreamWriter

_POINTER = "manifest.json"


@dataclass(frozen=True)
class StreamInfo:
    """A stream as its folder tells, without opening its items."""

    corpus: str
    name: str
    fingerprint: str
    recipe: Recipe
    backend: str
    created: str

    @property
    def folder(self) -> str:
        """Path below the cache root."""
        return f"{self.corpus}/{self.name}@{self.fingerprint[:12]}"


class Cache:
    """A cache root: a folder or an `s3://bucket/prefix` URL.

    Args:
        root: a folder, or a URL such as `s3://bucket/prefix`.
        single_writer: see `opening.open_objects`.
        local_copy: a folder here into which shards of a remote cache are copied when they are first read, or a
            `LocalCopy`, which has a limit. EmocacheError where it cannot be written, or the cache is local.

    Example:
        >>> from emocache.cache import Cache
        >>> Cache("/nowhere/store").corpora()
        []
    """

    def __init__(
        self, root: str | Path, single_writer: bool = False, local_copy: LocalCopy | str | Path | None = None
    ) -> None:
        self.objects: Objects = open_objects(root, single_writer)
        if local_copy is not None and self.objects.local("") is not None:
            raise EmocacheError(f"cache {self.objects.url} is a folder, which needs no local copy; leave it away")
        self.local_copy = LocalCopy(local_copy) if isinstance(local_copy, str | Path) else local_copy
        if self.local_copy is not None:
            _ = self.local_copy.copies  # a folder that cannot be written is told at once

    def corpora(self) -> list[str]:
        """Names of the corpora that have a manifest."""
        return [name for name in self.objects.names("") if _POINTER in self.objects.names(name)]

    def put_manifest(self, manifest: Manifest) -> None:
        """Make this the corpus's current manifest. Older ones stay; the same content again changes nothing."""
        try:
            if self.manifest(manifest.corpus) == manifest:
                return
        except EmocacheError:
            pass  # none yet, or a damaged one: this one takes its place
        data = manifest.to_bytes()
        digest = Manifest.from_bytes(manifest.corpus, data).sha256
        path = f"manifests/{digest[:12]}.parquet"
        corpus = self.objects.below(manifest.corpus)
        corpus.replace(path, data)
        pointer = {"manifest": path, "manifest_sha256": digest, "utterances": len(manifest)}
        corpus.replace(_POINTER, seal(pointer, pretty=True))

    def add_to_manifest(self, manifest: Manifest) -> None:
        """Add its utterances to those of the corpus's current manifest; other processes may do the same meanwhile."""
        rows = {u.id: u for u in self.manifest(manifest.corpus)} if manifest.corpus in self.corpora() else {}
        self.put_manifest(Manifest.from_utterances(manifest.corpus, [*(rows | {u.id: u for u in manifest}).values()]))

    def manifest(self, corpus: str) -> Manifest:
        """Read the corpus's current manifest.

        Args:
            corpus: its name.

        Returns:
            the manifest, its checksum verified.

        Raises:
            EmocacheError: there is no such corpus (the message lists those there are), or the manifest is damaged.
        """
        objects = self.objects.below(check_corpus_name(corpus))
        try:
            pointer = unseal(objects.get(_POINTER), f"{objects.url}/{_POINTER}")
        except FileNotFoundError:
            known = self.corpora()
            told = f"has no corpus {corpus!r}; {did_you_mean(corpus, known)}it has: {', '.join(known)}"
            raise EmocacheError(f"cache {self.objects.url} {told if known else self.why_empty()}") from None
        if not re.fullmatch(r"[0-9a-f]{64}", str(pointer.get("manifest_sha256"))):
            raise DamagedError(f"{objects.url}/{_POINTER}: names no manifest; run `emocache extract {corpus}` again")
        path = f"manifests/{pointer['manifest_sha256'][:12]}.parquet"
        what = f"{objects.url}/{path}"
        try:
            manifest = Manifest.from_bytes(corpus, objects.get(path))
        except FileNotFoundError:
            raise EmocacheError(f"{what} is gone; run `emocache extract {corpus}` again") from None
        except Exception as error:
            raise EmocacheError(f"{what}: damaged ({error}); run `emocache extract {corpus}` again") from error
        if manifest.sha256 != pointer["manifest_sha256"]:
            raise EmocacheError(f"{what}: damaged, its checksum does not match; run `emocache extract {corpus}` again")
        return manifest

    def why_empty(self) -> str:
        """Tell why there is no corpus in the cache, and the remedy; follows the name of the cache."""
        url, names = self.objects.url, set(self.objects.names(""))
        remedy = "give the folder that `emocache extract --cache` wrote to"
        for name, above in ((_POINTER, 1), ("recipe.json", 2)):
            if name in names:
                return f"lies inside a cache; give the folder above, {url.rsplit('/', above)[0]}"
        if "://" not in url and not Path(url).exists():
            return f"does not exist; {remedy}"
        runs = "://" not in url and any(any(Path(url).glob(f"{'*/' * depth}run.json")) for depth in (4, 5))
        return f"holds {'runs' if runs else 'no corpus'}, and is no cache; {remedy}"

    def streams(self, corpus: str, name: str | None = None) -> list[StreamInfo]:
        """The streams of a corpus, or those of one name, by name and date."""
        objects = self.objects.below(check_corpus_name(corpus))
        folders = [folder for folder in objects.names("") if "@" in folder]
        found = [self._info(corpus, folder) for folder in folders if name in (None, folder.partition("@")[0])]
        return sorted((info for info in found if info), key=lambda info: (info.name, info.created))

    def stream(self, corpus: str, name: str) -> Stream:
        """Open a stream: `name`, or `name@<prefix of the fingerprint>` where several share the name.

        Args:
            corpus: its name.
            name: of the stream, with a prefix of its fingerprint or without.

        Returns:
            the stream, which serves what is committed by now.

        Raises:
            EmocacheError: none or several match; the message lists what there is and how their recipes differ.
        """
        bare, _, prefix = name.partition("@")
        manifest = self.manifest(corpus)
        found = [info for info in self.streams(corpus, bare) if info.fingerprint.startswith(prefix)]
        alike = self.streams(corpus, bare) if prefix and not found else []
        if alike:
            raise EmocacheError(f"corpus {corpus!r} has no stream {name!r}; of {bare} it has: {settings_of(alike)}")
        if not found:
            known = [folder for folder in self.objects.names(corpus) if "@" in folder]
            hint = did_you_mean(bare, {folder.partition("@")[0] for folder in known})
            raise EmocacheError(f"corpus {corpus!r} has no stream {name!r}; {hint}it has: {', '.join(known) or 'none'}")
        if len(found) > 1:
            raise EmocacheError(_ambiguous(corpus, name, found))
        return self._open(found[0], manifest)

    def create_stream(
        self,
        corpus: str,
        name: str,
        recipe: Recipe,
        *,
        backend: str = "zarr",
        environment: Mapping[str, Any] | None = None,
        fitted: Mapping[str, bytes] | None = None,
    ) -> StreamWriter:
        """Open the stream with this recipe for writing, which is created if it is not there.

        Args:
            corpus: a corpus whose manifest is stored.
            name: stream name, see `recipe.stream_name`.
            recipe: see `recipe.Recipe`.
            backend: "zarr" or "hdf5"; a stream that exists keeps the one it was created with.
            environment: library versions and device, recorded beside the recipe.
            fitted: {file name: bytes} of fitted matrices, whose sha256 the recipe holds.

        Returns:
            the writer; a stream that exists already goes on where it was.

        Raises:
            EmocacheError: an unknown backend or corpus, a bad name, or an unusable store.
        """
        if backend not in BACKENDS:
            raise EmocacheError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
        manifest = self.manifest(corpus)
        digest = fingerprint(recipe)
        objects = self.objects.below(f"{corpus}/{check_stream_name(name)}@{digest[:12]}")
        document = {
            "fingerprint": digest,
            "recipe": recipe,
            "backend": backend,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": dict(environment or {}),
        }
        try:
            for file, data in (fitted or {}).items():
                if not _holds(objects, f"fitted/{file}", data):
                    objects.replace(f"fitted/{file}", data)
            existing = create_recipe(objects, document)
        except OSError as error:
            raise EmocacheError(f"cache {self.objects.url} cannot be written: {error}") from error
        if existing["fingerprint"] != digest:
            raise EmocacheError(f"{objects.url} holds another recipe under the same 12 digits; rename the encoder")
        return StreamWriter(objects, name, recipe, existing["backend"], manifest)

    def open_info(self, info: StreamInfo, manifest: Manifest | None = None) -> Stream:
        """The stream that `streams` told of, for the utterances of a manifest; None: of the corpus's current one."""
        return self._open(info, manifest or self.manifest(info.corpus))

    def _open(self, info: StreamInfo, manifest: Manifest) -> Stream:
        objects = self.objects.below(info.folder)
        return Stream(objects, info.corpus, info.name, existing_recipe(objects), manifest, self.local_copy)

    def _info(self, corpus: str, folder: str) -> StreamInfo | None:
        path = f"{corpus}/{folder}/recipe.json"
        try:
            document = unseal(self.objects.get(path), f"{self.objects.url}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None  # being created, or being removed
        check_document(document, f"{self.objects.url}/{path}")
        name = folder.partition("@")[0]
        keys = ("fingerprint", "recipe", "backend", "created")
        return StreamInfo(corpus, name, *(document[key] for key in keys))


def _holds(objects: Objects, path: str, data: bytes) -> bool:
    try:
        return objects.get(path) == data
    except FileNotFoundError:
        return False


def _ambiguous(corpus: str, name: str, found: list[StreamInfo]) -> str:
    return f"corpus {corpus!r} has {len(found)} streams {name!r}; say which: {settings_of(found)}"
