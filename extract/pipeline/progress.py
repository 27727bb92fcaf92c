"""The progress of a run for people: a bar on a terminal, JSON lines elsewhere, both on standard error."""

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from tqdm import tqdm

from ...cache import Utterance
from ...cache.telling import manner
from ..encoders.encoder import seconds
from ..goals.passes import Making
from ..goals.rates import record_rates, setting
from ..goals.times import about

_SETTLED = 15.0  # seconds after which a pace is worth telling, from the second batch on
_LONG = 60.0  # seconds left that are worth a line of their own
_RECORDED = 5.0  # seconds; a shorter run says little of the next
_SECONDS_BETWEEN_LINES = 10.0
_IDLE = 0.3  # of the encoders' time: waiting for so long is worth telling
_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} stored [{elapsed}{postfix}]"


class Pace:
    """Measures how fast media go through the encoders, and remembers it for later plans when it is left.

    Args:
        media: seconds to encode.
        hardware: that the encoders run on.
        how: of the pass.
        clock: seconds.
    """

    def __init__(self, media: float, hardware: str, how: Making, clock: Callable[[], float] = time.monotonic) -> None:
        self._hardware, self._how = hardware, how
        self._left = media
        self._clock = clock
        self._started = clock()
        self._done = 0.0
        self._batches = 0
        self._spent: Counter[str] = Counter()
        self._waits: Counter[str] = Counter()

    def __enter__(self) -> "Pace":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        record_rates(self._hardware, {setting(name, self._how): rate for name, rate in self.rates().items()})

    def __call__(self, utterances: Sequence[Utterance], spent: Mapping[str, float], waits: Mapping[str, float]) -> None:
        """A batch went through the encoders, which took so many seconds each, and waited as long."""
        length = sum(map(seconds, utterances))
        self._done += length
        self._left = max(0.0, self._left - length)
        self._batches += 1
        self._spent.update(spent)
        self._waits.update(waits)

    @property
    def waits_for(self) -> str:
        """Tell what the run waits for: "decoder" or "writer" where the encoders stood still for it, else "encoder"."""
        name, longest = max(self._waits.items(), key=lambda one: one[1], default=("", 0.0))
        return name if longest > _IDLE * (self._spent.total() + self._waits.total()) else "encoder"

    @property
    def settled(self) -> bool:
        """Tell whether it is worth telling."""
        return self._batches > 1 and self._clock() - self._started >= _SETTLED

    def left(self) -> float:
        """Return the seconds until all is encoded, at the pace of the batches that went through."""
        return (self._clock() - self._started) * self._left / max(self._done, 1e-9)

    def rates(self) -> dict[str, float]:
        """Return {encoder: seconds of media a second}; together they took the time that has gone by."""
        passed, spent = self._clock() - self._started, self._spent.total()
        if passed < _RECORDED or not self._done or not spent:
            return {}
        return {name: self._done * spent / (passed * own) for name, own in self._spent.items() if own > 0}


class Progress:
    """Counts utterances; tells the time left.

    Args:
        total: utterances to store.
        clock: seconds.
        pace: of the media, which the time left follows: batches begin with the longest. None: the utterances'.

    Attributes:
        total: utterances to store.
        encoded: those that went through the encoders.
        done: those that are stored in every stream they are encoded for: what a kill cannot take.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic, pace: Pace | None = None) -> None:
        self.total = total
        self._pace = pace
        self._measured = False
        self.encoded = self.done = 0
        self._clock = clock
        self._started = self._told = clock()
        self._shown = 0
        self._bar = None
        if sys.stderr.isatty() and not manner.quiet:
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
        if self.encoded and self.encoded < self.total and self._pace is not None:
            left = round(self._pace.left())
        elif self.encoded:
            left = round((self._clock() - self._started) * (self.total - self.encoded) / self.encoded)
        with contextlib.suppress(OSError):
            self._correct()
            if self._bar is None:
                self._line(stored, left)
            else:
                about = "" if left is None else f", about {tqdm.format_interval(left)} left"
                slow = self._slowest()
                told = f", waiting for the {slow}" if slow in ("decoder", "writer") else ""
                self._bar.set_postfix_str(f"{self.encoded} encoded{about}{told}", refresh=False)
                self._bar.update(stored)

    def _slowest(self) -> str | None:
        return self._pace.waits_for if self._pace is not None and self._pace.settled else None

    def _correct(self) -> None:
        """Put what the first batches took in the place of what was told before, once."""
        if manner.quiet or self._measured or self._pace is None or not self._pace.settled:
            return
        self._measured = True
        if (left := self._pace.left()) >= _LONG:
            line = f"measured: about {about(left)} to go in this pass"
            if self._bar is None:
                print(line, file=sys.stderr, flush=True)
            else:
                self._bar.write(line, file=sys.stderr)

    def _line(self, stored: int, left: int | None) -> None:
        now = self._clock()
        if manner.quiet:
            return
        if stored or (self.encoded > self._shown and now - self._told > _SECONDS_BETWEEN_LINES):
            self._told, self._shown = now, self.encoded
            line = {
                "done": self.done,
                "encoded": self.encoded,
                "total": self.total,
                "seconds": round(now - self._started, 1),
                "seconds_left": left,
                **({"waits_for": slow} if (slow := self._slowest()) else {}),
            }
            print(json.dumps(line), file=sys.stderr, flush=True)
