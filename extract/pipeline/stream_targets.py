"""The streams that a run fills: names, layers and full recipes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...cache import Cache, EmocacheError
from ...cache.nesting import flatten
from ...cache.recipe import Recipe, fingerprint, stream_name
from ..encoders.encoder import Encoder, storage_dtype
from .clips import Decoder
from .encoding import Target
from .sources import Sources


def make_targets(
    cache: Cache,
    corpus: str,
    chosen: Mapping[Encoder, Sequence[int | None]],
    decoder: Decoder,
    *,
    dtype: str | None,
    backend: str,
    environments: Mapping[Encoder, Mapping[str, Any]],
) -> list[Target]:
    """Create the streams of these encoders and layers where they are not there.

    Args:
        cache: that is written to.
        corpus: its corpus.
        chosen: {encoder: its layers}; None stands for the last one.
        decoder: whose part of the recipe is added.
        dtype: of the frames; None: as each encoder needs.
        backend: "zarr" or "hdf5".
        environments: what each encoder's recipe leaves out, stored beside it.

    Returns:
        A target for each encoder and layer.

    Raises:
        EmocacheError: two encoders would write a stream of one name, or the cache cannot be written.
    """
    names = {
        (encoder, layer): stream_name(encoder.name + decoder.sources.tag(encoder.inputs), layer)
        for encoder, layers in chosen.items()
        for layer in layers
    }
    for name in names.values():
        if list(names.values()).count(name) > 1:
            raise EmocacheError(f"two encoders would write a stream {name!r}; rename one of the checkpoint folders")
    return [
        Target(encoder, layer, cache.create_stream(
            corpus, name, full_recipe(encoder, layer, decoder, dtype or storage_dtype(encoder)),
            backend=backend, environment=environments[encoder]
        ))
        for (encoder, layer), name in names.items()
    ]  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """The recipe that a stream must have.

    Attributes:
        fingerprint: of the recipe.
        recipe: to tell what differs; it may be that of a projection of the stream.
        by: who expects it, for errors.
    """

    fingerprint: str
    recipe: Recipe
    by: str = "it was trained on"


def check_expected(
    chosen: Mapping[Encoder, Sequence[int | None]],
    decoder: Decoder,
    dtype: str | None,
    expected: Mapping[str, Expected],
) -> None:
    """Refuse encoders that would not give the numbers which are expected.

    Args:
        chosen: {encoder: its layers}.
        decoder: as for `make_targets`.
        dtype: as for `make_targets`.
        expected: {stream: its recipe}; other streams may have any.

    Raises:
        EmocacheError: another recipe; it says in what it differs, such as the weights.
    """
    for encoder, layers in chosen.items():
        for layer in layers:
            name = stream_name(encoder.name + decoder.sources.tag(encoder.inputs), layer)
            recipe = full_recipe(encoder, layer, decoder, dtype or storage_dtype(encoder))
            wanted = expected.get(name)
            if wanted is not None and fingerprint(recipe) != wanted.fingerprint:
                raise EmocacheError(f"stream {name!r}: {_difference(recipe, wanted)}")


def _difference(recipe: Recipe, expected: Expected) -> str:
    """Tell in what an encoder differs from the one that is wanted."""
    wanted, by = expected.recipe, expected.by
    here, there = recipe.get("weights_sha256"), wanted.get("weights_sha256")
    if here != there:
        return (f"the weights of {recipe['encoder']} here have sha256 {str(here)[:12]}, and those that {by}"
                f" {str(there)[:12]}; give the folder of those with --checkpoints, or get them with `emocache"
                f" checkpoints {recipe['encoder']} --fetch`")  # fmt: skip
    mine, others = flatten(recipe), flatten({k: v for k, v in wanted.items() if k not in ("source", "projection")})
    told = [f"{key} is {mine.get(key)!r}, not {others.get(key)!r}"
            for key in sorted({*mine, *others}) if mine.get(key) != others.get(key) and key != "dim"]  # fmt: skip
    return (f"this machine would make it otherwise than {by}: {'; '.join(told[:4]) or 'nobody knows how'};"
            " use the version of emocache, and the settings, that its streams were made with")  # fmt: skip


def full_recipe(encoder: Encoder, layer: int | None, decoder: Decoder, dtype: str) -> Recipe:
    """The encoder's recipe with what the stage adds: how media are decoded, where texts come from, the dtype."""
    recipe = {**encoder.recipe(layer), **decoder.recipe(encoder.inputs)}
    return recipe if recipe["kind"] == "table" else {**recipe, "dtype": dtype}


def parse_layers(text: str, encoder: Encoder) -> list[int | None]:
    """Read layers: `last`, `all` or numbers joined by commas (`4,5,last`).

    Args:
        text: as on the command line.
        encoder: whose layers they are.

    Returns:
        Numbers; None stands for the last one.

    Raises:
        EmocacheError: not such a list, or a layer the encoder does not have.
    """
    if not encoder.layers:
        return [None]
    layers: list[int | None] = []
    for part in [str(i) for i in range(encoder.layers + 1)] if text == "all" else text.split(","):
        word = part.strip()
        if word != "last" and not word.isdecimal():
            raise EmocacheError(f"--layers {text!r}: {word!r} is neither a number nor 'last' or 'all'")
        number = None if word == "last" or int(word) == encoder.layers else int(word)
        encoder.recipe(number)  # refuses a layer that is not there
        if number not in layers:
            layers.append(number)
    return layers


def complete_streams(
    cache: Cache,
    corpus: str,
    encoder: str,
    sources: Sources,
    *,
    layers: str,
    dtype: str,
    precision: str,
    pca: int | None,
    fit_on: str | None,
) -> list[str]:
    """Find what the cache holds of an encoder that cannot be had any more, if it is all that is asked for.

    Args:
        cache: the cache.
        corpus: its corpus.
        encoder: the encoder's name.
        sources: where texts come from.
        layers: as on the command line.
        dtype: as on the command line.
        precision: as on the command line.
        pca: as on the command line.
        fit_on: as on the command line.

    Returns:
        The streams, `name@fingerprint`; none if any lacks an utterance, or where nobody knows the layers ("all").
    """
    own = [info for info in cache.streams(corpus) if info.recipe["encoder"] == encoder]
    asked = {"dtype": dtype, "precision": precision}
    complete = {
        info.name: f"{info.name}@{info.fingerprint[:12]}"
        for info in own
        if all(info.recipe.get(key, value) == value for key, value in asked.items())
        and (info.recipe.get("projection") or {}).get("fit_on", fit_on) == fit_on
        and not cache.open_info(info).missing
    }
    if layers == "all":
        return []
    numbers = [None if word.strip() == "last" else int(word) for word in layers.split(",")]
    # Streams of generated text carry its source in their names, as they did when they were made.
    reads = any("text" in info.recipe["inputs"] or "text_from" in info.recipe for info in own)
    tagged = encoder + (sources.tag(("text",)) if reads else "")
    wanted = [stream_name(tagged, layer, n) for layer in numbers for n in dict.fromkeys((None, pca))]
    return [complete[name] for name in wanted] if complete.keys() >= set(wanted) else []
