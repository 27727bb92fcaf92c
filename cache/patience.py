"""Asking an object store again while it does not answer, and telling who waits."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from .store_errors import is_passing, words
from .telling import warn

T = TypeVar("T")


@dataclass
class Patience:
    """The patience with one store, shared by all that look into it.

    A request that failed for a reason that may pass is made again after 1, 2, 4 ... seconds, each less by chance so
    that many writers do not come back at once. Each request stands for itself: two threads wait beside each other.

    Attributes:
        seconds: after which a store that has answered before is given up.
        at_first: the same for one that has never answered, whose address may be wrong, or that was given up before.
        longest: seconds between two tries.
        between_lines: seconds between two lines that tell of waiting, at least.
        answered: the store has answered this process.
        told: when a person was told last.
        clock: seconds; sleep: waits for seconds; tell: prints a line.
    """

    seconds: float = 300.0
    at_first: float = 15.0
    longest: float = 30.0
    between_lines: float = 60.0
    answered: bool = False
    told: float | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    tell: Callable[[str], None] = field(default=warn, repr=False)

    def ask(self, store: str, call: Callable[[], T]) -> T:
        """Make a request until it is answered.

        Args:
            store: its URL, for people.
            call: the request, which may be made again.

        Returns:
            what `call` returned.

        Raises:
            Exception: of `call`, if it is not one that may pass, or the patience has ended; then a note tells how often
                the store was asked, and for how long.
        """
        began, tries = self.clock(), 0
        while True:
            try:
                answer = call()
            except Exception as error:
                if not is_passing(error):
                    self.answered = True
                    raise
                tries += 1
                passed = self.clock() - began
                left = (self.seconds if self.answered else self.at_first) - passed
                if left <= 0:
                    self.answered = False
                    error.add_note(f"asked {tries} times in {passed:.0f} s")
                    raise
                self._tell(f"{store} makes us wait ({words(error)}); asking again for {left:.0f} s")
                wait = min(2.0 ** (tries - 1), self.longest) * random.uniform(0.5, 1.0)
                self.sleep(min(wait, left))
            else:
                self.answered = True
                return answer

    def _tell(self, line: str) -> None:
        now = self.clock()
        if self.told is None or now - self.told >= self.between_lines:
            self.told = now
            self.tell(line)
