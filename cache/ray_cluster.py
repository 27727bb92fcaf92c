"""Ray as extraction and training use it: a cluster is joined, asked for its room, and what it raises is told."""

import contextlib
import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .errors import EmocacheError

ENGINES = ("local", "ray")
"""What `--engine` takes."""
_ADDRESS = "RAY_ADDRESS"
_ANSWER = 10.0  # seconds


def ray() -> Any:
    """Return the module `ray`, which is imported here only; EmocacheError where it is not installed."""
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise EmocacheError("--engine ray needs ray; install it with: pip install 'emocache[ray]'") from error


@contextmanager
def joined() -> Iterator[None]:
    """Join the cluster that $RAY_ADDRESS names until the end of the block; without one Ray looks on this machine.

    Where there is none either, Ray starts one of this machine alone, which ends with the block. A process that has
    joined one already stays with it.

    Raises:
        EmocacheError: ray is not installed, or no cluster of its version answers.
    """
    if ray().is_initialized():
        yield
        return
    address = os.environ.get(_ADDRESS, "")
    before = signal.getsignal(signal.SIGTERM)
    try:
        _check_answers(address)
        ray().init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except EmocacheError:
        raise
    except Exception as error:
        where = f"${_ADDRESS} is {address!r}" if address else "the cluster of this machine"
        why = " ".join(str(error).split()) or type(error).__name__
        raise EmocacheError(f"{where}: cannot be joined ({why}); start one with `ray start --head`, of the same"
                            f" version of Ray and Python, or unset ${_ADDRESS}") from error  # fmt: skip
    finally:
        # Ray puts a handler of its own in the place of ours.
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray().shutdown()


def _check_answers(address: str) -> None:
    """Refuse an address where nobody answers, which Ray would try for minutes."""
    if "://" in address:
        raise EmocacheError(f"${_ADDRESS} is {address!r}, an address of Ray Client; run the command on a machine of the"
                            " cluster, with the address that `ray start` told, such as 10.0.0.1:6379")  # fmt: skip
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    elif address not in ("", "auto", "local"):
        raise EmocacheError(f"${_ADDRESS} is {address!r}, which is no address such as 10.0.0.1:6379")


class Share(NamedTuple):
    """The part of a machine that a worker takes: CPUs, and GPUs (0 or 1)."""

    cpus: int
    gpus: int


def nodes() -> list[Share]:
    """Return the CPUs and GPUs of each machine that is in the cluster now."""
    alive = [node["Resources"] for node in ray().nodes() if node["Alive"]]
    return [Share(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in alive]


def room_for(share: Share) -> int:
    """Count the workers that the cluster's machines have room for, were nothing else on them."""
    return sum(min(node.cpus // share.cpus, node.gpus // share.gpus if share.gpus else node.cpus) for node in nodes())


def start(kind: type, share: Share, *arguments: Any, threads: int = 1) -> Any:
    """Ask for a process that has an object of a class; it starts when a machine has room, and is not started again.

    Args:
        kind: the class; found by its module's name on every machine.
        share: that it takes.
        arguments: of the class.
        threads: how many calls of its methods run at the same time.

    Returns:
        Ray's handle.
    """
    options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_concurrency": threads, "max_restarts": 0}
    return ray().remote(**options)(kind).remote(*arguments)


def end(handle: Any) -> None:
    """End the process of a handle at once, if it is there."""
    with contextlib.suppress(Exception):  # it is gone
        ray().kill(handle)


class WorkerDiedError(Exception):
    """The process of a worker, or its machine, is gone; says why as far as Ray knows."""


def outcome(reference: Any) -> Any:
    """Wait for the result of a call.

    Args:
        reference: of Ray's.

    Returns:
        What the method has returned.

    Raises:
        WorkerDiedError: instead of answering.
        Exception: what the method has raised, without what Ray adds to it.
    """
    errors = ray().exceptions
    try:
        return ray().get(reference)
    except errors.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise EmocacheError(f"a worker failed: {' '.join(str(error).split())}") from None
    except errors.RayError as error:
        raise WorkerDiedError((str(error).strip().splitlines() or [type(error).__name__])[0]) from None


def settle(folder: str, threads: int) -> None:
    """Make a worker's process like the one that has started it; called in it before torch is imported.

    Args:
        folder: that the command was started in.
        threads: of torch, and of the libraries it uses.

    Raises:
        EmocacheError: there is no such folder on the worker's machine.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        os.chdir(folder)
    except OSError as error:
        raise EmocacheError(f"folder {folder}, which the command was started in, cannot be entered there"
                            f" ({error.strerror}); start it in one that every machine has") from None  # fmt: skip
