"""Decode ahead, encode in batches, write behind: one pass over the tasks of a plan."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from ...cache import EmocacheError, InputFailure, Task, Utterance
from ...cache.device import is_out_of_memory
from ..encoders.encoder import Clip
from .batching import Budget
from .encoding import Encoded, Target, encode_batch, end_if_lost, one_line
from .under_way import Batch, Measure, Outcome, Tell, UnderWay, Unit

__all__ = ["Decode", "Outcome", "Target", "run"]

_AHEAD = 2  # batches decoded before the encoder asks for them, at least
_EACH = 2  # clips for each decode thread ahead of the encoder, at least: none waits for the next batch to be cut
_TRIES = 3  # for causes that may pass: I/O, memory

Decode = Callable[[Utterance], Clip]


def run(
    tasks: Sequence[Task],
    targets: Sequence[Target],
    utterances: Mapping[str, Utterance],
    decode: Decode,
    *,
    budget: Budget,
    workers: int = 2,
    passes: int = 1,
    writers: int = 1,
    retry_failed: bool = False,
    tell: Tell = lambda encoded, stored: None,
    measure: Measure = lambda utterances, spent, waits: None,
    clock: Callable[[], float] = time.monotonic,
    halt: "Future[None] | None" = None,
) -> Outcome:
    """Encode and commit tasks.

    A unit is committed when all of it is encoded; and after a batch, as far as it has come, when the oldest of what is
    not committed began to be encoded over a minute ago. So a kill costs a minute's work, or the batch under way if that
    takes longer.

    Args:
        tasks: from `cache.plan_tasks`; what others commit meanwhile is left out.
        targets: the streams the tasks may name.
        utterances: {id: Utterance} of all tasks.
        decode: turns an utterance into a Clip; what lies in the input is a fault of the clip, or an InputFailure where
            nothing can be made of it.
        budget: what a batch may cost.
        workers: decode threads.
        passes: batches in the encoder at the same time. With 2, a GPU works on one while the host prepares the next.
        writers: threads that store what is encoded.
        retry_failed: encode utterances again whose failure is committed.
        tell: called when that many more utterances are encoded, and when that many more are stored.
        measure: told of each batch that went through the encoders, before `tell` is.
        clock: seconds.
        halt: ends the run as a signal would, from another thread: raises what it is given.

    Returns:
        Counts, failures and what has to be tried again.

    Raises:
        EmocacheError: something the user can mend, in an encoder or in the cache; after committing what was finished.
        KeyboardInterrupt: after committing what was finished.
    """
    streams = {target.writer.name: target for target in targets}
    decoders, encoders = ThreadPoolExecutor(workers, "decode"), ThreadPoolExecutor(passes, "encode")
    with ThreadPoolExecutor(writers, "write") as pool:
        under_way = UnderWay(streams, pool, tell, clock, measure, writers, halt)
        try:
            batches = _batches(tasks, streams, utterances, budget, retry_failed, tell)
            for batch in _decoded(batches, decoders, decode, _EACH * workers):
                batch.begun = clock()
                under_way.encoding.append((batch, encoders.submit(_encode, batch, streams, budget)))
                under_way.collect(passes - 1)
            under_way.collect(0)
        except BaseException:  # whatever ends it, such as a signal or a terminal that is gone
            _leave(encoders, decoders)
            under_way.commit_finished()
            raise
        _leave(encoders, decoders)
        under_way.settle(0)
    return under_way.outcome


def _leave(*pools: ThreadPoolExecutor) -> None:
    """Nobody waits for them: a long video may be half way through."""
    for pool in pools:
        pool.shutdown(wait=False, cancel_futures=True)


def _batches(
    tasks: Sequence[Task],
    streams: Mapping[str, Target],
    utterances: Mapping[str, Utterance],
    budget: Budget,
    retry_failed: bool,
    tell: Tell,
) -> Iterator[Batch]:
    """Batches of similar cost, the dearest of a unit first, so that a lack of memory shows at once."""
    for task in tasks:
        # Another worker may have committed some of it since the plan was read.
        wanted = {
            stream: set(streams[stream].writer.still_missing(unit, task.ids, retry_failed))
            for stream, unit in task.units.items()
        }
        ids = sorted(set().union(*wanted.values()))
        if others := len(task.ids) - len(ids):
            tell(others, others)
        if not ids:
            continue
        encoders = {id(streams[stream].encoder): streams[stream].encoder for stream in wanted}.values()
        costs = {i: max(encoder.cost(utterances[i]) for encoder in encoders) for i in ids}
        unit, left = Unit(task, wanted), sorted(ids, key=lambda i: -costs[i])
        while left:
            count = budget.items(costs[left[0]])
            batch, left = [utterances[i] for i in left[:count]], left[count:]
            yield Batch(unit, batch, costs, last=not left)


def _decoded(batches: Iterator[Batch], decoders: ThreadPoolExecutor, decode: Decode, clips: int) -> Iterator[Batch]:
    """The same batches, each with its clips under way: at least so many clips ahead of the consumer."""
    ahead: deque[Batch] = deque()
    for batch in batches:
        batch.clips = [decoders.submit(_decode, decode, utterance) for utterance in batch.utterances]
        ahead.append(batch)
        while len(ahead) > _AHEAD and sum(len(one.clips) for one in list(ahead)[1:]) >= clips:
            yield ahead.popleft()
    yield from ahead


def _decode(decode: Decode, utterance: Utterance) -> Clip:
    for attempt in range(_TRIES):
        try:
            return decode(utterance)
        except Exception as error:  # a detector of faces may run on the device
            if attempt == _TRIES - 1 or not (isinstance(error, OSError) or is_out_of_memory(error)):
                raise
    raise AssertionError("unreachable")


def _encode(batch: Batch, streams: Mapping[str, Target], budget: Budget) -> Encoded:
    """Wait for the batch's clips and encode them; a clip that cannot be had keeps its text."""
    clips, unreadable = [], {}
    begun = time.monotonic()
    wait(batch.clips)
    waited = time.monotonic() - begun
    for utterance, future in zip(batch.utterances, batch.clips, strict=True):
        faults: dict[str, InputFailure] = {}
        try:
            clips.append(future.result())
            continue
        except InputFailure as failure:
            faults = {"audio": failure, "video": failure, "pictures": failure}
        except EmocacheError:  # such as a missing library: no use in trying the others
            raise
        except Exception as error:
            end_if_lost(error, "finding faces")
            unreadable[utterance.id] = f"cannot be read: {one_line(error)}"
        clips.append(Clip(utterance.id, None, utterance.text, utterance.words, faults=faults))
    encoded = encode_batch(clips, unreadable, batch.unit.wanted, streams, batch.costs, budget)
    encoded.waited = waited
    return encoded
