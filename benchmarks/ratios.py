"""The speed of the cache, as ratios against plain files: `make bench`.

Every figure is the median over interleaved pairs of the same work done both ways in one process, with a 90 % bootstrap
interval. Everything that is read is checksummed and compared, outside the timed region. A bound that the lower end of
an interval misses is told, as it may be the machine's doing; with --strict it is also the exit status 1.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emocache.cache import Cache, Item, Load, Manifest, Stream, StreamWriter, Utterance, plan_tasks

_SECONDS = (2.94, 5.27)  # shortest and longest clip of RAVDESS
_RATE, _DIM = 50, 768
_READS = 192  # of each kind in a pair, where there are so many utterances
Frames = npt.NDArray[Any]


class Figure(NamedTuple):
    """One ratio and what it must reach."""

    name: str
    bound: float
    ratios: Sequence[float]  # one per pair; higher is better for us

    def line(self) -> tuple[str, bool]:
        """(what to print, whether the bound is met)."""
        low, middle, high = interval(self.ratios)
        met = low >= self.bound
        verdict = "ok" if met else "missed"
        return f"{self.name:<58} {middle:6.2f}  [{low:6.2f}, {high:6.2f}]  >= {self.bound:5.2f}  {verdict}", met


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """(low, median, high): the 90 % bootstrap interval of the median."""
    values = np.asarray(ratios)
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.05, 0.95])
    return float(low), float(np.median(values)), float(high)


def make_frames(count: int) -> dict[str, Frames]:
    """{id: (T, D) float16} of the lengths of RAVDESS."""
    rng = np.random.default_rng(0)
    lengths = (rng.uniform(*_SECONDS, count) * _RATE).astype(int)
    frames = [rng.standard_normal((length, _DIM), np.float32).astype(np.float16) for length in lengths]
    return {f"clip{k:05d}": array for k, array in enumerate(frames)}


def open_writer(root: Path, backend: str, frames: Mapping[str, Frames]) -> StreamWriter:
    """A stream to write the frames to, in a new cache."""
    cache = Cache(root)
    cache.put_manifest(Manifest.from_utterances("bench", [Utterance(i) for i in frames]))
    recipe: dict[str, Any] = {
        "kind": "frames", "encoder": backend, "layer": None, "inputs": [], "dim": _DIM, "dtype": "float16",
        "times": {"rate": _RATE, "first_start": 0.0, "width": 0.02}, "aux": {},
    }  # fmt: skip
    return cache.create_stream("bench", backend, recipe, backend=backend)


def fill_cache(root: Path, backend: str, frames: Mapping[str, Frames]) -> Stream:
    """A cache that holds the frames."""
    writer = open_writer(root, backend, frames)
    for task in plan_tasks([writer], {i: Load(0.0, f.nbytes) for i, f in frames.items()}):
        writer.commit(task.units[backend], {i: Item(frames[i]) for i in task.ids})
    writer.finish()
    return Cache(root).stream("bench", backend)


def readers(root: Path, frames: Mapping[str, Frames]) -> dict[str, Callable[[str], Frames]]:
    """{how: function from an id to its frames, (T, D)}."""
    import zarr

    streams = {backend: fill_cache(root / "store", backend, frames) for backend in ("zarr", "hdf5")}
    lengths = {i: len(f) for i, f in frames.items()}
    starts = dict(zip(frames, np.cumsum([0, *lengths.values()]).tolist(), strict=False))
    np.concatenate(list(frames.values())).tofile(root / "flat.bin")
    flat = np.memmap(root / "flat.bin", np.float16, "r").reshape(-1, _DIM)
    (root / "npy").mkdir()
    group = zarr.open_group(root / "arrays.zarr", mode="w")
    for utterance, array in frames.items():
        np.save(root / "npy" / f"{utterance}.npy", array)
        group.create_array(utterance, data=array, chunks=array.shape)

    return {
        "emocache zarr": streams["zarr"].read,
        "emocache hdf5": streams["hdf5"].read,
        "np.memmap": lambda i: flat[starts[i] : starts[i] + lengths[i]],
        ".npy per utterance": lambda i: np.load(root / "npy" / f"{i}.npy"),
        "zarr-python per utterance": lambda i: np.asarray(group[i][:]),  # type: ignore[index]
    }


def bench_reading(root: Path, frames: Mapping[str, Frames], pairs: int) -> list[Figure]:
    """Random reads of single utterances, summed so that every byte is touched, everything in the page cache."""
    ways = readers(root, frames)
    sums = {i: checksum(array) for i, array in frames.items()}
    ids, rng = list(frames), np.random.default_rng(1)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for read in ways.values():  # every page of every file is mapped and in memory before the clock runs
        if [checksum(read(i)) for i in ids] != list(sums.values()):
            raise SystemExit("the frames read are not those written")
    for _ in range(pairs):
        chosen = [str(i) for i in rng.choice(ids, min(_READS, len(ids)), replace=False)]
        # A stream just opened, whose items nobody has compared with their checksums yet.
        ways["emocache zarr, first reads"] = Cache(root / "store").stream("bench", "zarr").read
        order = list(ways)
        rng.shuffle(order)
        for name in order:
            read = ways[name]
            started = time.perf_counter()
            found = [checksum(read(i)) for i in chosen]
            seconds[name].append(time.perf_counter() - started)
            if found != [sums[i] for i in chosen] or not np.array_equal(read(chosen[0]), frames[chosen[0]]):
                raise SystemExit(f"{name} read other bytes than were written")
    figures = []
    for backend in ("emocache zarr", "emocache hdf5"):
        for other, bound in (("np.memmap", 0.8), (".npy per utterance", 5.0), ("zarr-python per utterance", 40.0)):
            ratios = [b / a for a, b in zip(seconds[backend], seconds[other], strict=True)]
            figures.append(Figure(f"random reads, {backend} : {other}", bound, ratios))
    first = "emocache zarr, first reads"
    for other, bound in (("np.memmap", 0.2), (".npy per utterance", 0.8)):
        ratios = [b / a for a, b in zip(seconds[first], seconds[other], strict=True)]
        figures.append(Figure(f"random reads, {first} : {other}", bound, ratios))
    return figures


def checksum(frames: Frames) -> int:
    """The sum of the bytes as 64-bit words: touches every byte and costs little beside the reading."""
    return int(frames.view(np.uint64).sum())


def bench_writing(root: Path, frames: Mapping[str, Frames], pairs: int) -> list[Figure]:
    """Committing one unit of 64 MiB against writing its bytes to one file with fsync."""
    chosen: dict[str, Frames] = {}
    for utterance, array in frames.items():
        if sum(a.nbytes for a in chosen.values()) < 64 << 20:
            chosen[utterance] = array
    figures = []
    for backend in ("zarr", "hdf5"):
        ratios = []
        for pair in range(pairs + 1):
            started = time.perf_counter()
            with (root / "plain.bin").open("wb", buffering=0) as file:
                for array in chosen.values():
                    file.write(array.data)
                os.fsync(file.fileno())
            plain = time.perf_counter() - started
            folder = root / f"write-{backend}-{pair}"
            writer = open_writer(folder, backend, chosen)
            items = {i: Item(array) for i, array in chosen.items()}
            started = time.perf_counter()
            writer.commit("0", items)
            ours = time.perf_counter() - started
            stream = Cache(folder).stream("bench", backend)
            for utterance, array in chosen.items():
                if not np.array_equal(stream.read(utterance), array):
                    raise SystemExit("the cache gives back other bytes than were written")
            shutil.rmtree(folder)
            (root / "plain.bin").unlink()
            ratios.append(plain / ours)
        figures.append(Figure(f"writing, emocache {backend} : write + fsync", 0.5, ratios[1:]))
    return figures


def bench_training(root: Path, frames: Mapping[str, Frames], pairs: int) -> list[Figure]:
    """An epoch over the cache against one over the same batches in a list."""
    from emocache.benchmarks.epoch import bench_epoch

    return [
        Figure(
            "an epoch of the BiGRU, from the cache : from a list", 1 / 1.05, bench_epoch(root / "epoch", frames, pairs)
        )
    ]


BENCHES: tuple[Callable[[Path, Mapping[str, Frames], int], list[Figure]], ...] = (
    bench_reading,
    bench_writing,
    bench_training,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all benchmarks; exits with 1 where a bound is missed and that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="interleaved pairs (default 15)")
    parser.add_argument("--utterances", type=int, default=1440, help="utterances (1440, as RAVDESS has)")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a bound is missed")
    options = parser.parse_args(arguments)
    if min(options.pairs, options.utterances) < 1:
        parser.error("--pairs and --utterances must be 1 or more")
    frames = make_frames(options.utterances)
    print(f"{len(frames)} utterances, {sum(f.nbytes for f in frames.values()) / 1e6:.0f} MB, {options.pairs} pairs")
    print(f"{'speed of the first : the second':<58} {'median':>6}  {'90 % interval':<16}  bound")
    missed = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for bench in BENCHES:
            for figure in bench(Path(folder), frames, options.pairs):
                line, met = figure.line()
                print(line, flush=True)
                missed += not met
    if missed:
        print(f"{missed} of the bounds missed" + ("" if options.strict else "; --strict makes that an error"))
    sys.exit(1 if missed and options.strict else 0)


if __name__ == "__main__":
    main()
