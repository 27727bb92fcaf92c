"""Single files by their addresses: resumed where they broke off, and known by their hash ever after."""

import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from ...cache import EmocacheError
from ...cache.hashing import file_sha256
from .home import ELSEWHERE, check_room, one_at_a_time, recall, remember

_SECONDS = 10.0  # without a byte, until an address is given up
_BLOCK = 1 << 20
_LEAST_ROOM = 1 << 20


class _UnexpectedError(EmocacheError):
    """A file is not what it should be."""


def fetch_file(
    addresses: Sequence[str], target: Path, check: Callable[[Path], object], elsewhere: str = ELSEWHERE
) -> str:
    """Fetch a file from the first address that gives it.

    Args:
        addresses: of copies, tried in turn.
        target: to be written; beside it `<target>.<n>.part` holds what has come from the n-th.
        check: raises an EmocacheError where the file is not what it should be.
        elsewhere: see `check_room`.

    Returns:
        The address it came from, or "" where it was there already.

    Raises:
        EmocacheError: no address gives it, with the reason of each, or there is no room.
    """
    if target.is_file():
        return ""
    with one_at_a_time(target):
        return "" if target.is_file() else _fetch(addresses, target, check, elsewhere)


def _fetch(addresses: Sequence[str], target: Path, check: Callable[[Path], object], elsewhere: str) -> str:
    told = []
    for number, address in enumerate(addresses):
        part = target.with_name(f"{target.name}.{number}.part")  # of each address its own: they may hold other files
        try:
            _receive(address, part, elsewhere)
            keep_file(part, target, check, address)
        except (OSError, ValueError, HTTPException) as error:  # urllib's are OSErrors; a wrong address is a ValueError
            told.append(f"{address} ({reason(error)})")
        except _UnexpectedError as error:
            told.append(str(error))
        else:
            return address
    raise EmocacheError(f"{target.name} cannot be fetched: {'; '.join(told)}")


def keep_file(source: Path, target: Path, check: Callable[[Path], object], origin: str) -> None:
    """Put a file that was fetched, or given, in its place, once it is known to be right.

    Args:
        source: the file; it is moved, so give a copy.
        target: its place.
        check: raises an EmocacheError where it is not what it should be.
        origin: an address or a path, which is recorded with the file's hash.

    Raises:
        EmocacheError: see `check`; the source is removed then, so that it is not taken up again.
    """
    # Checked under the name it will have: readers go by the suffix.
    held = source.with_name(f".{target.stem}.checked{target.suffix}")
    source.replace(held)
    try:
        check(held)
        remember(record_of(target), {"origin": origin, "sha256": file_sha256(held), "bytes": held.stat().st_size})
        held.replace(target)
    except EmocacheError as error:
        raise _UnexpectedError(f"{origin} gives something else ({error})") from error
    finally:
        held.unlink(missing_ok=True)


def unzip_member(archive: Path, name: str, target: Path) -> None:
    """Take one file out of a zip archive.

    Args:
        archive: the zip.
        name: of the member.
        target: to be written.

    Raises:
        EmocacheError: there is no such member, the archive is damaged, or there is no room.
    """
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(name) as inside:
            check_room(target.parent, opened.getinfo(name).file_size, name)
            with target.open("wb") as out:
                shutil.copyfileobj(inside, out, _BLOCK)
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise EmocacheError(f"{archive.name} holds no {name} that can be read ({error}); get it again") from error


def check_recorded(file: Path) -> None:
    """Compare a file with the hash that it had when it was first seen; silent where none is recorded.

    Args:
        file: that was fetched by its address.

    Raises:
        EmocacheError: it has changed.
    """
    record = recall(record_of(file))
    if record is not None and record.get("sha256") != file_sha256(file):
        raise EmocacheError(
            f"{file}: is not the file that came from {record.get('origin')} (its sha256 was"
            f" {str(record.get('sha256'))[:12]}); delete both it and {record_of(file).name}, and fetch it again"
        )


def origin_of(file: Path) -> str:
    """Return the address that a file came from; "" where nobody recorded it."""
    return str((recall(record_of(file)) or {}).get("origin", ""))


def record_of(file: Path) -> Path:
    """Return where the origin of a file is recorded: beside it."""
    return file.with_name(f"{file.name}.origin.json")


def _receive(address: str, part: Path, elsewhere: str) -> None:
    """Append to `part` what is left of a file."""
    there = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        response = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and there:  # nothing is left
            return
        raise
    with response:
        whole = response.status == 200  # the server does not resume, or there was nothing to resume
        length = int(response.headers.get("Content-Length") or 0)
        check_room(part.parent, max(length, _LEAST_ROOM), address, elsewhere)
        with part.open("wb" if whole else "ab") as out:
            while block := response.read(_BLOCK):
                out.write(block)
    expected = length + (0 if whole else there)
    if length and part.stat().st_size != expected:
        raise OSError(f"broke off after {part.stat().st_size} of {expected} bytes; the same command goes on")


def reason(error: Exception) -> str:
    """Tell in a few words why an address gave nothing."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    cause = getattr(error, "reason", None)
    return str(getattr(cause, "strerror", None) or cause or error.args[-1] if error.args else error)
