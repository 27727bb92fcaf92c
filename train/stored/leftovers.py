"""The things that killed processes leave below a folder of runs, and whether somebody may still be at work on them."""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

from ..records.run_record import ASKED, FILES, FINAL_FOLDER, RUN_FOLDER, SOURCES, WATCH_FILE

_GRACE = 3600.0  # seconds; a run is written in one go, which takes seconds
_UNFINISHED = re.compile(rf"\.({RUN_FOLDER.pattern}|{FINAL_FOLDER.pattern}|{re.escape(ASKED)}|{SOURCES})\.\w+\.tmp")
_FEATURES = re.compile(r"\.features-(?P<host>.+)-(?P<process>\d+)-[^-]*")
_ARRAYS = re.compile(r".*\.npy")
OF_RUN = re.compile("|".join((*map(re.escape, FILES), r"sources\.json|[0-9a-f]{64}\.safetensors")))
"""The names of the files of a run."""


@dataclass(frozen=True)
class Leftover:
    """A temporary folder or file.

    Attributes:
        held: why it must stay, such as that a process is at work on it; "" if nobody is.
        size: bytes. changed: when something in it was last written.
    """

    path: Path
    held: str
    size: int
    changed: datetime

    def remove(self) -> None:
        """Remove it: it is nothing that anybody reads."""
        if self.path.is_dir():
            rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


def features_prefix() -> str:
    """Return the prefix of folders with features that this machine's processes write; the process's id comes next."""
    return f".features-{socket.gethostname()}-"


def remove_stale_features(runs: Path) -> None:
    """Remove the features of processes that are gone without having done so."""
    for folder in runs.glob(f"{features_prefix()}*"):
        process = folder.name.removeprefix(features_prefix()).partition("-")[0]
        if process.isdigit() and not lives(int(process)):
            rmtree(folder, ignore_errors=True)


def lives(process: int) -> bool:
    """Tell whether a process of this machine is there, as far as one can know."""
    if os.name == "nt":  # there is no such signal, and kill would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def as_leftover(path: Path) -> Leftover | None:
    """Return a folder or file below a folder of runs as the leftover that its name says it is; None if it is none."""
    features, watched = _FEATURES.fullmatch(path.name), WATCH_FILE.fullmatch(path.name)
    if path.is_symlink() or not (features or watched or _UNFINISHED.fullmatch(path.name)):
        return None
    try:
        seconds = max(one.lstat().st_mtime for one in _all_in(path))
        size = size_of(path)
        held = foreign(path, _ARRAYS if features else OF_RUN)
        host, process = (features["host"], features["process"]) if features else _watcher(path) if watched else ("", "")
    except FileNotFoundError:  # it has been finished, or removed, just now
        return None
    if host and host != socket.gethostname():
        held = f"of another machine, {host}"
    elif host and lives(int(process)):
        held = f"process {process} is at work"
    elif not host and time.time() - seconds < _GRACE:
        held = "written within the hour"
    return Leftover(path, held, size, datetime.fromtimestamp(seconds, UTC))


def _watcher(path: Path) -> tuple[str, str]:
    """Read the machine and the process that write a file of epochs from its first line; ("", "") if it is none."""
    with path.open(encoding="utf-8", errors="replace") as file, suppress(ValueError, TypeError, KeyError):
        first = json.loads(file.readline())
        return str(first["host"]), str(int(first["process"]))
    return "", ""


def foreign(path: Path, known: re.Pattern[str]) -> str:
    """Tell that a folder holds something else than files with known names, and what; "" if it does not."""
    if not path.is_dir():
        return ""
    strange = [one.name for one in path.iterdir() if one.is_symlink() or one.is_dir() or not known.fullmatch(one.name)]
    return f"holds {min(strange)}, which is no part of a run" if strange else ""


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(one.lstat().st_size for one in _all_in(path) if one.is_file() and not one.is_symlink())


def _all_in(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from path.rglob("*")
