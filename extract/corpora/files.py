"""Finding and reading a corpus's files, and hashing its media no more often than needed."""

import contextlib
import hashlib
import json
import os
import stat
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...cache import EmocacheError, Media
from ...cache.media_hashes import MediaHashes, Remembered
from ..media.audio import MEDIA_SUFFIXES, media_duration
from ..media.readings import Readings, readings_of
from .walking import find_files

_SAVE_SECONDS = 60.0
_BLOCK = 256  # files
_SETTLED = 2.0  # seconds; a file changed more recently may change again without a new time stamp


@dataclass(frozen=True, slots=True)
class Probe:
    """The facts known of one media file."""

    sha256: str  # of its bytes
    duration: float | None  # seconds, from the header
    readings: Readings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Published:
    """The content of a complete corpus by its owner; `emocache corpora CORPUS --data DIR` compares with it."""

    utterances: int
    speakers: int | None
    classes: Mapping[str, Mapping[str, int]]  # {label: {class: utterances}}
    source: str  # where the numbers stand
    splits: Mapping[str, int] = field(default_factory=dict)  # {split: utterances}


class MediaHasher:
    """sha256 and duration of media files, remembered by path, size, mtime_ns and inode.

    Args:
        memory: file that remembers, see `cache.media_hashes`; None remembers nothing. Should it be unusable, files are
            hashed anew.
        rehash: hash every file anew, and remember that.
        workers: threads that read.

    Attributes:
        notes: lines to tell the user, of a memory that cannot be used.
        readings: {absolute path: readings} of the files probed so far that have any.
    """

    def __init__(self, memory: Path | None = None, *, rehash: bool = False, workers: int | None = None) -> None:
        self._memory = MediaHashes(memory)
        self._rehash = rehash
        self._workers = workers or min(8, os.cpu_count() or 1)
        self.readings: dict[Path, Readings] = {}

    @property
    def notes(self) -> list[str]:
        """See the class."""
        return self._memory.notes

    def probe(self, paths: Iterable[Path]) -> dict[Path, Probe]:
        """Hash every file, and tell its duration.

        Args:
            paths: of media files.

        Returns:
            What is known of each file.

        Raises:
            EmocacheError: a file is missing, cannot be read, or changes while it is read.
        """
        here = Path.cwd()
        wanted = dict(sorted((os.path.join(here, path), Path(path)) for path in paths))  # noqa: PTH118
        known = {} if self._rehash else self._memory.recall()
        found: dict[Path, Probe] = {}
        fresh: list[Remembered] = []
        saved = time.monotonic()
        pool = ThreadPoolExecutor(self._workers)
        try:
            # Many at a time: to give a thread a file takes longer than to look at one that is the same.
            rows = [known[path] for path in wanted if path in known]
            blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
            for same in pool.map(_unchanged, blocks):
                found |= {wanted[path]: probe for path, probe in same.items()}
            others = [path for path, own in wanted.items() if own not in found]
            probes = pool.map(lambda path: _probe(Path(path), known.get(path)), others)
            for path, (probe, row) in zip(others, probes, strict=True):
                found[wanted[path]] = probe
                fresh += [] if row is None else [row]
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self._memory.remember(fresh)
                    fresh, saved = [], time.monotonic()
        finally:  # whatever ends it: a signal, or one bad file among thousands
            pool.shutdown(wait=False, cancel_futures=True)
            self._memory.remember(fresh)
        self.readings |= {Path(path): found[own].readings for path, own in wanted.items() if found[own].readings}
        return found


_Identity = tuple[int, int, int]  # size, mtime_ns, inode


def _unchanged(rows: Sequence[Remembered]) -> dict[str, Probe]:
    """{path: what is known} of the files that are as they were; of one that cannot be looked at, reading it tells."""
    same = {}
    for row in rows:
        with contextlib.suppress(OSError):
            if row.readings is not None and _identity(row.path) == (row.size, row.mtime_ns, row.inode):
                same[row.path] = Probe(row.sha256, row.duration, json.loads(row.readings))
    return same


def _probe(path: Path, known: Remembered | None) -> tuple[Probe, Remembered | None]:
    """Read a file, and return what is to be remembered of it too, where it may not change any more."""
    try:
        before = _identity(path)
        if known is not None and (known.size, known.mtime_ns, known.inode) == before:
            digest = known.sha256  # hashed before there were readings
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = _identity(path)
    except OSError as error:
        raise EmocacheError(f"media file {path} cannot be read: {error.strerror or error}") from error
    if before != after:
        raise EmocacheError(f"media file {path} changed while it was read; start again when its writer is done")
    probe = Probe(digest, media_duration(path), readings_of(path))
    settled = before[1] < (time.time() - _SETTLED) * 1e9
    row = Remembered(str(path), *before, probe.sha256, probe.duration, json.dumps(probe.readings))
    return probe, row if settled else None


def _identity(path: Path | str) -> _Identity:
    status = os.stat(path)  # noqa: PTH116 - of a million files, whose paths need not be taken apart
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
        raise EmocacheError(f"media file {path} cannot be read: it is no regular file; move it out of the corpus")
    return status.st_size, status.st_mtime_ns, status.st_ino


def media_files(root: Path, suffixes: frozenset[str] = MEDIA_SUFFIXES, notes: list[str] | None = None) -> list[Path]:
    """`find_files` with one of the suffixes, in upper or lower case."""
    return find_files(root, lambda name: os.path.splitext(name)[1].lower() in suffixes, notes)  # noqa: PTH122


def one_per_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """{stem: path}, of several copies the one nearest to the root, for archives that nest a second copy of all.

    Stems are composed (NFC): macOS takes accents off their letters in file names, tables and other systems do not.
    """
    kept: dict[str, Path] = {}
    for path in sorted(paths, key=lambda p: (len(p.parts), str(p))):
        kept.setdefault(unicodedata.normalize("NFC", path.stem), path)
    return kept


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, in UTF-8 or else in Latin-1.

    Args:
        path: of the file.

    Returns:
        Lines without what is blank at their ends.

    Raises:
        EmocacheError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EmocacheError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # typed on whatever machine
        text = data.decode("latin-1")
    return [line.rstrip() for line in text.split("\n")]


def media(root: Path, path: Path, role: str, probes: Mapping[Path, Probe]) -> Media:
    """The manifest's entry for one probed file below `root`."""
    return Media(role, path.relative_to(root).as_posix(), probes[path].sha256)
