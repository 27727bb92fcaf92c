"""Calls that wait for something far away, several at the same time, and their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

One = TypeVar("One")
Result = TypeVar("Result")


def ahead(call: Callable[[One], Result], each: Iterable[One], width: int) -> Iterator[Result]:
    """Yield the result of a call for each of some things, in their order.

    Args:
        call: made in threads; what it raises is raised when its turn comes.
        each: taken as they are needed.
        width: results and calls under way at most, which bounds the memory of both.
    """
    coming: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(width, "ahead")
    try:
        for one in each:
            coming.append(pool.submit(call, one))
            if len(coming) == width:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
