"""Layers by one word: `{encoder = "whisper-base", layers = "all"}` stands for the list of their streams' names."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...cache import EmocacheError
from ...cache.hints import did_you_mean, nearest

if TYPE_CHECKING:  # pydantic, which is not loaded with the command line
    from .setting_errors import Place

_WORDS = ("encoder", "layers", "pca")
_OF_A_STREAM = re.compile(r"\.L\d+|\.pca\d+|@")  # what the name of a stream has beyond its encoder's

known_layers: Callable[[], Mapping[str, int]] = dict
"""Gives {encoder: its number of layers}; the command line sets it, for training knows no encoder."""


def names_layers(value: object) -> bool:
    """Tell whether a setting names layers of an encoder, and not streams or a table of inputs."""
    return isinstance(value, Mapping) and any(word in value for word in _WORDS)


def setting_of(key: str) -> str:
    """Return the setting that a dotted key belongs to.

    >>> setting_of("streams.audio.layers"), setting_of("streams.encoder"), setting_of("head.layers")
    ('streams.audio', 'streams', 'head.layers')
    """
    setting, _, word = key.rpartition(".")
    return setting if word in _WORDS and setting.partition(".")[0] == "streams" else key


def with_names(raw: Mapping[str, Any], place: "Place", there: Callable[[], Sequence[str]] = tuple) -> dict[str, Any]:
    """Put the names of streams in the place of layers, so that settings are the same however they are written.

    Args:
        raw: the merged tables of an experiment. In `streams`, layers are side by side; those of `search.streams` are
            a list of values like any other, each tried alone.
        place: gives the file that sets a dotted key.
        there: gives the streams of the cache, for errors.

    Returns:
        The tables with names only.

    Raises:
        EmocacheError: words, layers or encoders that there are not; or "all" layers of an encoder whose number nobody
            knows.
    """
    own = raw.get("encoders")
    encoders: Collection[str] = own if isinstance(own, Mapping) else ()

    def names(value: object, setting: str) -> list[str]:
        try:
            return _names(value, encoders, there) if isinstance(value, Mapping) else []
        except EmocacheError as error:
            raise EmocacheError(f"{place(setting)}: {setting}: {error}") from None

    def beside(value: Any, setting: str) -> Any:
        if names_layers(value):
            return names(value, setting)
        if isinstance(value, Mapping):
            return {role: beside(one, f"{setting}.{role}") for role, one in value.items()}
        if isinstance(value, list):
            return [name for one in value for name in (names(one, setting) if names_layers(one) else [one])]
        return value

    def apart(value: Any, setting: str) -> Any:
        if isinstance(value, Mapping) and not names_layers(value):
            return {role: apart(one, f"{setting}.{role}") for role, one in value.items()}
        return [beside(one, setting) for one in value] if isinstance(value, list) else beside(value, setting)

    found = dict(raw)
    if "streams" in raw:
        found["streams"] = beside(raw["streams"], "streams")
    if isinstance(search := raw.get("search"), Mapping):
        found["search"] = {
            key: apart(value, f"search.{key}") if key.partition(".")[0] == "streams" else value
            for key, value in search.items()
        }
    return found


def _names(told: Mapping[str, Any], own: Collection[str], there: Callable[[], Sequence[str]]) -> list[str]:
    """The streams of the layers; `own` are the encoders that the experiment gives a source, which may be any model."""
    from ...cache.recipe import stream_name  # with NumPy, which the command line starts without

    for word in told:
        if word not in _WORDS:
            near = nearest(word, _WORDS)
            hint = f"did you mean {near!r}?" if near else f"layers are told by {', '.join(_WORDS)}"
            raise EmocacheError(f"unknown setting {word!r}; {hint}")
    encoder, pca = told.get("encoder"), told.get("pca")
    if not isinstance(encoder, str) or not encoder:
        found = f"encoder is {encoder!r}" if "encoder" in told else "the encoder is not set"
        raise EmocacheError(f'{found}; name one, such as encoder = "whisper-base"; layers of several are'
                            " [{encoder = ..., layers = ...}, {encoder = ..., layers = ...}]")  # fmt: skip
    if _OF_A_STREAM.search(encoder):
        bare = _OF_A_STREAM.split(encoder)[0]
        raise EmocacheError(f'encoder {encoder!r} is the name of a stream; set encoder = "{bare}", and its layers')
    if "layers" not in told:
        raise EmocacheError(f'which layers of {encoder!r} is not set; set layers = "all", or such as [3, 4, "last"]')
    if pca is not None and (not isinstance(pca, int) or isinstance(pca, bool) or pca < 1):
        raise EmocacheError(f"pca is {pca!r}; give the components of streams such as {encoder}.L3.pca64, or leave it"
                            " out")  # fmt: skip
    base = encoder.partition(".from-")[0]  # of a text encoder on a transcript
    count = None if base in own else known_layers().get(base)
    if count == 0:
        raise EmocacheError(f'encoder {encoder!r} has no layers; name its stream: "{stream_name(encoder, None, pca)}"')
    if told["layers"] == "all":
        if count is None:
            raise EmocacheError(_unknown(encoder, base, pca, there()))
        return [stream_name(encoder, layer, pca) for layer in (*range(count), None)]
    return [stream_name(encoder, layer, pca) for layer in _numbers(told["layers"], encoder, count)]


def _numbers(layers: Any, encoder: str, count: int | None) -> list[int | None]:
    """Read a layer or a list of them; the last is None, by its number too where that is known."""
    numbers: list[int | None] = []
    for layer in layers if isinstance(layers, list) else [layers]:
        if layer != "last" and (not isinstance(layer, int) or isinstance(layer, bool)):
            hint = did_you_mean(layer, ("all", "last")) if isinstance(layer, str) and layer != "all" else ""
            raise EmocacheError(f'layer {layer!r} of {encoder!r} is neither a number nor "last"; {hint}give'
                                ' layers = "all", or such as [3, 4, "last"]')  # fmt: skip
        if layer != "last" and (layer < 0 or (count is not None and layer > count)):
            has = f"{encoder!r} has layers 0 to {count}" if count is not None else "layers are numbered from 0"
            raise EmocacheError(f'there is no layer {layer}: {has}; the last is "last" as well')
        number = None if layer in ("last", count) else layer
        if number in numbers:
            twice = f'{layer!r}, which is "last",' if layer == count else repr(layer)
            raise EmocacheError(f"layer {twice} of {encoder!r} is named twice; name each once")
        numbers.append(number)
    if not numbers:
        raise EmocacheError(f'no layer of {encoder!r} is named; give layers = "all", or such as [3, 4, "last"]')
    return numbers


def _unknown(encoder: str, base: str, pca: int | None, there: Sequence[str]) -> str:
    from ...cache.recipe import stream_name  # with NumPy, which the command line starts without

    near = nearest(base, known_layers(), 0.8)
    hint = f"did you mean {near!r}? " if near and base not in known_layers() else ""
    end = re.escape(stream_name("", None, pca))
    found = [re.fullmatch(rf"{re.escape(encoder)}(?:\.L(\d+))?{end}", name) for name in there]
    numbers = sorted(int(one[1]) for one in found if one is not None and one[1] is not None)
    words = [*map(str, numbers), *(['"last"'] if any(one is not None and one[1] is None for one in found) else [])]
    told = f"the cache has layers = [{', '.join(words)}]" if words else 'such as layers = [3, 4, "last"]'
    return (f"the number of layers of {encoder!r} is not known here, only that of what `emocache encoders` lists;"
            f" {hint}write them out: {told}")  # fmt: skip
