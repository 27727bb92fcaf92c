"""The tasks that have begun and are not committed yet, and when they are."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...cache import Committed, InputFailure, Item, StreamWriter, Task, Utterance
from ...cache.spill import blocks, by_blocks
from ..encoders.encoder import Clip
from .encoding import Encoded, Result, Target

_BEHIND = 1  # commits waiting for a writer, beside one that each writer is at
_SAVE_SECONDS = 60.0  # of encoding that a kill may cost

Measure = Callable[[Sequence[Utterance], Mapping[str, float], Mapping[str, float]], None]
"""Told of each batch that went through the encoders: its utterances, the seconds that each encoder took, and those that
it waited, for "decoder" and "writer"."""
Tell = Callable[[int, int], None]
"""Told how many more utterances of the tasks are encoded, and how many more every stream of their task has stored."""


@dataclass
class Outcome:
    """The outcome of a run.

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


@dataclass(eq=False)
class Unit:
    """A task in progress: the results, by stream, that the writer has not been given yet."""

    task: Task
    wanted: dict[str, set[str]]  # stream -> ids
    items: dict[str, dict[str, Result]] = field(default_factory=dict)
    failures: dict[str, dict[str, InputFailure]] = field(default_factory=dict)
    since: float | None = None  # when the oldest of these results began to be encoded
    stored: Counter[str] = field(default_factory=Counter)  # id -> in how many of the streams that want it
    commits: dict[str, Future[Committed]] = field(default_factory=dict)  # stream -> the last one given to a writer


@dataclass
class Batch:
    """Utterances of a unit that are encoded together.

    Attributes:
        unit: theirs. utterances: the batch. costs: {id: cost}, see `Encoder.cost`. last: of its unit.
        clips: what is to come of them. begun: when it went to the encoder.
    """

    unit: Unit
    utterances: list[Utterance]
    costs: dict[str, float]
    last: bool
    clips: list[Future[Clip]] = field(default_factory=list)
    begun: float = 0.0


class UnderWay:
    """Results that wait for the commit of their unit; lives in the main thread alone.

    A signal may be raised between any two steps. So results are taken from where they are only after they have arrived
    at the next place; what is given to the writer twice by that, it stores once.

    Args:
        streams: {name: its target}.
        pool: its threads commit beside the encoder. writers: how many it has.
        tell: called when that many more utterances are encoded, and when that many more are stored.
        clock: seconds.
        measure: told of each batch, before `tell` is.
        halt: ends the waiting for a batch with what it is given to raise; None: nothing does but a signal.

    Attributes:
        encoding: batches in the encoder, the oldest first, with what is to come of them.
        outcome: so far.
    """

    def __init__(
        self,
        streams: Mapping[str, Target],
        pool: ThreadPoolExecutor,
        tell: Tell,
        clock: Callable[[], float],
        measure: Measure = lambda utterances, spent, waits: None,
        writers: int = 1,
        halt: "Future[None] | None" = None,
    ) -> None:
        self.encoding: deque[tuple[Batch, Future[Encoded]]] = deque()
        self.outcome = Outcome()
        self._streams = streams
        self._pool = pool
        self._behind = writers + _BEHIND
        self._writing: deque[tuple[Unit, set[str], Future[Committed]]] = deque()
        self._tell = tell
        self._clock = clock
        self._measure = measure
        self._halt = halt
        self._waited = 0.0  # seconds for the writer, since the last batch
        self._open: Unit | None = None  # some of its batches are through, others are not

    def collect(self, most: int) -> None:
        """Wait until no more than so many batches are in the encoder, and commit the units that are complete."""
        while len(self.encoding) > most:
            batch, coming = self.encoding[0]
            if self._halt is not None:
                either: tuple[Future[Any], ...] = (coming, self._halt)
                wait(either, return_when=FIRST_COMPLETED)
                if self._halt.done():
                    self._halt.result()
            encoded = coming.result()
            self._open = unit = batch.unit
            _file(encoded, batch, self.outcome)
            self.encoding.popleft()
            waits, self._waited = {"decoder": encoded.waited, "writer": self._waited}, 0.0
            self._measure(batch.utterances, encoded.spent, waits)
            self._tell(len(batch.utterances), 0)
            if batch.last or (unit.since is not None and self._clock() - unit.since > _SAVE_SECONDS):
                self._commit(unit)
            if batch.last:
                self._open = None
            self.settle(self._behind)

    def settle(self, most: int) -> None:
        """Wait until no more than so many commits are with the writers, and tell of those that are done."""
        while len(self._writing) > most or (self._writing and self._writing[0][2].done()):
            unit, ids, coming = self._writing.popleft()
            begun = time.monotonic()
            self.outcome.add(coming.result())
            self._waited += time.monotonic() - begun
            unit.stored.update(ids)
            whole = [i for i in ids if unit.stored[i] == sum(i in wanted for wanted in unit.wanted.values())]
            self._tell(0, len(whole))

    def commit_finished(self) -> None:
        """Commit what there is of the units that were not completed, and wait for the writers."""
        units = [] if self._open is None else [self._open]
        for batch, coming in self.encoding:
            if coming.done() and not coming.cancelled() and coming.exception() is None:
                _file(coming.result(), batch, self.outcome)
                units.append(batch.unit)
                self._tell(len(batch.utterances), 0)
        for unit in dict.fromkeys(units):
            self._commit(unit)
        self.settle(0)

    def _commit(self, unit: Unit) -> None:
        for stream in unit.wanted:
            items, failures = unit.items.get(stream, {}), unit.failures.get(stream, {})
            if items or failures:
                key, writer = unit.task.units[stream], self._streams[stream].writer
                coming = self._pool.submit(_store, unit.commits.get(stream), writer, key, items, failures)
                unit.commits[stream] = coming
                self._writing.append((unit, items.keys() | failures.keys(), coming))
                unit.items[stream], unit.failures[stream] = {}, {}
        unit.since = None


def _file(encoded: Encoded, batch: Batch, outcome: Outcome) -> None:
    unit = batch.unit
    unit.since = batch.begun if unit.since is None else unit.since
    outcome.encoded += encoded.encoded
    outcome.unresolved.update(encoded.unresolved)
    for stream, items in encoded.items.items():
        unit.items.setdefault(stream, {}).update(items)
    for stream, failures in encoded.failures.items():
        unit.failures.setdefault(stream, {}).update(failures)


def _store(
    before: Future[Committed] | None,
    writer: StreamWriter,
    unit: str,
    items: Mapping[str, Result],
    failures: Mapping[str, InputFailure],
) -> Committed:
    """Commit a part of a unit, after the part `before`, which another thread may still be at."""
    if before is not None:
        wait([before])
    if writer.recipe.get("dtype") == "float16":
        items = {i: _halved(item) if isinstance(item, Item) else item for i, item in items.items()}
    return writer.commit(unit, items, failures)


def _halved(item: Item) -> Item:
    """Cast frames to float16 as the writer would; those that do not fit are left to it, which tells why."""
    torch, frames = sys.modules.get("torch"), item.frames
    # Several times as fast as NumPy's cast, where torch is loaded anyway; it takes arrays that could be written to.
    if torch is None or frames.dtype != np.float32 or not (frames.size and frames.flags.carray):
        return item
    most = np.finfo(np.float16).max
    if not all(-most <= block.min() and block.max() <= most for block in blocks(frames)):  # NaN does not
        return item
    return replace(item, frames=by_blocks(lambda block: torch.from_numpy(block).half().numpy(), frames))
