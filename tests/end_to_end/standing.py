"""`emocache`, standing still at one place until it is told to go on: what test_signals.py sends its signals to.

Run as `python -m tests.end_to_end.standing` with the arguments of emocache, and STANDING="PLACE N REACHED GO_ON" in the
environment. Before the N-th call of PLACE, and before every later one, it writes a line to the FIFO REACHED and waits
for a byte from GO_ON. Processes that it starts import this module again, and stand still at the same place.
"""

import ctypes
import importlib
import itertools
import os
from typing import Any

PLACES = {
    "encode": "emocache.extract.encoders.acoustic:LogMel.encode",
    "plan": "emocache.extract.pipeline.engines.local_engine:plan_tasks",
    "project": "emocache.cache.writer:StreamWriter.commit",  # by the main thread, in a PCA stream
    "train": "emocache.train.run.experiment_plan:train_fold",
    "store": "emocache.cache.local:LocalObjects.put_shard",
}


def stand(reached: str, go_on: str) -> None:
    """Tell that the place is reached, and wait; a signal that is raised ends the waiting."""
    tell(reached)
    descriptor = os.open(go_on, os.O_RDONLY)
    try:
        os.read(descriptor, 1)
    finally:
        os.close(descriptor)


def tell(reached: str) -> None:
    """Tell that the place is reached."""
    descriptor = os.open(reached, os.O_WRONLY)
    os.write(descriptor, b"here\n")
    os.close(descriptor)


def hang(reached: str, go_on: str) -> None:
    """Stand still in a library's call that no signal ends, and that Python's handlers therefore wait for."""
    mutex = ctypes.create_string_buffer(256)
    library = ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    tell(reached)
    library.pthread_mutex_lock(mutex)


def stand_at(place: str, first: str, *fifos: str) -> None:
    """Stand still in front of a function from its N-th call on."""
    how = hang if place == "hang" else stand
    module, _, name = PLACES["train" if place == "hang" else place].partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    real, calls = getattr(owner, name), itertools.count(1)

    def standing(*arguments: Any, **named: Any) -> Any:
        if next(calls) >= int(first):
            how(*fifos)
        return real(*arguments, **named)

    setattr(owner, name, standing)


stand_at(*os.environ["STANDING"].split())
if __name__ == "__main__":
    from emocache.cli import main
    from emocache.extract.pipeline import machine

    machine._FIRST = {"cpu": 0.5, "cuda": 0.5}  # batches of one or two clips
    main()
