"""The sha256 of files: weights and tables, which can hold gigabytes and are hashed once in a process."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path


def file_sha256(file: Path) -> str:
    """Hash a file's bytes: sha256, hex."""
    return files_sha256([file])


def files_sha256(files: Sequence[Path]) -> str:
    """Hash the bytes of files one after the other: sha256, hex; remembered as long as they do not change."""
    stats = [(str(file.resolve()), file.stat()) for file in files]
    return _hash_files(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@lru_cache(maxsize=64)
def _hash_files(files: tuple[tuple[str, int, int], ...]) -> str:
    # Size and time are there for the cache's key: a file that was replaced is hashed again.
    digest = hashlib.sha256()
    for path, _size, _mtime in files:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
