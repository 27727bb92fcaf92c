"""The runs below a folder, taken together as results, each with its standing; and how they are removed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ...cache import EmocacheError
from ...cache.hints import nearest
from ...cache.opening import open_objects
from ..records.generations import Generation, lineages
from ..records.run_record import ASKED, FINAL_FOLDER, PREDICTIONS, RUN, RUN_FOLDER, SOURCES, RunRecord, parse_record
from .leftovers import OF_RUN, Leftover, as_leftover, foreign, size_of

CURRENT, SUPERSEDED, NEWER, UNKNOWN, DAMAGED = "current", "superseded", "newer", "unknown", "damaged"
FINAL = "final"
_LIKENESS = 0.3  # of a mistyped id: much of one is hexadecimal digits


@dataclass(frozen=True)
class StoredResult:
    """The runs in one folder, which differ in nothing but fold and seed; or one damaged run.

    Attributes:
        id: path of the folder below that of all runs, with '/'. generation: its runs; None of a damaged run.
        state: `current`, what counts; `superseded` by newer data; `newer` data than what counts, but less complete;
            `unknown`, of which a cache tells nothing; `final`, on all utterances and of no evaluation; or `damaged`.
        notes: what else there is to know. size: bytes. made: when the last run was stored or asked for again.
    """

    id: str
    folders: tuple[Path, ...]
    generation: Generation | None
    state: str
    notes: tuple[str, ...]
    size: int
    made: datetime | None

    @property
    def records(self) -> list[RunRecord]:
        """Of its runs; none of a damaged run."""
        return list(self.generation.runs.values()) if self.generation else []

    @property
    def wanted(self) -> int:
        """The number of runs that there would be if all were stored."""
        return self.generation.wanted if self.generation and not self.generation.first.final else 1


@dataclass(frozen=True)
class Stored:
    """All that lies below a folder of runs."""

    root: Path
    results: list[StoredResult]  # by experiment, corpora, the newest first
    leftovers: list[Leftover]


def read_stored(root: Path) -> Stored:
    """Find all runs below a folder, and what killed processes left; symbolic links are not followed.

    Args:
        root: the folder that training wrote runs to.

    Returns:
        The results with their standing among each other, and the leftovers.

    Raises:
        EmocacheError: no such folder, or one that lies inside runs.
    """
    if not root.is_dir():
        raise EmocacheError(f"{root} is not a folder; give the one that `emocache train --runs` wrote to")
    runs: dict[Path, RunRecord] = {}
    damaged: dict[Path, str] = {}
    leftovers = []
    for path in _walk(root):
        if left := as_leftover(path):
            leftovers.append(left)
        elif is_run_folder(path):
            try:
                record = parse_record((path / RUN).read_bytes())
                (path / PREDICTIONS).stat()
                runs[path] = record
            except OSError as error:
                damaged[path] = f"{Path(error.filename).name}: {error.strerror}"
            except ValueError as error:
                damaged[path] = f"{RUN}: {error}"
    if RUN_FOLDER.fullmatch(root.resolve().name) or any(path.parent == root for path in (*runs, *damaged)):
        raise EmocacheError(f"{root} lies inside runs; give the folder that `emocache train --runs` wrote to")
    of_folds = {path: run for path, run in runs.items() if not run.final}
    results = list(_standing(root, of_folds))
    results += _finals(root, runs, results)
    results = [*results, *(_damaged(root, path, why) for path, why in damaged.items())]
    return Stored(root, with_members(sorted(results, key=_order)), leftovers)


def is_run_folder(path: Path) -> bool:
    """Tell by its name whether a folder is of a run, on a fold or on all utterances."""
    return any(pattern.fullmatch(path.name) for pattern in (RUN_FOLDER, FINAL_FOLDER))


def _walk(root: Path) -> Iterator[Path]:
    """Every folder and file below a folder, but for what is in run folders and leftovers."""
    for above, folders, files in os.walk(root):
        folders.sort()
        paths = [Path(above, name) for name in folders if not Path(above, name).is_symlink()]
        folders[:] = [p.name for p in paths if not is_run_folder(p) and as_leftover(p) is None]
        yield from paths
        yield from (Path(above, name) for name in sorted(files))


def _standing(root: Path, runs: dict[Path, RunRecord]) -> Iterator[StoredResult]:
    for lineage in lineages(runs):
        for state, those in ((CURRENT, lineage.current), (SUPERSEDED, lineage.older), (NEWER, lineage.newer)):
            notes = ("of newer data than what counts, and less complete: train on",) if state == NEWER else ()
            for one in those:
                # A copy of a folder of runs may lie beside it.
                for folder in dict.fromkeys(path.parent for path in one.runs):
                    own = Generation({path: run for path, run in one.runs.items() if path.parent == folder})
                    size = sum(map(size_of, own.runs))
                    name = folder.relative_to(root).as_posix()
                    yield StoredResult(name, tuple(own.runs), own, state, notes, size, own.latest)


def _finals(root: Path, runs: dict[Path, RunRecord], results: Sequence[StoredResult]) -> list[StoredResult]:
    """The runs on all utterances; they are superseded where the runs beside them are."""
    states = {folder.parent: one.state for one in results for folder in one.folders}
    found = []
    for path, run in runs.items():
        if run.final:
            state = SUPERSEDED if states.get(path.parent) == SUPERSEDED else FINAL
            own = Generation({path: run})
            name = path.relative_to(root).as_posix()
            found.append(StoredResult(name, (path,), own, state, (), size_of(path), own.latest))
    return found


def with_members(results: Sequence[StoredResult]) -> list[StoredResult]:
    """Return results with a note on each fusion that was made of runs which are superseded, or gone."""
    states = {(run.experiment, run.corpora, run.setting): one.state for one in results for run in one.records}
    told = []
    for one in results:
        first = next(iter(one.records), None)
        members = first.members if first else ()
        found = {m["experiment"]: states.get((m["experiment"], first.corpora, m["setting"])) for m in members if first}
        notes = [
            f"its member {name} is {'gone' if state is None else state}"
            for name, state in found.items()
            if state in (None, SUPERSEDED)
        ]
        told.append(replace(one, notes=(*one.notes, *notes)))
    return told


def _damaged(root: Path, folder: Path, why: str) -> StoredResult:
    note = f"{why}; remove it, and train this run again"
    return StoredResult(folder.relative_to(root).as_posix(), (folder,), None, DAMAGED, (note,), size_of(folder), None)


def _order(one: StoredResult) -> tuple[str, tuple[str, ...], bool, float, str]:
    if one.generation is None or one.made is None:
        return one.id, (), False, 0.0, one.id
    first = one.generation.first
    return first.experiment, first.corpora, first.final, -one.made.timestamp(), one.id


def named(stored: Stored, ids: Sequence[str]) -> list[Path]:
    """Find the run folders that ids name: of a whole result, or of one of its runs.

    Args:
        stored: what there is.
        ids: as `runs ls` prints them, or with `/foldK-seedS` at the end.

    Returns:
        The folders, each once.

    Raises:
        EmocacheError: an id of nothing that is there; the nearest one is named.
    """
    known: dict[str, tuple[Path, ...]] = {}
    for one in stored.results:
        known |= {folder.relative_to(stored.root).as_posix(): (folder,) for folder in one.folders}
        known[one.id] = one.folders
    for name in ids:
        if name.rstrip("/") not in known:
            near = nearest(name, known, _LIKENESS)
            raise EmocacheError(f"no run {name!r} below {stored.root}; {f'did you mean {near!r}? ' if near else ''}"
                                f"`emocache runs ls {stored.root}` lists them")  # fmt: skip
    return list(dict.fromkeys(folder for name in ids for folder in known[name.rstrip("/")]))


def check_removable(folder: Path) -> None:
    """Raise EmocacheError if a run folder holds something else than a run."""
    if strange := foreign(folder, OF_RUN):
        raise EmocacheError(f"{folder} {strange}, and so is not removed; move that elsewhere first")


def remove_run(root: Path, folder: Path) -> None:
    """Remove a run, and the folders above it that are then empty.

    It gets another name first, so that a kill in between leaves no half of a run that could be read as one.

    Args:
        root: the folder of all runs.
        folder: that of the run.

    Raises:
        EmocacheError: the folder holds something else too; nothing is removed then.
    """
    check_removable(folder)
    open_objects(root).delete(folder.relative_to(root).as_posix())
    with suppress(OSError):  # one that is not empty, or is removed by somebody else just now
        if {path.name for path in folder.parent.iterdir()} <= {ASKED, SOURCES}:
            (folder.parent / ASKED).unlink(missing_ok=True)
            open_objects(folder.parent).delete(SOURCES)
        for above in folder.parents:
            if above == root:
                break
            above.rmdir()
