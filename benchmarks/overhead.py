"""Extraction beside the encoder alone: `python -m emocache.benchmarks.overhead RAVDESS CHECKPOINTS`.

Each pair of a row is the same batches both ways, in turn in one process: from files (or pictures in memory, with a face
whose place is known) into a stream of the cache, and through the encoder, from clips that are decoded already. What
costs next to nothing is compared with decoding on one thread. Weights but for Whisper's and dlib's are random.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch

from emocache.benchmarks.figures import Figure, print_figures
from emocache.benchmarks.gpu import faces
from emocache.benchmarks.random_weights import write_hubert_base, write_vgg_face
from emocache.benchmarks.ravdess_clips import batches, load_utterances
from emocache.cache import Cache, Load, Manifest, Utterance, plan_tasks
from emocache.cache.device import tell_device
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.pipeline import encoding_loop, machine

_ENCODER, _DECODING = 1 / 1.02, 1 / 1.3  # what the speed is to be of the encoder's, and of decoding's


class Case(NamedTuple):
    """One encoder, the utterances that it is timed on, of which corpus, and whether it is compared with decoding."""

    encoder: Encoder
    utterances: Sequence[Utterance]
    corpus: Sequence[Utterance]
    decode: Callable[[Utterance], Clip]
    decoding: bool = False


def extract(root: Path, case: Case) -> list[list[str]]:
    """Fill a stream of a new cache; returns the ids of each batch."""
    cache, encoder = Cache(root), case.encoder
    cache.put_manifest(Manifest.from_utterances("bench", case.utterances))
    writer = cache.create_stream("bench", "bench", {**encoder.recipe(None), "dtype": "float16"})
    loads = {u.id: Load(0.0, 2 * encoder.dim * encoder.expected_frames(u)) for u in case.utterances}
    cut: list[list[str]] = []
    outcome = encoding_loop.run(
        plan_tasks([writer], loads), [encoding_loop.Target(encoder, None, writer)], {u.id: u for u in case.utterances},
        case.decode, budget=machine.first_budget("cpu"), workers=machine.decode_workers(),
        measure=lambda batch, spent, waits: cut.append([u.id for u in batch]), **machine.side_by_side("cpu"),
    )  # fmt: skip
    if outcome.committed != len(case.utterances):
        raise SystemExit(f"{encoder.name}: {outcome.committed} of {len(case.utterances)} committed")
    return cut


def padding(encoder: Encoder, utterances: Sequence[Utterance]) -> float:
    """The share of padding in all batches of a corpus."""
    costs = [[encoder.cost(u) for u in batch] for batch in batches(encoder, utterances)]
    return 1 - sum(map(sum, costs)) / sum(len(batch) * max(batch) for batch in costs)


def compare(case: Case, folder: Path, rounds: int) -> list[float]:
    """Return the speed of extraction over that of the encoder, or of decoding, of each pair."""
    places = count()
    cut = extract(folder / f"{next(places)}", case)  # warms up, too
    by_id = {u.id: u for u in case.utterances}
    clips = {} if case.decoding else {i: case.decode(u) for i, u in by_id.items()}
    ratios = []
    for _ in range(rounds):
        started = time.perf_counter()
        if case.decoding:
            for utterance in case.utterances:
                case.decode(utterance)
        for ids in [] if case.decoding else cut:
            case.encoder.encode([clips[i] for i in ids], [None])
        alone = time.perf_counter() - started
        started = time.perf_counter()
        extract(folder / f"{next(places)}", case)
        ratios.append(alone / (time.perf_counter() - started))
    return ratios


def cases(options: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """Each row of the table."""
    utterances, decode = load_utterances(options.ravdess)
    some = utterances[:: max(1, len(utterances) // options.clips)][: options.clips]
    write_hubert_base(folder / "hubert-base")
    write_vgg_face(folder / "vgg-face", small=False)
    for name, checkpoints in (("whisper-base", options.checkpoints), ("whisper-base-clip", options.checkpoints),
                              ("hubert-base", folder)):  # fmt: skip
        yield Case(load(name, checkpoints=checkpoints, device="cpu"), some, utterances, decode)
    for name in ("face-dlib", "vgg-face"):
        work = faces(2, options.pictures)
        yield Case(load(name, checkpoints=folder, device="cpu"), list(work.manifest), list(work.manifest), work.decode)
    for name in ("logmel", "mfcc"):
        yield Case(load(name, device="cpu"), utterances, utterances, decode, decoding=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ravdess", type=Path, help="folder of RAVDESS")
    parser.add_argument("checkpoints", type=Path, help="folder with whisper-base")
    parser.add_argument("--clips", type=int, default=12, help="for the encoders of sound")
    parser.add_argument("--pictures", type=int, default=100, help="of each of two films, for those of faces")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    print(f"{tell_device('cpu')}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:

        def figures() -> Iterator[Figure]:
            for number, case in enumerate(cases(options, Path(name))):
                ratios = compare(case, Path(name) / f"{number}", options.rounds)
                beside = "decoding on one thread" if case.decoding else "the encoder alone"
                padded = padding(case.encoder, case.corpus)
                told = f"{case.encoder.name} ({padded:.1%} padding) : {beside}"
                yield Figure(told, _DECODING if case.decoding else _ENCODER, ratios)

        return 1 if print_figures(figures()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
