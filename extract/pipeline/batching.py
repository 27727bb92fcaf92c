"""The number of clips that go through the encoder together: as many as a device can take at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHARE = 0.8  # of the memory: the rest is for fragments and for what the estimate misses
_MOST_TIMES = 8.0  # the first budget that the largest may be, so that the host's copy of a batch stays small too
_MOST_ITEMS = 256  # in a batch
_TELLING = 0.25  # of the budget: what a smaller batch takes is mostly what any batch takes

Memory = Callable[[], tuple[int, int]]
"""Bytes that encoding has taken at most since the last call, and bytes it could have taken."""


class Budget:
    """The cost that a batch may have, from the memory that earlier batches took. Safe to use from several threads.

    Args:
        cost: to begin with, see `Encoder.cost`.
        memory: tells of the device's memory; None where there is nothing to go by, and the cost only ever shrinks.

    >>> budget = Budget(60.0)
    >>> budget.items(5.0)
    12
    >>> budget.shrink(48.0)
    >>> budget.items(5.0), budget.items(100.0)
    (4, 1)
    """

    def __init__(self, cost: float, memory: Memory | None = None) -> None:
        self.cost = cost
        self._most = cost * _MOST_TIMES
        self._memory = memory
        self._rate = 0.0  # bytes for one unit of cost, at most
        self._under_way: list[float] = []  # costs of the batches in an encoder
        self._dearest = 0.0  # of the batches in an encoder since the memory was last asked for
        self._lock = threading.Condition()
        self._alone = False

    def items(self, dearest: float) -> int:
        """Count the items, at least 1, that fit in a batch where all are padded to the dearest one's cost."""
        return max(1, min(_MOST_ITEMS, int(self.cost / max(dearest, 1e-9))))

    @contextmanager
    def spend(self, cost: float) -> Iterator[None]:
        """A batch of this cost is in an encoder; what it took is learnt when it has gone through.

        Batches overlap, so the most that was taken is put down to the dearest of them. It says nothing where a batch
        broke off, or where all were small.
        """
        with self._lock:
            self._lock.wait_for(lambda: not self._alone)
            self._under_way.append(cost)
            self._dearest = max(self._dearest, cost)
        whole = False
        try:
            yield
            whole = True
        finally:
            with self._lock:
                self._under_way.remove(cost)
                self._lock.notify_all()
                dearest, self._dearest = self._dearest, max(self._under_way, default=0.0)
                if self._memory is not None:
                    taken, there = self._memory()
                    if whole and dearest >= _TELLING * self.cost:
                        self._learn(taken / dearest, there)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No batch is in an encoder but what this block puts there; called by none that is in one."""
        with self._lock:
            self._lock.wait_for(lambda: not self._alone)
            self._alone = True
            self._lock.wait_for(lambda: not self._under_way)
        try:
            yield
        finally:
            with self._lock:
                self._alone = False
                self._lock.notify_all()

    def shrink(self, cost: float) -> None:
        """A batch of this cost did not fit: no later one may cost more than half of it."""
        with self._lock:
            self._most = min(self._most, cost / 2)
            self.cost = min(self.cost, self._most)

    def _learn(self, rate: float, there: int) -> None:
        self._rate = max(self._rate, rate)
        if self._rate > 0:
            self.cost = min(self._most, _SHARE * there / self._rate)
