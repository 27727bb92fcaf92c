"""The progress of a run for people: a bar on a terminal, JSON lines elsewhere, both on standard error."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0
_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} stored [{elapsed}{postfix}]"


class Progress:
    """Counts utterances; tells the time left.

    Args:
        total: utterances to store.
        clock: seconds.

    Attributes:
        total: utterances to store.
        encoded: those that went through the encoders; the time left follows them, since they come steadily.
        done: those that are stored in every stream they are encoded for: what a kill cannot take.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.encoded = self.done = 0
        self._clock = clock
        self._started = self._told = clock()
        self._shown = 0
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, file=sys.stderr, dynamic_ncols=True, miniters=0, bar_format=_BAR)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def __call__(self, encoded: int, stored: int) -> None:
        """Count utterances that were encoded and that were stored, and tell. A terminal that is gone stops no work."""
        self.encoded += encoded
        self.done += stored
        left = None
        if self.encoded:
            left = round((self._clock() - self._started) * (self.total - self.encoded) / self.encoded)
        with contextlib.suppress(OSError):
            if self._bar is None:
                self._line(stored, left)
            else:
                about = "" if left is None else f", about {tqdm.format_interval(left)} left"
                self._bar.set_postfix_str(f"{self.encoded} encoded{about}", refresh=False)
                self._bar.update(stored)

    def _line(self, stored: int, left: int | None) -> None:
        now = self._clock()
        if stored or (self.encoded > self._shown and now - self._told > _SECONDS_BETWEEN_LINES):
            self._told, self._shown = now, self.encoded
            line = {
                "done": self.done,
                "encoded": self.encoded,
                "total": self.total,
                "seconds": round(now - self._started, 1),
                "seconds_left": left,
            }
            print(json.dumps(line), file=sys.stderr, flush=True)
