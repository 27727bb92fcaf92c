"""The tasks of a plan, given to workers on the machines of a Ray cluster a few at a time."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ....cache import EmocacheError, Task, Utterance, ray_cluster
from ....cache.ray_cluster import Share, WorkerDiedError
from ....cache.telling import tell
from .. import estimate
from ..progress import Progress
from ..stream_targets import Expected
from ..under_way import Outcome
from .local_engine import Work
from .ray_worker import Order, Worker

_CPUS = 4  # of a worker without a GPU, at most: models gain little by more threads than that
_MOST_CPUS = 16  # of one with a GPU, as `machine.decode_workers`
_ASKED = 4  # workers that are asked for beyond the room there is, at least
_TASKS_ON_A_GPU = 3  # of a worker at a time: one is decoded and one stored while one is encoded
_DEATHS = 3  # of workers, after which what they were at is left to another run
_STOPPING = 60.0  # seconds that workers have to commit what is finished


@dataclass(eq=False)
class _Hired:
    """A worker: Ray's handle, if it can be given tasks, and the numbers of those it has."""

    handle: Any
    ready: bool = False
    tasks: set[int] = field(default_factory=set)


class Dealer:
    """Starts workers where the cluster has room, and gives them tasks until all are done.

    Workers are asked for beyond the room there is, as many again as fit, so that a cluster that grows by itself does;
    one that is gone is replaced, and its tasks are given to others. No worker has more than its few tasks, however
    long they take, and none is given a task that another one has.

    Args:
        work: the pass; a cluster has been joined.

    Attributes:
        room: workers that the machines of the cluster have room for; 1 if none has yet.
    """

    def __init__(self, work: Work) -> None:
        self._share, self._each = _shares(work)
        self.room = max(1, ray_cluster.room_for(self._share))
        self._order = _order(work, self._share)
        self._workers: list[_Hired] = []
        self._calls: dict[Any, partial[None]] = {}  # reference -> what takes its result
        self._counts: dict[int, tuple[int, int]] = {}  # of tasks under way: encoded, stored
        self._deaths: Counter[int] = Counter()
        self._failed_starts = 0
        self._outcome = Outcome()

    def deal(self, tasks: Sequence[Task], left: Mapping[str, Utterance], progress: Progress) -> Outcome:
        """Carry out tasks.

        Args:
            tasks: of the plan.
            left: their utterances.
            progress: is told of what the workers do.

        Returns:
            See `encoding_loop.run`; of utterances that end one worker after the other, that they did.

        Raises:
            EmocacheError: of a worker; or workers end before they have begun.
            KeyboardInterrupt: after the workers have committed what was finished.
        """
        self._tasks, self._left, self._progress = tasks, left, progress
        self._waiting, self._open = deque(range(len(tasks))), len(tasks)
        try:
            if tasks:
                self._tell_room()
            while self._open:
                self._hire()
                self._give()
                for reference in ray_cluster.ray().wait(list(self._calls), timeout=1.0)[0]:
                    self._calls.pop(reference)(reference)
        except BaseException:
            self._stop()
            raise
        finally:
            for worker in self._workers:
                ray_cluster.end(worker.handle)
        return self._outcome

    def _tell_room(self) -> None:
        """Say what is waited for where no machine has room for a worker; a cluster may grow."""
        cpus, gpus = self._share
        needs = f"{cpus} CPU{'s' if cpus > 1 else ''}" + (" and a GPU" if gpus else "")
        found = ray_cluster.room_for(self._share)
        where = f"room for {found}" if found else "no machine of the cluster has room for one yet, so this waits"
        tell(f"on Ray: workers of {needs} each, {where}", err=True)

    def _hire(self) -> None:
        """Ask for workers, while there is more to do than those that are there can take."""
        idle = sum(not worker.tasks for worker in self._workers)
        coming = sum(not worker.ready for worker in self._workers)
        # Those that are asked for beyond the room tell a cluster that grows by itself how much it should.
        most = max(_ASKED, self.room, len(self._workers) - coming)
        while idle * self._each < len(self._waiting) and coming < most:
            worker = _Hired(ray_cluster.start(Worker, self._share, self._order, threads=self._each + 2))
            self._workers.append(worker)
            self._calls[worker.handle.prepare.remote()] = partial(self._prepared, worker)
            idle, coming = idle + 1, coming + 1

    def _give(self) -> None:
        """Give tasks to the workers that are ready: first one to each."""
        ready = [worker for worker in self._workers if worker.ready]
        for most in range(1, self._each + 1):
            for worker in ready:
                if not self._waiting:
                    return
                number = self._waiting[0]
                # A task that has ended a worker takes no others along.
                alone = any(self._deaths[one] for one in (number, *worker.tasks))
                if len(worker.tasks) < (1 if alone else most):
                    task = self._tasks[self._waiting.popleft()]
                    call = worker.handle.encode.remote(number, task, {i: self._left[i] for i in task.ids})
                    worker.tasks.add(number)
                    self._calls[call] = partial(self._encoded, worker, number)

    def _prepared(self, worker: _Hired, reference: Any) -> None:
        try:
            ray_cluster.outcome(reference)
        except WorkerDiedError as error:
            self._failed_starts += 1
            self._lose(worker)
            if self._failed_starts >= _DEATHS:
                raise EmocacheError(f"workers of Ray end before they have begun: {error}") from None
            return
        worker.ready, self._failed_starts = True, 0
        self._listen(worker)

    def _listen(self, worker: _Hired) -> None:
        self._calls[worker.handle.told.remote()] = partial(self._heard, worker)

    def _heard(self, worker: _Hired, reference: Any) -> None:
        try:
            counts = ray_cluster.outcome(reference)
        except WorkerDiedError:
            self._lose(worker)
            return
        for number in counts.keys() & worker.tasks:
            self._count(number, *counts[number])
        self._listen(worker)

    def _encoded(self, worker: _Hired, number: int, reference: Any) -> None:
        worker.tasks.discard(number)
        try:
            done: Outcome = ray_cluster.outcome(reference)
        except WorkerDiedError as error:
            self._lose(worker)
            self._count(number, 0, 0)  # whoever gets it next tells all of it again
            self._deaths[number] += 1
            if self._deaths[number] < _DEATHS:
                self._waiting.append(number)
                return
            why = f"{_DEATHS} workers ended while they were at it, probably for want of memory ({error})"
            done = Outcome(unresolved=dict.fromkeys(self._tasks[number].ids, why))
        whole = len(self._tasks[number].ids)
        self._count(number, whole, whole - len(done.unresolved))
        self._open -= 1
        self._outcome.encoded += done.encoded
        self._outcome.committed += done.committed
        self._outcome.failed += done.failed
        self._outcome.bytes += done.bytes
        self._outcome.unresolved |= done.unresolved

    def _count(self, number: int, encoded: int, stored: int) -> None:
        before = self._counts.get(number, (0, 0))
        self._counts[number] = encoded, stored
        if (encoded, stored) != before:
            self._progress(encoded - before[0], stored - before[1])

    def _lose(self, worker: _Hired) -> None:
        """Count on a worker no more; what its calls are about comes to hand one by one."""
        worker.ready = False
        if worker in self._workers:
            self._workers.remove(worker)
        ray_cluster.end(worker.handle)  # a machine that is only out of reach shall not go on with it

    def _stop(self) -> None:
        """Let workers commit what is finished, and wait for it."""
        with suppress(Exception):  # the cluster itself may be what is gone
            busy = [worker for worker in self._workers if worker.tasks]
            for worker in busy:
                worker.handle.stop.remote()
            encoding = [call for call, takes in self._calls.items() if takes.func == self._encoded]
            if encoding:
                ray_cluster.ray().wait(encoding, num_returns=len(encoding), timeout=_STOPPING)


def _shares(work: Work) -> tuple[Share, int]:
    """Choose what a worker takes of a machine, and how many tasks it has at a time.

    As many CPUs as it has threads that decode, and nobody else is placed on them: so reading waits for nobody.
    """
    options, nodes = work.options, ray_cluster.nodes()
    with_gpu = [node for node in nodes if node.gpus]
    on_gpu = options.ray_device == "cuda" or (options.ray_device == "auto" and bool(with_gpu))
    if on_gpu and any(estimate.runs_on_device(encoder) for encoder in work.chosen):
        fair = min((node.cpus // node.gpus for node in with_gpu), default=_CPUS)
        return Share(options.workers or max(1, min(_MOST_CPUS, fair)), 1), _TASKS_ON_A_GPU
    most = max((node.cpus for node in nodes), default=0) or _CPUS
    return Share(options.workers or min(_CPUS, most), 0), 1


def _order(work: Work, share: Share) -> Order:
    device = "cuda" if share.gpus else "cpu"
    expected = {
        target.writer.name: Expected(target.writer.fingerprint, target.writer.recipe, "the command has")
        for target in work.targets
    }
    # Utterances come with the tasks: a worker holds no more of them than it works on.
    options = replace(work.options, device=device, workers=share.cpus, expected=expected, only=frozenset())
    manifest = work.targets[0].writer.manifest
    return Order(options, manifest.corpus, manifest.sha256, work.names, str(Path.cwd()), share.cpus)
