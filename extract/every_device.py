"""One command on every GPU of a machine: a process for each, with its share of the units."""

import subprocess
import sys
from collections.abc import Sequence
from threading import Thread
from typing import IO

from ..cache import EmocacheError
from ..cache.device import choose_device
from ..cache.telling import tell

ALL = "cuda:all"
_EMOCACHE = ("-c", "from emocache.cli import main; main()")


def devices() -> list[str]:
    """Return the names of all GPUs; EmocacheError where there is none."""
    import torch

    choose_device("cuda")
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def without_device(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command without `--device`.

    >>> without_device(["extract", "demo", "--device", "cuda:all", "--limit", "3", "--device=cuda:all"])
    ['extract', 'demo', '--limit', '3']
    """
    left: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument == "--device":
            next(given, None)
        elif not argument.startswith("--device="):
            left.append(argument)
    return left


def extract_on_every_device(
    arguments: Sequence[str], names: Sequence[str], program: Sequence[str] = (sys.executable, *_EMOCACHE)
) -> int:
    """Run a command on every device, and then once more for what takes all of it: projections, and the report.

    A signal that stops this process stops the others, which store what they have finished.

    Args:
        arguments: of `emocache`, without `--device` and `--shard`.
        names: of the devices.
        program: that takes the arguments.

    Returns:
        The exit status: that of the last run, or the first that is not 0 of a process that was ended.

    Raises:
        EmocacheError: a process cannot be started.
    """
    tell(f"on {len(names)} GPUs, a process each: {', '.join(names)}", err=True)
    processes: list[subprocess.Popen[str]] = []
    try:
        for number, name in enumerate(names, 1):
            share = ["--device", name, "--shard", f"{number}/{len(names)}"]
            processes.append(subprocess.Popen([*program, *arguments, *share], text=True, errors="replace",
                                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT))  # fmt: skip
        readers = [Thread(target=_pass_on, args=(name, process.stdout))
                   for name, process in zip(names, processes, strict=True)]  # fmt: skip
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for process in processes:
            process.wait()
        ended = [process.returncode for process in processes if process.returncode not in (0, 1)]
        if ended:
            return ended[0] if ended[0] > 0 else 128 - ended[0]
        return subprocess.run([*program, *arguments, "--device", names[0]], check=False).returncode
    except OSError as error:
        raise EmocacheError(f"--device {ALL}: {error.strerror or error}") from error
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()


def _pass_on(name: str, lines: IO[str] | None) -> None:
    for line in lines or ():
        tell(f"{name}: {line.rstrip()}", err=True)
