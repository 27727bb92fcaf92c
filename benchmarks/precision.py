"""What half precision costs and saves on this machine: `make bench-precision`.

For each encoder of sound: the speed beside float32, in turn in one process; the distance of its frames from float32's;
and, on real weights and RAVDESS, the accuracy of a softmax regression on the mean of the last layer's frames with the
difference from float32's. Without real weights a HuBERT-base of random ones stands in, which no probe is trained on.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from emocache.benchmarks.cuts import clips as noise
from emocache.benchmarks.figures import interval
from emocache.benchmarks.random_weights import write_hubert_base
from emocache.benchmarks.ravdess_clips import difference, distance, encoded_all, load_utterances, mean_vectors, probe
from emocache.cache import Utterance
from emocache.cache.device import choose_device, tell_device
from emocache.extract.encoders import Clip, load
from emocache.extract.pipeline.clips import Decoder

_EXACT = "float32"


def tell_speed(name: str, some: Sequence[Clip], precisions: Sequence[str], rounds: int, device: str) -> None:
    """Print a row for each precision: times real time, times float32 with an interval, distance from float32."""
    there = {precision: load(name, device=device, precision=precision) for precision in precisions}
    sound = sum(len(clip.audio) for clip in some if clip.audio is not None) / 16_000
    alone = [[clip] for clip in some]
    frames = {precision: encoded_all(encoder, alone, [None]) for precision, encoder in there.items()}  # warms up, too
    seconds: dict[str, list[float]] = {precision: [] for precision in there}
    for _ in range(rounds):
        for precision, encoder in there.items():
            started = time.perf_counter()
            encoded_all(encoder, alone, [None])
            seconds[precision].append(time.perf_counter() - started)
    for precision in precisions:
        low, middle, high = interval([a / b for a, b in zip(seconds[_EXACT], seconds[precision], strict=True)])
        cosine = distance(frames[precision], frames[_EXACT], None)
        speed = f"{sound / float(np.median(seconds[precision])):8.1f} {middle:7.2f} x  [{low:5.2f}, {high:5.2f}]"
        print(f"{Path(name).name:<20} {precision:<8} {speed} {cosine:11.2e}", flush=True)


def tell_accuracy(
    name: str, utterances: Sequence[Utterance], decode: Decoder, precisions: Sequence[str], device: str
) -> None:
    """Print a row for each precision: the probe's accuracy, and its difference from float32's, in points."""
    labels = np.array([u.labels["emotion"] for u in utterances])
    speakers = np.array([u.speaker for u in utterances])
    base = None
    for precision in precisions:
        encoder = load(name, device=device, precision=precision)
        right, _ = probe(mean_vectors(encoder, utterances, decode, [None])[None], labels, speakers)
        base = right if base is None else base
        low, high = difference(right, base, speakers)
        lost = f"{100 * (right.mean() - base.mean()):+6.1f} [{100 * low:+5.1f}, {100 * high:+5.1f}]"
        print(f"{Path(name).name:<20} {precision:<8} {100 * right.mean():8.1f} % {lost}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="*", default=[], help="folders of models of sound, with -clip behind if so")
    parser.add_argument("--ravdess", type=Path, help="folder of RAVDESS; else noise, and no accuracies")
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=("bf16", "fp16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=12, help="for the speed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-random", action="store_true", help="leave the HuBERT-base of random weights out")
    options = parser.parse_args(arguments)
    device, precisions = choose_device(options.device), [_EXACT, *options.precision]
    some = noise(options.clips)
    utterances, decode = load_utterances(options.ravdess) if options.ravdess else ([], None)
    if decode is not None:
        every = max(1, len(utterances) // options.clips)
        some = [decode(u) for u in utterances[::every][: options.clips]]
    print(f"{tell_device(device, ', '.join(precisions))}, torch {torch.__version__}; {len(some)} clips one at a time")
    print(f"{'':<20} {'':<8} {'x real':>8} {': float32':>9} {'95 %':>16} {'cosine':>11}")
    with tempfile.TemporaryDirectory() as folder:
        names = list(options.checkpoint)
        if not options.no_random:
            write_hubert_base(Path(folder) / "hubert-base")
            names.append(f"{folder}/hubert-base")
        for name in names:
            tell_speed(name, some, precisions, options.rounds, device)
    if decode is not None and options.checkpoint:
        print(f"{len(utterances)} clips of RAVDESS, six folds\n{'':<29} {'accuracy':>10} {': float32':>24}")
        for name in options.checkpoint:
            tell_accuracy(name, utterances, decode, precisions, device)


if __name__ == "__main__":
    main(sys.argv[1:])
