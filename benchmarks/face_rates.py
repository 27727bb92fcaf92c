"""Faces of video as fast as it goes, part by part: `python -m emocache.benchmarks.face_rates FILE ...`.

For each file: the pictures that a core decodes, searches, cuts out and decodes again in a second; both ways of doing
all of it, the two passes of before and the one pass of now, in turn; how far the boxes of `--detect-every 5` are from
those of every picture; and from these rates an estimate for SEWA, on 16 such cores and one H100. Rates are by the CPU
seconds of this process, so that what else runs does not count. The card's rates are arithmetic, see `Card`, unless
--device has one.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from emocache.cache import EmocacheError
from emocache.extract.encoders.centerface import WORKING_PIXELS, load_detector
from emocache.extract.media.crops import Square
from emocache.extract.media.detectors import Faces, Picture, to_working_size
from emocache.extract.media.faces import FaceVideo, track_faces
from emocache.extract.media.tracks import Boxes, overlap
from emocache.extract.media.video import decode_video

PICTURES = 40 * 3600 * 25
"""Of SEWA."""
CORES = 16
EVERY = 5
_CUT = Square(0.25, 224)  # VGG-Face's
_VGG = 31e9  # operations of VGG16's convolutions for a picture


@dataclass(frozen=True)
class Card:
    """An H100 as its data sheet has it, of which half is counted on.

    Attributes:
        operations: a second, float32 without TF32.
        bfloat16: operations a second in bfloat16.
        bytes: a second, from and to its memory.
    """

    operations: float = 67e12 / 2
    bfloat16: float = 990e12 / 2
    bytes: float = 3.35e12 / 2


class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        out = function(*args, **(kwargs or {}))
        tensors = (one for one in tree_flatten((args, out))[0] if isinstance(one, Tensor))
        self.bytes += sum(one.numel() * one.element_size() for one in tensors)
        return out


class Recalled:
    """A detector that finds what it found before, so that ways of tracking are compared and not detectors."""

    def __init__(self, detector: Any) -> None:
        self._detector, self._known = detector, dict[int, Faces]()

    def recipe(self) -> dict[str, Any]:
        """See `FaceDetector.recipe`."""
        return dict(self._detector.recipe())

    def detect(self, image: Picture) -> Faces:
        """See `FaceDetector.detect`."""
        key = hash(image.tobytes())
        if key not in self._known:
            self._known[key] = self._detector.detect(image)
        return self._known[key]


def spent(work: Callable[[], Any], device: str = "cpu") -> float:
    """CPU seconds that something takes; on a GPU seconds of the wall."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begun = clock()
    work()
    return clock() - begun


def gathered(image: Picture, box: Boxes) -> Picture:
    """Cut out a square as it was done before: every pixel of the patch gathered by its index."""
    left, top, right, bottom = (float(edge) for edge in box)
    side = max(right - left, bottom - top) * 1.5
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    columns, rows = np.arange(int(x // 1), int(x + side) + 1), np.arange(int(y // 1), int(y + side) + 1)
    patch = image[np.clip(rows, 0, len(image) - 1)[:, None], np.clip(columns, 0, image.shape[1] - 1)]
    return np.array(Image.fromarray(patch).resize((224, 224), Image.Resampling.BILINEAR))


def on_card(detector: Any, shape: tuple[int, ...], card: Card) -> float:
    """Pictures of a shape that CenterFace's network searches in a second on the card, by its operations and bytes."""
    small, _ = to_working_size(np.zeros(shape, np.uint8), WORKING_PIXELS)
    with FlopCounterMode(display=False) as operations:
        detector._peaks(small[None])
    with Moved() as moved:  # type: ignore[no-untyped-call]
        detector._peaks(small[None])
    return float(1 / (operations.get_total_flops() / card.operations + moved.bytes / card.bytes))


def iou(video: FaceVideo, other: FaceVideo) -> str:
    """Tell how two videos' boxes overlap."""
    shared = overlap(video.boxes, other.boxes)
    return f"IoU mean {shared.mean():.3f}, min {shared.min():.3f}"


def measure(file: Path, device: str, most: int, rounds: int) -> None:
    """Print all of a file."""

    def frames() -> Any:
        return islice(decode_video(file), most)

    images = [frame.image for frame in frames()]
    count, shape = len(images), images[0].shape
    print(f"{file.name}: {count} pictures of {shape[1]} x {shape[0]}")
    dlib, network = load_detector("dlib"), optional(device)
    dlib.detect(images[0])
    box = np.array([shape[1] * 0.3, shape[0] * 0.2, shape[1] * 0.7, shape[0] * 0.8], np.float32)
    known = Recalled(dlib)
    every = track_faces(frames, known)

    def two_passes(detector: Any) -> None:
        list(track_faces(frames, detector).cut(_CUT))

    def one_pass(detector: Any, step: int) -> None:
        list(track_faces(frames, detector, [_CUT], every=step).cut(_CUT))

    parts: dict[str, Callable[[], Any]] = {
        "decode": lambda: sum(1 for _ in frames()),
        "detect, dlib": lambda: [dlib.detect(image) for image in images],
        "to 320 x 240": lambda: [to_working_size(image, WORKING_PIXELS) for image in images],
        "crop, before": lambda: [gathered(image, box) for image in images],
        "crop": lambda: [_CUT(image, box) for image in images],
        "decode again": lambda: sum(1 for _ in every.frames()),
        "before: two passes, dlib": partial(two_passes, dlib),
        "now: one pass, dlib": partial(one_pass, dlib, 1),
        f"now, --detect-every {EVERY}": partial(one_pass, dlib, EVERY),
    }
    if network is not None:
        parts["detect, centerface"] = lambda: [
            network.detect_many(images[i : i + network.batch]) for i in range(0, count, network.batch)
        ]
        parts["now, centerface"] = partial(one_pass, network, 1)
    took: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, work in parts.items():
            took[name].append(spent(work, device if "centerface" in name else "cpu"))
    each = {name: median(times) / count for name, times in took.items()}
    for name, one in each.items():
        where = device if device != "cpu" and "centerface" in name else "a core"
        print(f"  {name:<26} {1 / one:8.1f} pictures a second, {where}")
    print(f"  boxes of --detect-every {EVERY}, dlib        {iou(track_faces(frames, known, every=EVERY), every)}")
    card = Card()
    if network is not None:
        again = Recalled(network)
        found = track_faces(frames, again)
        print(f"  boxes of --detect-every {EVERY}, centerface  {iou(track_faces(frames, again, every=EVERY), found)}")
        print(f"  boxes of centerface against dlib   {iou(found, every)}")
    searched = None
    if network is not None:
        searched = on_card(network, shape, card) if device == "cpu" else 1 / each["detect, centerface"]
    estimate(each, searched, card)


def optional(device: str) -> Any:
    """CenterFace, where its weights are here."""
    try:
        return load_detector("centerface", device)
    except EmocacheError as error:
        print(f"  {error}")
        return None


def estimate(each: dict[str, float], searched: float | None, card: Card) -> None:
    """Print the hours that SEWA takes with VGG-Face: as many as the slowest of the stages, which run side by side."""
    decode, dlib, crop, small = (each[name] for name in ("decode", "detect, dlib", "crop", "to 320 x 240"))
    again = each["decode again"] + each["crop, before"]
    exact, reduced = _VGG / card.operations, _VGG / card.bfloat16
    print(f"  SEWA, 40 h at 25 pictures a second, {CORES} such cores and an H100 (arithmetic), VGG-Face: hours")
    print(f"    {'':<38} {'decode threads':>14} {'encoder threads':>15} {'card':>6} {'bf16':>6} {'all':>6} {'a s':>9}")
    # Seconds for each picture: of the decode threads, of the encoder's, of the card in float32 and in bfloat16.
    rows: dict[str, tuple[float, float, float, float]] = {
        "before, 2 decode threads": ((decode + dlib) / 2, again / 2, exact, reduced),
        f"before, {CORES} decode threads": ((decode + dlib) / CORES, again / 2, exact, reduced),
        "now, dlib": ((decode + dlib + crop) / CORES, 0.0, exact, reduced),
        f"now, dlib, --detect-every {EVERY}": ((decode + dlib / EVERY + crop) / CORES, 0.0, exact, reduced),
    }
    if searched is not None:
        own = 1 / searched
        host = (decode + small + crop) / CORES
        rows["now, centerface"] = (host, 0.0, exact + own, reduced + own)
        host = (decode + small / EVERY + crop) / CORES
        rows[f"now, centerface, --detect-every {EVERY}"] = (host, 0.0, exact + own / EVERY, reduced + own / EVERY)
    rows["now, boxes known from face-boxes"] = ((decode + crop) / CORES, 0.0, exact, reduced)
    for name, row in rows.items():
        hours = [PICTURES * one / 3600 for one in row]
        slowest = max(row[0], row[1], row[3])
        print(f"    {name:<38} {hours[0]:14.2f} {hours[1]:15.2f} {hours[2]:6.2f} {hours[3]:6.2f}"
              f" {PICTURES * slowest / 3600:6.2f} {1 / slowest:9.0f}")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, default=100, help="of each file, at most")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for file in options.files:
        measure(file, options.device, options.pictures, options.rounds)


if __name__ == "__main__":
    main()
