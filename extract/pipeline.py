"""Decode ahead, encode in batches, write behind: one pass over the tasks of a plan."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ..cache import Committed, EmocacheError, InputFailure, Item, StreamWriter, Task, Utterance
from .batching import group_by_cost
from .encoders.base import Clip, Encoder

_AHEAD = 3  # batches decoded before the encoder asks for them
_BEHIND = 2  # units waiting for the writer
_TRIES = 3  # for causes that may pass: I/O, memory

Decode = Callable[[Utterance], Clip]


@dataclass(frozen=True)
class Target:
    """A stream to fill: which layer of which encoder it takes."""

    encoder: Encoder
    layer: int | None
    writer: StreamWriter


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
    items: dict[str, dict[str, Item]] = field(default_factory=dict)
    failures: dict[str, dict[str, InputFailure]] = field(default_factory=dict)


@dataclass
class _Batch:
    unit: _Unit
    utterances: list[Utterance]
    last: bool
    clips: list[Future[Clip]] = field(default_factory=list)


def run(
    tasks: Sequence[Task],
    targets: Sequence[Target],
    utterances: Mapping[str, Utterance],
    decode: Decode,
    *,
    budget: float,
    workers: int = 2,
    retry_failed: bool = False,
    tell: Callable[[int, Committed | None], None] = lambda utterances, committed: None,
) -> Outcome:
    """Encode and commit tasks.

    Args:
        tasks: from `cache.plan_tasks`; what others commit meanwhile is left out.
        targets: the streams the tasks may name.
        utterances: {id: Utterance} of all tasks.
        decode: turns an utterance into a Clip; raises InputFailure for causes that lie in the input.
        budget: cost of a batch, see `Encoder.cost`.
        workers: decode threads.
        retry_failed: encode utterances again whose failure is committed.
        tell: called with the number of utterances done and, after a commit, with what it committed.

    Raises:
        EmocacheError, OSError: the cache cannot be written.
        KeyboardInterrupt: after committing what was finished.
    """
    outcome = Outcome()
    streams = {target.writer.name: target for target in targets}
    writing: deque[Future[Committed]] = deque()

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

    open_unit: _Unit | None = None
    with ThreadPoolExecutor(workers, "decode") as decoders, ThreadPoolExecutor(1, "write") as writer:
        try:
            for batch in _decoded(_batches(tasks, streams, utterances, budget, retry_failed), decoders, decode):
                open_unit = batch.unit
                _encode(batch, streams, outcome)
                tell(len(batch.utterances), None)
                if batch.last:
                    commit(batch.unit)
                    open_unit = None
        except KeyboardInterrupt:
            if open_unit is not None:
                commit(open_unit)
            settle(0)
            raise
        finally:
            decoders.shutdown(wait=False, cancel_futures=True)
        settle(0)
    return outcome


def _batches(
    tasks: Sequence[Task],
    streams: Mapping[str, Target],
    utterances: Mapping[str, Utterance],
    budget: float,
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
        costs = [max(encoder.cost(utterances[i]) for encoder in encoders) for i in ids]
        unit, groups = _Unit(task, wanted), group_by_cost(costs, budget)
        for number, group in enumerate(groups, start=1):
            yield _Batch(unit, [utterances[ids[k]] for k in group], number == len(groups))


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


def _encode(batch: _Batch, streams: Mapping[str, Target], outcome: Outcome) -> None:
    """Put the batch through every encoder that lacks some of it, and file the results by stream."""
    unit, clips = batch.unit, []
    undecoded: dict[str, InputFailure | None] = {}
    for utterance, future in zip(batch.utterances, batch.clips, strict=True):
        try:
            clips.append(future.result())
            continue
        except InputFailure as failure:
            undecoded[utterance.id] = failure
        except EmocacheError:  # such as a missing library: no use in trying the others
            raise
        except Exception as error:
            undecoded[utterance.id] = None
            outcome.unresolved[utterance.id] = f"cannot be read: {error}"
        clips.append(Clip(utterance.id, None, utterance.text, utterance.words))  # enough for encoders of text
    by_encoder: dict[int, list[str]] = {}
    for stream in unit.wanted:
        by_encoder.setdefault(id(streams[stream].encoder), []).append(stream)
    for names in by_encoder.values():
        encoder = streams[names[0]].encoder
        lost = {} if {"audio", "video"}.isdisjoint(encoder.inputs) else undecoded
        todo = [c for c in clips if c.id not in lost and any(c.id in unit.wanted[name] for name in names)]
        encoded = _encode_clips(encoder, todo, [streams[name].layer for name in names], outcome)
        results = {clip.id: result for clip, result in zip(todo, encoded, strict=True)} | lost
        for name in names:
            for utterance_id, result in results.items():
                if utterance_id not in unit.wanted[name] or result is None:
                    continue
                if isinstance(result, InputFailure):
                    unit.failures.setdefault(name, {})[utterance_id] = result
                else:
                    unit.items.setdefault(name, {})[utterance_id] = result[streams[name].layer]


def _encode_clips(
    encoder: Encoder, clips: list[Clip], layers: list[int | None], outcome: Outcome
) -> list[dict[int | None, Item] | InputFailure | None]:
    """Encode a batch, in halves where memory is short or a clip breaks the encoder; None where nothing helps."""
    if not clips:
        return []
    try:
        results = list(encoder.encode(clips, layers))
        outcome.encoded += len(clips)
        return results  # type: ignore[return-value]
    except EmocacheError:
        raise
    except Exception as error:
        if len(clips) == 1:
            outcome.unresolved[clips[0].id] = f"encoder {encoder.name}: {type(error).__name__}: {error}"
            return [None]
    halves = clips[: len(clips) // 2], clips[len(clips) // 2 :]
    return [result for half in halves for result in _encode_clips(encoder, half, layers, outcome)]
