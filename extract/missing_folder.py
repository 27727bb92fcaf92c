"""The telling of a corpus folder that is not there: what belongs into it, and the line to type."""

import shlex
from pathlib import Path
from typing import TextIO

import typer

from .corpora.origins import tell_origin


def tell_missing_folder(corpus: str, folder: Path, context: typer.Context, out: TextIO) -> None:
    """Print who gives out a corpus, in which layout, and the command that was typed, with a place for its folder.

    Args:
        corpus: as it was asked for.
        folder: that was looked for.
        context: of the command under way.
        out: to print on.
    """
    origin = tell_origin(corpus, str(folder))
    if origin:
        print(origin, file=out)
    print("put it there, or type, with its folder:", file=out)
    print(f"    {typed_again(corpus, context)}", file=out)


def typed_again(corpus: str, context: typer.Context) -> str:
    """Write a command as it was typed, but for `--data`, which is a folder to be filled in.

    Args:
        corpus: as it was asked for.
        context: of the command.

    Returns:
        A line for a shell.
    """
    words = ["emocache", "extract", corpus, "--data", f"/path/to/{corpus.partition(':')[0]}"]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is None or source.name != "COMMANDLINE" or parameter.name in ("corpus", "data"):
            continue
        value, option = context.params[str(parameter.name)], max(parameter.opts, key=len)
        values = value if isinstance(value, list | tuple) else [value]
        words += [word for one in values for word in ([option] if one is True else [option, str(one)])]
    return shlex.join(words)
