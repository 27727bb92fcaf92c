"""From an experiment's TOML file to its settings: validation, the search, and errors in one line."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from ...cache import EmocacheError
from ..heads import HeadSettings, head_entry
from .experiment_files import (
    EXPERIMENTS,
    ExperimentFile,
    experiment_names,
    flatten,
    key_of,
    merge,
    nearest,
    nested,
    open_experiment,
)
from .fusion_settings import FusionSettings
from .sections import FeatureSettings
from .settings import LOSSES, NUMBERS, Settings

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "experiment_names",
    "load_experiment",
    "load_settings",
    "search_points",
]

_Model = TypeVar("_Model", bound=BaseModel)
_Place = Callable[[str], str]  # dotted key -> the file that sets it

_MOST_POINTS = 1000  # of a search; each is trained in every fold and seed
_TABLES = ("dict_type", "model_type", "model_attributes_type")  # pydantic's names of a table that is none


class Experiment(NamedTuple):
    """A validated experiment, and the file it is in."""

    name: str
    path: Path
    settings: Settings | FusionSettings


def load_experiment(
    experiment: str, overrides: Sequence[str] = (), there: Callable[[], Sequence[str]] = tuple
) -> Experiment:
    """Read an experiment, with a head or a fusion of others.

    Args:
        experiment: a name under train/experiments, or the path of a TOML file.
        overrides: `dotted.key=value`, the value as in TOML; what is no TOML value is taken as text. Of a fusion only
            `fusion.` settings are its own; the others are for its members.
        there: gives the streams there are to train on, for the error of an experiment that names none.

    Raises:
        EmocacheError: no such experiment, a file that is no TOML, a setting that does not exist (the nearest one is
            named) or a value that does not fit. It names the file and the setting.
    """
    file = open_experiment(experiment)
    if "fusion" in file.values:
        own = [override for override in overrides if key_of(override).partition(".")[0] == "fusion"]
        return Experiment(file.name, file.path, _parse_fusion(open_experiment(experiment, own)))
    file = open_experiment(experiment, overrides)
    if "streams" not in file.values:
        raise EmocacheError(f"{file.place('')}: no streams; {_streams_hint(there())}")
    settings = _parse(file.values, file.place)
    # A setting given by hand is not searched.
    fixed = {key_of(override) for override in overrides}
    settings = settings.model_copy(update={"search": {k: v for k, v in settings.search.items() if k not in fixed}})
    try:
        list(search_points(settings))
    except EmocacheError as error:
        raise EmocacheError(f"{file.place('search')}: {error}") from None
    return Experiment(file.name, file.path, settings)


def load_settings(experiment: str, overrides: Sequence[str] = ()) -> tuple[str, Settings]:
    """Name and settings of an experiment with a head; see `load_experiment`.

    Raises:
        EmocacheError: see there; or the experiment fuses others.
    """
    name, path, settings = load_experiment(experiment, overrides)
    if isinstance(settings, FusionSettings):
        raise EmocacheError(f"{path}: {name!r} fuses stored predictions and has no head of its own; name one of its"
                            f" members: {', '.join(settings.fusion.members)}")  # fmt: skip
    return name, settings


def search_points(settings: Settings) -> Iterator[tuple[dict[str, Any], Settings]]:
    """Every point of the search: what it sets, and the settings with that set. One, without a search.

    Raises:
        EmocacheError: a point sets what does not exist, or a value that does not fit; or there are too many.
    """
    if (count := math.prod(map(len, settings.search.values()))) > _MOST_POINTS:
        raise EmocacheError(f"search: {count} combinations of {', '.join(settings.search)}, each trained in every fold"
                            f" and seed; give at most {_MOST_POINTS}")  # fmt: skip
    if not settings.search:
        yield {}, settings
        return
    raw = settings.model_dump(exclude={"search"})
    for values in itertools.product(*settings.search.values()):
        chosen = dict(zip(settings.search, values, strict=True))
        point = raw
        for key, value in chosen.items():
            point = merge(point, nested(key, value))
        made = _parse(point, lambda _: "[search]")
        if made.targets_scale != settings.targets_scale:
            raise EmocacheError(f"search: {' and '.join(chosen)} would try heads with bounded outputs beside others,"
                                " whose targets have another scale; give each an experiment of its own")  # fmt: skip
        yield chosen, made


def _parse_fusion(file: ExperimentFile) -> FusionSettings:
    others = sorted(set(file.values) - {"description", "report", "fusion"})
    if others:
        raise EmocacheError(f"{file.place(others[0])}: unknown setting {others[0]!r} of a fusion, which has"
                            " description, report and [fusion] only; set it in its members")  # fmt: skip
    return _validate(FusionSettings, file.values, file.place, "")


def _parse(raw: Mapping[str, Any], place: _Place) -> Settings:
    raw = dict(raw)
    head = raw.get("head")
    if not isinstance(head, Mapping) or "kind" not in head:
        raise EmocacheError(f"{place('head')}: the [head] table needs a kind")
    try:
        head_settings = head_entry(head["kind"]).settings
    except EmocacheError as error:
        raise EmocacheError(f"{place('head.kind')}: {error}") from None
    raw["head"] = _validate(head_settings, head, place, "head.")
    _check_features(raw.get("features"), place)
    task = raw.get("task", "classification")
    if not isinstance(task, str) or task not in LOSSES:
        raise EmocacheError(f"{place('task')}: task {task!r} is unknown; it can be: {', '.join(LOSSES)}")
    for table, key, default in (
        ("loss", "kind", LOSSES.get(task, ("",))[0]),
        ("selection", "metric", {"classification": "accuracy", "distribution": "loss"}.get(task, "ccc")),
    ):
        if isinstance(raw.get(table, {}), Mapping):
            raw[table] = {key: default, **raw.get(table, {})}
    raw["targets_scale"] = _targets_scale(raw.get("targets_scale"), task, raw["head"])
    if isinstance(raw.get("search"), Mapping):
        raw["search"] = flatten(raw["search"])
    return _validate(Settings, raw, place, "")


def _targets_scale(asked: Any, task: str, head: HeadSettings) -> Any:
    """Targets that have a unit are standardised by default, where the head's values can follow; others never are."""
    if task in NUMBERS and head.bounds() is None:
        return "train" if asked is None else asked
    return None if asked == "none" else asked


def _streams_hint(there: Sequence[str]) -> str:
    told = f"the cache has: {', '.join(there)}" if there else "`emocache cache ls CACHE` lists those of a cache"
    return f"say which to train on, such as --set 'streams=[\"{there[0] if there else 'NAME'}\"]'; {told}"


def _check_features(features: Any, place: _Place) -> None:
    """What a file sets for single inputs, so that an error names the input's table."""
    if not isinstance(features, Mapping):
        return
    common = {key: value for key, value in features.items() if not isinstance(value, Mapping)}
    for role, own in features.items():
        if isinstance(own, Mapping) and role != "roles":
            _validate(FeatureSettings, {**common, **own}, place, f"features.{role}.")


def _validate(model: type[_Model], raw: Mapping[str, Any], place: _Place, prefix: str) -> _Model:
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        first = max(error.errors(), key=lambda one: len(one["loc"]))  # the alternative that came furthest
        keys = [str(part) for part in first["loc"] if "[" not in str(part)]  # without names of types
        name = prefix + ".".join(keys)
        where = place(name)
        if first["type"] == "extra_forbidden":
            raise EmocacheError(f"{where}: unknown setting {name!r}; {_hint(model, keys, prefix)}") from None
        if first["type"] == "missing":
            raise EmocacheError(f"{where}: {name} is not set; set it there, or with --set {name}=...") from None
        text = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
        text = text.replace("Tuple should", "List should").partition(" after validation")[0]
        if first["type"] in _TABLES:
            text = f"Input should be a table, [{name}]"
        found = "" if isinstance(first["input"], Mapping | BaseModel) else f" (found {first['input']!r})"
        raise EmocacheError(f"{where}: {name + ': ' if name else ''}{text}{found}") from None


def _hint(model: type[BaseModel], keys: Sequence[str], prefix: str) -> str:
    table = model
    for part in keys[:-1]:
        inner = table.model_fields[part].annotation
        table = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else table
    inside = prefix + "".join(f"{part}." for part in keys[:-1])
    known = [inside + name for name in table.model_fields]
    last = {name.rpartition(".")[2]: name for name in _setting_names(model, prefix)}
    near = nearest(keys[-1], list(table.model_fields), 0.5)
    near = inside + near if near else last.get(nearest(keys[-1], list(last)) or "")
    return f"did you mean {near!r}?" if near else f"it can be: {', '.join(known)}"


def _setting_names(model: type[BaseModel], prefix: str) -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += _setting_names(inner, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names
