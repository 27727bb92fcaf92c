"""Finding the runs that training left, and checking what each says of itself."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...cache import EmocacheError
from ...train.records.run_record import PREDICTIONS, RUN, RUN_FOLDER, RunRecord, parse_record


@dataclass(frozen=True)
class Run:
    """One head trained on one fold with one seed."""

    folder: Path
    record: RunRecord

    @property
    def predictions(self) -> Path:
        """The file with the predictions."""
        return self.folder / PREDICTIONS


def discover(paths: Sequence[Path]) -> list[Run]:
    """Find every complete run at or below the paths.

    Args:
        paths: folders; overlapping ones count once.

    Returns:
        The runs, in the order of their folders' names.

    Raises:
        EmocacheError: a path that is no folder, no run below any of them, or an unreadable run.json.
    """
    for path in paths:
        if not path.is_dir():
            problem = "is not a folder" if path.exists() else "does not exist"
            raise EmocacheError(f"{path} {problem}; give the folder that `emocache train --runs` wrote to")
    folders = sorted({folder.resolve() for path in paths for folder in _run_folders(path)})
    if not folders:
        where = ", ".join(str(path) for path in paths)
        raise EmocacheError(f"no runs below {where}; `emocache train EXPERIMENT --runs DIR` writes them")
    return [read_run(folder) for folder in folders]


def read_run(folder: Path) -> Run:
    """The run in one folder; EmocacheError if its run.json cannot be read or does not say what it must."""
    path = folder / RUN
    try:
        return Run(folder, parse_record(path.read_bytes()))
    except OSError as error:
        raise EmocacheError(
            f"{path}: cannot be read: {error.strerror}; make it readable, or delete its folder and run the"
            " same command again"
        ) from error
    except ValueError as error:
        raise EmocacheError(
            f"{path}: {error}; it is damaged or of another version: delete the folder and train this run again"
        ) from None


def _run_folders(path: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(path):
        if RUN_FOLDER.fullmatch(Path(folder).resolve().name):
            below.clear()
            if RUN not in files:
                raise EmocacheError(f"{folder}: a run folder without run.json; delete it and train this run again")
            yield Path(folder)
