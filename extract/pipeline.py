"""Decode ahead, encode in batches, write behind: one pass over the tasks of a plan."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ..cache import Committed, EmocacheError, InputFailure, Task, Utterance
from .batching import Budget, group_by_cost
from .encoders.base import Clip
from .encoding import Encoded, Result, Target, encode_batch

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
        EmocacheError, OSError: the cache cannot be written.
        KeyboardInterrupt: after committing what was finished.
    """
    outcome = Outcome()
    streams = {target.writer.name: target for target in targets}
    writing: deque[Future[Committed]] = deque()
    encoding: deque[tuple[_Batch, Future[Encoded]]] = deque()
    open_unit: _Unit | None = None

    def settle(most: int) -> None:
        while len(writing) > most:
            done = writing.popleft().result()
            outcome.committed += len(done.items)
            outcome.failed += len(done.failures)
            outcome.bytes += done.bytes
            tell(0, done)

    def commit(unit: _Unit) -> None:
        for stream in unit.wanted:
            items, failures = unit.items.get(stream, {}), unit.failures.get(stream, {})
            if items or failures:
                key = unit.task.units[stream]
                writing.append(writer.submit(streams[stream].writer.commit, key, items, failures))
        settle(_BEHIND)

    def collect(most: int) -> None:
        nonlocal open_unit
        while len(encoding) > most:
            batch, under_way = encoding.popleft()
            open_unit = batch.unit
            _file(under_way.result(), batch.unit, outcome)
            tell(len(batch.utterances), None)
            if batch.last:
                commit(batch.unit)
                open_unit = None

    with (
        ThreadPoolExecutor(workers, "decode") as decoders,
        ThreadPoolExecutor(passes, "encode") as encoders,
        ThreadPoolExecutor(1, "write") as writer,
    ):
        try:
            batches = _batches(tasks, streams, utterances, budget, retry_failed)
            for batch in _decoded(batches, decoders, decode):
                encoding.append((batch, encoders.submit(_encode, batch, streams, budget)))
                collect(passes - 1)
            collect(0)
        except KeyboardInterrupt:
            if open_unit is not None:
                commit(open_unit)
            settle(0)
            raise
        finally:
            encoders.shutdown(wait=False, cancel_futures=True)
            decoders.shutdown(wait=False, cancel_futures=True)
        settle(0)
    return outcome


def _batches(
    tasks: Sequence[Task],
    streams: Mapping[str, Target],
    utterances: Mapping[str, Utterance],
    budget: Budget,
    retry_failed: bool,
) -> Iterator[_Batch]:
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
        unit, groups = _Unit(task, wanted), group_by_cost(list(costs.values()), budget.cost)
        for number, group in enumerate(groups, start=1):
            yield _Batch(unit, [utterances[ids[k]] for k in group], costs, number == len(groups))


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
            unreadable[utterance.id] = f"cannot be read: {error}"
        clips.append(Clip(utterance.id, None, utterance.text, utterance.words, faults=faults))
    return encode_batch(clips, unreadable, batch.unit.wanted, streams, batch.costs, budget)


def _file(encoded: Encoded, unit: _Unit, outcome: Outcome) -> None:
    outcome.encoded += encoded.encoded
    outcome.unresolved.update(encoded.unresolved)
    for stream, items in encoded.items.items():
        unit.items.setdefault(stream, {}).update(items)
    for stream, failures in encoded.failures.items():
        unit.failures.setdefault(stream, {}).update(failures)
