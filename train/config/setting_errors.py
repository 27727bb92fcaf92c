"""Validation by pydantic, whose errors become one line that names the file and the setting."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...cache import EmocacheError
from ...cache.hints import nearest

_Model = TypeVar("_Model", bound=BaseModel)
Place = Callable[[str], str]
"""Gives the file that sets a dotted key."""

_TABLES = ("dict_type", "model_type", "model_attributes_type")  # pydantic's names of a table that is none


def validated(model: type[_Model], raw: Mapping[str, Any], place: Place, prefix: str) -> _Model:
    """Validate raw values.

    Args:
        model: of a table, or of a whole experiment.
        raw: the values as they are in the files.
        place: gives the file that sets a dotted key.
        prefix: dotted, with a dot at its end, where the model is not the whole experiment.

    Returns:
        An instance of the model.

    Raises:
        EmocacheError: a setting is unknown, not set or does not fit; it names the file and the setting.
    """
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        # A setting of several types has an error of each; only the deepest is about what was meant.
        first = max(error.errors(), key=lambda one: len(one["loc"]))  # the alternative that came furthest
        keys = [str(part) for part in first["loc"] if "[" not in str(part)]  # without names of types
        name = prefix + ".".join(keys)
        where = place(name)
        if first["type"] == "extra_forbidden":
            raise EmocacheError(f"{where}: unknown setting {name!r}; {_known_names(model, keys, prefix)}") from None
        if first["type"] == "missing":
            raise EmocacheError(f"{where}: {name} is not set; set it there, or with --set {name}=...") from None
        text = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
        text = text.replace("Tuple should", "List should").partition(" after validation")[0]
        if first["type"] in _TABLES:
            text = f"Input should be a table, [{name}]"
        found = "" if isinstance(first["input"], Mapping | BaseModel) else f" (found {first['input']!r})"
        raise EmocacheError(f"{where}: {name + ': ' if name else ''}{text}{found}") from None


_MEANT = {
    "label": "targets",
    "lr": "training.learning_rate",
    "encoder": "streams",
}
"""{names that other tools have for a setting: ours}, where another of our names looks more like it."""


def _known_names(model: type[BaseModel], keys: Sequence[str], prefix: str) -> str:
    """Return the setting that a misspelt one probably meant, or all there are in its table."""
    table = model
    for part in keys[:-1]:
        inner = table.model_fields[part].annotation
        table = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else table
    inside = prefix + "".join(f"{part}." for part in keys[:-1])
    known = [inside + name for name in table.model_fields]
    last = {name.rpartition(".")[2]: name for name in _setting_names(model, prefix)}
    if keys[-1] in _MEANT:
        return f"did you mean {_MEANT[keys[-1]]!r}?"
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
