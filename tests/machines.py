"""Helpers for tests of several machines, which are processes here."""

import hashlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from typer.testing import CliRunner

from emocache.cache import Cache, plan
from emocache.cache.index import load
from emocache.cache.verify import verify
from emocache.cli import app

ROOT = Path(__file__).parents[1]
ENCODER = "tests.extract.counted_encoder:Counted"
CALL = "from emocache.cli import main; main()"
WAIT = 120.0  # seconds, for a machine that is very busy
CLIPS, UNIT = 24, 3  # two workers have eight units


def clips(folder: Path) -> Path:
    """A corpus of clips of a tenth of a second and more."""
    random = np.random.default_rng(0)
    for n in range(CLIPS):
        soundfile.write(folder / f"{n:02d}.wav", 0.1 * random.standard_normal(1600 + 160 * n), 16_000)
    rows = [f"{n:02d}.wav,{('happy', 'sad')[n % 2]},{n % 4}" for n in range(CLIPS)]
    (folder / "table.csv").write_text("\n".join(["file,label,speaker", *rows]))
    return folder


def environment() -> dict[str, str]:
    """Of a process that finds this package and the tests."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Job:
    """A folder with a cache and the encoder's files."""

    folder: Path
    corpus: Path

    @property
    def arguments(self) -> list[str]:
        """Of the command, which take no engine yet."""
        columns = ["--map", "id=file,label=label,speaker=speaker"]
        folders = ["--data", str(self.corpus), "--cache", str(self.folder / "store"), "--checkpoints", str(self.folder)]
        return ["extract", "table", *folders, *columns, "--encoder", ENCODER, "--device", "cpu", "--workers", "1"]

    def run(self, *more: str) -> Any:
        """The command in this process."""
        return CliRunner().invoke(app, [*self.arguments, *more])

    def start(self, *more: str) -> "subprocess.Popen[str]":
        """The command in another one."""
        command = [sys.executable, "-c", CALL, *self.arguments, *more]
        return subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def tell(self, name: str, value: object = None) -> None:
        """Tell the encoder something, or take it back."""
        if value is None:
            (self.folder / name).unlink()
        else:
            (self.folder / f".{name}").write_text(str(value))
            (self.folder / f".{name}").rename(self.folder / name)

    def encoded(self) -> list[tuple[int, str]]:
        """(process, clip), in the order in which they were encoded."""
        file = self.folder / "encoded"
        rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(int(process), clip) for process, clip in rows]

    def processes(self) -> set[int]:
        """Those that have encoded anything."""
        return {process for process, _ in self.encoded()}

    def units(self) -> list[set[str]]:
        """The utterances of each unit that is planned."""
        (info,) = self.cache.streams("table")
        planned, _ = plan.read(self.cache.objects.below(info.folder))
        return [{i for i, _ in items} for items in planned.values()]

    def done_again(self) -> list[set[str]]:
        """The units of which anything was encoded twice; nothing may be three times."""
        counts = Counter(clip for _, clip in self.encoded())
        assert set(counts.values()) <= {1, 2}
        again = {clip for clip, count in counts.items() if count == 2}
        return [unit for unit in self.units() if unit & again]

    @property
    def cache(self) -> Cache:
        """The cache."""
        return Cache(self.folder / "store")

    def digest(self) -> str:
        """Of the ids, frames and times of all items; what is stored is whole, and stored once."""
        stream = self.cache.stream("table", "counted")
        assert not stream.missing and len(stream.ids) == CLIPS
        assert list(verify(self.cache, full=True)) == []
        (info,) = self.cache.streams("table")
        keys = load(self.cache.objects.below(info.folder)).items.column("key").to_pylist()
        assert len(keys) == len(set(keys)) == CLIPS
        rows = [(i, stream.read(i).tobytes(), stream.times(i).tobytes()) for i in sorted(stream.ids)]
        return hashlib.sha256(repr(rows).encode()).hexdigest()


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
