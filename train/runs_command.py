"""`emocache runs ...`: look at stored runs, and remove those that are superseded."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .stored.leftovers import Leftover
    from .stored.stored_results import Stored, StoredResult

app = typer.Typer(no_args_is_help=True, help="Look at stored runs, and remove those that newer data supersedes.")

Root = Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that training wrote runs to.")]
CacheRoot = Annotated[
    str | None,
    typer.Option("--cache", metavar="DIR|URL", help="Compare with today's labels and streams in this cache."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("ls")
def list_(
    root: Root, cache: CacheRoot = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """List runs: what is current, what newer data supersedes, what kills have left."""
    stored = _read(root, cache)
    if as_json:
        print(json.dumps(_document(stored), indent=2, ensure_ascii=False))
        return
    for row in _table([("state", "runs", "size", "made", "id"), *map(_cells, stored.results)]):
        print(row)
    for left in stored.leftovers:
        print(f"leftover: {_told(left, root)}")
    if not stored.results:
        print(f"no runs below {root}")
    _advise(stored, cache)


@app.command()
def rm(
    root: Root,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="As `runs ls` prints them.")],
    yes: Yes = False,
) -> None:
    """Remove the runs with these ids, or single ones: ID/foldK-seedS."""
    from .stored.stored_results import check_removable, named, read_stored, remove_run

    folders = named(read_stored(root), ids)
    for folder in folders:
        check_removable(folder)
    told = f"{_count(len(folders), 'run')}, {_readable(_bytes(folders))}"
    if not yes:
        _ask(f"remove {told}, from {root}?")
    for folder in folders:
        remove_run(root, folder)
    print(f"removed {told}")


@app.command()
def prune(
    root: Root,
    cache: CacheRoot = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell.")] = False,
    yes: Yes = False,
) -> None:
    """Remove superseded runs and what kills have left. Tells what and how large first, and asks."""
    from .stored.leftovers import OF_RUN, foreign
    from .stored.stored_results import SUPERSEDED, remove_run

    stored = _read(root, cache)
    superseded = [one for one in stored.results if one.state == SUPERSEDED]
    for row in _table([_cells(one) for one in superseded]):
        print(row)
    for left in stored.leftovers:
        print(f"leftover: {_told(left, root)}")
    doomed = []
    for folder in _folders(superseded):
        if why := foreign(folder, OF_RUN):
            print(f"stays: {folder.relative_to(root).as_posix()} {why}")
        else:
            doomed.append(folder)
    free = [left for left in stored.leftovers if not left.held]
    if not doomed and not free:
        print("nothing to remove")
        return
    if dry_run:
        print(f"would be removed: {_sum(doomed, free)}")
        return
    if not yes:
        _ask(f"remove {_sum(doomed, free)}, from {root}?")
        # While the question stood, training may have found that runs are of today's data again.
        still = _folders([one for one in _read(root, cache).results if one.state == SUPERSEDED])
        doomed = [folder for folder in doomed if folder in still]
    told = _sum(doomed, free)
    for folder in doomed:
        remove_run(root, folder)
    for left in free:
        left.remove()
    print(f"removed {told}")


def _read(root: Path, cache: str | None) -> "Stored":
    from .stored.stored_results import read_stored

    stored = read_stored(root)
    if cache is None:
        return stored
    from ..cache import Cache
    from .run.today import compared

    return compared(stored, Cache(cache))


def _ask(question: str) -> None:
    from ..cache import EmocacheError

    if not sys.stdin.isatty():
        raise EmocacheError("there is no terminal to ask on; give --yes to remove without being asked")
    typer.confirm(question, abort=True)


def _advise(stored: "Stored", cache: str | None) -> None:
    """Tell of what can go, and how."""
    from .stored.stored_results import SUPERSEDED

    if superseded := _folders([one for one in stored.results if one.state == SUPERSEDED]):
        count, size = _count(len(superseded), "superseded run"), _readable(_bytes(superseded))
        given = f" --cache {cache}" if cache else ""
        print(f"{count}, {size}: `emocache runs prune {stored.root}{given}` removes what is superseded")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with aligned columns; what comes after the fifth column gets lines of its own."""
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    lines = []
    for row in rows:
        lines.append("  ".join([f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)] + [row[4]]))
        lines += [f"    {note}" for note in row[5:]]
    return lines


def _cells(one: "StoredResult") -> tuple[str, ...]:
    return (one.state, f"{len(one.folders)} of {one.wanted}", _readable(one.size), _local(one.made), one.id, *one.notes)


def _told(left: "Leftover", root: Path) -> str:
    held = f", stays: {left.held}" if left.held else ""
    return f"{left.path.relative_to(root).as_posix()}, {_readable(left.size)}, {_local(left.changed)}{held}"


def _local(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().isoformat(timespec="seconds")


def _readable(size: int) -> str:
    """Bytes in decimal units.

    >>> _readable(999), _readable(1_234_000)
    ('999 B', '1.2 MB')
    """
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sum(runs: Sequence[Path], leftovers: Sequence["Leftover"]) -> str:
    """Tell how many there are, and how large: `3 superseded runs and 1 leftover, 2.1 MB`."""
    counts = {"superseded run": len(runs), "leftover": len(leftovers)}
    size = _readable(_bytes(runs) + sum(left.size for left in leftovers))
    return f"{' and '.join(_count(number, noun) for noun, number in counts.items() if number) or 'nothing'}, {size}"


def _folders(results: Sequence["StoredResult"]) -> list[Path]:
    return [folder for one in results for folder in one.folders]


def _bytes(folders: Sequence[Path]) -> int:
    from .stored.leftovers import size_of

    return sum(map(size_of, folders))


def _document(stored: "Stored") -> dict[str, Any]:
    results = []
    for one in stored.results:
        first = next(iter(one.records), None)
        results.append({
            "id": one.id,
            "state": one.state,
            "notes": list(one.notes),
            "experiment": first and first.experiment,
            "corpora": list(first.corpora) if first else None,
            "setting": first and first.setting,
            "runs": [folder.name for folder in one.folders],
            "of": one.wanted,
            "bytes": one.size,
            "made": _local(one.made) or None,
        })  # fmt: skip
    leftovers = [
        {"path": left.path.relative_to(stored.root).as_posix(), "bytes": left.size, "changed": _local(left.changed),
         "held": left.held or None}
        for left in stored.leftovers
    ]  # fmt: skip
    return {"runs": results, "leftovers": leftovers}
