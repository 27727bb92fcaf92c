"""`emocache train`. Everything heavy is imported inside the command."""

import errno
from pathlib import Path
from typing import Annotated

import typer


def _list(wanted: bool) -> None:
    if wanted:
        from .config.experiment_files import open_experiment
        from .config.experiment_names import experiment_names

        names = experiment_names()
        width = max(map(len, names))
        for name in names:
            typer.echo(f"{name:{width}}  {open_experiment(name).values.get('description', '')}")
        raise typer.Exit


def _tell(line: str) -> None:
    from .fit.cautions import Warned

    try:
        typer.echo(line, err=isinstance(line, Warned))
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal is gone, which stops no work
            raise


def train(
    corpus: Annotated[list[str], typer.Option(metavar="NAME", help="Corpus in the cache; several are trained as one.")],
    cache: Annotated[str, typer.Option(metavar="DIR|URL", help="The cache: a folder or an s3:// URL.")],
    runs: Annotated[str, typer.Option(metavar="DIR", help="Folder for the runs.")],
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT", show_default=False, help="Names under train/experiments, or paths of TOML files."
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every shipped experiment that the corpus can be trained on.")
    ] = False,
    fold: Annotated[list[int] | None, typer.Option(metavar="K", min=0, help="Only this fold; repeatable.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that train at the same time.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as training.epochs=20."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=[A,B]", help="Try these values; validation chooses in each fold and seed."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell folds, memory and time; train nothing.")] = False,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Train on streams that lack utterances; marks the runs.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where heads are trained.")] = "auto",
    list_: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list, help="List the shipped experiments.")
    ] = False,
) -> None:
    """Train heads on cached streams; runs that are stored already are kept."""
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{device!r} is not one of auto, cpu, cuda", param_hint="--device")
    for option, folder in (("--cache", cache), ("--runs", runs)):
        if not folder.strip():
            raise typer.BadParameter("is empty; give a folder", param_hint=option)
    if bool(experiments) == all_:
        problem = "give experiments or --all, not both" if all_ else "name at least one, or give --all"
        raise typer.BadParameter(problem, param_hint="EXPERIMENT")
    from ..cache import Cache
    from .config.experiment_files import sweep_override
    from .config.experiment_names import each_experiment
    from .run.experiment_plan import choose_device
    from .run.request import Request, carry_out, carry_out_all

    overrides = [*(set_ or ()), *(sweep_override(text) for text in sweep or ())]
    request = Request(Cache(cache), corpus, Path(runs), overrides, fold or (), choose_device(device), allow_incomplete)
    # All are read and planned before the first is trained, so that a mistake in the last one is told at once.
    names = dict.fromkeys(name for given in experiments or () for name in each_experiment(given))
    chosen = [request.experiment(name) for name in names]
    request.check(dry_run)
    if all_:
        carry_out_all(request, _tell, jobs, dry_run)
        return
    if len(chosen) > 1:
        for experiment in chosen:
            request.plan(experiment)  # and made anew below, since a plan holds the frames that it has read
    for experiment in chosen:
        for line in carry_out(request.plan(experiment), jobs, dry_run):
            _tell(line)
