"""Signals that stop a command: Ctrl-C, a scheduler's SIGTERM, the SIGHUP of a terminal that is gone.

The first one is raised in the main thread wherever that is, so that whoever has finished work stores it on the way out.
A second one ends the process at once, even if the main thread is busy in a library.
"""

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ONE_STOP = 1.0
"""Seconds within which further signals belong to the first: `timeout`, `make` and a shell that loses its terminal pass
on what the whole process group has got already."""
_TRIES = 10


class Stopped(KeyboardInterrupt):
    """A signal has asked the command to stop.

    Args:
        number: of the signal.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_status(stop: KeyboardInterrupt) -> int:
    """Return the exit status that a shell expects of a process that a signal has ended: 130, 143 or 129."""
    return 128 + (stop.number if isinstance(stop, Stopped) else int(signal.SIGINT))


@contextmanager
def stoppable() -> Iterator["First"]:
    """Signals raise `Stopped` inside the block; one that was ignored before, as under nohup, stays ignored."""
    first = First()
    if threading.current_thread() is not threading.main_thread():
        yield first
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    written, heard = socket.socketpair()
    written.setblocking(False)
    threading.Thread(target=_end_at_the_second, args=(heard, frozenset(before), first.insist), daemon=True).start()
    wakeup = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, first.not_raised
    for number in before:
        signal.signal(number, first.come)
    try:
        yield first
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        signal.set_wakeup_fd(wakeup)
        written.close()


class First:
    """Raises the first signal, and no other: what is stored on the way out is not disturbed again.

    Attributes:
        status: to exit with; None while there was no signal.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._raised = False
        self._dropped = False
        self._hook = sys.unraisablehook

    def come(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self._raised and not self._dropped:
            self._raised = True
            self.status = exit_status(stop := Stopped(number))
            raise stop

    def not_raised(self, told: Any) -> None:
        """Python drops what is raised in a destructor or in a weak reference's callback: then the same signal again."""
        if not isinstance(told.exc_value, Stopped):
            self._hook(told)
            return
        self._dropped = True  # as would be what is raised in this very function
        self._raised = False
        _thread.start_new_thread(self.insist, (told.exc_value.number,))
        self._dropped = False

    def insist(self, number: int) -> None:
        """Send the signal until it is raised: one that comes just before the main thread waits ends no waiting."""
        if sys.platform == "win32":  # where no waiting is ended by a signal
            return
        for _ in range(_TRIES):
            if self._raised:
                return
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            time.sleep(_ONE_STOP / 2 / _TRIES)


def _end_at_the_second(heard: socket.socket, numbers: frozenset[int], insist: Callable[[int], None]) -> None:
    """Python's handlers wait until the main thread comes out of a library's call; here a signal is heard at once."""
    first = None
    with heard:
        while came := heard.recv(1):
            now = time.monotonic()
            if came[0] not in numbers:
                continue
            if first is None:
                first = now
                insist(came[0])
            elif now - first > _ONE_STOP:
                os._exit(128 + came[0])
