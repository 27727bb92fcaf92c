"""The names of experiments, and the files that they stand for.

A file is one experiment, or several alike ones: `each = { targets = ["valence", "arousal"] }` in `rnn.toml` stands for
`rnn-valence` and `rnn-arousal`, whose setting `targets` is the value, as is `{targets}` in their texts. With
`each = { extends = ["audio", "text"] }`, `loso.toml` is `loso-audio` and `loso-text`, which extend these first.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ...cache import EmocacheError
from ...cache.hints import nearest
from ..records.systems import SYSTEMS

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


class Each(NamedTuple):
    """`each` of a file: the setting that its experiments differ in, and the values."""

    setting: str
    values: tuple[str, ...]


class Place(NamedTuple):
    """The file that an experiment is in, and its value of the file's `each`; None of a file without it."""

    path: Path
    value: str | None

    @property
    def name(self) -> str:
        """The name of the experiment, which is the folder of its runs."""
        path = self.path.with_suffix("")
        path = path if self.value is None else path.with_name(f"{path.name}-{self.value}")
        if path.is_relative_to(EXPERIMENTS):
            return path.relative_to(EXPERIMENTS).as_posix()
        # Not the folder that evaluation writes.
        if path.name.startswith(".") or path.name.lower() == "evaluation":
            raise EmocacheError(f"{self.path}: runs cannot be stored under the name {path.name!r}; rename the file")
        return path.name


def experiment_names() -> list[str]:
    """List the experiments under train/experiments, such as `probe` and `paper4/camulenet`."""
    return list(_shipped(EXPERIMENTS))


@cache
def _shipped(folder: Path) -> Mapping[str, Place]:
    """{name: place} in alphabetical order; read once, for shipped files do not change while we run."""
    files = (path for path in folder.rglob("*.toml") if not path.name.startswith("_") and path != SYSTEMS)
    places = [place for path in files for place in places_in(path)]
    return {place.name: place for place in sorted(places, key=lambda place: place.name)}


def places_in(path: Path) -> list[Place]:
    """List the experiments that a file stands for: itself, or one for each value of its `each`."""
    each = each_of(path)
    return [Place(path, value) for value in each.values] if each else [Place(path, None)]


def find_experiment(experiment: str) -> Place:
    """Find an experiment by its name under train/experiments, or by the path of its file.

    Args:
        experiment: such as `paper1/audio-rnn-valence`, `my/own.toml`, or `my/own-valence.toml` where `own.toml` stands
            for several.

    Returns:
        The place of one experiment.

    Raises:
        EmocacheError: there is none, and the nearest one is named; or a file that stands for several, which are named.
    """
    shipped = _shipped(EXPERIMENTS)
    if experiment in shipped:
        return shipped[experiment]
    path = Path(experiment)
    if experiment.endswith(".toml"):
        if (place := _place(path)) is not None:
            return _one(place, experiment)
        problem = "is a folder; give a file" if path.is_dir() else "does not exist"
        raise EmocacheError(f"experiment file {experiment!r} {problem}")
    if several := _alike(experiment):
        return _one(several[0], experiment)
    near = near_experiment(experiment)
    hint = f"did you mean {near!r}? " if near else ""
    there = " (a file without the ending .toml)" if path.is_file() else ""
    if experiment and path.is_dir():
        there = " (a folder)"
    raise EmocacheError(f"no experiment {experiment!r}{there}; {hint}`emocache train --list` names the shipped ones; or"
                        " give the path of a .toml file")  # fmt: skip


def each_experiment(experiment: str) -> list[str]:
    """Name what a name or a file stands for: itself, or all of the experiments of a file with `each`."""
    path = Path(experiment)
    several = places_in(path) if experiment.endswith(".toml") and path.is_file() else _alike(experiment)
    if len(several) > 1:
        return [str(_virtual(place)) for place in several]
    return [experiment]


def beside(path: Path, name: str, setting: str) -> Path:
    """Find the file that another one names: beside it, else a shipped one; with an underscore, a part of experiments.

    Args:
        path: the file that names it.
        name: as it stands there.
        setting: where it stands, for errors.

    Returns:
        The path of a file; or what it would be, with its value of `each` at its end, of an experiment in a file of
        several. `find_experiment` takes both.

    Raises:
        EmocacheError: there is none; the nearest experiment is named.
    """
    found = next((file for file in _candidates(path, name) if _place(file) is not None), None)
    if found is not None:
        return found
    near = near_experiment(name)
    hint = f"did you mean {near!r}? " if near else ""
    raise EmocacheError(f"{setting} {name!r} is neither beside it nor under {EXPERIMENTS}; {hint}give the"
                        " name of an experiment, or the path of its file")  # fmt: skip


def data_path(origin: Path | None, file: str) -> str:
    """Resolve the path of a file of data that settings name, so that it is the same from everywhere.

    Args:
        origin: the experiment's file that names it; None: the command line, whose paths are from the current folder.
        file: as it stands there.

    Returns:
        The absolute path of what is beside `origin`; of a shipped file that below train/experiments.
    """
    path = (Path() if origin is None else origin.parent).absolute() / file
    if not path.exists() and (EXPERIMENTS / file).exists():
        path = EXPERIMENTS / file
    return path.relative_to(EXPERIMENTS).as_posix() if path.is_relative_to(EXPERIMENTS) else str(path)


def data_file(path: str) -> Path:
    """Return the path that `data_path` stands for."""
    return EXPERIMENTS / path  # an absolute one stays as it is


def place_beside(path: Path, name: str, setting: str) -> Place:
    """Find what `extends` names: see `beside`; of a file of several without a value, all of it is meant."""
    found = beside(path, name, setting)
    return _place(found) or Place(found, None)


def near_experiment(name: str) -> str | None:
    """Return the shipped experiment that a misspelt name probably meant, in whatever case it is written."""
    known = {shipped.lower(): shipped for shipped in experiment_names()}
    return known.get(nearest(name.lower(), list(known)) or "")


def read_tables(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read one file.

    Args:
        path: of the file.

    Returns:
        Its own tables, without `extends`; and the names that it extends.

    Raises:
        EmocacheError: it cannot be read, is no TOML, or `extends` is no list of names.
    """
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EmocacheError(f"{path}: not a TOML file: {error}") from error
    except OSError as error:
        raise EmocacheError(f"{path}: cannot be read: {error.strerror}") from error
    bases = own.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise EmocacheError(f"{path}: extends is {bases!r}; give the name of an experiment, or a list of names")
    return own, bases


def each_of(path: Path, below: tuple[Path, ...] = ()) -> Each | None:
    """Read `each` of a file, its own or that of the last one it extends which has it; see `read_tables` for errors."""
    own, bases = read_tables(path)
    if "each" in own:
        return _each(path, own["each"])
    if path.resolve() in below:  # a circle, which merging tells
        return None
    for base in reversed(bases):
        # A file that is not there is told when the tables are merged.
        place = next((place for file in _candidates(path, base) if (place := _place(file)) is not None), None)
        # One experiment of several has its value already.
        if place is not None and place.value is None:
            each = each_of(place.path, (*below, path.resolve()))
            if each is not None:
                return each
    return None


def _candidates(path: Path, name: str) -> tuple[Path, ...]:
    return path.parent / f"{name}.toml", EXPERIMENTS / f"{name}.toml", path.parent / name


def _each(path: Path, each: object) -> Each:
    if isinstance(each, Mapping) and len(each) == 1:
        setting, values = next(iter(each.items()))
        if isinstance(values, list) and values and all(isinstance(v, str) and _is_part(v) for v in values):
            return Each(setting, tuple(dict.fromkeys(values)))
    raise EmocacheError(f"{path}: each is {each!r}; give one setting with the values that its experiments differ in,"
                        ' such as each = { targets = ["valence", "arousal"] }')  # fmt: skip


def _is_part(value: str) -> bool:
    """Tell whether a value can be the end of an experiment's name."""
    return re.fullmatch(r"[\w.]+(-[\w.]+)*", value) is not None


def _place(path: Path) -> Place | None:
    """Find the file itself; or the one of several whose name, with one of its values, the path is."""
    if path.is_file():
        return Place(path, None)
    parts = path.stem.split("-")
    for cut in range(len(parts) - 1, 0, -1):
        file = path.with_name("-".join(parts[:cut]) + path.suffix)
        value = "-".join(parts[cut:])
        if file.is_file() and (each := each_of(file)) is not None and value in each.values:
            return Place(file, value)
    return None


def _one(place: Place, asked: str) -> Place:
    several = places_in(place.path) if place.value is None else [place]
    if several == [place]:
        return place
    told = ", ".join(str(_virtual(one)) for one in several)
    raise EmocacheError(f"{place.path}: {asked!r} stands for several experiments; name one of {told}")


def _alike(experiment: str) -> list[Place]:
    """Find the shipped experiments of a file by the file's own name; none of a name that is an experiment."""
    path = EXPERIMENTS / f"{experiment}.toml"
    known = any(place.path == path and place.value is not None for place in _shipped(EXPERIMENTS).values())
    return places_in(path) if known else []


def _virtual(place: Place) -> Path | str:
    """Give back the name of a shipped experiment, or the path of another one, as `find_experiment` takes it."""
    if place.path.is_relative_to(EXPERIMENTS):
        return place.name
    return place.path if place.value is None else place.path.with_name(f"{place.path.stem}-{place.value}.toml")
