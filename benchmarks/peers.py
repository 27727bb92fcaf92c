"""emocache beside the loops that peers document, in one run: `make bench-peers`.

The same clips, the same machine; each row is a process of its own: seconds, seconds of CPU, the most memory, what it
leaves on the disk, and the accuracy over six folds of actor pairs. Then random reads of the same frames, in the same
order, through Lance and Vortex as well.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from emocache.benchmarks.figures import Figure, print_figures
from emocache.benchmarks.ratios import Frames, Reader, make_frames, readers, time_readers
from emocache.cache import Cache
from emocache.cache.device import multiplies_bf16

_LOOPS = (sys.executable, "-P", "-m", "emocache.benchmarks.peer_loops")
_EMOCACHE = (sys.executable, "-P", "-c", "from emocache.cli import main; main()")


class Row(NamedTuple):
    """One process: what it does, its command, what it leaves, and where its accuracy is told."""

    name: str
    command: Sequence[str]
    leaves: Path
    accuracy: Callable[[str], float] | None = None


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    cpu: float
    megabytes: float
    printed: str


def run(command: Sequence[str]) -> Cost:
    """Run a command; ends with what it printed where it fails."""
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        printed = out.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{printed}")
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, printed)


def extraction_rows(ravdess: Path, checkpoint: Path, root: Path, bf16: bool) -> list[Row]:
    """The processes that encode the clips, in the order in which they run."""
    npy, name = root / "npy", checkpoint.name
    loop = [*_LOOPS, "extract", str(checkpoint), str(ravdess), str(npy)]
    found = [Row("extract: one file at a time, .npy", loop, npy)]
    for stream, precision in ((name, "float32"), (f"{name}-clip", "float32"), *[(f"{name}-clip", "bf16")] * bf16):
        cache = root / f"{stream}-{precision}"
        command = [*_EMOCACHE, "extract", "ravdess", "--data", str(ravdess), "--cache", str(cache), "--encoder", stream,
                   "--checkpoints", str(checkpoint.parent), "--precision", precision, "--offline"]  # fmt: skip
        found.append(Row(f"extract: emocache {stream}, {precision}", command, cache))
    return found


def head_rows(npy: Path, cache: Path, stream: str, root: Path, epochs: int) -> list[Row]:
    """The processes that train heads on the clips' frames, those of the loops from .npy files."""
    alike = ["features.average_frames=1", f"training.epochs={epochs}", f"training.patience={epochs}"]
    return [
        Row("perceptron on means, .npy", [*_LOOPS, "mlp", str(npy), f"--epochs={epochs}"], npy, _told),
        _training("probe: emocache", "ravdess-probe", root, cache, stream, []),
        Row("BiGRU, .npy and DataLoader", [*_LOOPS, "gru", str(npy), f"--epochs={epochs}"], npy, _told),
        _training("BiGRU: emocache, the same frames and epochs", "ravdess-bigru", root, cache, stream, alike),
        _training("BiGRU: emocache, as it is shipped", "ravdess-bigru", root, cache, stream, []),
    ]


def write_npy(cache: Path, stream: str, npy: Path) -> None:
    """Write the frames of a stream of RAVDESS as the loops do: a file for each clip, called as the clip is."""
    npy.mkdir()
    found = Cache(cache).stream("ravdess", stream)
    for utterance in found.ids:
        np.save(npy / f"{PurePosixPath(utterance).name}.npy", found.read(utterance))


def _training(name: str, experiment: str, root: Path, cache: Path, stream: str, settings: Sequence[str]) -> Row:
    runs = root / f"runs-{len(list(settings))}-{experiment}"
    changes = [word for setting in (*settings, "seeds=[0]", f'streams=["{stream}"]') for word in ("--set", setting)]
    command = [*_EMOCACHE, "train", experiment, "--cache", str(cache), "--runs", str(runs), *changes]
    return Row(name, command, runs, lambda _: _scored(runs))


def _told(printed: str) -> float:
    return float(json.loads(printed.splitlines()[-1])["accuracy"])


def _scored(runs: Path) -> float:
    done = run([*_EMOCACHE, "evaluate", str(runs), "--json"])
    (result,) = json.loads(done.printed[done.printed.index("{") :])["results"]
    return float(result["metrics"]["accuracy"]["pooled"])


def megabytes(folder: Path) -> float:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def bench_stores(root: Path, frames: Mapping[str, Frames], pairs: int) -> list[Figure]:
    """Random reads through formats that are made for them, each in the layout that reads fastest here.

    Lance: a row for each frame, `take`. Vortex: a row of bytes for each utterance, memory-mapped.
    """
    ways = readers(root, frames) | _other_stores(root, frames)
    del ways["zarr-python per utterance"]
    seconds = time_readers(ways, frames, pairs)
    plain = seconds["np.memmap"]
    figures = [
        Figure(f"random reads, {name} : np.memmap", None, [b / a for a, b in zip(taken, plain, strict=True)])
        for name, taken in seconds.items()
        if name != "np.memmap"
    ]
    lance = zip(seconds["emocache zarr"], seconds["Lance"], strict=True)
    return [*figures, Figure("random reads, emocache zarr : Lance", 5.0, [b / a for a, b in lance])]


def _other_stores(root: Path, frames: Mapping[str, Frames]) -> dict[str, Reader]:
    import lance
    import pyarrow as pa
    import vortex

    dim = next(iter(frames.values())).shape[1]
    lengths = [len(array) for array in frames.values()]
    starts = dict(zip(frames, np.cumsum([0, *lengths]).tolist(), strict=False))
    number = {utterance: k for k, utterance in enumerate(frames)}
    flat = pa.array(np.concatenate(list(frames.values())).reshape(-1))
    lance.write_dataset(pa.table({"frame": pa.FixedSizeListArray.from_arrays(flat, dim)}), root / "frames.lance")
    opened = lance.dataset(root / "frames.lance")
    whole = pa.array([array.tobytes() for array in frames.values()], pa.large_binary())
    vortex.io.write(vortex.array(pa.table({"frames": whole})), str(root / "frames.vortex"))
    scan: Any = vortex.open(str(root / "frames.vortex"), memory_map=True).to_repeated_scan()

    def read_lance(utterance: str) -> Frames:
        at = range(starts[utterance], starts[utterance] + lengths[number[utterance]])
        column = opened.take(list(at)).column(0).combine_chunks()
        return np.asarray(column.flatten().to_numpy()).reshape(-1, dim)

    def read_vortex(utterance: str) -> Frames:
        at = number[utterance]
        row = scan.execute(row_range=(at, at + 1)).read_all().to_arrow_array().field(0)[0]
        return np.frombuffer(row.as_buffer(), np.float16).reshape(-1, dim)

    return {"Lance": read_lance, "Vortex": read_vortex}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ravdess", type=Path, help="folder of RAVDESS, actors 1 to 12; without it: reading only")
    parser.add_argument("--checkpoint", type=Path, help="folder of a Whisper, such as checkpoints/whisper-base")
    parser.add_argument("--epochs", type=int, default=10, help="of the loops that are compared (default 10)")
    parser.add_argument("--pairs", type=int, default=15, help="rounds of reading, 7 or more (default 15)")
    parser.add_argument("--utterances", type=int, default=1440, help="utterances to read from (default 1440)")
    parser.add_argument("--cache", type=Path, help="a cache of RAVDESS: only the heads, on the frames of --stream")
    parser.add_argument("--stream", default="whisper-base-clip", help="of that cache (default whisper-base-clip)")
    options = parser.parse_args(arguments)
    if (options.ravdess is None) != (options.checkpoint is None) or options.pairs < 7:
        parser.error("--ravdess and --checkpoint go together; --pairs must be 7 or more")
    if options.cache is not None and options.ravdess is not None:
        parser.error("give --cache, or --ravdess and --checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        root, npy, cache, stream = Path(folder), Path(folder) / "npy", options.cache, options.stream
        if cache is not None:
            write_npy(cache, stream, npy)
        found: list[Row] = []
        if options.ravdess is not None:
            found += extraction_rows(options.ravdess.resolve(), options.checkpoint.resolve(), root, multiplies_bf16())
            cache, stream = root / f"{options.checkpoint.name}-float32", options.checkpoint.name
        if cache is not None:
            print_rows([*found, *head_rows(npy, cache, stream, root, options.epochs)])
        (root / "stores").mkdir()
        missed = print_figures(bench_stores(root / "stores", make_frames(options.utterances), options.pairs))
    sys.exit(f"{missed} of the bounds missed" if missed else 0)


def print_rows(rows: Sequence[Row]) -> None:
    """Run each process, and print its row as soon as it ends."""
    print(f"{'':<46} {'s':>7} {'CPU s':>7} {'MB most':>8} {'MB disk':>8}  accuracy", flush=True)
    for row in rows:
        cost = run(row.command)
        accuracy = f"{row.accuracy(cost.printed):.3f}" if row.accuracy else ""
        sizes = f"{cost.megabytes:8.0f} {megabytes(row.leaves):8.0f}"
        print(f"{row.name:<46} {cost.seconds:7.1f} {cost.cpu:7.1f} {sizes}  {accuracy}".rstrip(), flush=True)
    print()


if __name__ == "__main__":
    main()
