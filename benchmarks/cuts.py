"""How far a clip's frames are from themselves in another batch: `python -m emocache.benchmarks.cuts`.

Batches follow the memory of a GPU, and a run that goes on cuts what is left anew. Shapes choose kernels, and these the
order of sums. For each encoder and precision: the largest relative distance, over clips, of batches of several sizes
from each clip alone, the share of stored float16 values that differ, and how far a clip alone is from float32. Models
of real shapes have random weights.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from emocache.benchmarks.random_weights import write_hubert, write_hubert_base, write_whisper
from emocache.extract.encoders import Clip, Encoder, load

_SIZES = (2, 4, 8)
_WRITERS: dict[str, Callable[[Path], None]] = {
    "tiny": partial(write_hubert, small=True),
    "hubert-base": write_hubert_base,
    "hubert-large": partial(write_hubert, small=False),
    "whisper-large-v3": partial(write_whisper, small=False),
}
Frames = npt.NDArray[np.float32]


def clips(count: int) -> list[Clip]:
    """Noise of 1 to 8 s."""
    random = np.random.default_rng(0)
    lengths = np.linspace(16_000, 128_000, count).astype(int)
    return [Clip(f"clip{n}", 0.1 * random.standard_normal(k).astype(np.float32)) for n, k in enumerate(lengths)]


def encoded(encoder: Encoder, some: Sequence[Clip], size: int) -> list[Frames]:
    """The last layer of each clip, in batches of a size."""
    found: list[Frames] = []
    for first in range(0, len(some), size):
        for result in encoder.encode(some[first : first + size], [None]):
            found.append(result[None].frames)  # type: ignore[index, union-attr]
    return found


def distance(a: Sequence[Frames], b: Sequence[Frames]) -> float:
    """The largest relative distance of a clip."""
    return max(float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in zip(a, b, strict=True))


def differing(a: Sequence[Frames], b: Sequence[Frames]) -> float:
    """The largest share of stored float16 values of a clip that differ."""
    return max(float((x.astype(np.float16) != y.astype(np.float16)).mean()) for x, y in zip(a, b, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--models", nargs="*", default=list(_WRITERS), choices=_WRITERS)
    parser.add_argument(
        "--checkpoint", type=Path, nargs="*", default=[], help="folders of models of sound, beside them"
    )
    options = parser.parse_args(arguments)
    some = clips(options.clips)
    print(f"torch {torch.__version__}, {options.device}; batches of {_SIZES} clips of 1 to 8 s against each alone")
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / kind for kind in options.models]
        for folder in folders:
            _WRITERS[folder.name](folder)
        for folder in [*folders, *options.checkpoint]:
            exact: list[Frames] = []
            for precision in ("float32", "bf16", "fp16"):
                encoder = load(str(folder), device=options.device, precision=precision)
                alone = encoded(encoder, some, 1)
                exact = exact or alone
                batched = [encoded(encoder, some, size) for size in _SIZES]
                print(
                    f"{folder.name:<18} {precision:<8} {max(distance(one, alone) for one in batched):9.1e}"
                    f" {100 * max(differing(one, alone) for one in batched):6.1f} % of float16 values differ;"
                    f" {distance(alone, exact):.1e} from float32"
                )


if __name__ == "__main__":
    main(sys.argv[1:])
