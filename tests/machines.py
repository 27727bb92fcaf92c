"""Helpers for tests of several machines, which are processes here."""

import threading
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
CALL = "from emocache.cli import main; main()"
WAIT = 120.0  # seconds, for a machine that is very busy


def until(holds: Callable[[], bool]) -> None:
    """Look until it does."""
    never = threading.Event()
    for _ in range(round(WAIT / 0.02)):
        if holds():
            return
        never.wait(0.02)
    raise AssertionError("it never comes")


def lives(process: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def meanwhile(*steps: Callable[[], object]) -> threading.Thread:
    """Do something while this thread does something else."""
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    return thread
