"""`emocache train`. Everything heavy is imported inside the command."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="A name under train/experiments, or the path of a TOML file.")
    ],
    corpus: Annotated[list[str], typer.Option(metavar="NAME", help="Corpus in the cache; several are trained as one.")],
    cache: Annotated[str, typer.Option(metavar="DIR|URL", help="The cache: a folder or an s3:// URL.")],
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the runs.")],
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that train at the same time.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as training.epochs=20."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell folds, memory and time; train nothing.")] = False,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Train on streams that lack utterances; marks the runs.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where heads are trained.")] = "auto",
) -> None:
    """Train a head on cached streams; runs that are stored already are kept."""
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{device!r} is not one of auto, cpu, cuda", param_hint="--device")
    from ..cache import Cache
    from . import describe
    from .jobs import train_runs
    from .reading import load_settings
    from .stage import choose_device, make_plan

    name, settings = load_settings(experiment, set_ or ())
    plan = make_plan(Cache(cache), corpus, runs, name, settings, choose_device(device), allow_incomplete)
    for line in describe.summary(plan):
        typer.echo(line)
    if dry_run:
        for line in (*describe.folds(plan), *describe.cost(plan, jobs)):
            typer.echo(line)
        return
    todo = plan.to_train()
    for line in train_runs(plan, todo, jobs):
        typer.echo(line)
    stored = len(plan.all_runs()) - len(todo)
    typer.echo(f"{len(todo)} trained, {stored} reused: {plan.folder(0, 0).parent}")
