"""The loops that all encoders of faces share: over clips one by one, and over pictures in chunks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ...cache import InputFailure, Item, Utterance
from ..media.crops import Cut
from ..media.detectors import Picture
from ..media.faces import FaceVideo
from .encoder import Clip, LayerItems, seconds

Network = Callable[[Sequence[Picture]], npt.NDArray[np.float32]]
_P = TypeVar("_P")

SIZE = 224
"""Width and height in pixels of the crops that networks of faces take here."""

FRAMES_A_SECOND = 30.0
"""Of a video, where all pictures are taken; a guess, since the manifest does not tell."""


def encode_videos(clips: Sequence[Clip], run: Callable[[FaceVideo], LayerItems]) -> list[LayerItems | InputFailure]:
    """Encode each clip's video on its own, and say what is wrong with those that cannot be.

    Args:
        clips: the batch. One after the other, so that no more than a chunk of one clip's pictures is ever in memory.
        run: encodes one video of at least one frame; an InputFailure it raises is that clip's result.

    Returns:
        For each clip, in order, what `run` gave, or the InputFailure.
    """

    def see(clip: Clip) -> LayerItems:
        if clip.video is None:
            raise InputFailure("no_video", "the utterance has no video")
        if not len(clip.video.times):
            raise InputFailure("no_frames", "the video has 0 frames")
        return run(clip.video)

    return one_by_one(clips, see)


def one_by_one(clips: Sequence[Clip], run: Callable[[Clip], LayerItems]) -> list[LayerItems | InputFailure]:
    """Encode clips one after the other; an InputFailure that `run` raises is that clip's result."""
    results: list[LayerItems | InputFailure] = []
    for clip in clips:
        try:
            results.append(run(clip))
        except InputFailure as failure:
            results.append(failure)
    return results


def in_chunks(
    pictures: Iterable[_P],
    network: Callable[[Sequence[_P]], Mapping[int | None, npt.NDArray[np.float32]]],
    size: int,
) -> dict[int | None, npt.NDArray[np.float32]]:
    """Run a network over pictures, a chunk at a time.

    Args:
        pictures: at least one; taken as they are needed, so that a chunk is all that is ever in memory.
        network: takes at most `size` of them and gives {layer: a vector for each, (B, D) float32}.
        size: of a chunk.

    Returns:
        {layer: the vectors of all pictures, (T, D) float32}.
    """
    remaining = iter(pictures)
    found: dict[int | None, list[npt.NDArray[np.float32]]] = {}
    while chunk := list(islice(remaining, size)):
        for layer, vectors in network(chunk).items():
            found.setdefault(layer, []).append(vectors)
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


def encode_pictures(clips: Sequence[Clip], cut: Cut, network: Network, size: int) -> list[LayerItems | InputFailure]:
    """Encode each picture on its own: a vector a frame, at the frame's times, and `face_found`.

    Args:
        clips: the batch.
        cut: cuts the face out of each frame of a video.
        network: takes at most `size` of these and gives a float32 vector for each, (B, D).
        size: bounds memory.

    Returns:
        For each clip, in order, {None: Item} of (T, D) float32, or the InputFailure that says what is wrong.
    """

    def run(video: FaceVideo) -> LayerItems:
        vectors = in_chunks(video.cut(cut), lambda chunk: {None: network(chunk)}, size)[None]
        return {None: Item(vectors, video.times, {"face_found": video.found})}

    return encode_videos(clips, run)


def pictures(utterance: Utterance) -> int:
    """Estimate the video frames of an utterance, at least 1; for planning only."""
    return max(1, round(seconds(utterance) * FRAMES_A_SECOND))
