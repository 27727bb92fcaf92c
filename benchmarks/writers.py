"""How fast finished frames are stored, beside an encoder that costs nothing: `python -m emocache.benchmarks.writers`.

Every figure is the median over rounds in which all ways take turns: MB of stored float16 a second, and the seconds of a
core, all threads together, that a GB takes, which tell more where others use the machine. Writing and fsync of the same
bytes in one file is what the disk takes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from emocache.benchmarks.figures import interval
from emocache.cache import Cache, Item, Load, Manifest, Utterance, plan_tasks
from emocache.cache.stored_form import to_storage
from emocache.extract.encoders.encoder import Clip, LayerItems, Layers
from emocache.extract.pipeline import encoding_loop, under_way
from emocache.extract.pipeline.batching import Budget

_FRAMES = 250  # of a clip: 5 s


class Ready:
    """Frames that were there before anybody asked."""

    name, inputs, rate = "ready", ("audio",), 50.0

    def __init__(self, dim: int) -> None:
        self.dim, self.layers = dim, 1
        self.frames = np.random.default_rng(0).standard_normal((_FRAMES, dim), np.float32)

    def recipe(self, layer: int | None) -> dict[str, object]:
        """See `Encoder.recipe`."""
        times = {"rate": 50.0, "first_start": 0.0, "width": 0.02}
        return {"kind": "frames", "encoder": "ready", "layer": layer, "inputs": [], "dim": self.dim, "times": times,
                "aux": {}, "dtype": "float16"}  # fmt: skip

    def expected_frames(self, _: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return _FRAMES

    def cost(self, _: Utterance) -> float:
        """See `Encoder.cost`."""
        return 5.0

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems]:
        """See `Encoder.encode`."""
        return [{layer: Item(self.frames) for layer in layers} for _ in clips]


def stored(root: Path, encoder: Ready, clips: int, writers: int) -> None:
    """One extraction."""
    manifest = Manifest.from_utterances("bench", [Utterance(f"clip{n:05d}", duration=5.0) for n in range(clips)])
    cache = Cache(root)
    cache.put_manifest(manifest)
    target = encoding_loop.Target(encoder, None, cache.create_stream("bench", "ready", encoder.recipe(None)))  # type: ignore[arg-type]
    size = 2 * _FRAMES * encoder.dim
    tasks = plan_tasks([target.writer], {u.id: Load(0.0, size) for u in manifest})
    outcome = encoding_loop.run(
        tasks, [target], {u.id: u for u in manifest}, lambda u: Clip(u.id), budget=Budget(960.0), writers=writers
    )
    if outcome.committed != clips:
        raise SystemExit(f"{outcome.committed} of {clips} committed")


def written(folder: Path, encoder: Ready, clips: int) -> None:
    """One file."""
    data = encoder.frames.astype(np.float16).tobytes()
    with (folder / "flat.bin").open("wb", buffering=0) as file:
        for _ in range(clips):
            file.write(data)
        os.fsync(file.fileno())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=400, help="of 5 s")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--folder", type=Path, help="where to write; default: the folder for temporary files")
    options = parser.parse_args(arguments)
    encoder = Ready(options.dim)
    whole = Item(encoder.frames)
    # Both casts give the same bytes.
    assert under_way._halved(whole).frames.tobytes() == to_storage(whole, encoder.recipe(None)).frames.tobytes()
    size = options.clips * 2 * _FRAMES * options.dim / 1e6
    took: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def timed(name: str, work: Callable[[], None]) -> None:
        clock, cores = time.perf_counter(), time.process_time()
        work()
        took[name].append((size / (time.perf_counter() - clock), 1000 * (time.process_time() - cores) / size))

    for number in range(options.rounds + 1):
        if number == 1:  # the first imports what is imported late
            took.clear()
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            timed("write and fsync of one file", partial(written, folder, encoder, options.clips))
            with mock.patch.object(under_way, "_halved", lambda item: item):
                timed("1 writer, cast by NumPy", partial(stored, folder / "numpy", encoder, options.clips, 1))
            for writers in options.writers:
                way = f"{writers} writer{'s' * (writers > 1)}"
                timed(way, partial(stored, folder / way, encoder, options.clips, writers))
    print(f"{size:.0f} MB, {os.cpu_count()} cores, torch {torch.__version__}; median and 95 % interval")
    for name, values in took.items():
        (low, rate, high), (_, cores, _) = (interval(column) for column in zip(*values, strict=True))
        print(f"{name:<28} {rate:6.0f} MB/s  [{low:5.0f}, {high:5.0f}]  {cores:6.2f} s of a core a GB")


if __name__ == "__main__":
    main(sys.argv[1:])
