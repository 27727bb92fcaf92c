"""Training on a stream larger than memory: `python -m emocache.benchmarks.larger_than_memory`.

A stream of four times the limit of `--memory`. The same epochs over a part of its clips from memory and from the cache,
in turn, in one process, pages cached: seconds from memory over seconds from the cache, of a BiGRU and of the cheapest
head there is, a linear probe of every frame. Losses must be equal. Then, in a process of its own, an epoch over all
clips from the cache, with the most anonymous memory that the process has had.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from emocache.benchmarks.ratios import interval
from emocache.cache import Cache, Item, Load, Manifest, Track, Utterance, plan_tasks
from emocache.train.config.loading import load_settings
from emocache.train.config.settings import Settings
from emocache.train.data.memory import Memory
from emocache.train.data.reading import load_dataset
from emocache.train.fit.losses import batch_loss, make_loss
from emocache.train.heads import Shape, build_head
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.transforms import prepare

_DIM, _RATE, _FRAMES = 768, 50.0, 220
_COMMON = ['streams=["bench"]', "features.average_frames=1", "targets=valence", "task=frame_regression"]
_HEADS = {
    "BiGRU": [*_COMMON, "loss.kind=mse"],
    "probe of frames": [*_COMMON, "loss.kind=mse", "head={kind='probe'}"],
}
_BOUND = 1 / 1.15
_SIZE = 32


def fill(root: Path, size: float) -> int:
    """Write a stream of `size` bytes of float16; returns its number of clips."""
    count = int(size / (_DIM * 2 * _FRAMES))
    random = np.random.default_rng(0)
    ids = [f"clip{n:06d}" for n in range(count)]
    lengths = random.integers(_FRAMES - 70, _FRAMES + 71, count)
    track = Track(np.array([0.0, 2.0, 4.0]), random.standard_normal(3))
    cache = Cache(root)
    rows = [Utterance(id_, speaker=f"s{n % 8}", tracks={"valence": track}) for n, id_ in enumerate(ids)]
    cache.put_manifest(Manifest.from_utterances("bench", rows))
    recipe: dict[str, Any] = {
        "kind": "frames", "encoder": "bench", "layer": None, "inputs": [], "dim": _DIM, "dtype": "float16",
        "times": {"rate": _RATE, "first_start": 0.0, "width": 1 / _RATE}, "aux": {},
    }  # fmt: skip
    writer = cache.create_stream("bench", "bench", recipe)
    noise = random.standard_normal((1 << 14, _DIM), np.float32).astype(np.float16)
    starts = dict(zip(ids, random.integers(0, len(noise) - lengths), strict=True))
    loads = {id_: Load(0.0, int(length) * _DIM * 2) for id_, length in zip(ids, lengths, strict=True)}
    frames = {id_: noise[starts[id_] : starts[id_] + load.bytes // (_DIM * 2)] for id_, load in loads.items()}
    for task in plan_tasks([writer], loads):
        writer.commit(task.units["bench"], {id_: Item(frames[id_]) for id_ in task.ids})
    writer.finish()
    return count


class Trainer:
    """Epochs of one head over the stream, from memory or from the cache."""

    def __init__(self, root: Path, settings: Settings, memory: Memory) -> None:
        self.settings = settings
        self.dataset = load_dataset(Cache(root), ["bench"], settings, memory=memory)
        self.rows = np.arange(len(self.dataset.examples))
        prepared = prepare(self.dataset, settings, self.rows)
        self.batches = Batches(self.dataset, settings, prepared, torch.device("cpu"))
        self.on_disk = prepared.inputs["frames"].features.on_disk
        torch.manual_seed(0)
        self.head = build_head(settings.head, Shape(self.batches.dims, 1, True))
        self.head.eval()  # no dropout: both ways must give the same losses

    def epoch(self, rows: np.ndarray[Any, Any], seed: int) -> tuple[float, list[float]]:
        """Forward and backward, weights stay: seconds, and the losses."""
        loss, losses = make_loss(self.settings.loss, None), []
        started = time.perf_counter()
        for batch in self.batches.epoch(rows, _SIZE, np.random.default_rng(seed)):
            self.head.zero_grad()
            value = batch_loss(loss, self.head(*batch.inputs), batch)
            value.backward()  # type: ignore[no-untyped-call]
            losses.append(float(value.detach()))
        return time.perf_counter() - started, losses


def compare(root: Path, limit: int, pairs: int, clips: int) -> bool:
    """Print a line for each head; False where a bound is missed."""
    met = True
    for name, changes in _HEADS.items():
        _, settings = load_settings("bigru", changes)
        held, stored = Trainer(root, settings, Memory(1 << 60)), Trainer(root, settings, Memory(limit, root))
        assert stored.on_disk and not held.on_disk
        ratios = []
        for pair in range(pairs + 1):
            rows = np.random.default_rng(pair).permutation(held.rows)[:clips]
            ways = {way: way.epoch(rows, pair) for way in ((held, stored) if pair % 2 else (stored, held))}
            if ways[held][1] != ways[stored][1]:
                raise SystemExit("the losses differ")
            ratios.append(ways[held][0] / ways[stored][0])
        low, middle, high = interval(ratios[1:])
        met &= high >= _BOUND
        print(f"an epoch of a {name:<16} from memory : from the cache  {middle:5.2f}  [{low:5.2f}, {high:5.2f}]"
              f"  >= {_BOUND:.2f}  {'ok' if high >= _BOUND else 'missed'}", flush=True)  # fmt: skip
    return met


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def epoch_alone(root: Path, limit: int) -> None:
    """Print what an epoch over the whole stream takes: its seconds and the most anonymous memory."""
    most, done = [anonymous()], Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], anonymous())

    before = most[0]
    watcher = Thread(target=watch)
    watcher.start()
    try:
        _, settings = load_settings("bigru", _HEADS["probe of frames"])
        trainer = Trainer(root, settings, Memory(limit, root))
        seconds, _ = trainer.epoch(trainer.rows, 0)
    finally:
        done.set()
        watcher.join()
    told = "ok" if most[0] < limit else "missed"
    print(f"all clips from the cache: {seconds:.1f} s, at most {most[0] / 1e6:.0f} MB of anonymous memory, of which"
          f" {before / 1e6:.0f} MB are Python and torch; limit {limit / 1e6:.0f} MB  {told}")  # fmt: skip
    sys.exit(most[0] >= limit)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the lines; exits with 1 where a whole interval misses its bound, or memory its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=float, default=0.75, help="GB (0.75); the stream has four times as much")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--clips", type=int, default=256, help="clips of an epoch (256)")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    limit = int(options.memory * 1e9)
    if options.alone:
        epoch_alone(options.alone, limit)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        count = fill(Path(folder), 4.0 * limit)
        print(f"a stream of {count} clips, {4 * options.memory:g} GB; --memory {options.memory:g}", flush=True)
        command = [sys.executable, "-m", "emocache.benchmarks.larger_than_memory", "--memory", str(options.memory)]
        alone = subprocess.run([*command, "--alone", folder], env=os.environ, check=False).returncode
        met = compare(Path(folder), limit, options.pairs, options.clips)
    sys.exit(1 if alone or not met else 0)


if __name__ == "__main__":
    main()
