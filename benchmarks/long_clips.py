"""The cost of windows on long recordings: `python -m emocache.benchmarks.long_clips`.

How far are the frames at the joins of windows from those of one pass over the whole clip, and how much memory does an
hour of audio take? The model has HuBERT-base's shape and random weights, unless `--checkpoint` names a real one of the
wav2vec 2.0 family.
"""

import argparse
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emocache.benchmarks.random_weights import write_hubert_base
from emocache.extract.encoders import Clip, load, wav2vec2

_RATE = 16_000
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


def memory(names: Sequence[str], hours: float) -> None:
    """Print the frames of a long recording and the peak memory so far, encoder by encoder."""
    clip = Clip("hour", noise(3600 * hours))
    held = _peak()
    for name in names:
        encoder = load(name, device="cpu", offline=True)
        (result,) = encoder.encode([clip], [None])
        frames = result[None].frames  # type: ignore[index, union-attr]
        print(f"{encoder.name}: {hours:g} h of audio ({clip.audio.nbytes / 1e6:.0f} MB), {len(frames)} frames"  # type: ignore[union-attr]
              f" ({frames.nbytes / 1e6:.0f} MB); peak {_peak():.0f} MB, {held:.0f} MB before any encoder")  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Print both answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a real checkpoint of the wav2vec 2.0 family")
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--hours", type=float, default=1.0)
    options = parser.parse_args()
    if options.seconds <= wav2vec2._CORE * wav2vec2._HOP / _RATE:
        parser.error("--seconds: a clip of up to 30 s is one window, without joins")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint
        if checkpoint is None:
            checkpoint = Path(folder) / "random-hubert-base"
            write_hubert_base(checkpoint)
        distances(checkpoint, options.seconds)
        memory(["logmel", str(checkpoint)], options.hours)


if __name__ == "__main__":
    main()
