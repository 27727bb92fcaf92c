"""Whisper on a clip's own length beside its 30 s: `python -m emocache.benchmarks.clip_lengths CHECKPOINT RAVDESS`.

By the silence behind the clip and by layer: the speed, side by side in turn in one process, and the cosine distance of
the frames from those of 30 s. With --probe also the accuracy of a softmax regression on the mean of the frames, over
folds of two speakers each: the next two validate, which chooses how strongly it is regularised, and the silence.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emocache.benchmarks.figures import interval
from emocache.benchmarks.ravdess_clips import (
    Layer,
    batches,
    difference,
    distance,
    encoded_all,
    load_utterances,
    mean_vectors,
    probe,
)
from emocache.cache import Utterance
from emocache.extract.encoders import Encoder, load
from emocache.extract.pipeline.clips import Decoder

_FAITHFUL = "faithful"


def encoders(checkpoint: Path, precision: str, tails: Sequence[float]) -> dict[str, Encoder]:
    """{seconds of silence: encoder}, the faithful one first."""
    found = {_FAITHFUL: load(str(checkpoint), device="cpu", precision=precision)}
    for tail in tails:
        encoder: Any = load(f"{checkpoint}-clip", device="cpu", precision=precision)
        encoder.tail = tail
        found[f"{tail:g}"] = encoder
    return found


def tell_speed(
    there: Mapping[str, Encoder],
    utterances: Sequence[Utterance],
    decode: Decoder,
    layers: Sequence[Layer],
    rounds: int,
    precision: str,
) -> None:
    """Print a row for each silence and layer: times real time, times the faithful encoder with an interval."""
    cut = {name: [[decode(u) for u in b] for b in batches(encoder, utterances)] for name, encoder in there.items()}
    sound = sum(len(clip.audio) for clip in chain(*cut[_FAITHFUL]) if clip.audio is not None) / 16_000
    frames = {name: encoded_all(encoder, cut[name], layers) for name, encoder in there.items()}  # warms up, too
    taken: dict[tuple[str, Layer], list[float]] = {(name, layer): [] for name in there for layer in layers}
    for _ in range(rounds):
        for name, layer in taken:
            if name == _FAITHFUL and layer != layers[-1]:
                continue  # it runs all layers whatever is asked for
            begun = time.perf_counter()
            encoded_all(there[name], cut[name], [layer])
            taken[name, layer].append(time.perf_counter() - begun)
    base = taken[_FAITHFUL, layers[-1]]
    for (name, layer), seconds in taken.items():
        if seconds:
            low, middle, high = interval([a / b for a, b in zip(base, seconds, strict=True)])
            print(
                f"{precision:<8} {name:>8} {_called(layer):>6} {sound / float(np.median(seconds)):8.1f} {middle:8.1f} x"
                f"  [{low:5.1f}, {high:5.1f}] {distance(frames[name], frames[_FAITHFUL], layer):10.4f}",
                flush=True,
            )


def tell_accuracy(
    there: Mapping[str, Encoder], utterances: Sequence[Utterance], decode: Decoder, layers: Sequence[Layer]
) -> None:
    """Print the accuracy of probes for each silence and layer, and its difference from the faithful encoder's."""
    labels = np.array([u.labels["emotion"] for u in utterances])
    speakers = np.array([u.speaker for u in utterances])
    base: dict[Layer, npt.NDArray[np.bool_]] = {}
    for name, encoder in there.items():
        vectors = mean_vectors(encoder, utterances, decode, layers)
        for layer in layers:
            right, validated = probe(vectors[layer], labels, speakers)
            low, high = difference(right, base.setdefault(layer, right), speakers)
            print(
                f"{name:>8} {_called(layer):>6} {100 * validated:11.1f} % {100 * right.mean():8.1f} %"
                f" {100 * (right.mean() - base[layer].mean()):+6.1f} [{100 * low:+5.1f}, {100 * high:+5.1f}]",
                flush=True,
            )


def _called(layer: Layer) -> str:
    return "last" if layer is None else str(layer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a Whisper")
    parser.add_argument("data", type=Path, help="folder of RAVDESS")
    parser.add_argument("--clips", type=int, default=12, help="for the speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tails", type=float, nargs="+", default=[0.0, 0.25, 0.5, 1.0, 2.0], help="seconds")
    parser.add_argument("--layers", type=int, nargs="*", help="beside the last; by default every second")
    parser.add_argument("--precision", nargs="+", default=["float32", "bf16"])
    parser.add_argument("--probe", action="store_true", help="accuracies, of all clips in the last of the precisions")
    options = parser.parse_args(arguments)
    utterances, decode = load_utterances(options.data)
    few = utterances[:: max(1, len(utterances) // options.clips)][: options.clips]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.checkpoint.name}, {len(few)} clips")
    print(f"{'':<8} {'silence':>8} {'layer':>6} {'x real':>8} {': 30 s':>10} {'95 %':>15} {'cosine':>11}")
    for precision in options.precision:
        there = encoders(options.checkpoint, precision, options.tails)
        count = there[_FAITHFUL].layers
        layers: list[Layer] = [*(range(2, count, 2) if options.layers is None else options.layers), None]
        tell_speed(there, few, decode, layers, options.rounds, precision)
    if options.probe:
        print(f"{len(utterances)} clips in {precision}\n{'silence':>8} {'layer':>6} {'validation':>13} {'test':>10}")
        tell_accuracy(there, utterances, decode, layers)


if __name__ == "__main__":
    main(sys.argv[1:])
