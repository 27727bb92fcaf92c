"""Hashes of media files that were read before, in `.media-hashes.sqlite` beside the streams they belong to.

A courtesy and never the truth: a file that is absent, damaged or out of reach costs the time to read the media again,
which is told. Each row carries a checksum; a row that does not have it is not believed.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

FILE = ".media-hashes.sqlite"
_WAIT = 30.0  # seconds for another process that is writing
_LATER = ("readings", "seal")  # columns that the first memories do not have
_FIRST_TABLE = (
    "CREATE TABLE media (path TEXT PRIMARY KEY, size INT, mtime_ns INT, inode INT, sha256 TEXT, duration REAL)"
)
_TABLE = f"{_FIRST_TABLE[:-1]}, {', '.join(f'{name} TEXT' for name in _LATER)})"
_OURS = {("table", "media"), ("index", "sqlite_autoindex_media_1")}
_IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_OUTSIDE = _IN_USE | {  # causes that do not lie in the file's bytes
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM,
}  # fmt: skip


class Remembered(NamedTuple):
    """One media file as it was when it was hashed."""

    path: str  # absolute
    size: int
    mtime_ns: int
    inode: int
    sha256: str
    duration: float | None  # seconds, from the header
    readings: str | None = None  # {what: how it is decoded}, as JSON; None: it was hashed before there were any


class MediaHashes:
    """The memory of one corpus. Never raises: what cannot be remembered is told in `notes`.

    Args:
        path: of its database; None: nothing is remembered.

    Attributes:
        notes: lines to tell the user.
    """

    def __init__(self, path: Path | None) -> None:
        self.notes: list[str] = []
        self._path = path

    def recall(self) -> dict[str, Remembered]:
        """{path: what is remembered of it}; what is damaged is left out."""
        if self._path is None or not _exists(self._path):
            return {}
        try:
            with _opened(self._path, "rw") as memory:  # which rolls back what a kill has left, where it may
                if wrong := _structure(memory):
                    raise _Damaged(wrong)
                rows, damaged = _rows(memory)
        except _Damaged as error:
            self.notes.append(f"{self._path} is damaged ({error}); it is made again, and the media are hashed again")
            _remove(self._path)
            return {}
        except (sqlite3.Error, OSError) as error:
            self.notes.append(f"{self._path} cannot be read ({_why(error)}), so all media are hashed again")
            return {}
        if damaged:
            self.notes.append(f"{damaged} rows of {self._path} are damaged; those media are hashed again")
        return {row.path: row for row in rows}

    def remember(self, rows: Sequence[Remembered]) -> None:
        """Remember these files as well; once that fails, nothing more."""
        if self._path is None or not rows:
            return
        try:
            try:
                _write(self._path, rows)
            except _Damaged:
                _remove(self._path)
                _write(self._path, rows)
        except (_Damaged, sqlite3.Error, OSError, UnicodeEncodeError, OverflowError) as error:
            self.notes.append(
                f"{self._path} cannot be written ({_why(error)}), so what is hashed now will be hashed again next time;"
                " give its group the right to write it and its folder (chmod g+w)"
            )
            self._path = None  # told once


def fault(path: Path | None) -> str | None:
    """Return what is wrong with a memory; None where there is none, or another process is writing it."""
    if path is None or not _exists(path):
        return None
    try:
        with _opened(path, "ro") as memory:
            wrong = _structure(memory)
            damaged = 0 if wrong else _rows(memory)[1]
    except _Damaged as error:
        return f"damaged: {error}"
    except (sqlite3.Error, OSError) as error:
        in_use = isinstance(error, sqlite3.Error) and _code(error) in _IN_USE and os.access(path, os.R_OK)
        return None if in_use else f"cannot be read ({_why(error)})"
    return f"damaged: {wrong or f'the checksums of {damaged} rows differ'}" if wrong or damaged else None


def _write(path: Path, rows: Sequence[Remembered]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite would make it 0644; whoever may write beside it shall be able to write it. Its journal follows it.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
    with _opened(path, "rw") as memory, memory:
        if not _names(memory):
            memory.execute(_TABLE)
        _seal_old_rows(memory)
        sealed = [(*row, _seal(row)) for row in rows]
        memory.executemany("INSERT OR REPLACE INTO media VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sealed)


class _Damaged(Exception):
    """The file is no such memory."""


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A connection whose rollback journal works on any file system that has locks, unlike SQLite's WAL."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", timeout=_WAIT, uri=True)) as memory:
        memory.text_factory = lambda data: data.decode(errors="replace")
        try:
            memory.execute("PRAGMA trusted_schema = OFF")
            yield memory
        except UnicodeDecodeError as error:  # of a name in the schema
            raise _Damaged(_why(error)) from error
        except sqlite3.Error as error:
            if _code(error) not in _OUTSIDE:
                raise _Damaged(_why(error)) from error
            raise


def _structure(memory: sqlite3.Connection) -> str | None:
    """Return what is wrong with a database as such; an empty one is right."""
    [[told]] = memory.execute("PRAGMA integrity_check(1)").fetchall()
    if told != "ok":
        return " ".join(str(told).split())
    found = set(memory.execute("SELECT type, name FROM sqlite_schema").fetchall())
    if not found <= _OURS:
        return "it holds other tables than its own"
    made = {row[0] for row in memory.execute("SELECT sql FROM sqlite_schema WHERE name = 'media'")}
    return None if made <= {_FIRST_TABLE, _TABLE} else "its table has other columns"


def _rows(memory: sqlite3.Connection) -> tuple[list[Remembered], int]:
    """The rows that can be believed, and how many cannot."""
    names = _names(memory)
    if not names:
        return [], 0
    sealed = names >= {*_LATER}
    columns = [name if sealed or name not in _LATER else "NULL" for name in (*Remembered._fields, "seal")]
    found = memory.execute(f"SELECT {', '.join(columns)} FROM media").fetchall()
    rows = [(Remembered(*row[:-1]), row[-1]) for row in found]
    good = [row for row, own in rows if _believed(row) and (own == _seal(row) or not sealed)]
    return good, len(rows) - len(good)


def _names(memory: sqlite3.Connection) -> set[str]:
    return {row[1] for row in memory.execute("PRAGMA table_info(media)")}


def _seal_old_rows(memory: sqlite3.Connection) -> None:
    """Give the rows of an earlier version, which had no checksums, theirs."""
    if "seal" not in _names(memory):
        rows, _ = _rows(memory)
        for name in _LATER:
            memory.execute(f"ALTER TABLE media ADD COLUMN {name} TEXT")
        memory.executemany("UPDATE media SET seal = ? WHERE path = ?", [(_seal(row), row.path) for row in rows])


def _believed(row: Remembered) -> bool:
    whole = all(type(number) is int for number in (row.size, row.mtime_ns, row.inode))
    texts = isinstance(row.path, str) and isinstance(row.sha256, str) and re.fullmatch(r"[0-9a-f]{64}", row.sha256)
    return bool(
        whole and texts and isinstance(row.duration, float | None) and (row.readings is None or _is_told(row.readings))
    )


def _is_told(readings: Any) -> bool:
    """Tell whether these are readings: names of texts."""
    try:
        told = json.loads(readings)
    except (TypeError, ValueError):
        return False
    return isinstance(told, dict) and all(isinstance(value, str) for value in told.values())


def _seal(row: Remembered) -> str:
    return hashlib.sha256(repr(tuple(row)).encode()).hexdigest()[:16]


def _exists(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # opening it tells why
        return True


def _remove(path: Path) -> None:
    for one in (path, path.with_name(f"{path.name}-journal")):
        with contextlib.suppress(OSError):
            one.unlink()


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _why(error: Exception) -> str:
    text: Any = error.strerror if isinstance(error, OSError) else error
    return " ".join(str(text).split())
