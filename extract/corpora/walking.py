"""Walking a corpus folder, through the links in it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...cache import EmocacheError


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that is walked: its path by the names that lead to it, what it is on the disk, and what it lies in."""

    path: str
    identity: tuple[int, int]  # device and inode
    above: "_Folder | None" = None

    def is_round(self) -> bool:
        """Tell whether a link has led back to a folder that it lies in."""
        above = self.above
        while above is not None and above.identity != self.identity:
            above = above.above
        return above is not None


def _walk(root: Path) -> Iterator[tuple[str, list["os.DirEntry[str]"]]]:
    """Every folder below `root`, itself first, with what is in it but for folders; links to folders are followed."""
    try:
        folders = [_Folder(str(root), _on_disk(root.stat()))] if root.is_dir() else []
        while folders:  # no recursion: folders may lie deeper than Python's stack is high
            folder = folders.pop()
            others = []
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "lost+found":
                        continue
                    if not _is_folder(entry):
                        others.append(entry)
                        continue
                    below = _Folder(entry.path, _on_disk(entry.stat()), folder)
                    if not (entry.is_symlink() and below.is_round()):
                        folders.append(below)
            yield folder.path, others
    except OSError as error:
        raise EmocacheError(
            f"folder {error.filename or root} cannot be read: {error.strerror or error}; allow it, or move it out of"
            f" {root}"
        ) from error


def _on_disk(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def find_folders(root: Path) -> list[Path]:
    """Find `root` and every folder below it, as `find_files` walks them; sorted."""
    return sorted(Path(folder) for folder, _ in _walk(root))


def find_files(root: Path, wanted: Callable[[str], bool], notes: list[str] | None = None) -> list[Path]:
    """Find every file below `root` whose name is wanted.

    Links are followed, to files and to folders, and what is found goes by the names that lead to it: a folder that two
    links lead to is found twice, as a copy of the corpus would have it. A link back to a folder that it lies in is not
    followed. Hidden names, such as macOS's "._" twins, and the lost+found of a disk's root are left out.

    Args:
        root: a folder.
        wanted: tells of a name whether it is wanted.
        notes: a line is added of the links that lead nowhere; those that are wanted are found all the same.

    Returns:
        Paths below `root`, sorted.

    Raises:
        EmocacheError: a folder cannot be read, so that what is in it would be missing unnoticed.
    """
    found: list[Path] = []
    broken: list[str] = []
    for _, entries in _walk(root):
        found += [Path(entry.path) for entry in entries if wanted(entry.name)]
        broken += [entry.path for entry in entries if entry.is_symlink() and not os.path.exists(entry.path)]  # noqa: PTH110
    if broken and notes is not None:
        first = min(broken)
        notes.append(
            f"{len(broken)} links below {root} lead nowhere, such as {first} to {os.readlink(first)};"  # noqa: PTH115
            " mend them if the corpus lacks something"
        )
    return sorted(found)


def match_files(root: Path, pattern: str) -> list[Path]:
    """Find the files that a glob matches; that of pathlib does not follow links where it says `**`.

    Args:
        root: a folder.
        pattern: relative to it.

    Returns:
        Paths below `root`, sorted, without hidden ones.

    Raises:
        ValueError, NotImplementedError: it is no relative glob.
    """
    return sorted(path for path in _matches(root, pattern) if path.is_file() and not path.name.startswith("."))


def _matches(root: Path, pattern: str) -> set[Path]:
    parts = PurePosixPath(pattern).parts
    if "**" not in parts:
        return set(root.glob(pattern))
    stars = parts.index("**")
    before, behind = "/".join(parts[:stars]), "/".join(parts[stars + 1 :] or ("*",))
    starts = _matches(root, before) if before else [root]
    return {path for start in starts for folder in find_folders(start) for path in _matches(folder, behind)}
