"""`emocache extract`."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..cache.device import DEVICE, DEVICE_HELP
from ..cache.errors import EmocacheError
from ..cache.ray_cluster import ENGINES, joined
from .every_device import ALL, devices, extract_on_every_device, without_device
from .listing import parse_mapping

if TYPE_CHECKING:
    from .goals.passes import Goal
    from .pipeline.stage import Report


def _corpora() -> list[str]:
    from .corpora import REGISTRY

    return list(REGISTRY)


def _encoders() -> list[str]:
    from .encoders.registry import REGISTRY

    return list(REGISTRY)


def extract(
    context: typer.Context,
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="A corpus of `emocache corpora`.", autocompletion=_corpora)
    ],
    cache: Annotated[str, typer.Option(metavar="DIR|URL", help="Cache to fill; made if absent.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the corpus as its owner ships it; else $EMOCACHE_DATA/CORPUS."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of `emocache encoders`, or org/name; repeatable.", autocompletion=_encoders),
    ] = None,
    stream: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A stream, with all it rests on; repeatable.")
    ] = None,
    for_: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="EXPERIMENT", help="The streams of experiments: names, or as in 'paper1/*'."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done for streams, and end.")] = False,
    alias: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="What the streams of the one encoder are called.")
    ] = None,
    layers: Annotated[str, typer.Option(metavar="LIST", help="last, all, or numbers as in 6,9,12.")] = "last",
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Local weights: a folder or a file per name.")
    ] = None,
    pca: Annotated[int | None, typer.Option(metavar="N", min=1, help="Store a projection on N components too.")] = None,
    fit_on: Annotated[
        str | None, typer.Option(metavar="EXPR", help="What the PCA may see: all, or column=value[|value],...")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="K=VALUE,...", help="What a corpus asks for, such as columns: label=emotion."),
    ] = None,
    text_from: Annotated[
        str | None, typer.Option(metavar="STREAM", help="Texts from a transcript; STREAM:translation for English ones.")
    ] = None,
    words_from: Annotated[str | None, typer.Option(metavar="STREAM", help="Word times from an alignment.")] = None,
    fps: Annotated[
        float | None, typer.Option(metavar="N", min=0.01, max=1000, help="At most N pictures a second.")
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="dlib|centerface|FILE",
            help="What finds faces: dlib (the default), centerface (on the device), or YuNet's .onnx file.",
        ),
    ] = None,
    detect_every: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1000, help="Look for faces in every N-th picture; boxes move in between."),
    ] = None,
    backend: Annotated[str, typer.Option(metavar="zarr|hdf5", help="How shards are stored.")] = "zarr",
    dtype: Annotated[
        str | None, typer.Option(metavar="float16|float32", help="How numbers are stored; else as the encoder needs.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="float32|bf16|fp16", help="How the model computes; else in float32.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar=f"{DEVICE_HELP}|all", help="Where the model runs; cuda:all: on every GPU.")
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Decode threads; as many as cores, at most 16, if not given.")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="Who encodes: this machine, or those of a Ray cluster.")
    ] = "local",
    shard: Annotated[str, typer.Option(metavar="I/N", help="This worker's share of the units.")] = "1/1",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N utterances.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Encode again what failed.")] = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="Hash every media file again.")] = False,
    single_writer: Annotated[
        bool, typer.Option("--single-writer", help="Nobody else writes: take a store that ignores If-None-Match.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an utterance failed.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the model hub.")] = False,
) -> None:
    """Encode a corpus once, into streams of the cache. What is there is never encoded again.

    Without --encoder, --stream and --for it makes all that the experiments for the corpus read.
    """
    _one_of("--backend", backend, ("zarr", "hdf5"))
    if dtype is not None:
        _one_of("--dtype", dtype, ("float16", "float32"))
    _one_of("--precision", precision or "float32", ("float32", "bf16", "fp16"))
    _one_of("--engine", engine, ENGINES)
    if engine == "ray" and device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter("Ray gives each worker its GPU; say auto, cpu or cuda", param_hint="--device")
    if device == ALL:
        if shard != "1/1":
            raise typer.BadParameter("is cut for the devices here; leave it out", param_hint="--shard")
        raise typer.Exit(extract_on_every_device(without_device(sys.argv[1:]), devices()))
    if not DEVICE.fullmatch(device):
        raise typer.BadParameter(f"{device!r} is not one of auto, cpu, cuda, cuda:N, {ALL}", param_hint="--device")
    if not re.fullmatch(r"all|(last|\d+)(,(last|\d+))*", layers.replace(" ", "")):
        raise typer.BadParameter(f"{layers!r} is not last, all, or numbers as in 6,9,12", param_hint="--layers")
    if encoder and (pca is None) != (fit_on is None):
        raise typer.BadParameter("--pca and --fit-on belong together", param_hint="--pca")
    if alias is not None and len(encoder or ()) != 1:
        raise typer.BadParameter("goes with one --encoder", param_hint="--as")
    if encoder and (stream or for_ or dry_run):
        raise typer.BadParameter("give encoders, or else streams (--stream, --for)", param_hint="--encoder")
    if not encoder and (layers != "last" or text_from or words_from or pca is not None):
        raise typer.BadParameter("a stream's name says that; leave it out", param_hint="--layers, --pca, --text-from")
    try:
        from . import goal_run, missing_folder
        from .corpora import FolderMissing, check, packaged
        from .goals import passes
        from .pipeline import stage

        if engine == "ray" and not dry_run:
            context.with_resource(joined())
        folder = data or data_folder(corpus)
        try:
            check(corpus, folder)
        except FolderMissing:
            missing_folder.tell_missing_folder(corpus, folder, context, sys.stderr)
            raise
        asked, corpus = corpus, packaged(corpus, folder)
        if corpus != asked:
            print(f"{folder} holds {asked} in another packaging: it is corpus {corpus} in the cache", file=sys.stderr)
        options = stage.Options(
            corpus=corpus, data=folder, cache=cache, encoders=tuple(encoder or ()), alias=alias,
            layers=layers, checkpoints=checkpoints, pca=pca, fit_on=fit_on, mapping=parse_mapping(map_),
            text_from=text_from, words_from=words_from, fps=fps, detector=detector or "dlib",
            detect_every=detect_every or 1, backend=backend, dtype=dtype, precision=precision or "float32",
            device="cpu" if engine == "ray" else device, ray_device=device if engine == "ray" else None,
            workers=workers, shard=_shard(shard), limit=limit, retry_failed=retry_failed, rehash=rehash,
            single_writer=single_writer, offline=offline,
        )  # fmt: skip
        if encoder:
            undone = [_tell(stage.extract(options), strict)]
        else:
            wanted = [passes.Goal(name) for name in stream or ()]
            wanted += streams_for((for_ or ()) if stream or for_ else None, corpus)
            # What is given by hand comes before what the experiments say.
            by_hand = {
                "fps": fps,
                "detector": detector,
                "detect_every": detect_every,
                "precision": precision,
                "fit_on": fit_on,
            }
            wanted = passes.made_by_hand(wanted, {key: value for key, value in by_hand.items() if value is not None})
            goal_run.refuse_unknown(wanted, checkpoints)
            ready = goal_run.tell_plan(options, wanted, sys.stdout if dry_run else sys.stderr)
            if dry_run:
                raise typer.Exit(0 if ready else 1)
            undone = [_tell(report, strict) for report in goal_run.reach_goals(options, wanted)]
    except ModuleNotFoundError as error:
        raise EmocacheError(
            f"extraction needs {error.name}; install it with: pip install 'emocache[extract]'"
        ) from error
    if any(undone):
        raise typer.Exit(1)


def streams_for(patterns: Sequence[str] | None, corpus: str) -> list["Goal"]:
    """Find the streams that experiments read. The root command puts its own in place of this: it knows experiments.

    Args:
        patterns: of experiments; None: all that are for the corpus.
        corpus: its name.

    Returns:
        The streams.

    Raises:
        EmocacheError: there is no such experiment, or none for the corpus.
    """
    if patterns is None or patterns:
        raise EmocacheError("experiments are known to the command `emocache` only; give --encoder or --stream")
    return []


def data_folder(corpus: str) -> Path:
    """Return the folder that a corpus is looked for in where none is given: below $EMOCACHE_DATA, else below `data`."""
    return Path(os.environ.get("EMOCACHE_DATA") or "data") / corpus


def _tell(report: "Report", strict: bool) -> bool:
    """Print what a pass did; True where something is left undone that the exit status must tell."""
    outcome = report.outcome
    wrong = unresolved_lines(report)
    unmade = [f"cannot be made here: {name}: {' '.join(why.split())}" for name, why in report.unmade.items()]
    for line in (*wrong, *report.notes, *unmade):
        print(line, file=sys.stderr)
    print(
        f"{report.corpus}: {', '.join(report.streams) or 'no stream'}: {outcome.committed} items committed"
        f" ({outcome.bytes / 1e6:.1f} MB), {report.already} were there, {len(wrong)} failed"
    )
    if report.streams and not (outcome.encoded or outcome.committed or outcome.failed or report.missing):
        print("nothing to extract: everything is in the cache")
    elif report.missing and not outcome.unresolved:
        print(f"{report.missing} items are left to other shares of the work, or to a run without --limit")
    return bool(outcome.unresolved or unmade or (strict and wrong))


def unresolved_lines(report: "Report") -> list[str]:
    """One line per utterance that is not in a stream, and why."""
    lines = [
        f"failed: {stream}: {utterance}: {reason}: {detail}"
        for stream, failures in report.failures.items()
        for utterance, (reason, detail) in sorted(failures.items())
    ]
    return lines + [f"unresolved: {i}: {why}" for i, why in sorted(report.outcome.unresolved.items())]


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(allowed)}", param_hint=option)


def _shard(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise typer.BadParameter(f"{text!r} is not I/N with 1 <= I <= N", param_hint="--shard")
    return int(number), int(of)
