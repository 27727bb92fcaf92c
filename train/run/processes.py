"""Processes that train runs: what they share, and how they end."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread, current_thread, main_thread

import torch

from ...cache import EmocacheError
from ...cache.device import share_device
from ..data.shelf import Shelf, mapped
from ..inputs.joining import JoinedStreams
from ..inputs.prepared import Joined
from ..stored.leftovers import features_prefix
from ..stored.run_folders import storing
from ..watch.watching import remove_files
from .experiment_plan import Plan

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

Run = tuple[int, int]
"""Fold and seed."""


class Features:
    """A folder below that of the runs, with the features that processes map.

    Args:
        runs: the folder of runs.
        jobs: processes that share the memory.
    """

    def __init__(self, runs: Path, jobs: int) -> None:
        self._runs, self._jobs = runs, jobs
        self._folder = tempfile.TemporaryDirectory(
            prefix=f"{features_prefix()}{os.getpid()}-", dir=runs, ignore_cleanup_errors=True
        )
        self._shelf = Shelf(Path(self._folder.name))

    def share(self, plan: Plan) -> "SharedPlan":
        """Put the features of a plan there; EmocacheError if they cannot be written."""
        try:
            return share(plan, self._shelf, self._jobs)
        except OSError as error:
            raise EmocacheError(
                f"--runs {self._runs}: the features that several processes share cannot be written there"
                f" ({error.strerror or error}); free some room, or train with --jobs 1"
            ) from error

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


class Processes:
    """A pool of processes, the pipe that ends them with this one, and the folder of what they map.

    Args:
        jobs: how many; each gets its share of torch's threads. runs: the folder of runs, where that folder lies.

    Attributes:
        broken: one was killed, and none of the others does anything more.
    """

    def __init__(self, jobs: int, runs: Path) -> None:
        self.broken = False
        self._features = Features(runs, jobs)
        context = get_context("spawn")
        theirs, self._lifeline = context.Pipe(duplex=False)
        threads = max(1, torch.get_num_threads() // jobs)
        with _no_signals():  # the pool starts a process of its own, which would not outlive a SIGHUP
            self._pool = ProcessPoolExecutor(jobs, context, _start, (threads, jobs, theirs))

    def begin(self, plan: Plan, runs: Sequence[Run]) -> list["Future[str]"]:
        """Let them train and store runs; each gives a line that tells of it."""
        shared = self._features.share(plan)
        with _no_signals():
            futures = [self._pool.submit(train_shared, shared, run) for run in runs]
        for future in futures:
            future.add_done_callback(self._end_if_broken)
        return futures

    def _end_if_broken(self, future: "Future[str]") -> None:
        """Close the lifeline when a process was killed: the pool then signals the others, which do not get signals."""
        if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
            self.broken = True
            self._lifeline.close()

    def end(self, at_once: bool) -> None:
        """End them: at once but for a run that is being stored, or after the runs that are under way."""
        if at_once:
            self._lifeline.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._lifeline.close()
        self._features.close()


@contextmanager
def _no_signals() -> Iterator[None]:
    """Hold back signals that stop until the end of the block; processes started inside never get them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # The mask is for the processes, which inherit it. Here other threads would take the signal for the main one.
    came: list[int] = []
    handlers = {number: handler for number in _STOPPING if callable(handler := signal.getsignal(number))}
    if current_thread() is not main_thread():  # which alone handles signals
        handlers = {}
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            handlers[number](number, None)


def end_with(lifeline: Connection) -> None:
    """End this process as soon as the other end is closed, by hand or because its process is gone, however that ended.

    A run that is being stored is stored first.
    """

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv_bytes()
        with storing:
            remove_files()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


@dataclass(frozen=True, eq=False)
class SharedPlan:
    """A plan as processes get it.

    Attributes:
        plan: without frames; those that stay in the cache are read there.
        frames: {stream: file of its frames}. inputs: {role: what its streams were joined to, without frames, and their
            file}.
        name: tells it from other plans.
    """

    plan: Plan
    frames: dict[str, Path]
    inputs: dict[str, tuple[Joined, Path]]
    name: str

    def open(self) -> tuple[Plan, JoinedStreams]:
        """Map the frames."""
        features = {name: replace(one, frames=mapped(self.frames[name]))
                    for name, one in self.plan.dataset.features.items()}  # fmt: skip
        plan = replace(self.plan, dataset=replace(self.plan.dataset, features=features))
        streams = JoinedStreams(plan.dataset)
        for role, (one, file) in self.inputs.items():
            streams.put(plan.settings, role, replace(one, frames=mapped(file)))
        return plan, streams


def share(plan: Plan, shelf: Shelf, jobs: int) -> SharedPlan:
    """Put the frames of a plan's streams on a shelf, and those of the inputs that were joined of them.

    Args:
        plan: of one experiment.
        shelf: has one file for what several plans read.
        jobs: processes that share the memory.

    Raises:
        OSError: a file cannot be written.
    """
    frames = {name: shelf.put(one.frames) for name, one in plan.dataset.features.items()}
    features = {name: replace(one, frames=one.frames[:0].copy()) for name, one in plan.dataset.features.items()}
    streams = JoinedStreams(plan.dataset)
    inputs: dict[str, tuple[Joined, Path]] = {}
    for role in plan.settings.streams:
        joined = streams.of(plan.settings, role)
        # An input that is one stream as it was read costs nothing to join again.
        if all(joined.frames is not one.frames for one in plan.dataset.features.values()):
            inputs[role] = (replace(joined, frames=joined.frames[:0].copy()), shelf.put(joined.frames, owner=plan))
    dataset = replace(plan.dataset, features=features, memory=plan.dataset.memory.shared(jobs))
    return SharedPlan(replace(plan, dataset=dataset), frames, inputs, f"{plan.folder(0, 0).parent}")


_opened: tuple[str, Plan, JoinedStreams] | None = None  # the last one of this process, which trains run after run of it


def _start(threads: int, jobs: int, lifeline: Connection) -> None:
    end_with(lifeline)
    torch.set_num_threads(threads)
    share_device(jobs)


def train_shared(shared: SharedPlan, run: Run) -> str:
    """Train and store a run in this process, which keeps what it has opened for the next one of the plan."""
    global _opened
    if _opened is None or _opened[0] != shared.name:
        _opened = None  # frees the old one before the next is mapped
        _opened = (shared.name, *shared.open())
    _, plan, streams = _opened
    return plan.train(*run, streams)
