"""Objects in an object store, through obstore."""

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError

from .errors import EmocacheError
from .objects import Buffer, Listed, Stored
from .patience import Patience
from .providers import Provider
from .store_errors import translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")
PART = 8 << 20
"""Bytes; a larger object is put in parts of so many, two at once: see the timeouts in `providers`."""
_PARTS_AT_ONCE = 2
_PAGE = 1000  # objects of a listing


@dataclass
class Creating:
    """The way in which a store creates objects once only, shared by all that look into it.

    Attributes:
        single_writer: nobody else writes, so that looking before a put is enough.
        proved: the store was seen to refuse a second conditional put.
    """

    single_writer: bool = False
    proved: bool = False


class RemoteObjects:
    """Objects in S3 or anything else obstore reaches. A put is atomic and durable when it returns.

    A request that fails for a reason that may pass is made again, see `Patience`. Whatever else goes wrong in the store
    is raised as an OSError that names the object; what a person has to mend (credentials, a bucket that is not there,
    a store that ignores the condition of a put) as an EmocacheError.

    Args:
        url: for people.
        store: obstore's.
        prefix: of all names.
        creating: see `Creating`.
        provider: the kind of store; None: memory, or any.
        patience: with the store.
    """

    def __init__(
        self,
        url: str,
        store: "ObjectStore",
        prefix: str = "",
        creating: Creating | None = None,
        provider: Provider | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.url = url
        self.store = store
        self.prefix = prefix
        self.creating = creating or Creating()
        self.provider = provider
        self.patience = patience or Patience()

    def below(self, folder: str) -> "RemoteObjects":
        """The same store, seen from a folder."""
        url = f"{self.url.rstrip('/')}/{folder}"
        return type(self)(url, self.store, self._path(folder), self.creating, self.provider, self.patience)

    def get(self, path: str) -> bytes:
        """The whole object."""
        return self._ask(path, lambda: bytes(obstore.get(self.store, self._path(path)).bytes()))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Part of the object."""
        whole = self._path(path)
        return self._ask(path, lambda: bytes(obstore.get_range(self.store, whole, start=start, length=length)))

    def size(self, path: str) -> int:
        """Bytes of the object."""
        return self._ask(path, lambda: int(obstore.head(self.store, self._path(path))["size"]))

    def names(self, folder: str, prefix: str = "") -> list[str]:
        """Names of objects and of folders."""
        if prefix:
            return sorted(set(self._beginning(folder, prefix)))
        found = self._ask(folder, lambda: obstore.list_with_delimiter(self.store, prefix=self._path(folder) or None))
        paths = [str(o["path"]) for o in found["objects"]] + [str(p) for p in found["common_prefixes"]]
        return sorted(path.rsplit("/", 1)[-1] for path in paths)

    def _beginning(self, folder: str, prefix: str) -> Iterator[str]:
        """Names that begin with a prefix, which the store cannot look for: it lists in order, from just before them."""
        top = self._path(folder)
        start = len(top) + 1 if top else 0
        for found in self._listed(folder, f"{top}/{prefix[:-1]}".strip("/")):
            name = str(found["path"])[start:]
            if name.startswith(prefix):
                yield name.partition("/")[0]
            elif name > prefix:
                return

    def list(self, folder: str) -> Iterator[Listed]:
        """Every object below the folder."""
        for found in self._listed(folder):
            path = str(found["path"])[len(self.prefix) :].lstrip("/")
            yield Listed(path, int(found["size"]), found["last_modified"])

    def _listed(self, folder: str, behind: str = "") -> Iterator[Any]:
        """All that obstore tells of the objects below a folder, in order, from behind a path.

        A listing that breaks off goes on behind the last object it has told.
        """
        pages: Any = None

        def page() -> Any:
            nonlocal pages
            if pages is None:
                top = self._path(folder) or None
                pages = obstore.list(self.store, prefix=top, offset=behind or None, chunk_size=_PAGE)
            try:
                return next(pages, None)
            except BaseException:
                pages = None
                raise

        while (found := self._ask(folder, page)) is not None:
            yield from found
            behind = str(found[-1]["path"]) if found else behind

    def put_shard(
        self, name: str, files: Mapping[str, Iterable[Buffer]], meanwhile: Callable[[str], None] | None = None
    ) -> dict[str, Stored]:
        """One put per object, each under a name nobody refers to yet."""
        stored = {}
        for below, parts in files.items():
            path = f"{name}/{below}" if below else name
            data = b"".join(bytes(memoryview(part).cast("B")) for part in parts)
            self.replace(path, data)
            stored[path] = Stored(len(data), hashlib.sha256(data).hexdigest())
        try:
            if meanwhile is not None:
                meanwhile(name)
        except BaseException:
            with contextlib.suppress(OSError, EmocacheError):  # what cannot be removed falls to gc
                self.delete(name)
            raise
        return stored

    def create(self, path: str, data: bytes) -> bool:
        """A conditional put (If-None-Match on S3); the first one proves that the store heeds the condition."""
        if self.creating.single_writer:
            with contextlib.suppress(FileNotFoundError):
                self.size(path)
                return False
            self.replace(path, data)
            return True
        if not self.creating.proved:
            self._prove()
        return self._put_new(path, data)

    def _put_new(self, path: str, data: bytes) -> bool:
        try:
            self._ask(path, lambda: obstore.put(self.store, self._path(path), data, mode="create"))
        except FileExistsError:
            return False
        return True

    def _prove(self) -> None:
        """Put an object twice on condition that there is none; a store that takes both would lose commits."""
        path = f".condition.{secrets.token_hex(6)}.tmp"  # what a kill leaves falls to gc
        created = self._put_new(path, b"1")
        try:
            if created and self._put_new(path, b"2"):
                raise EmocacheError(
                    f"{self.url}: this store ignores the condition of a put (If-None-Match: *), so that writers would"
                    " overwrite each other's commits; use one that heeds it, as S3, Google, Azure and MinIO do, or, if"
                    " nobody else writes meanwhile, --single-writer"
                )
        finally:
            with contextlib.suppress(OSError, EmocacheError):  # not everybody who may write may delete
                self._ask(path, lambda: obstore.delete(self.store, self._path(path)))
        self.creating.proved = True

    def replace(self, path: str, data: bytes) -> None:
        """A plain put, of a large object in parts: it is there as a whole when the last is."""
        whole = self._path(path)
        self._ask(path, lambda: obstore.put(self.store, whole, data, chunk_size=PART, max_concurrency=_PARTS_AT_ONCE))

    def delete(self, path: str) -> None:
        """Remove the object and all that lies below its name."""
        for found in [found.path for found in self.list(path)] + [path]:
            with contextlib.suppress(FileNotFoundError):
                self._ask(found, partial(obstore.delete, self.store, self._path(found)))

    def local(self, path: str) -> Path | None:
        """There is no file."""
        return None

    def _path(self, path: str) -> str:
        return f"{self.prefix}/{path}".strip("/")

    def _ask(self, path: str, call: Callable[[], T]) -> T:
        """Make a request; errors name the object."""
        try:
            return self.patience.ask(self.url, call)
        except (BaseError, FileNotFoundError) as error:
            raise translated(error, self.url, path, self.provider) from error
