"""Zip archives unpacked whole, below one folder and no further, and never over what lies there."""

import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..cache import EmocacheError

_BLOCK = 1 << 20
_MOST_FILES = 100_000
# Sound and video hardly shrink; what claims to have shrunk more than this is no corpus.
_MOST_SHRUNK, _SMALL = 20, 1 << 20
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)


class DamagedError(EmocacheError):
    """An archive cannot be unpacked; nothing helps but to get it again."""


def list_files(archive: Path) -> dict[str, int]:
    """Return the files that an archive holds, without unpacking any.

    Args:
        archive: a zip.

    Returns:
        {path below the folder it is unpacked into: bytes}, without hidden files and macOS's twins.

    Raises:
        DamagedError: it is no zip, is encrypted, names paths outside the folder or links, or would become far larger
            than sound and video do.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            return {name: info.file_size for name, info in _members(archive, opened).items()}
    except _DAMAGED as error:
        raise DamagedError(f"{archive.name} cannot be read as a zip archive ({error})") from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive; what an earlier try has unpacked is left as it is.

    Args:
        archive: a zip.
        folder: to be unpacked into.

    Raises:
        DamagedError: see `list_files`, or the content of a file is damaged.
        EmocacheError: another file lies where one of the archive's belongs.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for name, info in _members(archive, opened).items():
                target = folder / name
                if not target.exists():
                    _write(opened, info, target)
                elif not target.is_file() or not _is_same(target, info):
                    raise EmocacheError(
                        f"{target} is not the file that {archive.name} holds; move it away, and type the same command"
                    )
    except _DAMAGED as error:
        raise DamagedError(f"{archive.name} is damaged ({error})") from error


def is_complete(folder: Path, files: Mapping[str, int]) -> bool:
    """Tell whether files, given with their sizes, are all below a folder."""
    return all((path := folder / name).is_file() and path.stat().st_size == size for name, size in files.items())


def _members(archive: Path, opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files to unpack, by their path below the folder."""
    infos = [info for info in opened.infolist() if not info.is_dir()]
    total, largest = sum(info.file_size for info in infos), _MOST_SHRUNK * archive.stat().st_size + _SMALL
    if len(infos) > _MOST_FILES or total > largest:
        raise DamagedError(f"{archive.name} claims {len(infos)} files of {total} bytes, more than a corpus can have")
    members = {}
    for info in infos:
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or any(mark in info.filename for mark in "\\:\0"):
            raise DamagedError(f"{archive.name} holds {info.filename!r}, which leads out of the folder")
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1:
            raise DamagedError(f"{archive.name} holds {info.filename!r}, which is a link or encrypted")
        if not any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            members[str(path)] = info
    return members


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Write one file, which appears under its name when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with opened.open(info) as inside, fresh.open("wb") as out:
            while block := inside.read(_BLOCK):
                out.write(block)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _is_same(file: Path, info: zipfile.ZipInfo) -> bool:
    if file.stat().st_size != info.file_size:
        return False
    found = 0
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found == info.CRC
