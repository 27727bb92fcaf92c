"""Which streams a run fills: names, layers and full recipes."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..cache import Cache, EmocacheError
from ..cache.recipe import Recipe, stream_name
from .clips import Decoder
from .encoders.base import Encoder
from .encoding import Target
from .sources import Sources


def make_targets(
    cache: Cache,
    corpus: str,
    chosen: Mapping[Encoder, Sequence[int | None]],
    decoder: Decoder,
    sources: Sources,
    *,
    dtype: str,
    backend: str,
    environment: Mapping[str, Any],
) -> list[Target]:
    """The streams of these encoders and layers, created in the cache where they are not there.

    Raises:
        EmocacheError: two encoders would write a stream of one name, or the cache cannot be written.
    """
    names = {
        (encoder, layer): stream_name(encoder.name + sources.tag(encoder.inputs), layer)
        for encoder, layers in chosen.items()
        for layer in layers
    }
    for name in names.values():
        if list(names.values()).count(name) > 1:
            raise EmocacheError(f"two encoders would write a stream {name!r}; rename one of the checkpoint folders")
    return [
        Target(encoder, layer, cache.create_stream(
            corpus, name, full_recipe(encoder, layer, decoder, sources, dtype), backend=backend, environment=environment
        ))
        for (encoder, layer), name in names.items()
    ]  # fmt: skip


def full_recipe(encoder: Encoder, layer: int | None, decoder: Decoder, sources: Sources, dtype: str) -> Recipe:
    """The encoder's recipe with what the stage adds: how media are decoded, where texts come from, the dtype."""
    recipe = {**encoder.recipe(layer), **decoder.recipe(encoder.inputs), **sources.recipe(encoder.inputs)}
    return recipe if recipe["kind"] == "table" else {**recipe, "dtype": dtype}


def parse_layers(text: str, encoder: Encoder) -> list[int | None]:
    """Layers of `last`, `all` or numbers joined by commas (`4,5,last`); None stands for the last one.

    Raises:
        EmocacheError: not such a list, or a layer the encoder does not have.
    """
    if not encoder.layers:
        return [None]
    layers: list[int | None] = []
    for part in [str(i) for i in range(encoder.layers + 1)] if text == "all" else text.split(","):
        word = part.strip()
        if word != "last" and not word.isdigit():
            raise EmocacheError(f"--layers {text!r}: {word!r} is neither a number nor 'last' or 'all'")
        number = None if word == "last" or int(word) == encoder.layers else int(word)
        encoder.recipe(number)  # refuses a layer that is not there
        if number not in layers:
            layers.append(number)
    return layers
