"""Objects in an object store, through obstore."""

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError

from .errors import EmocacheError
from .objects import Buffer, Listed, Stored

if TYPE_CHECKING:
    from obstore.store import ObjectStore


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

    Whatever goes wrong in the store is raised as an OSError that names the object; a store that ignores the condition
    of a put as an EmocacheError, before anything is created by one.

    Args:
        url: for people.
        store: obstore's.
        prefix: of all names.
        creating: see `Creating`.
    """

    def __init__(self, url: str, store: "ObjectStore", prefix: str = "", creating: Creating | None = None) -> None:
        self.url = url
        self.store = store
        self.prefix = prefix
        self.creating = creating or Creating()

    def below(self, folder: str) -> "RemoteObjects":
        """The same store, seen from a folder."""
        return type(self)(f"{self.url.rstrip('/')}/{folder}", self.store, self._path(folder), self.creating)

    def get(self, path: str) -> bytes:
        """The whole object."""
        with self._named(path):
            return bytes(obstore.get(self.store, self._path(path)).bytes())

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Part of the object."""
        with self._named(path):
            return bytes(obstore.get_range(self.store, self._path(path), start=start, length=length))

    def size(self, path: str) -> int:
        """Bytes of the object."""
        with self._named(path):
            return int(obstore.head(self.store, self._path(path))["size"])

    def names(self, folder: str, prefix: str = "") -> list[str]:
        """Names of objects and of folders."""
        if prefix:
            return sorted(set(self._beginning(folder, prefix)))
        with self._named(folder):
            found = obstore.list_with_delimiter(self.store, prefix=self._path(folder) or None)
        paths = [str(o["path"]) for o in found["objects"]] + [str(p) for p in found["common_prefixes"]]
        return sorted(path.rsplit("/", 1)[-1] for path in paths)

    def _beginning(self, folder: str, prefix: str) -> Iterator[str]:
        """Names that begin with a prefix, which the store cannot look for: it lists in order, from just before them."""
        top = self._path(folder)
        start = len(top) + 1 if top else 0
        with self._named(folder):
            before = f"{top}/{prefix[:-1]}".strip("/")
            for batch in obstore.list(self.store, prefix=top or None, offset=before or None):
                for found in batch:
                    name = str(found["path"])[start:]
                    if name.startswith(prefix):
                        yield name.partition("/")[0]
                    elif name > prefix:
                        return

    def list(self, folder: str) -> Iterator[Listed]:
        """Every object below the folder."""
        with self._named(folder):
            for batch in obstore.list(self.store, prefix=self._path(folder) or None):
                for found in batch:
                    path = str(found["path"])[len(self.prefix) :].lstrip("/")
                    yield Listed(path, int(found["size"]), found["last_modified"])

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
            with contextlib.suppress(OSError):  # what cannot be removed falls to gc
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
            with self._named(path):
                obstore.put(self.store, self._path(path), data, mode="create")
        except FileExistsError:
            return False
        return True

    def _prove(self) -> None:
        """Put an object twice on condition that there is none; a store that takes both would lose commits."""
        path = f".condition.{secrets.token_hex(6)}.tmp"  # what a kill leaves falls to gc
        try:
            if self._put_new(path, b"1") and self._put_new(path, b"2"):
                raise EmocacheError(
                    f"{self.url}: this store ignores the condition of a put (If-None-Match: *), so that writers would"
                    " overwrite each other's commits; use one that heeds it, as S3, Google, Azure and MinIO do, or, if"
                    " nobody else writes meanwhile, --single-writer"
                )
        finally:
            with contextlib.suppress(OSError), self._named(path):
                obstore.delete(self.store, self._path(path))
        self.creating.proved = True

    def replace(self, path: str, data: bytes) -> None:
        """A plain put."""
        with self._named(path):
            obstore.put(self.store, self._path(path), data)

    def delete(self, path: str) -> None:
        """Remove the object and all that lies below its name."""
        paths = [found.path for found in self.list(path)] + [path]
        for found in paths:
            try:
                with self._named(found):
                    obstore.delete(self.store, self._path(found))
            except FileNotFoundError:
                continue

    def local(self, path: str) -> Path | None:
        """There is no file."""
        return None

    def _path(self, path: str) -> str:
        return f"{self.prefix}/{path}".strip("/")

    @contextmanager
    def _named(self, path: str) -> Iterator[None]:
        try:
            yield
        except NotFoundError as error:
            raise FileNotFoundError(f"{self.url}/{path} does not exist") from error
        except AlreadyExistsError as error:
            raise FileExistsError(f"{self.url}/{path} exists already") from error
        except BaseError as error:
            why = str(error).partition("\n")[0]
            raise OSError(f"{self.url}/{path}: {why}") from error
