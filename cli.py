"""The root command; the only module that composes the stages. Heavy imports happen inside the commands."""

import sys

import click
import typer

from . import __version__
from .cache.cli import app as cache_app
from .cache.errors import EmocacheError
from .evaluate.cli import evaluate
from .extract.cli import corpora, encoders, extract
from .train.cli import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    """Frozen embeddings extracted once, emotion heads trained many times."""
    if version:
        print(__version__)
        raise typer.Exit


for command in (extract, encoders, corpora, train, evaluate):
    app.command()(command)
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Run the command line; every foreseen error is one line on standard error."""
    try:
        status = app(standalone_mode=False)
    except EmocacheError as error:
        status = _fail(str(error), 1)
    except click.exceptions.Abort:
        status = _fail("stopped", 130)
    except KeyboardInterrupt:
        status = _fail("stopped; what was finished is committed, the same command goes on from there", 130)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except OSError as error:
        status = _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    sys.exit(status or 0)


def _fail(message: str, status: int) -> int:
    print(f"error: {' '.join(message.split())}" if status == 1 else message, file=sys.stderr)
    return status
