"""The processes on the machines of a Ray cluster among which the runs of a call are divided."""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ....cache import EmocacheError, ray_cluster
from ....cache.ray_cluster import Share, WorkerDiedError
from ..experiment_plan import Plan
from ..processes import Features, Run
from .ray_trainer import Trainer

_DEATHS = 3  # of processes at the same run
_LEAVING = 30.0  # seconds to store what is being stored


def room_of_cluster(device: str) -> int:
    """Count the runs that a cluster can train at the same time: one a GPU, or one a CPU."""
    return max(1, ray_cluster.room_for(Share(1, int(device != "cpu"))))


class Trainers:
    """The same as `processes.Processes`, on other machines.

    Each process has as many of torch's threads as one of `--jobs` would have here, so that the numbers are the same.
    A run whose process is gone is given to another one.

    Args:
        jobs: how many processes.
        runs: the folder of runs, in which the features lie that all of them map.

    Attributes:
        broken: never true: processes that are gone are replaced.
    """

    broken = False

    def __init__(self, jobs: int, runs: Path) -> None:
        self._features = Features(runs, jobs)
        self._threads = max(1, torch.get_num_threads() // jobs)
        self._pool = ThreadPoolExecutor(jobs, "ray")  # each thread waits for one process
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._all: list[Any] = []
        self._there: list[Any] = []  # those that have begun
        self._ending, self._lock = False, threading.Lock()

    def begin(self, plan: Plan, runs: Sequence[Run]) -> list["Future[str]"]:
        """Let them train and store runs; each gives a line that tells of it."""
        shared = ray_cluster.ray().put(self._features.share(plan))
        return [self._pool.submit(self._train, plan.device, shared, run) for run in runs]

    def end(self, at_once: bool) -> None:
        """End them: at once but for a run that is being stored, or after the runs that are under way."""
        self._pool.shutdown(wait=not at_once, cancel_futures=True)
        if at_once:
            with self._lock:
                self._ending = True
            with suppress(Exception):  # the cluster itself may be what is gone
                leaving = [trainer.leave.remote() for trainer in self._there]
                ray_cluster.ray().wait(leaving, num_returns=len(leaving), timeout=_LEAVING)
        for trainer in self._all:
            ray_cluster.end(trainer)
        self._pool.shutdown(wait=True)
        self._features.close()

    def _train(self, device: str, shared: Any, run: Run) -> str:
        for _ in range(_DEATHS):
            try:
                return self._train_once(device, shared, run)
            except WorkerDiedError as error:
                why = error
                if self._ending:
                    break
        raise EmocacheError(f"{_DEATHS} processes ended while they trained fold {run[0]} seed {run[1]}, probably for"
                            f" want of memory ({why}); run the same command again: finished runs are kept")  # fmt: skip

    def _train_once(self, device: str, shared: Any, run: Run) -> str:
        trainer = self._take(device)
        try:
            line: str = ray_cluster.outcome(trainer.train.remote(shared, run))
        except WorkerDiedError:
            raise
        except Exception:
            self._idle.put(trainer)
            raise
        self._idle.put(trainer)
        return line

    def _take(self, device: str) -> Any:
        """Return a process with nothing to do, or one that starts when a machine has room."""
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        most = max((node.cpus for node in ray_cluster.nodes()), default=0) or self._threads
        share = Share(min(self._threads, most), int(device != "cpu"))
        with self._lock:
            if self._ending:
                raise WorkerDiedError("the command ends")
            trainer = ray_cluster.start(Trainer, share, str(Path.cwd()), self._threads, threads=2)
            self._all.append(trainer)
        ray_cluster.outcome(trainer.ready.remote())
        self._there.append(trainer)
        return trainer
