"""`emocache encoders` and `emocache corpora`: what there is to extract with, and from."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .encoders.registry import EncoderEntry


AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def encoders(as_json: AsJson = False) -> None:
    """List the encoders: dimensions, layers, frame rates, float16 gigabytes per hour."""
    from .encoders.families import VARIANTS
    from .encoders.registry import REGISTRY

    variants = {variant.family for variant in VARIANTS}
    entries = {name: entry for name, entry in REGISTRY.items() if entry.family not in variants}
    if as_json:
        rows = [{"name": name, **_numbers(entry)} for name, entry in entries.items()]
        print(json.dumps({"encoders": rows}, indent=2, ensure_ascii=False))
        return
    width = max(map(len, entries))
    print(f"{'name':<{width}} {'dim':>5} {'layers':>6} {'Hz':>6} {'GB/h':>6}  what it is; where its weights are from")
    for name, entry in entries.items():
        gigabytes = entry.gigabytes_per_hour()
        numbers = (
            entry.dim or "-", entry.layers or "-", f"{entry.rate:g}" if entry.rate else "-",
            "-" if gigabytes is None else f"{gigabytes:.2f}",
        )  # fmt: skip
        dim, layers, rate, size = map(str, numbers)
        print(f"{name:<{width}} {dim:>5} {layers:>6} {rate:>6} {size:>6}  {entry.description}{_weights(entry)}")
    for variant in VARIANTS:
        print(f"{f'{variant.prefix}NAME{variant.suffix}':<{width}} of a {variant.of} checkpoint NAME: {variant.title}")
    print(
        "any model of the hub is one as well, as org/name[@revision], and a checkpoint folder: by its path, or its name"
    )
    print("below --checkpoints; `emocache checkpoints` tells where weights are from, and what is missing")


def corpora(
    corpus: Annotated[str | None, typer.Argument(metavar="CORPUS", help="Look into this one.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the corpus.")] = None,
    map_: Annotated[list[str] | None, typer.Option("--map", metavar="K=VALUE,...", help="As in extract.")] = None,
    fetch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Get the corpus into DIR, or tell who gives it out.")
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="With --fetch: the pictures too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The list as JSON.")] = False,
) -> None:
    """List the corpora, or count what a folder holds of one. Published counts stand beside; nothing is extracted.

    --fetch gets an open corpus from its owner, after telling its licence; of the others it tells whom to ask.
    """
    from .corpora import REGISTRY, MediaHasher, check_known

    if fetch is not None and (corpus is None or data is not None or map_):
        raise typer.BadParameter("goes with CORPUS alone", param_hint="--fetch")
    if as_json and corpus is not None:
        raise typer.BadParameter("goes without CORPUS", param_hint="--json")
    if video and fetch is None:
        raise typer.BadParameter("goes with --fetch", param_hint="--video")
    if corpus is not None and fetch is not None:
        from .corpus_fetch import fetch_corpus

        raise typer.Exit(0 if fetch_corpus(corpus, fetch, video) else 1)
    if corpus is not None:
        check_known(corpus)
    if corpus is None and data is not None:
        raise typer.BadParameter("goes with CORPUS; name one that `emocache corpora` lists", param_hint="--data")
    if corpus is not None and data is None:
        raise typer.BadParameter(
            "say where the corpus lies, with --data DIR, or get it with --fetch DIR", param_hint="CORPUS"
        )
    if as_json:
        rows = [{"name": name, "description": entry.description} for name, entry in REGISTRY.items()]
        print(json.dumps({"corpora": rows}, indent=2, ensure_ascii=False))
        return
    if corpus is None or data is None:
        for name, entry in REGISTRY.items():
            print(f"{name:<17} {entry.description}")
        return
    from .corpora import census, packaged

    corpus, hasher = packaged(corpus, data), MediaHasher()
    print("\n".join(census.lines(census.take_census(corpus, data, parse_mapping(map_), hasher))))
    for note in dict.fromkeys(hasher.notes):
        print(note, file=sys.stderr)


def _numbers(entry: "EncoderEntry") -> dict[str, object]:
    return {
        "dim": entry.dim,
        "layers": entry.layers,
        "rate": entry.rate,
        "gigabytes_per_hour": entry.gigabytes_per_hour(),
        "description": entry.description,
        "weights": entry.file or entry.hub,
        "revision": entry.revision,
    }


def _weights(entry: "EncoderEntry") -> str:
    if entry.file:
        return f"; {entry.file}, by `emocache checkpoints`"
    if entry.hub is None:
        return ""
    revision = f"@{entry.revision[:7]}" if entry.revision else ""
    return f"; {entry.hub}{revision}"


def parse_mapping(texts: Sequence[str] | None) -> dict[str, str]:
    """Put together what every `--map` says; a key given twice, in one or in two of them, is an error."""
    mapping: dict[str, str] = {}
    for part in (part for text in texts or () for part in text.split(",") if part):
        key, equals, column = part.partition("=")
        if not (key and equals and column):
            raise typer.BadParameter(f"{part!r} is not K=VALUE", param_hint="--map")
        if key.strip() in mapping:
            raise typer.BadParameter(
                f"{key.strip()!r} is given twice; labels are label.NAME=COLUMN", param_hint="--map"
            )
        mapping[key.strip()] = column.strip()
    return mapping
