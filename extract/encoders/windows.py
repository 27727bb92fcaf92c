"""Clips too long for one pass: cut into windows, run in batches, put together again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...cache.spill import empty, release
from .encoder import Audio
from .inference import Runtime

_AT_ONCE = 1 << 22  # values that are summed up together


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one clip that goes through the model in one piece."""

    clip: int  # position in the batch
    start: int  # first sample
    stop: int  # sample after the last
    skip: int  # frames of context in front that are not kept
    keep: int  # frames kept


def equal_parts(count: int, most: int) -> list[tuple[int, int]]:
    """Cut count frames into as few equal parts of at most `most` as there can be: [(first, after the last)]."""
    parts = -(-count // most)
    return list(pairwise(count * part // parts for part in range(parts + 1)))


def encode_windows(
    audios: Sequence[Audio],
    windows: Sequence[Window],
    forward: Callable[[list[Audio]], Mapping[int | None, Tensor]],
    runtime: Runtime,
) -> list[Mapping[int | None, npt.NDArray[np.float32]]]:
    """Run all windows and join the kept frames of each clip.

    A pass holds as many windows as there are clips, so that one long clip does not become a huge batch. The frames of a
    clip that is too long for memory are put where `cache.spill` has room for them, pass by pass.

    Args:
        audios: the clips' samples, or what else is cut along its first axis.
        windows: in the order of the clips and of time.
        forward: takes the windows' samples and gives {layer: (B, T, D)} on the device.
        runtime: of the model.

    Returns:
        {layer: (T, D) float32} for each clip.
    """
    width = max(len(audios), runtime.few)
    starts, lengths = _places(windows, len(audios))
    # Longest first: windows of like length share a pass, with little padding, and if memory is short it shows at once.
    order = sorted(range(len(windows)), key=lambda w: windows[w].start - windows[w].stop)
    found: list[dict[int | None, npt.NDArray[np.float32]]] = [{} for _ in audios]
    for first in range(0, len(order), width):
        numbers = order[first : first + width]
        chosen = [windows[w] for w in numbers]
        rows = [audios[window.clip][window.start : window.stop] for window in chosen]
        for w, window, kept in zip(numbers, chosen, _kept(forward(rows), chosen, runtime), strict=True):
            for layer, frames in kept.items():
                of_clip = found[window.clip]
                if layer not in of_clip:
                    of_clip[layer] = empty((lengths[window.clip], frames.shape[1]), np.float32)
                place = of_clip[layer][starts[w] : starts[w] + window.keep]
                place[:] = frames
                release(place)
        for row in rows:
            release(row)
    return list(found)


def moments(values: npt.NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Take mean and variance of (n,) values, to the last bit those of `values.mean()` and `values.var()`.

    But in blocks: NumPy's take as much memory again.
    """
    count = np.intp(len(values))
    mean = np.float32(_sum(values, lambda block: block) / count)
    return mean, np.float32(_sum(values, lambda block: np.square(block - mean)) / count)


def _sum(values: npt.NDArray[np.float32], of: Callable[[Audio], Audio]) -> np.float32:
    """Sum as NumPy does: the sum of a half, cut at a multiple of 8, plus that of the rest, and so on (pairwise)."""
    if len(values) <= _AT_ONCE:
        total = np.add.reduce(of(values))
        release(values)
        return np.float32(total)
    half = len(values) // 2
    half -= half % 8
    return np.float32(_sum(values[:half], of) + _sum(values[half:], of))


def _places(windows: Sequence[Window], clips: int) -> tuple[list[int], list[int]]:
    """Tell at which of its clip's frames each window's begin, and how many each clip has."""
    starts, lengths = [], [0] * clips
    for window in windows:
        starts.append(lengths[window.clip])
        lengths[window.clip] += window.keep
    return starts, lengths


def _kept(
    hidden: Mapping[int | None, Tensor], windows: Sequence[Window], runtime: Runtime
) -> list[dict[int | None, npt.NDArray[np.float32]]]:
    """Copy the kept frames of each window to the host: nothing of a pass stays on the device during the next one."""
    kept: list[dict[int | None, npt.NDArray[np.float32]]] = [{} for _ in windows]
    bounds = np.cumsum([window.keep for window in windows])[:-1]
    with runtime.exact():
        # Packed on the device: padding is never copied back.
        packed = {
            layer: torch.cat([states[b, w.skip : w.skip + w.keep] for b, w in enumerate(windows)])
            for layer, states in hidden.items()
        }
    for layer, joined in runtime.fetch(packed).items():
        for frames, found in zip(np.split(joined, bounds), kept, strict=True):
            found[layer] = frames
    return kept
