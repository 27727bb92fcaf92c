"""Runs in several processes, which serve one experiment after the other and share one copy of the features."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ...cache import EmocacheError
from ...cache.telling import Progress
from ..inputs.joining import JoinedStreams
from ..stored.leftovers import remove_stale_features
from .engines.ray_trainers import Trainers
from .experiment_plan import Plan
from .processes import Processes, Run
from .trainings_told import epochs_told, trainings_of

Asked = tuple[Plan, Sequence[Run]]
"""A plan, and which of its runs are to be trained."""


@dataclass(frozen=True)
class Outcome:
    """The end of a run: it is stored, or it failed.

    Attributes:
        number: of its plan among those that were asked for. line: tells of a run that is stored now.
        error: of one that failed; others of the plan that were not begun are given up. last: no other follows of it.
    """

    number: int
    line: str = ""
    error: Exception | None = None
    last: bool = False


class Crew:
    """The processes that train the runs of one call: this one alone, or several others.

    Each of several processes gets its share of torch's threads, and maps the features from files below the runs folder,
    so that they are in memory once. What a killed call left of that is removed first. Signals reach this process only:
    when one ends the block, or the process, the others end too, but not while they store a run.

    Args:
        jobs: how many train at the same time; one: this process, without files. Others are started by the first run.
        engine: "local", or "ray": all of them are processes on the machines of the cluster that was joined.
    """

    def __init__(self, jobs: int, engine: str = "local") -> None:
        self.jobs = jobs
        self._kind: type[Processes | Trainers] = Trainers if engine == "ray" else Processes
        self._processes: Processes | Trainers | None = None
        self._before: Plan | None = None  # the last one that was begun

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After the error of a run, those that are under way are finished.
        self._leave(at_once=error is not None and not isinstance(error, EmocacheError))

    def train(self, plan: Plan, runs: Sequence[Run]) -> Iterator[str]:
        """Train and store runs of one experiment; yield a line for each as it is finished.

        Raises:
            EmocacheError: of a run; finished runs stay. Or a process was killed.
        """
        for outcome in self.train_all([(plan, runs)], len(runs)):
            if outcome.line:
                yield outcome.line
            if outcome.error is not None:
                raise outcome.error

    def train_all(self, asked: Iterable[Asked], total: int) -> Iterator[Outcome]:
        """Train and store runs of several experiments, those of the next one as soon as somebody has nothing to do.

        Args:
            asked: taken one at a time, when its turn has come; what it reads stays in memory until its runs are done.
            total: how many runs there are, for the progress.

        Yields:
            The end of each run as it comes; only the first error of each experiment.
        """
        with Progress("runs", total) as progress:
            alone = self.jobs == 1 and self._kind is Processes
            for outcome in self._here(asked, progress) if alone else self._by_others(asked):
                progress.step(bool(outcome.line))
                yield outcome

    def _here(self, asked: Iterable[Asked], progress: Progress) -> Iterator[Outcome]:
        number = -1
        for plan, runs in asked:
            number += 1  # `enumerate` would hold on to the first plan
            remove_stale_features(plan.runs)
            try:
                self._read(plan, runs)
            except EmocacheError as error:
                yield Outcome(number, error=error, last=True)
                continue
            streams = JoinedStreams(plan.dataset)
            for count, (fold, seed) in enumerate(runs, 1):
                told = epochs_told(progress, f"fold {fold} seed {seed}", trainings_of(plan.settings))
                try:
                    yield Outcome(number, plan.train(fold, seed, streams, told), last=count == len(runs))
                except Exception as error:  # whoever asked tells it, or lets it pass
                    yield Outcome(number, error=error, last=True)
                    break

    def _by_others(self, asked: Iterable[Asked]) -> Iterator[Outcome]:
        ahead, number = iter(asked), -1  # `enumerate` would hold on to the first plan
        under_way: dict[Future[str], int] = {}
        held: dict[int, Plan] = {}  # with it go the files that its processes map
        errors: dict[int, Exception] = {}
        waits = next(ahead, None)
        while waits is not None or under_way:
            # Those that are done early go on with the next experiment, if memory has room for it beside the others.
            while waits is not None and len(under_way) < self.jobs and (not under_way or waits[0].dataset.finds_room):
                number += 1
                held[number], runs = waits
                try:
                    begun = self._begin(held[number], runs)
                except EmocacheError as error:
                    begun = []
                    yield Outcome(number, error=error, last=True)
                under_way |= dict.fromkeys(begun, number)
                if not begun:
                    del held[number]
                waits = next(ahead, None)
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                of, line = under_way.pop(future), ""
                try:
                    line = future.result()
                except Exception as error:
                    errors.setdefault(of, self._told(error))
                    for other in [other for other, its in under_way.items() if its == of and other.cancel()]:
                        del under_way[other]
                last = of not in under_way.values()
                if last:
                    del held[of]
                if line or last:
                    yield Outcome(of, line, errors.pop(of, None) if last else None, last)

    def _read(self, plan: Plan, runs: Sequence[Run]) -> None:
        """Read the streams of a plan: those that the one before has too once, if memory has room for both."""
        if not plan.dataset.finds_room:
            self._before = None
        if runs:
            dict(plan.dataset.features)
            self._before = plan

    def _begin(self, plan: Plan, runs: Sequence[Run]) -> list["Future[str]"]:
        if not runs:
            return []
        self._read(plan, runs)
        if self._processes is None:
            remove_stale_features(plan.runs)
            plan.runs.mkdir(parents=True, exist_ok=True)
            self._processes = self._kind(self.jobs, plan.runs)
        return self._processes.begin(plan, runs)

    def _told(self, error: Exception) -> Exception:
        if not isinstance(error, BrokenProcessPool):
            return error
        if self._processes is not None and self._processes.broken:
            self._leave(at_once=True)
        return EmocacheError(
            f"a training process was killed, probably for want of memory; use fewer --jobs than {self.jobs} and run the"
            " same command again: finished runs are kept"
        )

    def _leave(self, at_once: bool) -> None:
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.end(at_once)
