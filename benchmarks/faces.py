"""Faces in video files, picture by picture: `python -m emocache.benchmarks.faces FILE ...`.

For every file: how many pictures, in how many of them a face was found, when the first starts and the last ends, and
the milliseconds a picture takes to decode, to search, and to encode with `face-dlib`.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from emocache.cache import InputFailure, Item
from emocache.extract.encoders import Clip, load
from emocache.extract.media.detectors import load_detector
from emocache.extract.media.faces import track_faces
from emocache.extract.media.video import decode_video


def measure(file: Path, detector: str, fps: float | None) -> str:
    """One line of the table."""
    frames = partial(decode_video, file, fps=fps)
    finder = load_detector(detector)
    finder.detect(np.zeros((480, 640, 3), np.uint8))  # loads it
    pictures, started = 0, time.perf_counter()
    try:
        pictures = sum(1 for _ in frames())
        decoding = time.perf_counter() - started
        started = time.perf_counter()
        video = track_faces(frames, finder)
    except InputFailure as failure:
        return f"{file.name:<26} {pictures:>9} {'0 %':>9}  {failure}"
    searching = time.perf_counter() - started - decoding
    encoder = load("face-dlib")
    started = time.perf_counter()
    (result,) = encoder.encode([Clip(file.stem, video=video)], [None])
    encoding = time.perf_counter() - started - decoding
    item = None if isinstance(result, InputFailure) else result[None]
    if not isinstance(item, Item):
        return f"{file.name:<26} {result}"
    costs = " ".join(f"{1000 * spent / pictures:9.1f}" for spent in (decoding, searching, encoding))
    found = f"{100 * video.found.mean():.0f} %"
    return (
        f"{file.name:<26} {pictures:>9} {found:>9} {video.times[0, 0]:9.3f} {video.times[-1, 1]:9.3f} {costs}"
        f" {len(item.frames):>9}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--detector", default="dlib")
    parser.add_argument("--fps", type=float)
    options = parser.parse_args(arguments)
    columns = ("pictures", "found", "first s", "last s", "decode ms", "search ms", "encode ms", "frames")
    print(f"{'file':<26} " + " ".join(f"{column:>9}" for column in columns))
    for file in options.files:
        print(measure(file, options.detector, options.fps), flush=True)


if __name__ == "__main__":
    main()
