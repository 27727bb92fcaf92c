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
    files = _files(EXPERIMENTS)  # a run's name is no path
    # Of a file with `each`, the name ends with its value.
    path = files.get(experiment) or files.get(experiment.rpartition("-")[0])
    return () if path is None else tuple(_report(path) or ())


@cache
def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.toml")}


@cache
def _report(path: Path) -> tuple[str, ...] | None:
    """The file's own, else that of the last file it extends which has one; None where none has."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise EmocacheError(f"{path}: cannot be read ({error}); install emocache again, or mend it") from error
    if "report" in values:
        return _names(values["report"])
    for base in reversed(_names(values.get("extends", ()))):
        names = [base, base.rpartition("-")[0]]
        folders = [path.parent, EXPERIMENTS]
        files = [folder / f"{name}.toml" for name in names for folder in folders]
        found = _report(next((file for file in files if file.is_file()), files[0]))
        if found is not None:
            return found
    return None


def _names(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
