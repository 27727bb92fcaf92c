"""Each run's epochs as they happen, to a file beside its folder and to the trackers that `--log` names."""

import contextlib
import copy
import inspect
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ...cache import EmocacheError
from ...cache.hints import did_you_mean
from ...cache.outside import is_outside, load_outside
from ..records.run_record import watch_file

Line = dict[str, Any]
"""A line of history.jsonl, with what tells the trainings of one run apart: `phase`, `trial`, `target`."""


class Tracker(Protocol):
    """One run, as the object that `--log` names makes of it."""

    def epoch(self, line: Line) -> object:
        """Take an epoch, as soon as it is over."""

    def end(self, stored: bool) -> object:
        """Take the end of the run: stored, or given up."""


MakeTracker = Callable[[dict[str, Any]], Tracker]
"""Takes what is known of a run: experiment, corpora, setting, fold, seed, folder, log_dir, settings."""


@dataclass(frozen=True)
class Watching:
    """The trackers of all runs of a call.

    Attributes:
        names: "tensorboard", or `module:attribute`. folder: where event files go.
    """

    names: tuple[str, ...] = ()
    folder: Path = Path(".tensorboard")

    def check(self) -> None:
        """Load every tracker, so that a wrong name ends a call before it trains; EmocacheError where one is wrong."""
        for name in self.names:
            _load(name)
        if self.names and self.folder.exists() and not self.folder.is_dir():
            raise EmocacheError(f"--log-dir {self.folder} is a file; give a folder")

    @contextmanager
    def run(self, about: dict[str, Any]) -> Iterator[Callable[[Line], None]]:
        """Watch one run.

        Args:
            about: what is known of it, see `MakeTracker`; its file of epochs lies beside its folder until it ends.

        Yields:
            A function that takes each line as its epoch is over. It changes nothing that decides numbers.

        Raises:
            EmocacheError: a tracker that fails; it names the tracker.
        """
        about = {**about, "log_dir": str(self.folder)}
        stored = False
        with ExitStack() as stack:
            file = stack.enter_context(_file(about))
            trackers = {name: _called(name, "start", _load(name), copy.deepcopy(about)) for name in self.names}

            def take(line: Line) -> None:
                file(line)
                for name, tracker in trackers.items():
                    _called(name, f"epoch {line.get('epoch')}", tracker.epoch, copy.deepcopy(line))

            try:
                yield take
                stored = True
            finally:
                for name, tracker in trackers.items():
                    if stored:
                        _called(name, "end", tracker.end, True)
                    else:  # the error on its way is the one to be told
                        with contextlib.suppress(EmocacheError):
                            _called(name, "end", tracker.end, False)


UNWATCHED = Watching()
"""No tracker: the file of epochs alone."""


def _load(name: str) -> MakeTracker:
    if name == "tensorboard":
        from .event_files import EventFiles, check_installed

        check_installed()
        return EventFiles
    if not is_outside(name):
        hint = did_you_mean(name, ["tensorboard"])
        raise EmocacheError(f"--log {name}: {hint}give tensorboard, or module:attribute of a tracker of your own")
    made: MakeTracker = load_outside(name, "--log")
    with contextlib.suppress(ValueError):  # a signature that Python does not know is tried when the first run begins
        try:
            inspect.signature(made).bind({})
        except TypeError as error:
            raise EmocacheError(
                f"--log {name}: it must take one argument, what is known of the run ({error})"
            ) from error
    for method in ("epoch", "end") if isinstance(made, type) else ():
        if not callable(getattr(made, method, None)):
            raise EmocacheError(f"--log {name}: it has no method {method!r}; a tracker has epoch(line) and end(stored)")
    return made


def _called(name: str, when: str, function: Callable[..., Any], *values: Any) -> Any:
    """Call a tracker such that what it draws or sets leaves the training as it was; its failure names it."""
    before = torch.get_deterministic_debug_mode(), torch.get_num_threads(), torch.get_default_dtype()
    try:
        with torch.random.fork_rng(), torch.enable_grad():
            return function(*values)
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise EmocacheError(f"--log {name} failed at {when} ({told}); mend it, or leave it out; finished runs"
                            " are kept") from error  # fmt: skip
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.set_num_threads(before[1])
        torch.set_default_dtype(before[2])


_open: set[Path] = set()  # files of epochs that this process writes


def remove_files() -> None:
    """Remove the files of epochs of this process: its runs are stored, or it ends."""
    for path in list(_open):
        # Forgotten after it is gone: another thread may be about to end the process.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        _open.discard(path)


@contextmanager
def _file(about: dict[str, Any]) -> Iterator[Callable[[Line], None]]:
    """Write a line for every epoch to the run's file of epochs, and remove it in the end."""
    path = watch_file(Path(about["folder"]))
    first = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        **{k: about[k] for k in ("experiment", "fold", "seed")},
    }
    begun = False

    def write(line: Line) -> None:
        nonlocal begun
        # It is there to be looked at: a training does not end for want of it.
        with contextlib.suppress(OSError):
            _open.add(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            lines: Sequence[Line] = [line] if begun else [first, line]
            with path.open("a" if begun else "w", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(one, allow_nan=True)}\n" for one in lines)
            begun = True

    try:
        yield write
    finally:
        remove_files()
