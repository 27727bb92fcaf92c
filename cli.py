"""The root command; beside `prediction.py`, the only module that composes the stages.

Heavy imports happen inside the commands.
"""

import codecs
import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import __version__
from .cache.cli import app as cache_app
from .cache.errors import EmocacheError
from .cache.telling import manner, told_as
from .evaluate.cli import composition, evaluate
from .export_command import export
from .extract import cli as extract_cli
from .extract.cli import extract
from .extract.listing import corpora, encoders
from .predict_command import predict
from .stopping import exit_status, stoppable
from .train import cli as train_cli
from .train.cli import train
from .train.config import layer_words
from .train.runs_command import app as runs_app

if TYPE_CHECKING:
    from .extract.goals.passes import Goal

_SIGNALS = 128  # an exit status above it: a signal has stopped the command
_STOPPED = "stopped; what was finished is stored, and the same command goes on from there"


class Root(TyperGroup):
    """Turns every foreseen error into one line on standard error and an exit status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options of every command from wherever they stand, before a bare `--`."""
        end = args.index("--") if "--" in args else len(args)
        ours, others, given = [], [], iter(args[:end])
        for word in given:
            name, equals, _ = word.partition("=")
            if word in ("--quiet", "--verbose"):
                ours.append(word)
            elif name == "--log-file":
                ours += [word] if equals else [word, *([value] if (value := next(given, None)) is not None else [])]
            else:
                others.append(word)
        return super().parse_args(ctx, [*ours, *others, *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        """Run the command chosen."""
        status, line = 1, ""
        try:
            return super().invoke(ctx)
        except EmocacheError as error:
            if manner.verbose:
                traceback.print_exc()
            line = f"error: {' '.join(str(error).split())}"
        except KeyboardInterrupt as stop:
            status = exit_status(stop)  # `main` tells
        except BrokenPipeError:  # the reader, such as `head`, has seen enough; click ends quietly
            raise
        except OSError as error:
            line = f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}"
        if line:
            print(_folded(line), file=sys.stderr)
        raise typer.Exit(status)


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Tell results, warnings and errors only; of every command.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also tell every epoch, and where errors are from; of every command.")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", metavar="FILE", help="Also add all to FILE; of every command.")
    ] = None,
) -> None:
    """Frozen embeddings extracted once, emotion heads trained many times."""
    if quiet and verbose:
        raise typer.BadParameter("goes without --verbose", param_hint="--quiet")
    ctx.with_resource(told_as(quiet, verbose, log_file))
    if version:
        print(__version__)
        raise typer.Exit


def checkpoints(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Encoders; all by default.")] = None,
    for_: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="EXPERIMENT", help="Those that experiments need: names, or as in 'paper1/*'."),
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get what is missing.")] = False,
    given: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="With --fetch: a copy of the weights file.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--checkpoints", metavar="DIR", help="Local weights, as in extract.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the model hub.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show where the weights of encoders are from, where they lie, and what is missing; --fetch gets it."""
    from .extract.checkpoints_command import all_names
    from .extract.checkpoints_command import checkpoints as show
    from .extract.goals.stream_names import parse_stream
    from .train.config.stream_lists import wanted_streams

    wanted, origins = list(names or ()), dict[str, str]()
    for stream in wanted_streams(for_ or ()):
        wanted += parse_stream(stream.name).encoders
        origins |= stream.source
    if show(wanted or all_names(), folder, fetch, given, offline, origins, as_json) and (wanted or fetch):
        raise typer.Exit(1)


def _streams_for(patterns: Sequence[str] | None, corpus: str) -> "list[Goal]":
    """Find the streams that experiments read, as goals of the extraction; see `extract.cli.streams_for`."""
    from .extract.goals.passes import Goal, Making
    from .train.config.stream_lists import experiments_for, wanted_streams

    wanted = wanted_streams(experiments_for(corpus) if patterns is None else patterns, corpus)
    return [Goal(one.name, Making(**one.how.model_dump()), one.source) for one in wanted]


def _known_layers() -> dict[str, int]:
    """Tell how many layers each encoder has; see `layer_words.known_layers`."""
    from .extract.encoders.registry import REGISTRY

    return {name: entry.layers for name, entry in REGISTRY.items()}


def _folded(line: str) -> str:
    """Fold a line at words where a terminal shows it; what stands in backticks stays whole, to be copied."""
    if not sys.stderr.isatty():
        return line
    whole = re.sub(r"`[^`]*`", lambda found: found[0].replace(" ", "\0"), line)
    columns = max(20, shutil.get_terminal_size().columns)
    folded = textwrap.fill(whole, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return folded.replace("\0", " ")


def _tell_tables(runs: Path) -> None:
    """Print the papers' tables that have runs; see `train.cli.tell_tables`."""
    from .evaluate.output.screen import screen
    from .evaluate.report import evaluate_runs, papers_text

    typer.echo("")
    if text := papers_text(evaluate_runs([runs]), screen()):
        typer.echo(f"{text}\n")
    typer.echo(f"`emocache evaluate {shlex.quote(str(runs))}` prints all results, and writes them with their figures")


def _tell_scores(runs: Path, folders: Sequence[Path]) -> None:
    """Print the test scores of experiments; see `train.cli.tell_scores`."""
    from .evaluate.output.screen import screen
    from .evaluate.report import evaluate_runs, scores_text

    typer.echo(f"test score:\n{scores_text(evaluate_runs(folders, every=True), screen())}")
    typer.echo(f"`emocache evaluate {shlex.quote(str(runs))}` prints all results, and writes them with their figures")


extract_cli.streams_for = _streams_for
layer_words.known_layers = _known_layers
train_cli.tell_tables = _tell_tables
train_cli.tell_scores = _tell_scores
for command in (extract, encoders, checkpoints, corpora, train, predict, export, evaluate, composition):
    app.command()(command)
app.add_typer(cache_app, name="cache")
app.add_typer(runs_app, name="runs")


def main() -> None:
    """Run the command line."""
    # torch's threads otherwise spin while they wait, which makes small heads many times slower on a machine that is
    # busy with anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _open_streams()
    with stoppable() as first:
        try:
            app(prog_name="emocache")
        except SystemExit as end:
            if isinstance(end.code, int) and end.code > _SIGNALS:
                _stop(end.code if first.status is None else first.status)
            raise


class _Heedless(io.FileIO):
    """Standard error: its terminal, its reader or the room for it may be gone, which stops no work."""

    def write(self, data: Any) -> int:
        """Write, or lose it."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _open_streams() -> None:
    """Make the standard streams fit to work with.

    In place of one that was closed, the next file to be opened would get what is printed.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.dup2(nothing := os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
            if nothing != number:
                os.close(nothing)
            setattr(sys, name, open(number, mode, closefd=False, errors="backslashreplace"))  # noqa: SIM115
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        # A name of a file, or of a speaker, ends no command that has done its work. ASCII is what Python is left with
        # where nothing is set; UTF-8 is what is meant.
        encoding = codecs.lookup(sys.stdout.encoding).name
        sys.stdout.reconfigure(encoding="utf-8" if encoding == "ascii" else encoding, errors="backslashreplace")
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:  # else a caller has put another one in its place
        raw = io.BufferedWriter(_Heedless(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def _stop(status: int) -> None:
    """End here: Python would wait for threads in the middle of a clip; what was finished is stored."""
    with contextlib.suppress(OSError):  # the terminal may be what is gone
        print(_STOPPED, file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(status)
