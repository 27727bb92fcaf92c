"""The telling of commands while they work: how much, where, and the progress of what takes a while."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

from .errors import EmocacheError

_SECONDS_BETWEEN_LINES = 10.0
_DELAY = 2.0  # seconds; work that takes less shows no bar
_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


class Manner:
    """The manner of telling, which the root command's options set.

    Attributes:
        quiet: only results, warnings and errors. verbose: every epoch, and the traces of errors. log: also takes all.
    """

    quiet = False
    verbose = False
    log: TextIO | None = None


manner = Manner()


def tell(line: str, err: bool = False) -> None:
    """Print a line of work that goes on: not if quiet, and above a bar that is shown; the log gets it in any case."""
    if manner.quiet:
        write_log(line)
        return
    out = sys.stderr if err else sys.stdout
    with _above_bars(out):
        print(line, file=out, flush=True)


def tell_result(line: str) -> None:
    """Print a line that was asked for, above a bar that is shown."""
    with _above_bars(sys.stdout):
        print(line, flush=True)


def warn(line: str) -> None:
    """Print a line on standard error that must be known, above a bar that is shown."""
    with _above_bars(sys.stderr):
        print(line, file=sys.stderr, flush=True)


def _above_bars(out: TextIO) -> contextlib.AbstractContextManager[None]:
    """Take the bars away while a line is printed; where no tqdm was imported, there are none."""
    if "tqdm" not in sys.modules:
        return contextlib.nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode(file=out)  # type: ignore[no-any-return]


def write_log(text: str) -> None:
    """Write lines to the log, each with the time; a disk that is full stops no work."""
    if manner.log is not None:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError, ValueError):
            manner.log.writelines(f"{now} {line}\n" for line in text.splitlines())
            manner.log.flush()


class Logged:
    """A standard stream of which every whole line is logged too; of a bar that redraws itself the last state.

    Args:
        stream: that is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, and log what is complete."""
        whole, newline, rest = (self._begun + text).rpartition("\n")
        self._begun = rest.rpartition("\r")[2]
        if newline:
            write_log("\n".join(line.rpartition("\r")[2] for line in whole.split("\n")))
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Write several."""
        for line in lines:
            self.write(line)


@contextmanager
def told_as(quiet: bool, verbose: bool, log_file: Path | None) -> Iterator[None]:
    """Set the manner of telling until the end of the block.

    Args:
        quiet: see `Manner`. verbose: see `Manner`.
        log_file: what is printed is added to it, each line with the time; None: to none.

    Raises:
        EmocacheError: the file cannot be written to.
    """
    streams = sys.stdout, sys.stderr
    try:
        log = log_file.open("a", encoding="utf-8", errors="backslashreplace") if log_file else None
    except OSError as error:
        raise EmocacheError(f"--log-file {log_file}: {error.strerror}; name a file that can be written to") from error
    manner.quiet, manner.verbose, manner.log = quiet, verbose, log
    if log is not None:
        sys.stdout, sys.stderr = map(cast(Any, Logged), streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        manner.quiet, manner.verbose, manner.log = False, False, None
        if log is not None:
            log.close()


class Progress:
    """Counts what is done of all: a bar on a terminal, elsewhere a line at most every ten seconds; on standard error.

    Args:
        what: is counted, such as "runs".
        total: how many there are.
        clock: seconds.
    """

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        from tqdm import tqdm

        self._what, self._total, self._clock = what, total, clock
        self._started = self._told = clock()
        self._done = self._under_way = 0.0
        self._bar: tqdm[Any] | None = None
        if sys.stderr.isatty() and not manner.quiet:
            self._bar = tqdm(
                total=total,
                desc=f"0 of {total} {what}",
                file=sys.stderr,
                dynamic_ncols=True,
                miniters=0,
                bar_format=_BAR,
                delay=_DELAY,
                leave=False,
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def step(self, done: float = 1) -> None:
        """Count what is done, and tell. A terminal that is gone stops no work."""
        self._done += done
        self._under_way = 0.0
        self._tell("")

    def under_way(self, share: float, told: str) -> None:
        """Tell what is being done, and its share that is done already."""
        self._under_way = share
        self._tell(told)

    def _tell(self, told: str) -> None:
        reached = self._done + self._under_way
        passed = self._clock() - self._started
        left = ""
        if 0 < reached < self._total and passed > 0:
            from tqdm import tqdm

            left = f"{tqdm.format_interval(round(passed * (self._total - reached) / reached))} left"
        more = ", ".join(filter(None, (left, told)))
        count = f"{self._done:.0f} of {self._total} {self._what}"
        with contextlib.suppress(OSError):
            if self._bar is not None:
                self._bar.set_description_str(count, refresh=False)
                self._bar.set_postfix_str(more, refresh=False)
                self._bar.update(reached - self._bar.n)
            elif self._clock() - self._told >= _SECONDS_BETWEEN_LINES and not manner.quiet:
                self._told = self._clock()
                print(f"{count}{f'; {more}' if more else ''}", file=sys.stderr, flush=True)
