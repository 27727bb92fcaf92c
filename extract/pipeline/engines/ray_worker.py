"""The process of a worker on a machine of a Ray cluster: it works on tasks as the command itself would."""

import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from ....cache import EmocacheError, Task, Utterance
from ....cache.ray_cluster import settle
from ...encoders.encoder import Clip
from ..encoding import one_line
from ..under_way import Outcome
from .options import Options

_EACH = 0.5  # seconds between two reports
_SILENCE = 10.0  # seconds after which one comes though nothing was encoded


@dataclass(frozen=True)
class Order:
    """All that a worker needs to make the same pass ready as the command.

    Attributes:
        options: of the command, with the device of the worker and the recipes it must come to.
        corpus: its name in the cache. manifest_sha256: of the manifest the command goes by.
        names: of the encoders. folder: that the command was started in.
        cpus: that the worker has.
    """

    options: Options
    corpus: str
    manifest_sha256: str
    names: tuple[str, ...]
    folder: str
    cpus: int


class Worker:
    """Encodes and commits tasks, several at a time where one would leave the device waiting.

    Its methods run in threads of their own; nothing is done before `prepare` has come back.

    Args:
        order: of the command.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._halt: Future[None] = Future()
        self._counts: dict[int, tuple[int, int]] = {}
        self._news = threading.Event()

    def prepare(self) -> None:
        """Load the encoders and open the streams; EmocacheError, see `make_ready_again`, with the machine's name."""
        order = self._order
        try:
            settle(order.folder, order.cpus)
            from .. import machine
            from .readying import make_ready_again

            self._work = make_ready_again(order.options, order.corpus, order.manifest_sha256, order.names)
            self._budget = machine.first_budget(self._work.device)
            self._room = machine.room_for_crops(order.cpus)
            self._decoding = threading.BoundedSemaphore(order.cpus)
        except Exception as error:
            raise _told(error) from None

    def encode(self, number: int, task: Task, utterances: Mapping[str, Utterance]) -> Outcome | None:
        """Carry out a task.

        Args:
            number: that the command has for it.
            task: of the plan.
            utterances: {id: Utterance} of the task, with texts and words.

        Returns:
            Counts and what has to be tried again; None where the worker was told to stop.

        Raises:
            EmocacheError: something the user can mend, after committing what was finished.
        """
        self._counts[number] = (0, 0)

        def tell(encoded: int, stored: int) -> None:
            before = self._counts[number]
            self._counts[number] = (before[0] + encoded, before[1] + stored)
            self._news.set()

        decoder = self._work.decoder_for([task], self._room)

        def decode(utterance: Utterance) -> Clip:
            with self._decoding:  # the tasks that are under way together have no more CPUs than one alone
                return decoder(utterance)

        try:
            return self._work.encode([task], utterances, tell, decode=decode, budget=self._budget,
                                     beside={"passes": 1, "writers": 1}, halt=self._halt)  # fmt: skip
        except KeyboardInterrupt:
            return None
        except Exception as error:
            raise _told(error) from None
        finally:
            del self._counts[number]

    def told(self) -> dict[int, tuple[int, int]]:
        """Wait until there is something to tell, and return {number of a task: utterances encoded, and stored}."""
        time.sleep(_EACH)
        self._news.wait(_SILENCE)
        self._news.clear()
        return dict(self._counts)

    def stop(self) -> None:
        """End the tasks that are under way as a signal ends the command: what is finished is committed."""
        if not self._halt.done():
            self._halt.set_exception(KeyboardInterrupt())


def _told(error: Exception) -> EmocacheError:
    """Turn any error into one that needs no trace, with the name of the machine."""
    text = str(error) if isinstance(error, EmocacheError) else f"{type(error).__name__}: {one_line(error)}"
    return EmocacheError(f"worker on {socket.gethostname()}: {text}")
