"""Clips too long for one pass: cut into windows, run in batches, put together again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .base import Audio

_FEW = 8


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one clip that goes through the model in one piece."""

    clip: int  # position in the batch
    start: int  # first sample
    stop: int  # sample after the last
    skip: int  # frames of context in front that are not kept
    keep: int  # frames kept


def encode_windows(
    audios: Sequence[Audio],
    windows: Sequence[Window],
    forward: Callable[[list[Audio]], Mapping[int | None, Tensor]],
) -> list[Mapping[int | None, npt.NDArray[np.float32]]]:
    """Run all windows and join the kept frames of each clip.

    A pass holds as many windows as there are clips, or a few, so that one long clip does not become a huge batch.

    Args:
        audios: the clips' samples.
        windows: in the order of the clips and of time.
        forward: takes the windows' samples and gives {layer: (B, T, D)} on any device.

    Returns:
        {layer: (T, D) float32} for each clip.
    """
    width = max(len(audios), _FEW)
    order = sorted(range(len(windows)), key=lambda w: windows[w].start - windows[w].stop)
    kept: list[dict[int | None, npt.NDArray[np.float32]]] = [{} for _ in windows]
    for first in range(0, len(order), width):
        chosen = order[first : first + width]
        hidden = forward([audios[windows[w].clip][windows[w].start : windows[w].stop] for w in chosen])
        bounds = np.cumsum([windows[w].keep for w in chosen])[:-1]
        for layer, states in hidden.items():
            valid = [states[b, windows[w].skip : windows[w].skip + windows[w].keep] for b, w in enumerate(chosen)]
            # Packed on the device: padding is never copied back.
            packed = torch.cat(valid).float().cpu().numpy()
            for w, frames in zip(chosen, np.split(packed, bounds), strict=True):
                kept[w][layer] = frames
    parts = [[kept[w] for w, window in enumerate(windows) if window.clip == clip] for clip in range(len(audios))]
    return [{layer: np.concatenate([part[layer] for part in clip]) for layer in clip[0]} for clip in parts]
