"""From an experiment's TOML file to its settings: inheritance, overrides, the search, and errors in one line."""

import difflib
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..cache import EmocacheError
from .heads import head_entry
from .settings import LOSSES, Settings

EXPERIMENTS = Path(__file__).parent / "experiments"

_Model = TypeVar("_Model", bound=BaseModel)


def load_settings(experiment: str, overrides: Sequence[str] = ()) -> tuple[str, Settings]:
    """Read an experiment.

    Args:
        experiment: a name under train/experiments, or the path of a TOML file.
        overrides: `dotted.key=value`, the value as in TOML; what is no TOML value is taken as text.

    Returns:
        The experiment's name (its path under train/experiments, or the file's stem), and its settings.

    Raises:
        EmocacheError: no such experiment, a file that is no TOML, a setting that does not exist (the nearest one is
            named) or a value that does not fit.
    """
    path = _find(experiment)
    raw = _read(path, ())
    fixed = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise EmocacheError(f"--set {override!r} is not KEY=VALUE, such as training.epochs=20")
        fixed.add(key.strip())
        value = _toml_value(text.strip())
        raw = {**raw, "search": value} if key.strip() == "search" else _merge(raw, _nested(key.strip(), value))
    settings = _parse(raw, f"experiment {_name(path)!r}")
    # A setting given by hand is not searched.
    settings = settings.model_copy(update={"search": {k: v for k, v in settings.search.items() if k not in fixed}})
    list(search_points(settings))
    return _name(path), settings


def search_points(settings: Settings) -> Iterator[tuple[dict[str, Any], Settings]]:
    """Every point of the search: what it sets, and the settings with that set. One, without a search.

    Raises:
        EmocacheError: a point sets what does not exist, or a value that does not fit.
    """
    raw = settings.model_dump(exclude={"search"})
    for values in itertools.product(*settings.search.values()):
        chosen = dict(zip(settings.search, values, strict=True))
        point = raw
        for key, value in chosen.items():
            point = _merge(point, _nested(key, value))
        yield chosen, _parse(point, "[search]")


def experiment_names() -> list[str]:
    """Every experiment under train/experiments, such as `probe` and `paper4/camulenet`."""
    files = (path for path in EXPERIMENTS.rglob("*.toml") if not path.name.startswith("_"))
    return sorted(path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in files)


def _name(path: Path) -> str:
    inside = path.is_relative_to(EXPERIMENTS)
    return path.relative_to(EXPERIMENTS).with_suffix("").as_posix() if inside else path.stem


def _find(experiment: str) -> Path:
    shipped = experiment_names()
    if experiment in shipped:
        return EXPERIMENTS / f"{experiment}.toml"
    if experiment.endswith(".toml"):
        if Path(experiment).is_file():
            return Path(experiment)
        raise EmocacheError(f"experiment file {experiment!r} does not exist")
    near = _nearest(experiment, shipped)
    hint = f"did you mean {near!r}? There are" if near else "there are"
    raise EmocacheError(f"no experiment {experiment!r}; {hint}: {', '.join(shipped)}; or give the path of a .toml file")


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    if path in below:
        raise EmocacheError(f"experiment {path.stem!r} extends itself: {' -> '.join(p.stem for p in (*below, path))}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EmocacheError(f"{path}: not a TOML file: {error}") from error
    bases = raw.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise EmocacheError(f"{path}: extends is {bases!r}; give the name of an experiment, or a list of names")
    inherited: dict[str, Any] = {}
    for part in [*(_read(_base(path, base), (*below, path)) for base in bases), raw]:
        for table in {"labels", "search"} & set(part):
            inherited.pop(table, None)
        inherited = _merge(inherited, part)
    return inherited


def _base(path: Path, name: str) -> Path:
    """The file that `path` extends: beside it, or a shipped one. Names with an underscore are parts, no experiments."""
    candidates = (path.parent / f"{name}.toml", EXPERIMENTS / f"{name}.toml")
    return next((candidate for candidate in candidates if candidate.is_file()), None) or _find(name)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, table by table; a head of another kind replaces the old one."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not (key == "head" and _other_kind(old, value)):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in new and new["kind"] != old.get("kind")


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _parse(raw: Mapping[str, Any], where: str) -> Settings:
    raw = dict(raw)
    if "streams" not in raw:
        raise EmocacheError(f"{where}: no streams; say which to train on, such as --set 'streams=[\"whisper-base\"]'")
    head = raw.get("head")
    if not isinstance(head, Mapping) or "kind" not in head:
        raise EmocacheError(f"{where}: the [head] table needs a kind")
    try:
        head_settings = head_entry(head["kind"]).settings
    except EmocacheError as error:
        raise EmocacheError(f"{where}: {error}") from None
    raw["head"] = _validate(head_settings, head, where, "head.")
    task = raw.get("task", "classification")
    for table, key, default in (
        ("loss", "kind", LOSSES.get(task, ("",))[0]),
        ("selection", "metric", {"classification": "accuracy", "distribution": "loss"}.get(task, "ccc")),
    ):
        if isinstance(raw.get(table, {}), Mapping):
            raw[table] = {key: default, **raw.get(table, {})}
    if isinstance(raw.get("search"), Mapping):
        raw["search"] = _flatten(raw["search"])
    return _validate(Settings, raw, where, "")


def _validate(model: type[_Model], raw: Mapping[str, Any], where: str, prefix: str) -> _Model:
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        name = prefix + ".".join(place)
        if first["type"] == "extra_forbidden":
            raise EmocacheError(f"{where}: unknown setting {name!r}; {_hint(model, place, prefix)}") from None
        text = first["msg"].removeprefix("Value error, ")
        found = "" if isinstance(first["input"], Mapping | BaseModel) else f" (found {first['input']!r})"
        raise EmocacheError(f"{where}: {name + ': ' if name else ''}{text}{found}") from None


def _hint(model: type[BaseModel], place: Sequence[str], prefix: str) -> str:
    table = model
    for part in place[:-1]:
        inner = table.model_fields[part].annotation
        table = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else table
    inside = prefix + "".join(f"{part}." for part in place[:-1])
    known = [inside + name for name in table.model_fields]
    everywhere = _setting_names(model, prefix)
    last = {name.rpartition(".")[2]: name for name in everywhere}
    near = _nearest(inside + place[-1], known) or last.get(_nearest(place[-1], list(last)) or "")
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


def _nearest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), None)
