"""From experiments as they are named on the command line to plans, and what is told while they are carried out."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...cache import Cache, EmocacheError
from ...cache.device import is_out_of_memory
from ..config.experiment_files import key_of
from ..config.experiment_names import beside
from ..config.fusion_settings import FusionSettings
from ..config.loading import Experiment, load_experiment
from ..config.settings import Settings
from ..config.stream_lists import corpora_of, corpora_of_all
from ..data.memory import Memory
from ..data.stream_checks import check_streams
from ..fit.cautions import warned
from ..stored.run_folders import check_writable, mark_asked, read_record
from ..stored.run_sources import sources_of, write_sources
from ..watch.watching import UNWATCHED, Watching
from .crew import Crew
from .dry_run import cost, fold_lines, summary
from .experiment_plan import Plan, make_plan
from .final_run import train_final_run
from .fusion_plan import FusionPlan, make_fusion
from .processes import Run
from .trainings_told import choice_told


@dataclass(frozen=True)
class Request:
    """The part of a call of `emocache train` that holds for every experiment.

    Attributes:
        cache: where streams are read. corpora: trained as one. runs: where run folders go.
        overrides: of settings, `dotted.key=value`. folds: only these; none: all.
        device: "cpu", "cuda" or "cuda:1". allow_incomplete: streams may lack utterances.
        watching: sees the epochs of every run as they happen.
        memory: the room for the frames of all of them; None: of each a share of what the machine has.
    """

    cache: Cache
    corpora: Sequence[str]
    runs: Path
    overrides: Sequence[str] = ()
    folds: Sequence[int] = ()
    device: str = "cpu"
    allow_incomplete: bool = False
    watching: Watching = UNWATCHED
    memory: Memory | None = None

    def check(self, dry_run: bool) -> None:
        """Check that something can be stored in `runs`, unless `dry_run`; EmocacheError where it cannot."""
        if not dry_run:
            check_writable(self.runs)

    def experiment(self, name: str) -> Experiment:
        """The experiment with the overrides; EmocacheError, see `reading.load_experiment`."""
        return load_experiment(name, self.overrides, self._stream_names)

    def _stream_names(self) -> list[str]:
        """Streams of frames that every corpus has; none where there is no cache."""
        names: list[set[str]] = []
        with contextlib.suppress(EmocacheError, OSError):
            for corpus in self.corpora:
                found = self.cache.streams(corpus)
                names.append({info.name for info in found if info.recipe["kind"] == "frames"})
        return sorted(set.intersection(*names)) if names else []

    def plan(self, experiment: Experiment) -> Plan | FusionPlan:
        """Plan everything that is to be done for one experiment, and check it.

        Args:
            experiment: as it was read.

        Returns:
            The plan, of a fusion with the plans of its members.

        Raises:
            EmocacheError: see `stage.make_plan` and `fusion_plan.make_fusion`; it names the experiment's file.
        """
        name, path, settings = experiment
        try:
            if isinstance(settings, FusionSettings):
                files = [beside(path, one, "fusion.members:") for one in settings.fusion.members]
                if len({file.resolve() for file in files}) < len(files):
                    raise EmocacheError("fusion.members names an experiment twice; name each once")
                fusion = make_fusion(name, settings, [self._member(file) for file in files])
                return replace(fusion, command=(experiment.called, *self.overrides))
            return self._plan(experiment, settings, self.overrides)
        except EmocacheError as error:
            raise EmocacheError(f"{path}: {error}{self._meant_for(name)}") from error

    def _meant_for(self, name: str) -> str:
        """Tell what else there is where an experiment is for other corpora than these."""
        known = corpora_of(name)
        if not known or not known.isdisjoint(self.corpora):
            return ""
        base = name.rpartition("/")[2]
        alike = [n for n in corpora_of_all() if n.endswith(f"-{base}") and not corpora_of(n).isdisjoint(self.corpora)]
        there = f"; on {' + '.join(self.corpora)} it is {', '.join(alike)}" if alike else ""
        return f" ({name} is for {', '.join(sorted(known))}{there})"

    def _plan(self, experiment: Experiment, settings: Settings, overrides: Sequence[str]) -> Plan:
        name = experiment.name
        own = any(key_of(text).partition(".")[0] in ("streams", "search") for text in self.overrides)
        check_streams(self.cache, self.corpora, settings, None if own else name)
        plan = make_plan(
            self.cache, self.corpora, self.runs, name, settings, self.device, self.allow_incomplete, self.memory
        )
        if beyond := [fold for fold in self.folds if fold not in range(len(plan.folds))]:
            raise EmocacheError(f"--fold {beyond[0]}: {name!r} has folds 0 to {len(plan.folds) - 1}")
        only, command = tuple(dict.fromkeys(self.folds)), (experiment.called, *overrides)
        return replace(plan, only=only, watching=self.watching, command=command)

    def _member(self, path: Path) -> Plan:
        # What is set for the fusion itself is not for its members.
        own = [text for text in self.overrides if not key_of(text).startswith("fusion.")]
        member = load_experiment(str(path), own, self._stream_names)
        if isinstance(member.settings, FusionSettings):
            raise EmocacheError(f"fusion.members: {member.name!r} is a fusion itself; name its members instead")
        return self._plan(member, member.settings, own)


def carry_out(plan: Plan | FusionPlan, crew: Crew, dry_run: bool, brief: bool = False) -> Iterator[str]:
    """Train and store what is not stored yet, or tell what that would be; yields lines for people.

    Args:
        plan: of an experiment.
        crew: trains.
        dry_run: only tell.
        brief: a line for each run, and nothing of what is read and of warnings, which evaluation tells as well.

    Raises:
        EmocacheError: of a run, with the experiment's name; finished runs stay.
    """
    try:
        yield from (
            _fuse(plan, crew, dry_run, brief) if isinstance(plan, FusionPlan) else _train(plan, crew, dry_run, brief)
        )
    except Exception as error:
        if (told := of_experiment(plan.experiment, error)) is error:
            raise
        raise told from error


def of_experiment(name: str, error: Exception) -> Exception:
    """Return the error of a run with the experiment's name; one that nobody foresaw as it is."""
    if isinstance(error, EmocacheError):
        return EmocacheError(f"{name}: {error}")
    if not is_out_of_memory(error):
        return error
    why = str(error).partition("\n")[0] or "MemoryError"
    return EmocacheError(f"{name}: out of memory ({why}); make the head or training.batch_size smaller,"
                         " or use fewer --jobs")  # fmt: skip


def carry_out_final(plan: Plan | FusionPlan) -> str:
    """Train the run on all utterances, once all others are stored.

    Args:
        plan: of an experiment that was carried out.

    Returns:
        A line that tells of it.

    Raises:
        EmocacheError: a fusion; or training failed.
    """
    if isinstance(plan, FusionPlan):
        raise EmocacheError(f"{plan.experiment} is a fusion, which has no head to train; give --final to its members")
    try:
        return train_final_run(plan)
    except EmocacheError as error:
        raise EmocacheError(f"{plan.experiment}: {error}") from error


def runs_to_train(plan: Plan) -> list[Run]:
    """Return the runs that are not stored yet, once what all of them rest on is stored."""
    write_sources(plan.folder(0, 0).parent, sources_of(plan.dataset))
    return plan.to_train()


def _train(plan: Plan, crew: Crew, dry_run: bool, brief: bool) -> Iterator[str]:
    if brief:
        yield from crew.train(plan, runs_to_train(plan))
        return
    if not dry_run:
        write_sources(plan.folder(0, 0).parent, sources_of(plan.dataset))
    yield from summary(plan)
    yield from choice_told(plan.settings)
    before = {fold: plan.cautions(fold) for fold in plan.only or range(len(plan.folds))}
    yield from warned(before, "fold")
    if dry_run:
        yield from fold_lines(plan)
        yield from cost(plan, crew.jobs)
        return
    todo = plan.to_train()
    yield from crew.train(plan, todo)
    _mark_reused(plan, todo)
    found = {run: read_record(plan.folder(*run)).warnings for run in plan.all_runs()}
    yield from warned({run: [c for c in those if c not in before[run[0]]] for run, those in found.items()}, "run")
    yield _done("trained", plan, len(todo))


def _fuse(plan: FusionPlan, crew: Crew, dry_run: bool, brief: bool) -> Iterator[str]:
    for number, member in enumerate(plan.members):
        yield from carry_out(member, crew, dry_run, brief)
        plan.release(number)
    if brief:
        yield from (plan.train(*run) for run in plan.to_train())
        return
    fusion = plan.settings.fusion
    over = ", each the mean over its seeds" if fusion.over_seeds else ""
    yield f"{plan.experiment} on {' + '.join(plan.corpora)}: {fusion.rule} of {', '.join(fusion.members)}{over}"
    todo = plan.to_train()
    if dry_run:
        yield f"runs: {len(todo)} to fuse, {len(plan.all_runs()) - len(todo)} stored already"
        return
    for run in todo:
        yield plan.train(*run)
    _mark_reused(plan, todo)
    yield _done("fused", plan, len(todo))


def _mark_reused(plan: Plan | FusionPlan, trained: Sequence[tuple[int, int]]) -> None:
    """Let stored runs count as of today: a change of the data that was taken back has them current again."""
    folder = plan.folder(0, 0).parent
    if len(trained) < len(plan.all_runs()) and any(other != folder for other in folder.parent.iterdir()):
        mark_asked(folder)


def _done(verb: str, plan: Plan | FusionPlan, count: int) -> str:
    return f"{count} {verb}, {len(plan.all_runs()) - count} reused: {plan.folder(0, 0).parent}"


def one_line(error: EmocacheError) -> str:
    """Return an error in one line, without the experiment's file."""
    return re.sub(r"^\S+\.toml: ", "", " ".join(str(error).split()))
