"""The speed of the cache, as ratios against plain files: `make bench`.

Every figure is the median over interleaved pairs of the same work done both ways in one process, with a 95 % bootstrap
interval. Everything that is read is checksummed and compared, outside the timed region. A bound is missed, and the exit
status 1, where the whole interval lies below it. What should be reached is told beside it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emocache.benchmarks.figures import Figure, print_figures
from emocache.cache import Cache, Item, Load, Manifest, Stream, StreamWriter, Utterance, plan_tasks

_SECONDS = (2.94, 5.27)  # shortest and longest clip of RAVDESS
_RATE, _DIM = 50, 768
_NPY = ".npy per utterance"
_READS = 192  # of each kind in a pair, where there are so many utterances
Frames = npt.NDArray[Any]
Reader = Callable[[str], Frames]


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


def readers(root: Path, frames: Mapping[str, Frames]) -> dict[str, Reader]:
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
        _NPY: lambda i: np.load(root / "npy" / f"{i}.npy"),
        "zarr-python per utterance": lambda i: np.asarray(group[i][:]),  # type: ignore[index]
    }


def bench_reading(root: Path, frames: Mapping[str, Frames], pairs: int) -> list[Figure]:
    """Random reads of single utterances, summed so that every byte is touched, everything in the page cache."""
    first = "emocache zarr, first reads"
    # A stream just opened, whose items nobody has compared with their checksums yet.
    fresh = {first: lambda: Cache(root / "store").stream("bench", "zarr").read}
    seconds = time_readers(readers(root, frames), frames, pairs, fresh)
    figures = []
    for backend in ("emocache zarr", "emocache hdf5"):
        for other, bound, aim in (("np.memmap", 0.8, 0.9), (_NPY, 3.0, 5.0), ("zarr-python per utterance", 40.0, None)):
            figures.append(_reading(seconds, backend, other, bound, aim))
    return [*figures, _reading(seconds, first, "np.memmap", 0.2), _reading(seconds, first, _NPY, 0.8)]


def time_readers(
    ways: Mapping[str, Reader],
    frames: Mapping[str, Frames],
    pairs: int,
    fresh: Mapping[str, Callable[[], Reader]] | None = None,
) -> dict[str, list[float]]:
    """Read the same utterances in every way, in turn, and compare what is read.

    Args:
        ways: {name: function from an id to its frames, (T, D)}.
        frames: {id: what must be read}.
        pairs: rounds.
        fresh: {name: function that makes such a function anew for each round}.

    Returns:
        {name: seconds of each round}.

    Raises:
        SystemExit: other bytes than were written.
    """
    sums = {i: checksum(array) for i, array in frames.items()}
    ids, rng = list(frames), np.random.default_rng(1)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for read in ways.values():  # every page of every file is mapped and in memory before the clock runs
        if [checksum(read(i)) for i in ids] != list(sums.values()):
            raise SystemExit("the frames read are not those written")
    for _ in range(pairs):
        chosen = [str(i) for i in rng.choice(ids, min(_READS, len(ids)), replace=False)]
        round_ = {**ways, **{name: make() for name, make in (fresh or {}).items()}}
        order = list(round_)
        rng.shuffle(order)
        for name in order:
            read = round_[name]
            started = time.perf_counter()
            found = [checksum(read(i)) for i in chosen]
            seconds[name].append(time.perf_counter() - started)
            if found != [sums[i] for i in chosen] or not np.array_equal(read(chosen[0]), frames[chosen[0]]):
                raise SystemExit(f"{name} read other bytes than were written")
    return seconds


def _reading(
    seconds: Mapping[str, Sequence[float]], ours: str, other: str, bound: float, aim: float | None = None
) -> Figure:
    ratios = [b / a for a, b in zip(seconds[ours], seconds[other], strict=True)]
    return Figure(f"random reads, {ours} : {other}", bound, ratios, aim)


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
    os.sync()  # what was written for the reads, without fsync, would otherwise go to the disk in between
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
        figures.append(Figure(f"writing, emocache {backend} : write + fsync", 0.5, ratios[1:], 0.7))
    return figures


def bench_training(root: Path, frames: Mapping[str, Frames], pairs: int) -> list[Figure]:
    """An epoch over the cache against one over the same batches in a list."""
    from emocache.benchmarks.epoch import bench_epoch

    return [
        Figure(
            "an epoch of the BiGRU, from the cache : from a list", 1 / 1.05, bench_epoch(root / "epoch", frames, pairs)
        )
    ]


def bench_starting(root: Path, frames: Mapping[str, Frames], pairs: int) -> list[Figure]:
    """`emocache --help` in a process of its own against a process that only imports what reads the options."""
    typer, ours = "import typer", "import sys; sys.argv = ['emocache', '--help']; from emocache.cli import main; main()"
    ratios = []
    for pair in range(pairs + 1):
        seconds = {}
        for code in sorted((typer, ours), reverse=bool(pair % 2)):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-P", "-c", code], check=True, stdout=subprocess.DEVNULL)
            seconds[code] = time.perf_counter() - started
        ratios.append(seconds[typer] / seconds[ours])
    return [Figure("starting, emocache --help : import typer", 0.5, ratios[1:])]


BENCHES: tuple[Callable[[Path, Mapping[str, Frames], int], list[Figure]], ...] = (
    bench_reading,
    bench_writing,
    bench_training,
    bench_starting,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all benchmarks; exits with 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="interleaved pairs, 7 or more (default 15)")
    parser.add_argument("--utterances", type=int, default=1440, help="utterances (1440, as RAVDESS has)")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args(arguments)
    if options.pairs < 7 or options.utterances < 1:
        parser.error("--pairs must be 7 or more, --utterances 1 or more")
    frames = make_frames(options.utterances)
    print(f"{len(frames)} utterances, {sum(f.nbytes for f in frames.values()) / 1e6:.0f} MB, {options.pairs} pairs")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        missed = print_figures(_figures(Path(folder), frames, options.pairs))
    sys.exit(f"{missed} of the bounds missed" if missed else 0)


def _figures(root: Path, frames: Mapping[str, Frames], pairs: int) -> Iterator[Figure]:
    for bench in BENCHES:
        yield from bench(root, frames, pairs)


if __name__ == "__main__":
    main()
