"""Which clips go through the encoder together, and how many a device can take at once."""

import threading
from collections.abc import Callable, Sequence

_SHARE = 0.8  # of the memory: the rest is for fragments and for what the estimate misses
_MOST_TIMES = 8.0  # the first budget that the largest may be, so that the host's copy of a batch stays small too

Memory = Callable[[], tuple[int, int]]
"""Bytes that encoding has taken at most since the last call, and bytes it could have taken."""


class Budget:
    """What a batch may cost, from the memory that earlier batches took.

    Args:
        cost: to begin with, see `Encoder.cost`.
        memory: tells of the device's memory; None where there is nothing to go by, and the cost only ever shrinks.

    >>> budget = Budget(60.0)
    >>> budget.shrink(48.0)
    >>> budget.cost
    24.0
    """

    def __init__(self, cost: float, memory: Memory | None = None) -> None:
        self.cost = cost
        self._most = cost * _MOST_TIMES
        self._memory = memory
        self._dearest = 0.0  # bytes for one unit of cost
        self._lock = threading.Lock()

    def learn(self, cost: float) -> None:
        """A batch of this cost has gone through."""
        if self._memory is None:
            return
        with self._lock:
            taken, there = self._memory()
            self._dearest = max(self._dearest, taken / max(cost, 1e-9))
            if self._dearest > 0:
                self.cost = min(self._most, _SHARE * there / self._dearest)

    def shrink(self, cost: float) -> None:
        """A batch of this cost did not fit: no later one may cost more than half of it."""
        with self._lock:
            self._most = min(self._most, cost / 2)
            self.cost = min(self.cost, self._most)


def group_by_cost(costs: Sequence[float], budget: float, most: int = 256) -> list[list[int]]:
    """Cut items into batches of similar cost, the dearest batch first.

    Everything in a batch is padded to its dearest member, so a batch of n items costs n times that one. The dearest
    batch comes first, so that a lack of memory shows at once and not after an hour.

    Args:
        costs: what each item costs alone, such as seconds of audio.
        budget: what a batch may cost when padded. An item dearer than that is a batch of its own.
        most: the most items in a batch.

    Returns:
        Positions in `costs`, each once.

    >>> group_by_cost([1.0, 4.0, 3.9, 9.0, 1.1], budget=8.0)
    [[3], [1, 2], [4, 0]]
    """
    order = sorted(range(len(costs)), key=lambda item: -costs[item])
    batches: list[list[int]] = []
    for item in order:
        batch = batches[-1] if batches else []
        if batch and len(batch) < most and (len(batch) + 1) * costs[batch[0]] <= budget:
            batch.append(item)
        else:
            batches.append([item])
    return batches
