"""Kills extractions at every system call and at random, goes on from what is left, and reports what came of it.

Run as `python -m tests.extract.crashing MODE ...` by test_kills.py, in a process of its own: it forks many times, so it
holds no torch and no threads. Prints one JSON document.
"""

import gc
import itertools
import json
import os
import random
import selectors
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import h5py
import zarr

from emocache.cache import Cache, EmocacheError
from emocache.cache.gc import collect
from emocache.cache.verify import verify

from .light import CORPUS, LightEncoder, extract, manifest, snapshot

CALLS = ("open", "write", "fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir")
LOOKS = ("listdir",)  # where workers that go on at the same time can miss each other
IDS = [*(f"clip{n}" for n in range(9)), "empty", "loud", "a/b c"]


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run in a child; gives (exit status, negative for a signal; what it returned)."""
    mine, theirs = Pipe(duplex=False)
    child = os.fork()
    if not child:
        status = 70
        try:
            theirs.send(work())
            status = 0
        except BaseException as error:
            theirs.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(status)
    theirs.close()
    try:
        result = mine.recv()
    except EOFError:
        result = None
    mine.close()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), result


def run(root: Path, backend: str, units: int, layers: tuple[int | None, ...] = (None,)) -> None:
    """An undisturbed run."""
    extract(root, manifest(IDS), [LightEncoder()], layers, backend=backend, units=units)


def follow(event: Callable[[str], None], calls: tuple[str, ...] = CALLS) -> None:
    """Call `event` before every system call that changes something, and in the middle of every write.

    What there is after a call is what there is before the next one, so these are all the states a kill can leave.
    """
    lock, halves = threading.RLock(), set[int]()

    def followed(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with lock:
                event(name)
                if name != "write" or args[0] in halves:
                    halves.discard(args[0])
                    return real(*args, **kwargs)
                halves.add(args[0])  # the caller writes the rest with its next call
                return real(args[0], args[1][: max(1, len(args[1]) // 2)])

        return call

    for name in calls:
        setattr(os, name, followed(name, getattr(os, name)))


def state(root: Path, layers: tuple[int | None, ...] = (None,)) -> dict[str, Any]:
    """What the cache serves, and every item key its records hold, as often as they do."""
    cache = Cache(root)
    names = [f"light.L{layer}" if layer is not None else "light" for layer in layers]
    keys = []
    for path in sorted(root.glob(f"{CORPUS}/*/commits/*.json")):
        record = json.loads(path.read_bytes())
        keys += [entry[1] for entry in record["items"]] + [entry[1] for entry in record["failures"]]
    return {"streams": [snapshot(cache.stream(CORPUS, name)) for name in names], "keys": sorted(keys)}


def after_crash(root: Path) -> list[str]:
    """What must not be seen after a kill: a visible name that holds less than all, or a record of what is not there."""
    wrong = [str(p) for p in verify(Cache(root), full=True) if p.object != "manifest.json" or "damaged" in p.reason]
    for shard in root.glob(f"{CORPUS}/*/shards/[!.]*"):
        try:
            if shard.suffix == ".h5":
                with h5py.File(shard, "r") as file:
                    assert len(file["frames"][:]) == len(file["times"][:]) == file["offsets"][-1]
            else:
                group: Any = zarr.open_group(shard, mode="r")
                assert len(group["frames"][:]) == len(group["times"][:]) == group["offsets"][-1]
        except Exception as error:
            wrong.append(f"{shard.name}: {error}")
    return wrong


def resumed(root: Path, backend: str, units: int, layers: tuple[int | None, ...] = (None,)) -> dict[str, Any]:
    """Look at what a crash has left, run again, clean up; gives what is there in the end."""
    wrong = after_crash(root)
    run(root, backend, units, layers)
    collect(Cache(root), 0.0)
    left = [str(problem) for problem in verify(Cache(root), full=True)]
    left += [str(p) for p in root.rglob("*") if p.name.startswith(".") or (p.is_dir() and not any(p.iterdir()))]
    shards = {p.name for p in root.glob(f"{CORPUS}/*/shards/*")}
    records = [json.loads(p.read_bytes()) for p in root.glob(f"{CORPUS}/*/commits/*")]
    left += sorted(shards ^ {Path(record["shard"]).name for record in records if record["shard"]})
    return {**state(root, layers), "wrong": wrong, "left": left}


def enumerate_crashes(base: Path, backend: str, units: int, layers: tuple[int | None, ...]) -> dict[str, Any]:
    """Kill a run before each of its calls in turn, and in the middle of each write, until one comes through."""
    forked(lambda: run(base / "reference", backend, units, layers))
    crashes: list[dict[str, Any]] = []
    for point in itertools.count():
        root = base / str(point)

        def crash(root: Path = root, point: int = point) -> None:
            seen = itertools.count()

            def event(name: str) -> None:
                if next(seen) == point:
                    os.kill(os.getpid(), signal.SIGKILL)

            follow(event)
            run(root, backend, units, layers)

        status, _ = forked(crash)
        code, found = forked(lambda root=root: resumed(root, backend, units, layers))  # type: ignore[misc]
        crashes.append({"status": status, "code": code, "found": found})
        shutil.rmtree(root)
        if status == 0:
            return {"reference": forked(lambda: state(base / "reference", layers))[1], "crashes": crashes}
    raise AssertionError("unreachable")


@dataclass
class Worker:
    """A forked extraction that stands still at every call until it is told to go on."""

    number: int
    pid: int
    pipe: Connection
    events: int = 0  # calls since it began to encode
    written: bool = False  # it has written something since it began to encode
    committing: bool = False  # between the beginning of encoding and the end of its last commit
    waiting: bool = False
    dead: bool = False

    @property
    def inside(self) -> bool:
        """Between its first write and its last commit."""
        return self.written and self.committing and not self.dead

    def hear(self) -> None:
        """Take one message."""
        try:
            message = self.pipe.recv()
        except EOFError:
            self.dead = True
            return
        if message in ("encoding", "committed"):
            self.committing = message == "encoding"
            return
        self.waiting = True
        self.events += self.committing
        self.written = self.written or (self.committing and message == "write")

    def go_on(self) -> None:
        """Let it do its call."""
        self.waiting = False
        self.pipe.send(None)

    def kill(self) -> None:
        """As the kernel does."""
        os.kill(self.pid, signal.SIGKILL)
        self.dead = True


def start_worker(root: Path, number: int, shard: tuple[int, int], backend: str, others: list[Worker]) -> Worker:
    mine, theirs = Pipe()
    child = os.fork()
    if child:
        theirs.close()
        return Worker(number, child, mine)
    status = 70
    try:
        mine.close()
        for other in others:
            other.pipe.close()

        def event(name: str) -> None:
            theirs.send(name)
            theirs.recv()

        follow(event, CALLS + LOOKS)
        real = LightEncoder.encode
        begun = itertools.count()

        def encode(self: LightEncoder, *args: Any) -> Any:
            if next(begun) == 0:
                theirs.send("encoding")
            return real(self, *args)

        LightEncoder.encode = encode  # type: ignore[assignment,method-assign]
        from emocache.extract.pipeline import encoding_loop

        real_run = encoding_loop.run

        def run_and_tell(*args: Any, **kwargs: Any) -> Any:
            outcome = real_run(*args, **kwargs)
            theirs.send("committed")
            return outcome

        encoding_loop.run = run_and_tell
        extract(root, manifest(IDS), [LightEncoder()], shard=shard, units=6, budget=6.0, backend=backend)
        status = 0
    except EmocacheError as error:
        print(error, file=sys.stderr)
    finally:
        os._exit(status)


def run_workers(root: Path, seed: int, backend: str) -> dict[str, Any]:
    """Three workers on one stream, interleaved call by call as the seed says; one or all of them are killed."""
    dice = random.Random(seed)
    shares = [(1, 3), (2, 3), (3, 3)] if seed % 2 else [(1, 1)] * 3
    workers: list[Worker] = []
    for number, share in enumerate(shares):
        workers.append(start_worker(root, number, share, backend, workers))
    victim, moment, everyone = dice.choice(workers), dice.randint(2, 45), dice.random() < 0.5
    killed: list[dict[str, Any]] = []
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.pipe, selectors.EVENT_READ, worker)
        while living := [worker for worker in workers if not worker.dead]:
            if all(worker.waiting for worker in living):
                if not killed and (victim.dead or victim.events >= moment):
                    for worker in living if everyone else [victim]:
                        killed.append({"worker": worker.number, "inside": worker.inside})
                        worker.kill()
                    continue
                dice.choice(living).go_on()
            for key, _ in selector.select() if not all(worker.waiting for worker in living) else []:
                if not key.data.waiting and not key.data.dead:
                    key.data.hear()
                    if key.data.dead:
                        selector.unregister(key.fileobj)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1]) for worker in workers]
    for worker in workers:
        worker.pipe.close()
    return {"killed": killed, "statuses": statuses, "share": shares[0], "moment": moment}


def random_kills(base: Path, rounds: int) -> dict[str, Any]:
    """Rounds of three workers and a kill, each gone on with afterwards."""
    reference = base / "reference"
    forked(lambda: run(reference, "hdf5", 6))
    done = []
    for seed in range(rounds):
        root, backend = base / str(seed), "zarr" if seed % 5 == 0 else "hdf5"
        told = run_workers(root, seed, backend)
        code, found = forked(lambda root=root, backend=backend: resumed(root, backend, 6))  # type: ignore[misc]
        done.append({**told, "code": code, "found": found})
        shutil.rmtree(root)
    return {"reference": forked(lambda: state(reference))[1], "rounds": done}


if __name__ == "__main__":
    mode, folder = sys.argv[1], Path(sys.argv[2])
    resumed(folder / "warm", "hdf5", 1)  # imports what is imported late, so that no child has to
    gc.freeze()
    if mode == "random":
        report = random_kills(folder, int(sys.argv[3]))
    else:
        two_layers = sys.argv[4:] == ["layers"]
        report = enumerate_crashes(folder, mode, int(sys.argv[3]), (None, 1) if two_layers else (None,))
    json.dump(report, sys.stdout)
