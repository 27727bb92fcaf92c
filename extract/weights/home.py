"""The folder of this machine that weights are kept in, and the memory of what was seen first."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...cache import EmocacheError

VARIABLE = "EMOCACHE_CHECKPOINTS"
ELSEWHERE = f"set {VARIABLE} (HF_HOME for the hub's own files) to a folder on another disk"


def home() -> Path:
    """Return `$EMOCACHE_CHECKPOINTS`, or emocache's folder among the user's caches; it need not be there yet."""
    given = os.environ.get(VARIABLE)
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or Path(caches) / "emocache" / "checkpoints").expanduser().absolute()


def make_folder(folder: Path) -> Path:
    """Make a folder below the home.

    Args:
        folder: to be made, with all above it.

    Returns:
        The folder.

    Raises:
        EmocacheError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmocacheError(
            f"{folder}: weights cannot be kept there ({error.strerror}); set {VARIABLE} to a folder that can be written"
        ) from error
    return folder


def check_room(folder: Path, needed: int, what: str, elsewhere: str = ELSEWHERE) -> None:
    """Refuse what cannot fit a disk.

    Args:
        folder: to be written to; it need not be there yet.
        needed: bytes.
        what: is to be written, for the message.
        elsewhere: says how another disk is chosen, for the message.

    Raises:
        EmocacheError: there is less room.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise EmocacheError(
            f"{what} takes {needed / 1e9:.2f} GB, and {there} has {free / 1e9:.2f} GB free; free some, or {elsewhere}"
        )


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Let one process at a time make a file: workers that start together would write into one download."""
    from filelock import FileLock

    make_folder(file.parent)
    with FileLock(file.with_name(f".{file.name}.lock")):
        yield


def recall(file: Path) -> dict[str, Any] | None:
    """Read a small record; None where there is none, or none that can be read: it is then made anew."""
    with suppress(OSError, ValueError):
        found = json.loads(file.read_bytes())
        return found if isinstance(found, dict) else None
    return None


def remember(file: Path, record: dict[str, Any]) -> None:
    """Write a small record, all at once."""
    make_folder(file.parent)
    fresh = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    fresh.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(file)
