"""What the user sees while a run goes on: a bar on a terminal, JSON lines elsewhere, both on standard error."""

import json
import sys
import time
from types import TracebackType

from tqdm import tqdm

from ..cache import Committed

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts utterances; tells the time left."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self._shown = 0
        self._started = self._told = time.monotonic()
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="utt", file=sys.stderr, dynamic_ncols=True) if terminal else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, utterances: int, committed: Committed | None) -> None:
        """Count utterances that were encoded, and tell."""
        self.done += utterances
        if self._bar is not None:
            self._bar.update(utterances)
            return
        now = time.monotonic()
        if self.done > self._shown and (committed is not None or now - self._told > _SECONDS_BETWEEN_LINES):
            self._told, self._shown = now, self.done
            spent = now - self._started
            left = spent * (self.total - self.done) / self.done if self.done else None
            line = {
                "done": self.done,
                "total": self.total,
                "seconds": round(spent, 1),
                "seconds_left": left and round(left),
            }
            print(json.dumps(line), file=sys.stderr, flush=True)
