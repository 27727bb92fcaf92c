"""Experiments as TOML files: where they are, what they extend, and which file set which value."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache import EmocacheError
from ...cache.hints import nearest
from ...cache.nesting import flatten
from ..records.systems import SYSTEMS
from .protocol_kinds import owners

EXPERIMENTS = Path(__file__).parents[1] / "experiments"

_WHOLE = ("labels", "search")  # tables that replace what they extend, instead of adding to it


@dataclass(frozen=True)
class ExperimentFile:
    """An experiment as it is written, with what it extends and with overrides, not validated yet.

    Attributes:
        name: its path under train/experiments without the ending, or the file's stem.
        path: of its file.
        values: the merged tables.
        origins: {dotted key: the file that set it, or `--set`}.
    """

    name: str
    path: Path
    values: dict[str, Any]
    origins: Mapping[str, str]

    def place(self, key: str) -> str:
        """Name the file to mend where a setting is wrong; of a setting that no file names, the experiment's own."""
        asked = key
        # A table that no file sets as such is set where its first value is.
        inside = next((origin for known, origin in self.origins.items() if known.startswith(f"{key}.")), None)
        while key:
            origin = self.origins.get(key) or (inside if key == asked else None)
            if origin is not None:
                return origin if origin == str(self.path) else f"{self.path} ({origin})"
            key = key.rpartition(".")[0]
        return str(self.path)


def experiment_names() -> list[str]:
    """List the experiments under train/experiments, such as `probe` and `paper4/camulenet`."""
    files = (path for path in EXPERIMENTS.rglob("*.toml") if not path.name.startswith("_") and path != SYSTEMS)
    return sorted(_name(path) for path in files)


def open_experiment(experiment: str, overrides: Sequence[str] = ()) -> ExperimentFile:
    """Read an experiment's file and those it extends.

    What `extends` names is first looked for beside the file that says it, then under train/experiments: a `probe.toml`
    of one's own beside the file takes the place of the shipped one.

    Args:
        experiment: a name under train/experiments, or the path of a TOML file.
        overrides: `dotted.key=value`, the value as in TOML; what is no TOML value is taken as text, except what begins
            like a list or a table.

    Returns:
        The merged tables, with the file or `--set` that each value comes from.

    Raises:
        EmocacheError: no such experiment (the nearest one is named), a file that is no TOML, that extends itself, or
            whose name cannot be that of a folder of runs.
    """
    path = _find(experiment)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, part in _parts(path, ()):
        # A label map that added to another's would mix two sets of classes; a search would grow unseen.
        values = merge({k: v for k, v in values.items() if not (k in _WHOLE and k in part)}, part)
        origins |= dict.fromkeys(flatten(part), str(origin))
    for key, value in (_override(text) for text in overrides):
        values = {**values, key: value} if key in _WHOLE else merge(values, nested(key, value))
        origins |= {key: "--set", **dict.fromkeys(flatten(nested(key, value)), "--set")}
    return ExperimentFile(_name(path), path, values, origins)


def sweep_override(sweep: str) -> str:
    """Turn `KEY=[v1, v2]` into the override that adds it to `[search]`; EmocacheError where it is no list."""
    value = _override(sweep, "--sweep", "KEY=[VALUE, ...], such as head.hidden=[64, 128]")[1]
    if not isinstance(value, list) or not value:
        raise EmocacheError(f"--sweep {sweep!r} is not KEY=[VALUE, ...], such as head.hidden=[64, 128]")
    return f"search.{sweep.strip()}"


def beside(path: Path, name: str, setting: str) -> Path:
    """Find the file that another one names: beside it, else a shipped one; with an underscore, a part of experiments.

    Args:
        path: the file that names it.
        name: as it stands there.
        setting: where it stands, for errors.

    Returns:
        A path that is a file.

    Raises:
        EmocacheError: there is none; the nearest experiment is named.
    """
    candidates = (path.parent / f"{name}.toml", EXPERIMENTS / f"{name}.toml", path.parent / name)
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        near = _near_experiment(name)
        hint = f"did you mean {near!r}? " if near else ""
        raise EmocacheError(f"{setting} {name!r} is neither beside it nor under {EXPERIMENTS}; {hint}give the"
                            " name of an experiment, or the path of its file")  # fmt: skip
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on top of `base`, table by table; a head of another kind replaces the old one.

    A protocol of another name keeps those settings of the old one that it knows: random_folds keeps the `folds` of
    group_folds, and official does not. None keeps the settings of validation, which fall back to their defaults.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if (
            not isinstance(old, Mapping)
            or not isinstance(value, Mapping)
            or (key == "head" and _other_kind(old, value))
        ):
            merged[key] = value
        else:
            merged[key] = merge(_known_to(value["name"], old) if key == "protocol" and "name" in value else old, value)
    return merged


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """Build the tables that a dotted key and its value stand for."""
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def key_of(override: str) -> str:
    """Return the dotted key of `dotted.key=value`."""
    return _override(override)[0]


def _override(
    override: str, option: str = "--set", form: str = "KEY=VALUE, such as training.epochs=20"
) -> tuple[str, Any]:
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not key:
        raise EmocacheError(f"{option} {override!r} is not {form}")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text.startswith(("[", "{")):
            raise EmocacheError(f"{option} {override!r} is not TOML: {error}; text in it needs quotes, which the shell"
                                f" takes away unless all is quoted: {option} '{key}=[\"...\"]'") from None  # fmt: skip
        return key, text


def _name(path: Path) -> str:
    """Return the name of its folder below the runs folder, which is not the one that evaluation writes."""
    if path.is_relative_to(EXPERIMENTS):
        return path.relative_to(EXPERIMENTS).with_suffix("").as_posix()
    if path.stem.startswith(".") or path.stem.lower() == "evaluation":
        raise EmocacheError(f"{path}: runs cannot be stored under the name {path.stem!r}; rename the file")
    return path.stem


def _find(experiment: str) -> Path:
    shipped = experiment_names()
    if experiment in shipped:
        return EXPERIMENTS / f"{experiment}.toml"
    path = Path(experiment)
    if experiment.endswith(".toml"):
        if path.is_file():
            return path
        problem = "is a folder; give a file" if path.is_dir() else "does not exist"
        raise EmocacheError(f"experiment file {experiment!r} {problem}")
    near = _near_experiment(experiment)
    hint = f"did you mean {near!r}? " if near else ""
    there = " (a file without the ending .toml)" if path.is_file() else ""
    if experiment and path.is_dir():
        there = " (a folder)"
    raise EmocacheError(f"no experiment {experiment!r}{there}; {hint}`emocache train --list` names the shipped ones; or"
                        " give the path of a .toml file")  # fmt: skip


def _near_experiment(name: str) -> str | None:
    """Return the shipped experiment that a misspelt name probably meant, in whatever case it is written."""
    known = {shipped.lower(): shipped for shipped in experiment_names()}
    return known.get(nearest(name.lower(), list(known)) or "")


def _parts(path: Path, below: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (file, its own tables) of everything that a file extends, in the order of merging; itself last."""
    # Only what stands above in this chain is a circle: two files may well extend the same third one.
    if path.resolve() in (other.resolve() for other in below):
        raise EmocacheError(f"{path}: extends itself: {' -> '.join(str(one) for one in (*below, path))}; take out one"
                            " of these extends")  # fmt: skip
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
    for base in bases:
        yield from _parts(beside(path, base, f"{path}: extends"), (*below, path))
    yield path, own


def _known_to(protocol: object, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a protocol keeps of another's `[protocol]`; all of them where it is the same."""
    if protocol == old.get("name"):
        return dict(old)
    known = {key: value for key, value in old.items() if not owners(key) or protocol in owners(key)}
    return {key: value for key, value in known.items() if not key.startswith("validation")}


def _other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in new and new["kind"] != old.get("kind")
