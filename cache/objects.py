"""The place where the bytes are: a folder or an object store, with the few operations a crash-safe cache needs.

Both kinds promise the same: a payload or document is visible whole or not at all, and `create` has one winner. The
local kind adds durability: what a call has returned for survives a power cut.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from .errors import EmocacheError

Buffer = bytes | bytearray | memoryview
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of storing one object: size in bytes and sha256 (hex) of its bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One object found by `Objects.list`."""

    path: str
    size: int
    modified: datetime


class Objects(Protocol):
    """The operations every kind of store offers. Paths are relative, with '/'."""

    url: str

    def below(self, folder: str) -> "Objects":
        """The same store, seen from a folder."""

    def get(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """`length` bytes from byte `start`. Raises FileNotFoundError."""

    def size(self, path: str) -> int:
        """Bytes of an object. Raises FileNotFoundError."""

    def names(self, folder: str, prefix: str = "") -> list[str]:
        """Sorted names directly below a folder, those that begin with the prefix; an absent folder has none."""

    def list(self, folder: str) -> Iterator[Listed]:
        """Every object below a folder, at any depth."""

    def put_shard(
        self, name: str, files: Mapping[str, Iterable[Buffer]], meanwhile: Callable[[str], None] | None = None
    ) -> dict[str, Stored]:
        """Write a shard that nobody refers to yet.

        Args:
            name: of the shard.
            files: {path below `name`, "" for `name` itself: parts}.
            meanwhile: called with a name under which the shard can be read while it is hashed and made durable; what it
                raises is raised, and the shard does not get its name.

        Returns:
            {path of each object: what was stored}.
        """

    def create(self, path: str, data: bytes) -> bool:
        """Write a document if the path is free; False if it was taken. Exactly one of several callers wins."""

    def replace(self, path: str, data: bytes) -> None:
        """Write a document over whatever is there, atomically."""

    def delete(self, path: str) -> None:
        """Remove an object, or a folder with all it holds; absent is fine."""

    def local(self, path: str) -> Path | None:
        """The file behind an object, where there is one that can be memory-mapped."""


def create_once(objects: Objects, path: str, data: bytes) -> bool:
    """Create a document and be sure of the outcome.

    A store may lose the answer of a create that succeeded, or refuse one that met no other, so after anything but a
    clear success the document is read back: if it is mine I won, if it is another's I lost, if none I try again.

    Args:
        objects: the folder or store.
        path: of the document.
        data: its bytes.

    Returns:
        True if the document lies there, False if the name holds another one.

    Raises:
        EmocacheError: the store refuses the document for good, or ignores the condition of a put.
    """
    trouble: object = "it says the name is taken, and has nothing under it"
    for _ in range(_TRIES):
        try:
            if objects.create(path, data):
                return True
        except EmocacheError:
            raise
        except Exception as error:
            trouble = error
        try:
            return objects.get(path) == data
        except FileNotFoundError:
            continue
        except OSError as error:
            trouble = error
    raise EmocacheError(
        f"{objects.url} does not take {path} ({trouble}); what was committed is safe: mend the cause, such as a full"
        " disk, and run the same command again"
    )
