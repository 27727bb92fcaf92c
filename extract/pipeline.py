"""Decode ahead, encode in batches, write behind: one pass over the tasks of a plan."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ..cache import Committed, EmocacheError, InputFailure, Task, Utterance
from .batching import Budget
from .encoders.base import Clip
from .encoding import Encoded, Result, Target, encode_batch, one_line

__all__ = ["Decode", "Outcome", "Target", "run"]

_AHEAD = 3  # batches decoded before the encoder asks for them
_BEHIND = 2  # units waiting for the writer
_TRIES = 3  # for causes that may pass: I/O, memory

Decode = Callable[[Utterance], Clip]


@dataclass
class Outcome:
    """What a run has done.

    Attributes:
        encoded: utterances that went through an encoder, once per encoder.
        committed: items committed, over all streams; failed: failures committed.
        bytes: written. unresolved: {id: cause} that may pass; tried again by the next run, never committed.
    """

    encoded: int = 0
    committed: int = 0
    failed: int = 0
    bytes: int = 0
    unresolved: dict[str, str] = field(default_factory=dict)

    def add(self, done: Committed) -> None:
        """Count what a commit made part of a stream."""
        self.committed += len(done.items)
        self.failed += len(done.failures)
        self.bytes += done.bytes


@dataclass
class _Unit:
    """A task in progress: the results so far, by stream."""

    task: Task
    wanted: dict[str, set[str]]  # stream -> ids
    items: dict[str, dict[str, Result]] = field(default_factory=dict)
    failures: dict[str, dict[str, InputFailure]] = field(default_factory=dict)


@dataclass
class _Batch:
    unit: _Unit
    utterances: list[Utterance]
    costs: dict[str, float]
    last: bool
    clips: list[Future[Clip]] = field(default_factory=list)


def run(
    tasks: Sequence[Task],
    targets: Sequence[Target],
    utterances: Mapping[str, Utterance],
    decode: Decode,
    *,
    budget: Budget,
    workers: int = 2,
    passes: int = 1,
    retry_failed: bool = False,
    tell: Callable[[int, Committed | None], None] = lambda utterances, committed: None,
) -> Outcome:
    """Encode and commit tasks.

    Args:
        tasks: from `cache.plan_tasks`; what others commit meanwhile is left out.
        targets: the streams the tasks may name.
        utterances: {id: Utterance} of all tasks.
        decode: turns an utterance into a Clip; what lies in the input is a fault of the clip, or an InputFailure where
            nothing can be made of it.
        budget: what a batch may cost.
        workers: decode threads.
        passes: batches in the encoder at the same time. With 2, a GPU works on one while the host prepares the next.
        retry_failed: encode utterances again whose failure is committed.
        tell: called with the number of utterances done and, after a commit, with what it committed.

    Raises:
        EmocacheError: something the user can mend, in an encoder or in the cache; after committing what was finished.
        KeyboardInterrupt: after committing what was finished.
    """
    streams = {target.writer.name: target for target in targets}
    decoders, encoders = ThreadPoolExecutor(workers, "decode"), ThreadPoolExecutor(passes, "encode")
    with ThreadPoolExecutor(1, "write") as writer:
        under_way = _UnderWay(streams, writer, tell)
        try:
            batches = _batches(tasks, streams, utterances, budget, retry_failed)
            for batch in _decoded(batches, decoders, decode):
                under_way.encoding.append((batch, encoders.submit(_encode, batch, streams, budget)))
                under_way.collect(passes - 1)
            under_way.collect(0)
        except (KeyboardInterrupt, EmocacheError):
            under_way.commit_open()
            raise
        finally:
            # Nobody waits for them: a long video may be half way through.
            encoders.shutdown(wait=False, cancel_futures=True)
            decoders.shutdown(wait=False, cancel_futures=True)
        under_way.settle(0)
    return under_way.outcome


class _UnderWay:
    """What has begun and is not committed yet; lives in the main thread alone.

    Attributes:
        encoding: batches in the encoder, the oldest first, with what is to come of them.
        outcome: so far.
    """

    def __init__(
        self, streams: Mapping[str, Target], writer: ThreadPoolExecutor, tell: Callable[[int, Committed | None], None]
    ) -> None:
        self.encoding: deque[tuple[_Batch, Future[Encoded]]] = deque()
        self.outcome = Outcome()
        self._streams = streams
        self._writer = writer
        self._writing: deque[Future[Committed]] = deque()
        self._tell = tell
        self._open: _Unit | None = None  # some of its batches are through, others are not

    def collect(self, most: int) -> None:
        """Wait until no more than so many batches are in the encoder, and commit the units that are complete."""
        while len(self.encoding) > most:
            batch, coming = self.encoding.popleft()
            self._open = batch.unit
            _file(coming.result(), batch.unit, self.outcome)
            self._tell(len(batch.utterances), None)
            if batch.last:
                self._commit(batch.unit)
                self._open = None

    def settle(self, most: int) -> None:
        """Wait until no more than so many units are with the writer."""
        while len(self._writing) > most:
            done = self._writing.popleft().result()
            self.outcome.add(done)
            self._tell(0, done)

    def commit_open(self) -> None:
        """Commit what there is of the unit that was not completed, and wait for the writer."""
        if self._open is not None:
            self._commit(self._open)
        self.settle(0)

    def _commit(self, unit: _Unit) -> None:
        for stream in unit.wanted:
            items, failures = unit.items.get(stream, {}), unit.failures.get(stream, {})
            if items or failures:
                key, writer = unit.task.units[stream], self._streams[stream].writer
                self._writing.append(self._writer.submit(writer.commit, key, items, failures))
        self.settle(_BEHIND)


def _batches(
    tasks: Sequence[Task],
    streams: Mapping[str, Target],
    utterances: Mapping[str, Utterance],
    budget: Budget,
    retry_failed: bool,
) -> Iterator[_Batch]:
    """Batches of similar cost, the dearest of a unit first, so that a lack of memory shows at once."""
    for task in tasks:
        # Another worker may have committed some of it since the plan was read.
        wanted = {
            stream: set(streams[stream].writer.still_missing(unit, task.ids, retry_failed))
            for stream, unit in task.units.items()
        }
        ids = sorted(set().union(*wanted.values()))
        if not ids:
            continue
        encoders = {id(streams[stream].encoder): streams[stream].encoder for stream in wanted}.values()
        costs = {i: max(encoder.cost(utterances[i]) for encoder in encoders) for i in ids}
        unit, left = _Unit(task, wanted), sorted(ids, key=lambda i: -costs[i])
        while left:
            count = budget.items(costs[left[0]])
            batch, left = [utterances[i] for i in left[:count]], left[count:]
            yield _Batch(unit, batch, costs, last=not left)


def _decoded(batches: Iterator[_Batch], decoders: ThreadPoolExecutor, decode: Decode) -> Iterator[_Batch]:
    """The same batches, each with its clips under way, some batches ahead of the consumer."""
    ahead: deque[_Batch] = deque()
    for batch in batches:
        batch.clips = [decoders.submit(_decode, decode, utterance) for utterance in batch.utterances]
        ahead.append(batch)
        if len(ahead) > _AHEAD:
            yield ahead.popleft()
    yield from ahead


def _decode(decode: Decode, utterance: Utterance) -> Clip:
    for attempt in range(_TRIES):
        try:
            return decode(utterance)
        except (OSError, MemoryError):
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _encode(batch: _Batch, streams: Mapping[str, Target], budget: Budget) -> Encoded:
    """Wait for the batch's clips and encode them; a clip that cannot be had keeps its text."""
    clips, unreadable = [], {}
    for utterance, future in zip(batch.utterances, batch.clips, strict=True):
        faults: dict[str, InputFailure] = {}
        try:
            clips.append(future.result())
            continue
        except InputFailure as failure:
            faults = {"audio": failure, "video": failure}
        except EmocacheError:  # such as a missing library: no use in trying the others
            raise
        except Exception as error:
            unreadable[utterance.id] = f"cannot be read: {one_line(error)}"
        clips.append(Clip(utterance.id, None, utterance.text, utterance.words, faults=faults))
    return encode_batch(clips, unreadable, batch.unit.wanted, streams, batch.costs, budget)


def _file(encoded: Encoded, unit: _Unit, outcome: Outcome) -> None:
    outcome.encoded += encoded.encoded
    outcome.unresolved.update(encoded.unresolved)
    for stream, items in encoded.items.items():
        unit.items.setdefault(stream, {}).update(items)
    for stream, failures in encoded.failures.items():
        unit.failures.setdefault(stream, {}).update(failures)
