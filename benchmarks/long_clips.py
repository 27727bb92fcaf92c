"""The cost of windows on long recordings: `python -m emocache.benchmarks.long_clips`.

How far are the frames at the joins of windows from those of one pass over the whole clip? The model has HuBERT-base's
shape and random weights, unless `--checkpoint` names a real one of the wav2vec 2.0 family.

And how much memory does `emocache extract` take for three hours of sound, beyond the model and two batches? That HuBERT
has two of its twelve layers: memory follows from the frames, which are as many and as wide, and the time does not
matter. It is projected by a PCA too. Linux alone tells the memory.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from emocache.benchmarks.random_weights import write_hubert_base
from emocache.cache import Cache
from emocache.cli import app
from emocache.extract.encoders import Clip, load, wav2vec2

_RATE, _FILE_RATE = 16_000, 44_100
_BOUND = 1500.0  # MB
_ENCODERS = ("logmel", "mfcc", "whisper-base", "hubert-base")
_RINGS = (1, 5, 25, 50)  # frames on either side of a join


def noise(seconds: float) -> npt.NDArray[np.float32]:
    """Noise with syllables, 16 kHz."""
    n = round(_RATE * seconds)
    rng = np.random.default_rng(0)
    return (rng.standard_normal(n) * (0.05 + 0.05 * np.sin(np.arange(n) / 2000))).astype(np.float32)


def distances(checkpoint: Path, seconds: float) -> None:
    """Print how far windowed frames are from those of one pass, near the joins and away from them."""
    encoder = load(str(checkpoint), device="cpu", offline=True)
    clip = Clip("long", noise(seconds))
    (cut,) = encoder.encode([clip], [None])
    core, wav2vec2._CORE = wav2vec2._CORE, 10**9
    try:
        (whole,) = encoder.encode([clip], [None])
    finally:
        wav2vec2._CORE = core
    a, b = (np.asarray(r[None].frames, np.float64) for r in (cut, whole))  # type: ignore[index, union-attr]
    if a.shape != b.shape:
        raise SystemExit(f"{len(a)} frames in windows, {len(b)} in one pass")
    error = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
    parts = -(-len(a) // core)
    joins = [len(a) * part // parts for part in range(1, parts)]
    away = np.min([np.abs(np.arange(len(a)) + 0.5 - join) for join in joins], axis=0)
    print(f"{encoder.name}: {len(a)} frames, {parts} windows; relative distance from one pass over {seconds:g} s")
    for low, high in zip((0, *_RINGS), (*_RINGS, len(a)), strict=True):
        ring = error[(away > low) & (away <= high)]
        print(f"  {low:>5} to {high:<5} frames from a join: mean {ring.mean():.2e}, worst {ring.max():.2e}")


def write_recording(path: Path, hours: float) -> None:
    """A FLAC of 44.1 kHz: a minute of noise over and over, now louder, now softer."""
    minute = noise(60 * _FILE_RATE / _RATE)[:, None]
    with soundfile.SoundFile(path, "w", _FILE_RATE, 1, "PCM_16") as file:
        for n in range(round(60 * hours)):
            file.write(minute * (0.5 + 0.5 * np.sin(n)))


def held(most: bool = True) -> float:
    """MB that the process has resident: most of all times since `forget`, or now."""
    key = "VmHWM" if most else "VmRSS"
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024 / 1e6


def measure_batch(name: str, checkpoints: str) -> None:
    """Print the MB of an encoder's weights, and those that two windows of a minute take while they go through it."""
    encoder: Any = load(name, checkpoints=Path(checkpoints), device="cpu", offline=True)
    model = getattr(encoder, "_model", None)
    weights = sum(weight.nbytes for weight in model.parameters()) / 1e6 if model is not None else 0.0
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts again
    before = held(most=False)
    encoder.encode([Clip("minute", noise(60.0))], [None])
    print(json.dumps([weights, held() - before]))


def measure_extraction(folder: str, name: str, checkpoints: str, pca: str) -> None:
    """Run the command on a corpus of one recording, to the commit and the PCA; print the most MB it held."""
    words = ["extract", "table", "--data", folder, "--cache", f"{folder}/store", "--device", "cpu", "--encoder", name,
             "--checkpoints", checkpoints, *(["--pca", pca, "--fit-on", "all"] if pca != "0" else [])]  # fmt: skip
    app(words, standalone_mode=False)
    streams = [Cache(f"{folder}/store").open_info(info) for info in Cache(f"{folder}/store").streams("table")]
    frames = [stream for stream in streams if stream.recipe["encoder"] == Path(name).name]
    if not frames or any(stream.missing or stream.failures for stream in frames):
        raise SystemExit(f"{name}: not extracted")
    print(json.dumps([held(), frames[0].frames, sum(stream.frames * stream.dim * 2 for stream in frames) / 1e6]))


def in_child(function: Callable[..., None], *arguments: str) -> list[float]:
    """Run a function in a process of its own, and return what it printed last."""
    code = f"import sys; from emocache.benchmarks import long_clips; long_clips.{function.__name__}(*sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return [float(number) for number in json.loads(done.stdout.splitlines()[-1])]


def memory(encoders: Sequence[str], hours: float, checkpoints: Path | None, folder: Path) -> bool:
    """Print the most memory that a long recording takes, encoder by encoder; tell whether all keep the bound."""
    write_recording(folder / "long.flac", hours)
    (folder / "table.csv").write_text("id,file\nlong,long.flac\n", encoding="utf-8")
    print(f"{hours:g} h, decoded, encoded, committed; MB resident at most (the rest: bound {_BOUND:g})")
    print(f"{'':>16}{'frames':>10}{'stored':>8}{'peak':>8}{'model':>8}{'batch':>8}{'rest':>8}{'seconds':>9}")
    kept = True
    for name in encoders:
        place, pca = str(checkpoints or folder), "0"
        if name == "hubert-base":
            write_hubert_base(folder / "hubert-base-2-layers", layers=2)
            name, place, pca = str(folder / "hubert-base-2-layers"), str(folder), "128"
        model, batch = in_child(measure_batch, name, place)
        begun = time.monotonic()
        peak, frames, stored = in_child(measure_extraction, str(folder), name, place, pca)
        rest = peak - model - 2 * batch
        kept = kept and rest <= _BOUND
        print(f"{Path(name).name[-16:]:>16}{frames:10.0f}{stored:8.0f}{peak:8.0f}{model:8.0f}{batch:8.0f}{rest:8.0f}"
              f"{time.monotonic() - begun:9.0f}", flush=True)  # fmt: skip
        shutil.rmtree(folder / "store")
    return kept


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a real checkpoint of the wav2vec 2.0 family, for the joins")
    parser.add_argument("--checkpoints", type=Path, help="folder with that of whisper-base")
    parser.add_argument("--seconds", type=float, default=75.0, help="of the clip with joins; 0: leave them out")
    parser.add_argument("--hours", type=float, default=3.0, help="of the recording; 0: leave it out")
    parser.add_argument("--encoder", action="append", help=f"for the memory; {', '.join(_ENCODERS)} if not given")
    options = parser.parse_args(arguments)
    if 0 < options.seconds <= wav2vec2._CORE * wav2vec2._HOP / _RATE:
        parser.error("--seconds: a clip of up to 30 s is one window, without joins")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.seconds:
            checkpoint = options.checkpoint
            if checkpoint is None:
                checkpoint = folder / "random-hubert-base"
                write_hubert_base(checkpoint)
            distances(checkpoint, options.seconds)
        if options.hours:
            kept = memory(options.encoder or _ENCODERS, options.hours, options.checkpoints, folder)
            if not kept:
                raise SystemExit(f"more than {_BOUND:g} MB beside the model and two batches")


if __name__ == "__main__":
    main()
