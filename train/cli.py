"""`emocache train`. Everything heavy is imported inside the command."""

import errno
import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..cache.device import DEVICE, DEVICE_HELP
from ..cache.ray_cluster import ENGINES, joined


def _experiments() -> list[str]:
    from .config.experiment_names import experiment_names

    return experiment_names()


def _list(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> bool:
    """List the experiments, as soon as both --list and --json are known: either may come first."""
    asked = context.meta.setdefault("emocache.list", {})
    asked[parameter.name] = value
    if len(asked) == 2 and asked["list_"]:
        from .config.experiment_files import open_experiment
        from .config.experiment_names import experiment_names

        told = {name: open_experiment(name).values.get("description", "") for name in experiment_names()}
        width = max(map(len, told))
        if asked["as_json"]:
            rows = [{"name": name, "description": text} for name, text in told.items()]
            typer.echo(json.dumps({"experiments": rows}, indent=2, ensure_ascii=False))
        for name, text in told.items() if not asked["as_json"] else ():
            typer.echo(f"{name:{width}}  {text}")
        raise typer.Exit
    return value


def _tell(line: str) -> None:
    from ..cache.telling import tell, warn
    from .fit.cautions import Warned

    try:
        (warn if isinstance(line, Warned) else tell)(line)
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal is gone, which stops no work
            raise


def train(
    context: typer.Context,
    cache: Annotated[str, typer.Option(metavar="DIR|URL", help="The cache: a folder, or the URL of an object store.")],
    runs: Annotated[str, typer.Option(metavar="DIR", help="Folder for the runs.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Corpus in the cache; several are trained as one. Else the only one."),
    ] = None,
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT",
            show_default=False,
            help="Names under train/experiments, or paths of TOML files.",
            autocompletion=_experiments,
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every shipped experiment that the corpus can be trained on.")
    ] = False,
    fold: Annotated[list[int] | None, typer.Option(metavar="K", min=0, help="Only this fold; repeatable.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes that train at the same time; else as the cores allow."),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="Who trains: this machine, or those of a Ray cluster.")
    ] = "local",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as training.epochs=20."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=[A,B]", help="Try these values; validation chooses in each fold and seed."),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(metavar="GB", help="Memory that frames may take; larger streams are read as they are needed."),
    ] = None,
    local_copy: Annotated[
        Path | None,
        typer.Option(
            "--local-copy", metavar="DIR", help="Of a cache at a URL: shards are copied here when they are first read."
        ),
    ] = None,
    local_copy_limit: Annotated[
        float | None,
        typer.Option(
            "--local-copy-limit", metavar="GB", help="Disk that the copies may take; else all it has but 1 GiB."
        ),
    ] = None,
    final: Annotated[
        bool,
        typer.Option("--final", help="Then one run on all utterances, by the votes of the folds."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell folds, memory and time; train nothing.")] = False,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Train on streams that lack utterances; marks the runs.")
    ] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(
            "--log",
            metavar="TRACKER",
            help="Send epochs as they happen to tensorboard, or to module:attribute; repeatable.",
        ),
    ] = None,
    log_dir: Annotated[
        Path | None, typer.Option("--log-dir", metavar="DIR", help="For event files; RUNS/.tensorboard if not given.")
    ] = None,
    device: Annotated[str, typer.Option(metavar=DEVICE_HELP, help="Where heads are trained.")] = "auto",
    list_: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list, help="List the shipped experiments.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", is_eager=True, callback=_list, help="With --list: as JSON.")
    ] = False,
) -> None:
    """Train heads on cached streams; runs that are stored already are kept.

    Without EXPERIMENT and --all: every experiment for the corpora of the cache, or for those of --corpus.
    """
    if as_json:
        raise typer.BadParameter("goes with --list", param_hint="--json")
    if not DEVICE.fullmatch(device):
        raise typer.BadParameter(f"{device!r} is not one of auto, cpu, cuda, cuda:N", param_hint="--device")
    if engine not in ENGINES:
        raise typer.BadParameter(f"{engine!r} is not one of {', '.join(ENGINES)}", param_hint="--engine")
    for option, folder in (("--cache", cache), ("--runs", runs)):
        if not folder.strip():
            raise typer.BadParameter("is empty; give a folder", param_hint=option)
    if memory is not None and not 0 < memory < math.inf:
        raise typer.BadParameter(f"{memory:g} is no number of GB above 0", param_hint="--memory")
    if local_copy_limit is not None and not 0 < local_copy_limit < math.inf:
        raise typer.BadParameter(f"{local_copy_limit:g} is no number of GB above 0", param_hint="--local-copy-limit")
    if local_copy_limit is not None and local_copy is None:
        raise typer.BadParameter("goes with --local-copy DIR", param_hint="--local-copy-limit")
    if experiments and all_:
        raise typer.BadParameter("give experiments or --all, not both", param_hint="EXPERIMENT")
    if final and (fold or dry_run or not experiments):
        raise typer.BadParameter("needs an experiment, and all its folds trained", param_hint="--final")
    from ..cache import Cache, LocalCopy
    from ..cache.device import choose_device, tell_device
    from ..cache.telling import tell
    from .config.experiment_files import sweep_override
    from .config.experiment_names import each_experiment
    from .data.memory import Memory
    from .run.crew import Crew
    from .run.estimates import default_jobs, most_jobs
    from .run.everything import carry_out_all, carry_out_everything, corpora_in
    from .run.request import Request, carry_out, carry_out_final
    from .watch.watching import Watching

    watching = Watching(tuple(dict.fromkeys(log or ())), log_dir or Path(runs) / ".tensorboard")
    watching.check()
    overrides = [*(set_ or ()), *(sweep_override(text) for text in sweep or ())]
    limit = None if local_copy_limit is None else int(local_copy_limit * 1e9)
    store = Cache(cache, local_copy=None if local_copy is None else LocalCopy(local_copy, limit))
    everything = not experiments and not all_
    corpora = corpora_in(store, corpus or (), everything)
    if not (everything or corpus) and len(corpora) > 1:
        told = f"the cache has {', '.join(corpora)}; say which to train on"
        raise typer.BadParameter(told, param_hint="--corpus")
    request = Request(
        store,
        corpora,
        Path(runs),
        overrides,
        fold or (),
        choose_device(device),
        allow_incomplete,
        watching,
        Memory(None if memory is None else int(memory * 1e9), Path(runs)),
    )
    # All are read and planned before the first is trained, so that a mistake in the last one is told at once.
    names = dict.fromkeys(name for given in experiments or () for name in each_experiment(given))
    chosen = [request.experiment(name) for name in names]
    request.check(dry_run)
    tell(tell_device(device), err=True)
    if engine == "ray" and not dry_run:
        from .run.engines.ray_trainers import room_of_cluster

        context.with_resource(joined())
        jobs = jobs or room_of_cluster(request.device)
    if everything:
        requests = {name: replace(request, corpora=[name]) for name in corpora}
        with Crew(jobs or most_jobs(request.device), engine) as crew:
            carry_out_everything(requests, _tell, crew, dry_run)
        if not dry_run:
            tell_tables(Path(runs))
        return
    if all_:
        with Crew(jobs or most_jobs(request.device), engine) as crew:
            carry_out_all(request, _tell, crew, dry_run)
        return
    plans = deque(map(request.plan, chosen))
    folders = []
    with Crew(jobs or default_jobs(plans), engine) as crew:
        while plans:
            plan = plans.popleft()  # it holds what its turn has read
            for line in carry_out(plan, crew, dry_run):
                _tell(line)
            if final:
                _tell(carry_out_final(plan))
            folders.append(plan.folder(0, 0).parent)
    if not dry_run:
        tell_scores(Path(runs), folders)


def tell_scores(runs: Path, folders: Sequence[Path]) -> None:
    """Tell the test scores of experiments, each in its folder. The root command puts its own in place of this, too."""
    typer.echo(f"`emocache evaluate {runs}` tells the test scores")


def tell_tables(runs: Path) -> None:
    """Print the papers' tables of the runs. The root command puts its own in place of this: it knows evaluation."""
    typer.echo(f"the runs are in {runs}; `emocache evaluate {runs}` makes tables of them")
