"""Runs in several processes that share one copy of the features."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...cache import EmocacheError
from ...cache.device import share_device
from ...cache.telling import Progress
from ..data.dataset import Features
from ..inputs.joining import JoinedStreams
from ..inputs.prepared import Joined
from ..stored.leftovers import features_prefix, remove_stale_features
from ..stored.run_folders import storing
from ..watch.watching import remove_files
from .epochs_told import epochs_told, trainings_of
from .experiment_plan import Plan

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_shared: tuple[Plan, JoinedStreams] | None = None  # by the runs of a worker process; set once by `_start`


def train_runs(plan: Plan, runs: Sequence[tuple[int, int]], jobs: int) -> Iterator[str]:
    """Train and store runs; yield a line for each as it is finished.

    With several jobs each process gets its share of torch's threads, and maps the features from one temporary file
    below the runs folder, so that they are in memory once. What a killed call left of that is removed first. Signals
    reach this process only: when one ends the call, or the process, the others end too, but not while they store a run.

    Args:
        plan: the experiment.
        runs: (fold, seed) of each.
        jobs: processes.

    Raises:
        EmocacheError: of a run; finished runs stay. Or a process was killed.
    """
    remove_stale_features(plan.runs)
    jobs = min(jobs, len(runs))
    with Progress("runs", len(runs)) as progress:
        for line in _trained(plan, runs, jobs) if jobs > 1 else _trained_here(plan, runs, progress):
            progress.step()
            yield line


def _trained_here(plan: Plan, runs: Sequence[tuple[int, int]], progress: Progress) -> Iterator[str]:
    streams = JoinedStreams(plan.dataset)
    for fold, seed in runs:
        yield plan.train(
            fold, seed, streams, epochs_told(progress, f"fold {fold} seed {seed}", trainings_of(plan.settings))
        )


def _trained(plan: Plan, runs: Sequence[tuple[int, int]], jobs: int) -> Iterator[str]:
    plan.runs.mkdir(parents=True, exist_ok=True)
    threads = max(1, torch.get_num_threads() // jobs)
    with tempfile.TemporaryDirectory(
        prefix=f"{features_prefix()}{os.getpid()}-", dir=plan.runs, ignore_cleanup_errors=True
    ) as folder:
        try:
            light, joined = _spill(plan, Path(folder))
        except OSError as error:
            raise EmocacheError(
                f"--runs {plan.runs}: the features that several processes share cannot be written there"
                f" ({error.strerror or error}); free some room, or train with --jobs 1"
            ) from error
        context = get_context("spawn")
        theirs, lifeline = context.Pipe(duplex=False)
        with _no_signals():  # the pool starts a process of its own, which would not outlive a SIGHUP
            pool = ProcessPoolExecutor(jobs, context, _start, (light, joined, folder, threads, jobs, theirs))
        try:
            with _no_signals():
                futures = [pool.submit(_train, run) for run in runs]
            for future in futures:
                future.add_done_callback(partial(_end_if_broken, lifeline))
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise EmocacheError(
                f"a training process was killed, probably for want of memory; use fewer --jobs than {jobs} and run the"
                " same command again: finished runs are kept"
            ) from error
        except (KeyboardInterrupt, GeneratorExit):
            lifeline.close()
            raise
        finally:  # after the error of a run, those that are under way are finished
            pool.shutdown(wait=True, cancel_futures=True)


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


def _end_if_broken(lifeline: Connection, future: "Future[str]") -> None:
    """Close the lifeline when a process was killed: the pool then signals the others, which do not get signals."""
    if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
        lifeline.close()


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


def _spill(plan: Plan, folder: Path) -> tuple[Plan, dict[str, Joined]]:
    """Write the frames of each stream, and of each input that was joined of them, into files that processes map.

    Args:
        plan: the experiment.
        folder: for the files, which are named after the number of a stream, or the role of an input.

    Returns:
        The plan, and the inputs by their role, both without their frames; those that stay in the cache are read there.
    """
    features: dict[str, Features] = {}
    for number, (name, one) in enumerate(plan.dataset.features.items()):
        np.save(folder / f"{number}.npy", one.frames)
        features[name] = replace(one, frames=one.frames[:0])
    light: dict[str, Joined] = {}
    streams = JoinedStreams(plan.dataset)
    for role in plan.settings.streams:
        joined = streams.of(plan.settings, role)
        # An input that is one stream as it was read costs nothing to join again.
        if all(joined.frames is not one.frames for one in plan.dataset.features.values()):
            np.save(folder / f"{role}.npy", joined.frames)
            light[role] = replace(joined, frames=joined.frames[:0])
    return replace(plan, dataset=replace(plan.dataset, features=features)), light


def _start(plan: Plan, joined: dict[str, Joined], folder: str, threads: int, jobs: int, lifeline: Connection) -> None:
    global _shared
    end_with(lifeline)
    torch.set_num_threads(threads)
    share_device(jobs)
    names = enumerate(plan.dataset.features.items())
    features = {name: replace(one, frames=_mapped(folder, number)) for number, (name, one) in names}
    memory = plan.dataset.memory.shared(jobs)
    plan = replace(plan, dataset=replace(plan.dataset, features=features, memory=memory))
    streams = JoinedStreams(plan.dataset)
    for role, one in joined.items():
        streams.put(plan.settings, role, replace(one, frames=_mapped(folder, role)))
    _shared = (plan, streams)


def _mapped(folder: str, name: int | str) -> npt.NDArray[Any]:
    """Map a file copy-on-write: writable as torch wants it, and still one copy in memory."""
    return np.asarray(np.load(Path(folder, f"{name}.npy"), mmap_mode="c"))


def _train(run: tuple[int, int]) -> str:
    if _shared is None:
        raise RuntimeError("the worker process was not started")
    plan, streams = _shared
    return plan.train(*run, streams)
