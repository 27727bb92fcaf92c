"""Stage 1 as a whole: a corpus folder in, streams out."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...cache import Cache, EmocacheError, Manifest, Utterance, media_hashes, plan_tasks
from ...cache.device import tell_device
from ...cache.telling import tell
from .. import corpora, encoders
from ..encoders.centerface import load_detector
from ..encoders.encoder import Encoder, face_cuts, seconds, storage_dtype
from ..encoders.provenance import origin
from ..goals.passes import Making, Pass, PcaGoal, pass_of_flags
from . import encoding_loop, estimate, machine
from .clips import Decoder, known_faces
from .progress import Pace, Progress
from .projecting import check_projections, pair_projections, project, waits_for
from .sources import Sources
from .stream_targets import Expected, check_expected, complete_streams, make_targets, parse_layers


@dataclass(frozen=True)
class Options:
    """The options of `emocache extract`; see its help."""

    corpus: str
    data: Path
    cache: str
    encoders: tuple[str, ...]
    alias: str | None = None
    layers: str = "last"
    checkpoints: Path | None = None
    pca: int | None = None
    fit_on: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    text_from: str | None = None
    words_from: str | None = None
    fps: float | None = None
    detector: str = "dlib"
    detect_every: int = 1
    backend: str = "zarr"
    dtype: str | None = None  # None: as each encoder needs
    precision: str = "float32"
    device: str = "auto"
    workers: int | None = None  # None: as many as there are cores
    shard: tuple[int, int] = (1, 1)
    limit: int | None = None
    retry_failed: bool = False
    rehash: bool = False
    single_writer: bool = False
    offline: bool = False
    goals: Pass | None = None  # in place of encoders, layers, pca, fit_on and alias
    manifest: Manifest | None = None  # in place of the corpus that `corpus` names
    only: frozenset[str] | None = None  # ids of the utterances that are wanted; None: all
    expected: Mapping[str, Expected] = field(default_factory=dict)  # of streams, by name


@dataclass
class Report:
    """The report of a run: what it did and what is wrong.

    Attributes:
        corpus: its name in the cache. streams: names of the streams, PCA streams included.
        outcome: see `encoding_loop.Outcome`.
        already: items that were there before. missing: items that still are not.
        failures: {stream: {id: (reason, detail)}} of the utterances asked for, whenever they failed.
        notes: lines to tell the user. unmade: {encoder: why it cannot be had}; of goals only.
    """

    corpus: str
    streams: list[str]
    outcome: encoding_loop.Outcome
    already: int = 0
    missing: int = 0
    failures: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unmade: dict[str, str] = field(default_factory=dict)


def extract(options: Options) -> Report:
    """Bring the streams of a corpus up to date.

    Args:
        options: of the command line.

    Returns:
        What was done, and what is wrong.

    Raises:
        EmocacheError: anything the user can mend.
        KeyboardInterrupt: after committing what was finished.
    """
    cache = Cache(options.cache, options.single_writer)
    manifest, notes = load_manifest(cache, options)
    work = options.goals or pass_of_flags(
        options.encoders, options.layers, options.pca, options.fit_on or "all", options.alias
    )
    loaded, unusable = _load(options, work, cache, manifest.corpus)
    chosen = {encoder: parse_layers(work.layers[name], encoder) for name, encoder in loaded.items()}
    check_projections(work.projections, manifest, loaded)
    report = Report(manifest.corpus, [], encoding_loop.Outcome())
    if options.manifest is None:
        report.notes += notes + _put_manifest(cache, manifest)
    else:
        cache.add_to_manifest(manifest)
    inputs = frozenset(name for encoder in chosen for name in encoder.inputs)
    # Of an encoder that cannot be had nobody knows the inputs, so every stored text may be needed to find its streams.
    read = inputs | {"text", "words"} if unusable else inputs
    sources = Sources.open(cache, manifest.corpus, options.text_from, options.words_from, read)
    for name, error in unusable.items():
        own = [one for one in work.projections if one.encoder == name]
        whole = complete_streams(
            cache, manifest.corpus, Path(name).name, sources, layers=work.layers[name],
            dtype=options.dtype or "float16",
            precision=options.precision, pca=own[0].components if own else None, fit_on=own[0].fit_on if own else None,
        )  # fmt: skip
        if whole:
            report.streams += whole
            report.notes.append(f"{error}; nothing is lost: {', '.join(whole)} has every utterance")
        elif options.goals is None:
            raise error
        else:
            report.unmade[name] = str(error)
    detector = load_detector(options.detector, options.device) if "video" in inputs else None
    decoder = Decoder(options.data, inputs, detector, options.fps, sources, detect_every=options.detect_every)
    decoder = replace(decoder, known=known_faces(cache, manifest.corpus, decoder))
    wanted = sources.fill([u for u in manifest if options.only is None or u.id in options.only][: options.limit])
    device = options.device if any(estimate.runs_on_device(encoder) for encoder in chosen) else "cpu"
    if options.goals is None and device != "cpu":  # the plan of goals has told it
        tell(tell_device(device, options.precision), err=True)
    check_expected(chosen, decoder, options.dtype, options.expected)
    weights = {encoder: origin(name, options.checkpoints, work.origins) for name, encoder in loaded.items()}
    environments = {encoder: {**machine.environment(device), "weights": of} for encoder, of in weights.items()}
    targets = make_targets(
        cache, manifest.corpus, chosen, decoder,
        dtype=options.dtype, backend=options.backend, environments=environments,
    )  # fmt: skip
    if targets:
        report.outcome = _run(options, cache, wanted, chosen, targets, decoder, device)
    _count(cache, targets, {utterance.id for utterance in wanted}, report)
    for target, one in pair_projections(work.projections, loaded, targets):
        _project(cache, target, one, options, environments[target.encoder], report)
    return report


def _count(cache: Cache, targets: Sequence[encoding_loop.Target], ids: set[str], report: Report) -> None:
    for target in targets:
        target.writer.finish()
        stream = cache.stream(report.corpus, f"{target.writer.name}@{target.writer.fingerprint}")
        report.streams.append(stream.name)
        report.failures[stream.name] = {i: why for i, why in stream.failures.items() if i in ids}
        report.missing += len(stream.missing)
        report.already += len(ids & set(stream.ids))
    report.already -= report.outcome.committed


def _project(
    cache: Cache,
    target: encoding_loop.Target,
    one: PcaGoal,
    options: Options,
    environment: Any,
    report: Report,
) -> None:
    """Write the PCA stream, if all it is fitted on is there already."""
    exact = f"{target.writer.name}@{target.writer.fingerprint}"
    if note := waits_for(cache.stream(report.corpus, exact), one):
        report.notes.append(note)
        return
    dtype = options.dtype or storage_dtype(target.encoder)
    shared: Any = {"dtype": dtype, "backend": options.backend, "environment": environment}
    report.streams.append(
        project(cache, report.corpus, exact, one.components, one.fit_on, report.outcome.add, **shared)
    )


def _put_manifest(cache: Cache, manifest: Manifest) -> list[str]:
    """Make a manifest the current one.

    Args:
        cache: that holds it.
        manifest: of the corpus.

    Returns:
        Lines to tell if utterances of the manifest before are gone.

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


def load_manifest(cache: Cache, options: Options) -> tuple[Manifest, list[str]]:
    """Load the corpus's manifest, and lines to tell the user."""
    if options.manifest is not None:
        return options.manifest, []
    memory = cache.objects.local(f"{options.corpus.rpartition(':')[0] or options.corpus}/{media_hashes.FILE}")
    hasher = corpora.MediaHasher(memory, rehash=options.rehash)
    manifest = corpora.load(options.corpus, options.data, mapping=options.mapping, hasher=hasher)
    return manifest, list(dict.fromkeys(hasher.notes))


def _load(
    options: Options, work: Pass, cache: Cache, corpus: str
) -> tuple[dict[str, Encoder], dict[str, EmocacheError]]:
    """The encoders by their names; and of those that are in the cache but cannot be had any more, why not."""
    known = {info.recipe["encoder"] for info in cache.streams(corpus)}
    loaded: dict[str, Encoder] = {}
    unusable: dict[str, EmocacheError] = {}
    for name in work.layers:
        try:
            encoder = encoders.load(
                name, checkpoints=options.checkpoints, device=options.device, precision=options.precision,
                offline=options.offline, alias=work.alias, origins=work.origins,
            )  # fmt: skip
        except EmocacheError as error:
            if Path(name).name not in known and options.goals is None:
                raise
            unusable[name] = error
        else:
            if encoder.name in {other.name for other in loaded.values()}:
                raise EmocacheError(
                    f"--encoder {name}: streams of another one here are called {encoder.name!r} too; run it by itself,"
                    " with --as NAME"
                )
            loaded[name] = encoder
    return loaded, unusable


def _run(
    options: Options,
    cache: Cache,
    wanted: Sequence[Utterance],
    chosen: Mapping[Encoder, Sequence[int | None]],
    targets: Sequence[encoding_loop.Target],
    decoder: Decoder,
    device: str,
) -> encoding_loop.Outcome:
    loads = estimate.loads(wanted, chosen, options.dtype, options.fps)
    number, of = options.shard
    # Several workers want several units each, so that none waits for the last one.
    writers, least = [target.writer for target in targets], 1 if of == 1 else 4 * of
    tasks = plan_tasks(writers, loads, retry_failed=options.retry_failed, min_units=least)
    tasks = [task for task in tasks if task.number % of == number - 1]
    ids = {utterance for task in tasks for utterance in task.ids}
    left = {utterance.id: utterance for utterance in wanted if utterance.id in ids}
    needed = estimate.total_bytes(tasks, targets, left, options.dtype, options.fps)
    estimate.check_room(cache.objects.local(""), needed)
    if left:
        streams = len({stream for task in tasks for stream in task.units})
        room = f"about {needed / 1e6:.1f} MB in {streams} stream{'s' if streams > 1 else ''}"
        tell(f"{len(left)} of {len(wanted)} utterances to encode, {room}", err=True)
    # What is there already is not decoded again: finding faces costs more than most encoders of sound.
    by_stream = {target.writer.name: target.encoder for target in targets}
    needing = [by_stream[stream] for task in tasks for stream in task.units]
    missing = frozenset(name for encoder in needing for name in encoder.inputs)
    decoder = replace(decoder, inputs=missing, cuts=face_cuts(needing), room=machine.room_for_crops())
    total, media = sum(len(task.ids) for task in tasks), sum(map(seconds, left.values()))
    how = Making(fps=options.fps, detector=options.detector, precision=options.precision,
                 detect_every=options.detect_every)  # fmt: skip
    with Pace(media, machine.hardware(device), how) as pace, Progress(total, pace=pace) as progress:
        return encoding_loop.run(
            tasks, targets, left, decoder,
            budget=machine.first_budget(device), workers=machine.decode_workers(options.workers),
            **machine.side_by_side(device), retry_failed=options.retry_failed, tell=progress, measure=pace,
        )  # fmt: skip
