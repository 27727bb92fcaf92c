"""`emocache cache ...`: look at, check, copy and clean a cache."""

import json
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .store import Cache, StreamInfo
    from .verify import Problem

app = typer.Typer(no_args_is_help=True, help="Look at, check, copy and clean a cache.")

Root = Annotated[str, typer.Argument(metavar="CACHE", help="Cache folder, or URL of an object store.")]
What = Annotated[str, typer.Argument(metavar="CORPUS[/STREAM]", help="A corpus, or one of its streams.")]


@app.command("ls")
def list_(
    root: Root, what: What = "", as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """List corpora and their streams."""
    cache = _open(root)
    corpora = [what.split("/")[0]] if what else cache.corpora()
    if as_json:
        print(json.dumps({"corpora": [_listed(cache, corpus) for corpus in corpora]}, indent=2, ensure_ascii=False))
        return
    for corpus in corpora:
        print(f"{corpus}  {len(cache.manifest(corpus))} utterances")
        for info in cache.streams(corpus):
            print(f"  {info.name}@{info.fingerprint[:12]}  {info.backend}  {info.created}")


@app.command()
def info(
    root: Root, what: What = "", as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Tell what each stream holds, what it lacks and what it was made with."""
    cache = _open(root)
    rows = [describe(cache, one) for one in _chosen(cache, what)]
    if as_json:
        print(json.dumps({"streams": rows}, indent=2, ensure_ascii=False))
        return
    for row in rows:
        print(f"{row['corpus']}/{row['name']}@{row['fingerprint'][:12]}")
        for key, value in sorted(row.items(), key=lambda pair: isinstance(pair[1], dict)):  # numbers first
            if isinstance(value, dict) and value:
                print(f"  {key}")
                for inner, cell in value.items():
                    print(f"    {inner:<18} {cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)}")
            elif value not in (None, {}) and key not in ("corpus", "name", "fingerprint"):
                print(f"  {key:<20} {value}")


@app.command()
def verify(
    root: Root,
    what: Annotated[str, typer.Argument(metavar="CORPUS", help="Only this corpus.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Recompute every checksum.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check the cache. Exits with 1 and lists "stream utterance object reason" if anything is wrong."""
    from .errors import EmocacheError
    from .hints import did_you_mean
    from .telling import Progress, tell_result
    from .verify import records
    from .verify import verify as run

    found, cache = list["Problem"](), _open(root)
    if what and what not in cache.objects.names(""):
        known = cache.corpora()
        hint = did_you_mean(what.partition("/")[0], known)
        raise EmocacheError(f"cache {root} has no corpus {what!r}; {hint}it has: {', '.join(known)}")
    with Progress("records", records(cache, what or None)) as progress:
        for problem in run(cache, what or None, full=full, step=progress.step):
            found.append(problem)
            if not as_json:
                tell_result(str(problem))
    if as_json:
        print(json.dumps({"problems": [problem._asdict() for problem in found]}, indent=2, ensure_ascii=False))
    if found:
        raise typer.Exit(1)
    if not as_json:
        print("nothing wrong" + ("" if full else " (sizes only; --full recomputes every checksum)"))


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Cache to copy from.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Cache to copy to; created if absent.")],
    what: What = "",
    single_writer: Annotated[
        bool, typer.Option("--single-writer", help="Nobody else writes: take a store that ignores If-None-Match.")
    ] = False,
) -> None:
    """Copy or merge caches; resumable, every checksum checked on the way."""
    from .copy import copy as run
    from .copy import count_records
    from .store import Cache
    from .telling import Progress, tell

    from_, to = _open(source), Cache(target, single_writer)
    chosen = _chosen(from_, what)
    with Progress("records", sum(map(partial(count_records, from_), chosen))) as progress:
        done = run(from_, to, chosen, tell, progress.step)
    print(f"{done.streams} streams, {done.items} utterances, {done.bytes / 1e6:.1f} MB copied to {target}")


@app.command()
def compact(
    root: Root,
    what: What = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell.")] = False,
) -> None:
    """Join small shards into large ones, beside readers and writers; gc removes the small ones a day later."""
    from .compact import Compaction
    from .telling import Progress

    cache = _open(root)
    plans = [Compaction(cache, one) for one in _chosen(cache, what)]
    with Progress("records", sum(plan.joined for plan in plans)) as progress:
        for plan in plans:
            if not dry_run:
                plan.run(progress.step)
            after = plan.records - plan.joined + len(plan.groups)
            print(f"{plan.info.folder}: {plan.records} records {'would become' if dry_run else 'became'} {after}")


@app.command()
def rm(
    root: Root,
    what: Annotated[str, typer.Argument(metavar="CORPUS[/STREAM]", help="What to remove.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a stream, or a corpus with all its streams."""
    from .gc import remove_corpus, remove_stream

    if not all(what.split("/", 1)):  # an unset variable of a script is not "all"
        raise typer.BadParameter(f"{what!r} is not CORPUS or CORPUS/STREAM", param_hint="CORPUS[/STREAM]")
    cache = _open(root)
    chosen = _chosen(cache, what)
    if not yes:
        typer.confirm(f"remove {what} ({len(chosen)} streams) from {root}?", abort=True)
    if "/" in what:
        for one in chosen:
            remove_stream(cache, one)
    else:
        remove_corpus(cache, what)
    print(f"removed {what}")


@app.command()
def gc(
    root: Root,
    grace_hours: Annotated[
        float,
        typer.Option(metavar="N", min=0, max=1e6, help="Keep what is younger; a writer may be about to use it."),
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell.")] = False,
) -> None:
    """Remove what no record refers to. That is shards of killed writers, temporary files, superseded records."""
    from .gc import collect

    paths, size = collect(_open(root), grace_hours * 3600, dry_run=dry_run)
    for path in paths:
        print(path)
    print(f"{len(paths)} objects, {size / 1e6:.1f} MB {'would be ' if dry_run else ''}removed")


def _listed(cache: "Cache", corpus: str) -> dict[str, Any]:
    streams = [
        {"name": info.name, "fingerprint": info.fingerprint, "backend": info.backend, "created": info.created}
        for info in cache.streams(corpus)
    ]
    return {"name": corpus, "utterances": len(cache.manifest(corpus)), "streams": streams}


def describe(cache: "Cache", info: "StreamInfo") -> dict[str, Any]:
    """Return what `cache info --json` says of a stream."""
    stream = cache.open_info(info)
    frames = info.recipe["kind"] == "frames"
    size = sum(found.size for found in cache.objects.list(f"{info.folder}/shards"))
    return {
        "corpus": info.corpus,
        "name": info.name,
        "fingerprint": info.fingerprint,
        "recipe": info.recipe,
        "backend": info.backend,
        "dim": stream.dim if frames else None,
        "rate": stream.rate if frames else None,
        "dtype": stream.dtype.name if frames else None,
        "utterances": len(stream),
        "failures": len(stream.failures),
        "failure_reasons": dict(Counter(reason for reason, _ in stream.failures.values())),
        "missing": len(stream.manifest) - len(stream) - len(stream.failures),
        "stale": stream.stale,
        "frames": stream.frames if frames else None,
        "bytes": size,
        "created": info.created,
        "environment": stream.environment,
    }


def _open(root: str) -> "Cache":
    from .errors import EmocacheError
    from .store import Cache

    cache = Cache(root)
    if not cache.corpora():
        raise EmocacheError(f"cache {cache.objects.url} {cache.why_empty()}")
    return cache


def _chosen(cache: "Cache", what: str) -> list["StreamInfo"]:
    corpus, _, stream = what.partition("/")
    if stream:
        opened = cache.stream(corpus, stream)
        return [info for info in cache.streams(corpus) if info.fingerprint == opened.fingerprint]
    if corpus:
        cache.manifest(corpus)
        return cache.streams(corpus)
    return [info for name in cache.corpora() for info in cache.streams(name)]
