"""What a large cache costs: `python -m emocache.benchmarks.scale 10000 100000 1000000`.

A corpus of so many utterances, with two frames of four numbers each, is planned, committed and indexed as an extraction
does it, so everything but the frames has its real size. Then every operation runs in a process of its own: seconds on
the clock, seconds of the processor, and the most memory that the process took, the interpreter included.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from emocache.cache import Cache, Item, Load, Manifest, Media, Utterance, plan_tasks

_RECIPE: dict[str, Any] = {
    "kind": "frames", "encoder": "tiny", "layer": None, "inputs": ["audio"], "dim": 4, "dtype": "float16",
    "times": {"rate": 50, "first_start": 0.0, "width": 0.02}, "aux": {},
}  # fmt: skip
_OPEN = "import sys; from emocache.cache import Cache; stream = Cache(sys.argv[1]).stream('bench', 'tiny'); "
_READ = "[stream.read(utterance) for utterance in stream.ids[:: -(-len(stream) // 1000)]]"
_PLAN = (
    "import json, sys; from emocache.cache import Cache, Load, plan_tasks; cache = Cache(sys.argv[1]);"
    " writer = cache.create_stream('bench', 'tiny', json.loads(sys.argv[2]));"
    " ids = cache.manifest('bench').ids; assert not plan_tasks([writer], dict.fromkeys(ids, Load(0.0, 16)))"
)
_COMMAND = "import sys; from emocache.cli import main; sys.argv[0] = 'emocache'; main()"


def utterances(count: int, label: str) -> list[Utterance]:
    """A corpus with hashes of media, speakers, durations and one label."""
    return [
        Utterance(
            f"speaker{n % 997:04d}/clip{n:08d}",
            (Media("audio", f"wav/speaker{n % 997:04d}/clip{n:08d}.wav", hashlib.sha256(b"%d" % n).hexdigest()),),
            duration=2.0 + n % 40 / 10,
            speaker=f"speaker{n % 997:04d}",
            labels={"emotion": label},
        )
        for n in range(count)
    ]


def fill(root: Path, count: int, unit: int) -> None:
    """Write the store; units of at most so many utterances."""
    cache = Cache(root)
    cache.put_manifest(Manifest.from_utterances("bench", utterances(count, "calm")))
    writer = cache.create_stream("bench", "tiny", _RECIPE)
    frames = np.arange(8, dtype=np.float32).reshape(2, 4)
    loads = dict.fromkeys(writer.manifest.ids, Load(0.0, 16))
    for task in plan_tasks([writer], loads, min_units=-(-count // unit)):
        writer.commit(task.units["tiny"], {i: Item(frames) for i in task.ids})
    writer.finish()


def measure(*command: str) -> tuple[float, float, float]:
    """Seconds on the clock and of the processor, and MB at most, of a Python process."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def report(root: str, count: int, unit: int) -> None:
    """Print the rows of one size."""

    def row(name: str, *command: str) -> None:
        clock, cpu, memory = measure(*command)
        print(f"{count:>10}  {name:26} {clock:7.2f} {cpu:7.2f} {memory:6.0f}", flush=True)

    row("write", "-m", "emocache.benchmarks.scale", str(count), "--unit", str(unit), "--fill", root)
    row("open", "-c", _OPEN, root)
    row("open and read 1,000", "-c", _OPEN + _READ, root)
    row("plan what is finished", "-c", _PLAN, root, json.dumps(_RECIPE))
    for command in ("ls", "info", "verify", "compact", "verify"):
        row(f"cache {command}", "-c", _COMMAND, "cache", command, root)
    row("open what is compact", "-c", _OPEN, root)
    # In a process of its own: what this one has taken would count as taken by those it starts.
    measure("-m", "emocache.benchmarks.scale", str(count), "--relabel", root)
    row("open, a label changed", "-c", _OPEN, root)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("utterances", type=int, nargs="+")
    parser.add_argument("--unit", type=int, default=1024, help="utterances of a unit, at most")
    parser.add_argument("--folder", help="where the stores are made and removed; a temporary folder if not given")
    parser.add_argument("--fill", metavar="FOLDER", type=Path, help="only make the store")
    parser.add_argument("--relabel", metavar="FOLDER", type=Path, help="only change the manifest of that store")
    asked = parser.parse_args(arguments)
    if asked.relabel:
        count = asked.utterances[0]
        Cache(asked.relabel).put_manifest(Manifest.from_utterances("bench", utterances(count, "sad")))
        return
    if asked.fill:
        fill(asked.fill, asked.utterances[0], asked.unit)
        return
    print(f"{'utterances':>10}  {'':26} {'s':>7} {'CPU s':>7} {'MB':>6}", flush=True)
    for count in asked.utterances:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            report(folder, count, asked.unit)


if __name__ == "__main__":
    main()
