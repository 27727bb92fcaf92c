"""Stage 1 as a whole: a corpus folder in, streams out."""

import contextlib
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..cache import Cache, EmocacheError, Manifest, Utterance, plan_tasks
from ..cache.recipe import Recipe, stream_name
from . import corpora, encoders, estimate, pipeline
from .encoders.base import Clip, Encoder
from .media import AUDIO_RECIPE, decode_audio
from .progress import Progress
from .projecting import project

_BUDGET = {"cpu": 60.0, "cuda": 960.0}  # seconds of audio in a batch


@dataclass(frozen=True)
class Options:
    """What `emocache extract` takes; see its help."""

    corpus: str
    data: Path
    cache: str
    encoders: tuple[str, ...]
    layers: str = "last"
    checkpoints: Path | None = None
    pca: int | None = None
    fit_on: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    backend: str = "zarr"
    dtype: str = "float16"
    precision: str = "float32"
    device: str = "auto"
    workers: int = 2
    shard: tuple[int, int] = (1, 1)
    limit: int | None = None
    retry_failed: bool = False
    rehash: bool = False
    offline: bool = False


@dataclass
class Report:
    """What a run did and what is wrong.

    Attributes:
        corpus: its name in the cache. streams: names of the streams, PCA streams included.
        outcome: see `pipeline.Outcome`.
        already: items that were there before. missing: items that still are not.
        failures: {stream: {id: (reason, detail)}} of the utterances asked for, whenever they failed.
        notes: lines to tell the user.
    """

    corpus: str
    streams: list[str]
    outcome: pipeline.Outcome
    already: int = 0
    missing: int = 0
    failures: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def extract(options: Options) -> Report:
    """Bring the streams of a corpus up to date.

    Raises:
        EmocacheError: anything the user can mend.
        KeyboardInterrupt: after committing what was finished.
    """
    cache = Cache(options.cache)
    manifest = _manifest(cache, options)
    chosen = {encoder: parse_layers(options.layers, encoder) for encoder in _load(options)}
    _check_names([stream_name(e.name, layer) for e, layers in chosen.items() for layer in layers])
    if options.pca is not None and options.fit_on is not None:
        manifest.select(options.fit_on)
        for encoder in chosen:
            if options.pca > encoder.dim:
                raise EmocacheError(f"--pca {options.pca}: encoder {encoder.name!r} has {encoder.dim} dimensions")
    report = Report(manifest.corpus, [], pipeline.Outcome())
    report.notes += _put_manifest(cache, manifest)
    wanted = [u for n, u in enumerate(manifest) if options.limit is None or n < options.limit]
    environment = _environment(options)
    targets = [
        pipeline.Target(encoder, layer, cache.create_stream(
            manifest.corpus, stream_name(encoder.name, layer), full_recipe(encoder, layer, options.dtype),
            backend=options.backend, environment=environment,
        ))
        for encoder, layers in chosen.items() for layer in layers
    ]  # fmt: skip
    report.outcome = _run(options, cache, wanted, chosen, targets)
    ids = {utterance.id for utterance in wanted}
    for target in targets:
        target.writer.finish()
        stream = cache.stream(manifest.corpus, f"{target.writer.name}@{target.writer.fingerprint}")
        report.streams.append(stream.name)
        report.failures[stream.name] = {i: why for i, why in stream.failures.items() if i in ids}
        report.missing += len(stream.missing)
        report.already += len(ids & set(stream.ids))
    report.already -= report.outcome.committed
    for target in targets if options.pca is not None else ():
        _project(cache, target, options, environment, report)
    return report


def _project(cache: Cache, target: pipeline.Target, options: Options, environment: Any, report: Report) -> None:
    """Write the PCA stream, if all it is fitted on is there already."""
    components, fit_on = options.pca or 0, options.fit_on or "all"
    exact = f"{target.writer.name}@{target.writer.fingerprint}"
    stream = cache.stream(report.corpus, exact)
    absent = set(stream.manifest.select(fit_on)) & set(stream.missing)
    if absent:
        report.notes.append(
            f"{stream.name}.pca{components} waits for {len(absent)} utterances it is to be fitted on, such as"
            f" {min(absent)!r}; run the same command again when they are extracted"
        )
        return
    shared: Any = {"dtype": options.dtype, "backend": options.backend, "environment": environment}
    report.streams.append(project(cache, report.corpus, exact, components, fit_on, **shared))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise EmocacheError(f"two encoders would write a stream {name!r}; rename one of the checkpoint folders")


def _put_manifest(cache: Cache, manifest: Manifest) -> list[str]:
    """Make the manifest current; gives a line to tell if utterances of the one before are gone.

    Raises:
        EmocacheError: not one utterance is left, so this is another corpus under the same name.
    """
    before: set[str] = set()
    if manifest.corpus in cache.corpora():
        with contextlib.suppress(EmocacheError):  # damaged: this one takes its place
            before = set(cache.manifest(manifest.corpus).ids)
    gone = before - set(manifest.ids)
    if before and gone == before:
        raise EmocacheError(
            f"corpus {manifest.corpus!r} of cache {cache.objects.url} holds other utterances, such as {min(before)!r};"
            " give this one a name of its own (--map corpus=NAME for a table), or another --cache"
        )
    cache.put_manifest(manifest)
    return [f"{len(gone)} utterances of the manifest before are gone, such as {min(gone)!r}"] if gone else []


def full_recipe(encoder: Encoder, layer: int | None, dtype: str) -> Recipe:
    """The encoder's recipe with what the pipeline adds: how audio was decoded, and the storage dtype."""
    decoding = {"decoding": AUDIO_RECIPE} if "audio" in encoder.inputs else {}
    return {**encoder.recipe(layer), **decoding, "dtype": dtype}


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


def _manifest(cache: Cache, options: Options) -> Manifest:
    memory = cache.objects.local(f"{options.corpus}/.media-hashes.sqlite")
    hasher = corpora.MediaHasher(memory, rehash=options.rehash)
    return corpora.load(options.corpus, options.data, mapping=options.mapping, hasher=hasher)


def _load(options: Options) -> list[Encoder]:
    return [
        encoders.load(name, checkpoints=options.checkpoints, device=options.device, precision=options.precision,
                      offline=options.offline)
        for name in dict.fromkeys(options.encoders)
    ]  # fmt: skip


def _run(
    options: Options,
    cache: Cache,
    wanted: Sequence[Utterance],
    chosen: Mapping[Encoder, Sequence[int | None]],
    targets: Sequence[pipeline.Target],
) -> pipeline.Outcome:
    loads = estimate.loads(wanted, chosen, options.dtype)
    writers = [target.writer for target in targets]
    number, of = options.shard
    # Several workers want several units each, so that none waits for the last one.
    tasks = plan_tasks(writers, loads, retry_failed=options.retry_failed, min_units=1 if of == 1 else 4 * of)
    tasks = [task for task in tasks if task.number % of == number - 1]
    ids = {utterance for task in tasks for utterance in task.ids}
    left = {utterance.id: utterance for utterance in wanted if utterance.id in ids}
    needed = estimate.total_bytes(tasks, targets, left, options.dtype)
    folder = cache.objects.local("")
    estimate.check_room(folder, needed)
    if left:
        print(f"{len(left)} of {len(wanted)} utterances to encode, about {needed / 1e6:.1f} MB", file=sys.stderr)
    decode = partial(clip, options.data, inputs={name for encoder in chosen for name in encoder.inputs})
    budget = _BUDGET["cuda" if _on_gpu(options.device) else "cpu"]
    with Progress(sum(len(task.ids) for task in tasks)) as progress:
        return pipeline.run(
            tasks, targets, left, decode,
            budget=budget, workers=options.workers, retry_failed=options.retry_failed, tell=progress,
        )  # fmt: skip


def clip(data: Path, utterance: Utterance, inputs: set[str]) -> Clip:
    """What encoders with these inputs need of an utterance, decoded."""
    audio = None
    media = utterance.media_of("audio")
    if "audio" in inputs and media is not None:
        audio = decode_audio(data / media.path, utterance.start, utterance.end)
    return Clip(utterance.id, audio, utterance.text, utterance.words)


def _on_gpu(device: str) -> bool:
    if device == "auto":
        import torch

        return torch.cuda.is_available()
    return device.startswith("cuda")


def _environment(options: Options) -> dict[str, Any]:
    """What the recipe leaves out, recorded beside it: library versions and the machine."""
    packages = {}
    for name in ("emocache", "numpy", "scipy", "soundfile", "soxr", "torch", "transformers", "zarr", "h5py"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"packages": packages, "python": platform.python_version(), "device": options.device,
            "machine": f"{platform.system()} {platform.machine()}"}  # fmt: skip


def unresolved_lines(report: Report) -> list[str]:
    """One line per utterance that is not in a stream, and why."""
    lines = [
        f"failed: {stream}: {utterance}: {reason}: {detail}"
        for stream, failures in report.failures.items()
        for utterance, (reason, detail) in sorted(failures.items())
    ]
    return lines + [f"unresolved: {i}: {why}" for i, why in sorted(report.outcome.unresolved.items())]
