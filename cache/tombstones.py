"""Removing shards while others write, without trusting anybody's clock.

A gc that means to take a shard says so first: it creates a tombstone, `gc/<shard>.<token>`, reads the records again,
deletes the shard only if none refers to it, and its tombstone last. A writer that has created a record looks for
tombstones of its shard, and then for the shard. The order is what makes it safe:

- the tombstone is there when the writer looks: the gc may have read the records too early, so the writer gives way;
- it is not there yet: the gc has still to read the records, finds this one, and leaves the shard alone;
- it is gone already: so is the shard, or the gc has found the record.

Looking for the shard first would leave a gap: a gc may delete shard and tombstone between the two looks.
"""

import secrets
from collections.abc import Mapping

from .objects import Objects, create_once

FOLDER = "gc"
_CONTENT = b"gc is about to remove the shard of this name\n"


def raise_tombstone(objects: Objects, shard: str) -> str:
    """Say that a shard is about to be removed; returns the tombstone's path below the stream's folder."""
    path = f"{FOLDER}/{_name(shard)}.{secrets.token_hex(8)}"
    create_once(objects, path, _CONTENT)
    return path


def is_taken(objects: Objects, shard: str | None, sizes: Mapping[str, int]) -> bool:
    """Tell whether a gc has taken a shard, or may be about to; to be asked after the record has been created.

    Args:
        objects: the stream's folder.
        shard: path of the shard; None: there is nothing to take.
        sizes: {path of each of its objects: bytes}.

    Returns:
        True if a tombstone names the shard, or one of its objects is gone or of another size.
    """
    if shard is None:
        return False
    if objects.names(FOLDER, f"{_name(shard)}."):
        return True
    return any(_size(objects, path) != size for path, size in sizes.items())


def _size(objects: Objects, path: str) -> int | None:
    try:
        return objects.size(path)
    except FileNotFoundError:
        return None


def _name(shard: str) -> str:
    return shard.rpartition("/")[2]
