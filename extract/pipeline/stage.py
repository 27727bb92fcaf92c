"""Stage 1 as a whole: a corpus folder in, streams out."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...cache import Cache, EmocacheError, Manifest, media_hashes
from ...cache.telling import tell
from .. import corpora
from ..encoders.encoder import seconds, storage_dtype
from ..goals.passes import Making, PcaGoal
from . import encoding_loop, estimate, machine
from .engines.local_engine import Work
from .engines.options import Options
from .engines.readying import environment_of, load_encoders, make_ready, open_sources
from .progress import Pace, Progress
from .projecting import check_projections, pair_projections, project, waits_for
from .stream_targets import complete_streams, parse_layers

__all__ = ["Options", "Report", "extract", "load_manifest"]


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
    work = options.asked()
    loaded, unusable = load_encoders(options, work, cache, manifest.corpus)
    chosen = {encoder: parse_layers(work.layers[name], encoder) for name, encoder in loaded.items()}
    check_projections(work.projections, manifest, loaded)
    report = Report(manifest.corpus, [], encoding_loop.Outcome())
    if options.manifest is None:
        report.notes += notes + _put_manifest(cache, manifest)
    else:
        cache.add_to_manifest(manifest)
    sources = open_sources(options, cache, manifest.corpus, chosen, bool(unusable))
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
    passed = make_ready(options, work, cache, manifest, loaded, sources)
    if passed.targets:
        report.outcome = _carry_out(passed)
    _count(cache, passed.targets, set(passed.asked), report)
    for target, one in pair_projections(work.projections, loaded, passed.targets):
        environment = environment_of(target.encoder, loaded, options, work, passed.device)
        _project(cache, target, one, options, environment, report)
    return report


def _carry_out(work: Work) -> encoding_loop.Outcome:
    options, dealer = work.options, None
    if options.ray_device is not None:
        from .engines import ray_engine

        dealer = ray_engine.Dealer(work)
    tasks = work.plan(1 if dealer is None else dealer.room)
    left = work.left(tasks)
    needed = estimate.total_bytes(tasks, work.targets, left, options.dtype, options.fps)
    estimate.check_room(Cache(options.cache).objects.local(""), needed)
    if left:
        streams = len({stream for task in tasks for stream in task.units})
        room = f"about {needed / 1e6:.1f} MB in {streams} stream{'s' if streams > 1 else ''}"
        tell(f"{len(left)} of {len(work.asked)} utterances to encode, {room}", err=True)
    total, media = sum(len(task.ids) for task in tasks), sum(map(seconds, left.values()))
    if dealer is not None:
        with Progress(total) as progress:
            return dealer.deal(tasks, left, progress)
    how = Making(fps=options.fps, detector=options.detector, precision=options.precision,
                 detect_every=options.detect_every)  # fmt: skip
    with Pace(media, machine.hardware(work.device), how) as pace, Progress(total, pace=pace) as progress:
        return work.encode(tasks, left, progress, pace)


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
