"""Experiments as TOML files: what they extend, and which file set which value."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache import EmocacheError
from ...cache.nesting import flatten
from .experiment_names import Place, data_path, each_of, experiment_names, find_experiment, place_beside, read_tables
from .layer_words import names_layers
from .registries import owners

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
    place = find_experiment(experiment)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, part in _parts(place, ()):
        if isinstance(part.get("description"), str):  # which may go on from what it extends
            part = _filled(part, "description", str(values.get("description", "")))
        part = _located(part, origin)
        # A label map that added to another's would mix two sets of classes; a search would grow unseen.
        values = merge({k: v for k, v in values.items() if not (k in _WHOLE and k in part)}, part)
        origins |= dict.fromkeys(flatten(part), str(origin))
    for key, value in (_override(text) for text in overrides):
        values = {**values, key: value} if key in _WHOLE else merge(values, _located(nested(key, value), None))
        origins |= {key: "--set", **dict.fromkeys(flatten(nested(key, value)), "--set")}
    return ExperimentFile(place.name, place.path, values, origins)


def sweep_override(sweep: str) -> str:
    """Turn `KEY=[v1, v2]` into the override that adds it to `[search]`; EmocacheError where it is no list."""
    value = _override(sweep, "--sweep", "KEY=[VALUE, ...], such as head.hidden=[64, 128]")[1]
    if (not isinstance(value, list) or not value) and not names_layers(value):
        raise EmocacheError(f"--sweep {sweep!r} is not KEY=[VALUE, ...], such as head.hidden=[64, 128]")
    return f"search.{sweep.strip()}"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on top of `base`, table by table; a head of another kind replaces the old one.

    So does `streams` where one has layers of an encoder and the other streams of each input.

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
            or (key == "streams" and names_layers(old) != names_layers(value))
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


def _parts(place: Place, below: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (file, its own tables) of everything that a file extends, in the order of merging; itself last."""
    path, value = place
    # Only what stands above in this chain is a circle: two files may well extend the same third one.
    if below and path.resolve() == below[-1].resolve() and path.stem in experiment_names():
        raise EmocacheError(f"{path}: extends itself, since {path.stem!r} is first looked for beside the file; to"
                            f" extend the shipped one, give the file another name, such as my-{path.name}")  # fmt: skip
    if path.resolve() in (other.resolve() for other in below):
        raise EmocacheError(f"{path}: extends itself: {' -> '.join(str(one) for one in (*below, path))}; take out one"
                            " of these extends")  # fmt: skip
    own, bases = read_tables(path)
    own.pop("each", None)
    each = each_of(path) if value is not None else None
    if each is not None and each.setting == "extends":
        bases = [str(value), *bases]
    parts = [part for base in bases
             for part in _parts(place_beside(path, base, f"{path}: extends"), (*below, path))]  # fmt: skip
    parts.append((path, own))
    if each is None or each.setting == "extends":
        yield from parts
        return
    # What the file extends may leave the value open as well.
    yield from ((file, _filled(tables, each.setting, str(value))) for file, tables in parts)
    if not any("fusion" in tables for _, tables in parts):  # which has no settings of its own
        yield path, nested(each.setting, value)


def _filled(value: Any, setting: str, with_: str) -> Any:
    """Put the value in the place of `{setting}` in every text."""
    if isinstance(value, str):
        return value.replace(f"{{{setting}}}", with_)
    if isinstance(value, list):
        return [_filled(one, setting, with_) for one in value]
    return {key: _filled(one, setting, with_) for key, one in value.items()} if isinstance(value, dict) else value


def _located(tables: dict[str, Any], origin: Path | None) -> dict[str, Any]:
    """Resolve the path in `protocol.file`; None: of `--set`."""
    protocol = tables.get("protocol")
    if not isinstance(protocol, Mapping) or not isinstance(file := protocol.get("file"), str) or not file:
        return tables
    return {**tables, "protocol": {**protocol, "file": data_path(origin, file)}}


def _known_to(protocol: object, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a protocol keeps of another's `[protocol]`; all of them where it is the same."""
    if protocol == old.get("name"):
        return dict(old)
    known = {key: value for key, value in old.items() if not owners(key) or protocol in owners(key)}
    return {key: value for key, value in known.items() if not key.startswith(("validation", "test_on"))}


def _other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in new and new["kind"] != old.get("kind")
