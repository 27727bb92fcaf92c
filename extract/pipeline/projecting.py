"""PCA streams: a cached stream projected, never encoded again."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...cache import (
    Cache,
    Committed,
    DamagedError,
    EmocacheError,
    InputFailure,
    Item,
    Load,
    Manifest,
    Stream,
    StreamWriter,
    plan_tasks,
)
from ...cache.frames.projection import MAX_DIM, Projection, fit_frames
from ...cache.recipe import Recipe
from ..encoders.encoder import Encoder
from ..goals.passes import PcaGoal
from .encoding import Target
from .stream_targets import parse_layers


def check_projections(projections: Sequence[PcaGoal], manifest: Manifest, loaded: Mapping[str, Encoder]) -> None:
    """Refuse projections that cannot be made, before anything is encoded for them.

    Args:
        projections: asked for.
        manifest: of the corpus.
        loaded: the encoders by their names.

    Raises:
        EmocacheError: more components than dimensions, or utterances to fit on that the manifest cannot name.
    """
    for one in projections:
        manifest.select(one.fit_on)
        encoder = loaded.get(one.encoder)
        if encoder is not None and one.components > encoder.dim:
            what = f"has {encoder.dim} dimensions" if encoder.dim else "gives a table; extract it without --pca"
            raise EmocacheError(f"--pca {one.components}: encoder {encoder.name!r} {what}")


def pair_projections(
    projections: Sequence[PcaGoal], loaded: Mapping[str, Encoder], targets: Sequence[Target]
) -> Iterator[tuple[Target, PcaGoal]]:
    """Pair the streams of a pass with the projections of them.

    Args:
        projections: asked for.
        loaded: the encoders by their names.
        targets: the streams.

    Yields:
        (stream, projection), in the order of the streams.
    """
    for target in targets:
        for one in projections:
            encoder = loaded.get(one.encoder)
            if encoder is target.encoder and target.layer in parse_layers(one.layers, target.encoder):
                yield target, one


def waits_for(stream: Stream, one: PcaGoal) -> str | None:
    """Return the line that says which utterances to fit on are not extracted yet; None where all are."""
    absent = set(stream.manifest.select(one.fit_on)) & set(stream.missing)
    if not absent:
        return None
    return (
        f"{stream.name}.pca{one.components} waits for {len(absent)} utterances it is to be fitted on, such as"
        f" {min(absent)!r}; run the same command again when they are extracted"
    )


def project(
    cache: Cache,
    corpus: str,
    source: str,
    components: int,
    fit_on: str,
    tell: Callable[[Committed], None] = lambda done: None,
    *,
    dtype: str,
    backend: str,
    environment: Any,
) -> str:
    """Fit a PCA on some utterances of a stream and write the projection of all of them.

    A stream that was fitted on the same utterances of the same source is gone on with, so that one machine's rounding
    does not make another stream of it.

    Args:
        cache: the cache.
        corpus: its corpus.
        source: the stream to project, exact (`name@fingerprint`).
        components: dimensions to keep.
        fit_on: which utterances the PCA may see, see `Manifest.select`.
        tell: called with what each commit makes part of the stream.
        dtype: of the frames.
        backend: "zarr" or "hdf5".
        environment: stored beside the recipe.

    Returns:
        The new stream's name.

    Raises:
        EmocacheError: the source lacks an utterance to fit on that did not fail, or the fit is impossible.
    """
    stream = cache.stream(corpus, source)
    absent = set(stream.manifest.select(fit_on)) & set(stream.missing)
    if absent:
        raise EmocacheError(
            f"{corpus}/{stream.name}: {len(absent)} of the utterances to fit the PCA on are not extracted yet, such as"
            f" {min(absent)!r}; extract them first"
        )
    fitted = [utterance for utterance in stream.manifest.select(fit_on) if utterance in stream]
    name = f"{stream.name}.pca{components}"
    recipe, projection = _existing(cache, corpus, name, stream, fit_on, fitted, dtype) or (None, None)
    if recipe is None or projection is None:
        if not fitted:
            raise EmocacheError(f"{corpus}/{stream.name}: no utterance to fit the PCA on; see --fit-on")
        projection = fit_frames((stream.read(utterance) for utterance in fitted), components)
        recipe = _recipe(stream, projection, fit_on, fitted, dtype)
    data = projection.to_bytes()
    file = f"{recipe['projection']['matrix_sha256']}.safetensors"
    writer = cache.create_stream(corpus, name, recipe, backend=backend, environment=environment, fitted={file: data})
    _fill(writer, stream, projection, tell)
    return name


def project_with(cache: Cache, corpus: str, source: str, name: str, recipe: Recipe, matrix: bytes) -> None:
    """Write the projection of all utterances of a stream that another corpus's PCA gives.

    Args:
        cache: the cache.
        corpus: its corpus.
        source: the stream to project, exact.
        name: of the new stream.
        recipe: of the new stream, that of the other corpus.
        matrix: of the PCA, as `Projection.to_bytes` gave it.

    Raises:
        EmocacheError: the matrix is not the one that the recipe names.
    """
    digest = recipe["projection"]["matrix_sha256"]
    if hashlib.sha256(matrix).hexdigest() != digest:
        raise EmocacheError(f"stream {name!r}: the matrix of its projection is not the one that its recipe names")
    writer = cache.create_stream(corpus, name, recipe, fitted={f"{digest}.safetensors": matrix})
    _fill(writer, cache.stream(corpus, source), Projection.from_bytes(matrix), lambda done: None)


def _fill(writer: StreamWriter, stream: Stream, projection: Projection, tell: Callable[[Committed], None]) -> None:
    """Commit the projection of all that a stream serves, and its failures."""
    width = len(projection.components) * np.dtype(writer.recipe["dtype"]).itemsize
    loads = {i: Load(0.001, int(n) * width) for i, n in zip(stream.ids, stream.lengths(stream.ids), strict=True)}
    loads |= {i: Load(0.0, 0) for i in stream.failures}
    # An utterance that failed in the source may have been mended since; a failure told twice is committed once.
    for task in plan_tasks([writer], loads, retry_failed=True):
        items = {i: _projected(stream, i, projection) for i in task.ids if i in stream}
        failures = {i: InputFailure(*stream.failures[i]) for i in task.ids if i in stream.failures}
        tell(writer.commit(task.units[writer.name], items, failures))
    writer.finish()


def _projected(stream: Stream, utterance: str, projection: Projection) -> Item:
    times = stream.times(utterance) if stream.recipe["times"] is None else None
    return Item(projection.apply(stream.read(utterance)), times, stream.aux(utterance))


def _recipe(stream: Stream, projection: Projection, fit_on: str, fitted: Sequence[str], dtype: str) -> Recipe:
    return {
        **stream.recipe,
        "source": stream.fingerprint,
        "dim": len(projection.components),
        "dtype": dtype,
        "projection": {
            **_fit(stream, fit_on, fitted),
            "components": len(projection.components),
            "matrix_sha256": hashlib.sha256(projection.to_bytes()).hexdigest(),
        },
    }


def _fit(stream: Stream, fit_on: str, fitted: Sequence[str]) -> dict[str, Any]:
    """Describe what was fitted on: the digest of the frames seen, and the groups that no test set may share."""
    chosen = set(fitted)
    speakers = [s for i, s in zip(stream.manifest.ids, stream.manifest.column("speaker"), strict=True) if i in chosen]
    known = all(speaker is not None for speaker in speakers)
    return {
        "kind": "pca",
        **({"solver": "randomized"} if stream.dim > MAX_DIM else {}),
        "fit_on": fit_on,
        "ids_sha256": hashlib.sha256("\n".join(fitted).encode()).hexdigest(),
        "frames_digest": stream.digest(fitted),
        "speakers": sorted({speaker for speaker in speakers if speaker is not None}) or None,
        "ids": None if known else list(fitted),
    }


def _existing(
    cache: Cache, corpus: str, name: str, stream: Stream, fit_on: str, fitted: Sequence[str], dtype: str
) -> tuple[Recipe, Projection] | None:
    wanted = _fit(stream, fit_on, fitted)
    for info in cache.streams(corpus):
        found = info.recipe.get("projection") or {}
        same = info.recipe.get("source") == stream.fingerprint and info.recipe["dtype"] == dtype
        if info.name == name and same and {key: found.get(key) for key in wanted} == wanted:
            path = f"{info.folder}/fitted/{found['matrix_sha256']}.safetensors"
            data = cache.objects.get(path)
            if hashlib.sha256(data).hexdigest() != found["matrix_sha256"]:
                raise DamagedError(f"{cache.objects.url}/{path}: damaged; restore it from a copy, or remove the stream")
            return info.recipe, Projection.from_bytes(data)
    return None
