"""Clips too long for one pass: cut into windows, run in batches, put together again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .encoder import Audio
from .inference import Runtime


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

    A pass holds as many windows as there are clips, so that one long clip does not become a huge batch.

    Args:
        audios: the clips' samples, or what else is cut along its first axis.
        windows: in the order of the clips and of time.
        forward: takes the windows' samples and gives {layer: (B, T, D)} on the device.
        runtime: of the model.

    Returns:
        {layer: (T, D) float32} for each clip.
    """
    width = max(len(audios), runtime.few)
    # Longest first: windows of like length share a pass, with little padding, and if memory is short it shows at once.
    order = sorted(range(len(windows)), key=lambda w: windows[w].start - windows[w].stop)
    kept: dict[int, dict[int | None, npt.NDArray[np.float32]]] = {}
    for first in range(0, len(order), width):
        numbers = order[first : first + width]
        chosen = [windows[w] for w in numbers]
        rows = [audios[window.clip][window.start : window.stop] for window in chosen]
        kept.update(zip(numbers, _kept(forward(rows), chosen, runtime), strict=True))
    parts: list[list[dict[int | None, npt.NDArray[np.float32]]]] = [[] for _ in audios]
    for w, window in enumerate(windows):
        parts[window.clip].append(kept[w])
    return [{layer: np.concatenate([part[layer] for part in clip]) for layer in clip[0]} for clip in parts]


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
