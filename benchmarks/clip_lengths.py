"""Whisper on a clip's own length beside its 30 s: `python -m emocache.benchmarks.clip_lengths CHECKPOINT RAVDESS`.

By the silence behind the clip and by layer: the speed, side by side in turn in one process, and the cosine distance of
the frames from those of 30 s. With --probe also the accuracy of a softmax regression on the mean of the frames, over
folds of two speakers each: the next two validate, which chooses how strongly it is regularised, and the silence.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from emocache.benchmarks.ratios import interval
from emocache.cache import Utterance
from emocache.extract.corpora import MediaHasher
from emocache.extract.corpora import load as load_corpus
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.pipeline.clips import Decoder
from emocache.extract.pipeline.machine import first_budget

_FAITHFUL = "faithful"
_INVERSE_DECAYS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_DRAWS = 2000
Floats = npt.NDArray[np.float64]
Layer = int | None


def encoders(checkpoint: Path, precision: str, tails: Sequence[float]) -> dict[str, Encoder]:
    """{seconds of silence: encoder}, the faithful one first."""
    found = {_FAITHFUL: load(str(checkpoint), device="cpu", precision=precision)}
    for tail in tails:
        encoder: Any = load(f"{checkpoint}-clip", device="cpu", precision=precision)
        encoder.tail = tail
        found[f"{tail:g}"] = encoder
    return found


def batches(encoder: Encoder, utterances: Sequence[Utterance]) -> Iterator[list[Utterance]]:
    """Batches as extraction cuts them on a CPU."""
    left = sorted(utterances, key=lambda u: -encoder.cost(u))
    while left:
        count = first_budget("cpu").items(encoder.cost(left[0]))
        yield left[:count]
        left = left[count:]


def encoded(encoder: Encoder, clips: Sequence[Clip], layers: Sequence[Layer]) -> dict[str, dict[Layer, Any]]:
    """{id: {layer: frames}} of one batch."""
    results: Any = encoder.encode(clips, layers)
    return {
        clip.id: {layer: result[layer].frames for layer in layers} for clip, result in zip(clips, results, strict=True)
    }


def distance(some: Mapping[str, Any], others: Mapping[str, Any], layer: Layer) -> float:
    """The mean over frames of 1 - cosine."""
    found = []
    for name, frames in some.items():
        a, b = frames[layer].astype(np.float64), others[name][layer].astype(np.float64)
        found.append(1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    return float(np.concatenate(found).mean())


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
    frames = {name: _all(encoder, cut[name], layers) for name, encoder in there.items()}  # warms up, too
    taken: dict[tuple[str, Layer], list[float]] = {(name, layer): [] for name in there for layer in layers}
    for _ in range(rounds):
        for name, layer in taken:
            if name == _FAITHFUL and layer != layers[-1]:
                continue  # it runs all layers whatever is asked for
            begun = time.perf_counter()
            _all(there[name], cut[name], [layer])
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
        means: dict[str, dict[Layer, Floats]] = {}
        for batch in batches(encoder, utterances):
            for i, of_layers in encoded(encoder, [decode(u) for u in batch], layers).items():
                means[i] = {layer: frames.mean(axis=0, dtype=np.float64) for layer, frames in of_layers.items()}
        for layer in layers:
            right, validated = probe(np.stack([means[u.id][layer] for u in utterances]), labels, speakers)
            low, high = difference(right, base.setdefault(layer, right), speakers)
            print(
                f"{name:>8} {_called(layer):>6} {100 * validated:11.1f} % {100 * right.mean():8.1f} %"
                f" {100 * (right.mean() - base[layer].mean()):+6.1f} [{100 * low:+5.1f}, {100 * high:+5.1f}]",
                flush=True,
            )


def probe(
    vectors: Floats, labels: npt.NDArray[np.str_], speakers: npt.NDArray[np.str_]
) -> tuple[npt.NDArray[np.bool_], float]:
    """Train a probe for each two speakers; what it gets right of theirs, and the accuracy on those that validate."""
    right, validated = np.zeros(len(labels), np.bool_), []
    everyone = np.unique(speakers)
    pairs = [everyone[first : first + 2] for first in range(0, len(everyone), 2)]
    for fold, pair in enumerate(pairs):
        test, check = np.isin(speakers, pair), np.isin(speakers, pairs[(fold + 1) % len(pairs)])
        train = ~(test | check)
        scaled = StandardScaler().fit(vectors[train]).transform(vectors)
        models = [LogisticRegression(C=c, max_iter=2000).fit(scaled[train], labels[train]) for c in _INVERSE_DECAYS]
        # The loss tells more than the accuracy of a hundred clips.
        best = max(models, key=lambda model: _likelihood(model, scaled[check], labels[check]))
        right[test] = best.predict(scaled[test]) == labels[test]
        validated.append(float(best.score(scaled[check], labels[check])))
    return right, float(np.mean(validated))


def difference(
    right: npt.NDArray[np.bool_], base: npt.NDArray[np.bool_], speakers: npt.NDArray[np.str_]
) -> tuple[float, float]:
    """The 95 % bootstrap interval, over speakers and then their clips, of the difference of two accuracies."""
    random = np.random.default_rng(0)
    of_speaker = [(right.astype(float) - base)[speakers == one] for one in np.unique(speakers)]
    draws = []
    for _ in range(_DRAWS):
        chosen = random.integers(0, len(of_speaker), len(of_speaker))
        draws.append(np.concatenate([random.choice(of_speaker[k], len(of_speaker[k])) for k in chosen]).mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _all(encoder: Encoder, cut: Sequence[Sequence[Clip]], layers: Sequence[Layer]) -> dict[str, dict[Layer, Any]]:
    return {name: found for batch in cut for name, found in encoded(encoder, batch, layers).items()}


def _likelihood(model: Any, vectors: Floats, labels: npt.NDArray[np.str_]) -> float:
    columns = np.searchsorted(model.classes_, labels)
    return float(model.predict_log_proba(vectors)[np.arange(len(labels)), columns].mean())


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
    manifest = load_corpus("ravdess", options.data, mapping={}, hasher=MediaHasher())
    utterances = sorted(manifest, key=lambda u: u.id)
    decode = Decoder(options.data, frozenset(("audio",)))
    few = utterances[:: max(1, len(utterances) // options.clips)][: options.clips]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.checkpoint.name}, {len(few)} clips")
    print(f"{'':<8} {'silence':>8} {'layer':>6} {'x real':>8} {': 30 s':>10} {'90 %':>15} {'cosine':>11}")
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
