"""Settings in the shipped experiments' files, of runs that were stored before training kept it beside them."""

import tomllib
from functools import cache
from pathlib import Path

from ...cache import EmocacheError

EXPERIMENTS = Path(__file__).parents[2] / "train" / "experiments"


def shipped_report(experiment: str) -> tuple[str, ...]:
    """Read `report` in the file of a shipped experiment and those that it extends.

    Args:
        experiment: its name.

    Returns:
        Names of reports; nothing of an experiment that is not shipped.

    Raises:
        EmocacheError: one of these files cannot be read.
    """
    # A run's name is no path.
    return tuple(_report_of(experiment, EXPERIMENTS) or ())


@cache
def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.toml")}


def _report_of(name: str, folder: Path) -> tuple[str, ...] | None:
    """The report of an experiment or of a part of one, named in a folder; of a file with `each`, the name goes on."""
    files = _files(EXPERIMENTS)
    beside = folder.relative_to(EXPERIMENTS)
    parts = name.split("-")
    for cut in range(len(parts), 0, -1):
        start = "-".join(parts[:cut])
        path = files.get((beside / start).as_posix()) or files.get(start)
        if path is not None:
            return _report(path, "-".join(parts[cut:]))
    return None


@cache
def _report(path: Path, value: str) -> tuple[str, ...] | None:
    """The file's own, else that of the last file it extends which has one; None where none has."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise EmocacheError(f"{path}: cannot be read ({error}); install emocache again, or mend it") from error
    if "report" in values:
        return _names(values["report"])
    extended = [*_names(values.get("extends", ()))]
    if "extends" in values.get("each", {}):
        extended.insert(0, value)
    for base in reversed(extended):
        if (found := _report_of(base, path.parent)) is not None:
            return found
    return None


def _names(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
