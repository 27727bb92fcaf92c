"""Two workers of Ray beside one, each of one thread: `python -m emocache.benchmarks.ray_workers`.

Both have the same cluster of two machines (processes, here), the same plan and the same encoder, which keeps a
processor busy; in the rounds of one worker something else holds the second machine. The ways take turns, and a round's
rate counts from the first report of progress on: the start of the workers is left out.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import numpy as np

from emocache.benchmarks.figures import interval
from emocache.cache import Item, Manifest, Utterance, ray_cluster
from emocache.extract.encoders.encoder import Clip, LayerItems, Layers
from emocache.extract.pipeline import stage
from emocache.extract.pipeline.engines.options import Options

_ENCODER = "emocache.benchmarks.ray_workers:Busy"
_CLIP_SECONDS = 0.1  # of a processor


class Busy:
    """Takes a tenth of a second of its thread's own time for each clip."""

    name, inputs, layers, dim, rate = "busy", ("text",), 0, 8, 50.0

    def recipe(self, layer: int | None) -> dict[str, object]:
        """See `Encoder.recipe`."""
        times = {"rate": 50.0, "first_start": 0.0, "width": 0.02}
        return {"kind": "frames", "encoder": "busy", "layer": layer, "inputs": ["text"], "dim": 8, "times": times,
                "aux": {}}  # fmt: skip

    def expected_frames(self, _: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return 10

    def cost(self, _: Utterance) -> float:
        """See `Encoder.cost`."""
        return 20.0

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems]:
        """See `Encoder.encode`."""
        numbers = np.ones(1 << 14)
        end = time.thread_time() + _CLIP_SECONDS * len(clips)
        while time.thread_time() < end:
            numbers = np.sqrt(numbers + 1)
        return [{layer: Item(np.ones((10, 8), np.float32)) for layer in layers} for _ in clips]


class Rate:
    """Takes the place of the progress, and notes when it is told."""

    def __init__(self, total: int) -> None:
        self.total, self.encoded = total, 0
        self.noted: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (first, before), (last, after) = self.noted[0], self.noted[-1]
        rates.append((after - before) / (last - first))

    def __call__(self, encoded: int, stored: int) -> None:
        """See `Progress`."""
        self.encoded += encoded
        self.noted.append((time.monotonic(), self.encoded))


rates: list[float] = []  # clips a second, of each round


@contextmanager
def two_machines() -> Iterator[None]:
    """A cluster, which is joined."""
    from ray.cluster_utils import Cluster

    machine: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    try:
        cluster.add_node(**machine)
        os.environ["RAY_ADDRESS"] = cluster.address
        with ray_cluster.joined():
            yield
    finally:
        cluster.shutdown()


class Placeholder:
    """Has a machine and does nothing."""

    def answer(self) -> None:
        """Say that it is there."""


def extracted(manifest: Manifest, workers: int) -> float:
    """One extraction; returns clips a second."""
    held = ray_cluster.start(Placeholder, ray_cluster.Share(1, 0)) if workers == 1 else None
    if held is not None:
        ray_cluster.outcome(held.answer.remote())
    with tempfile.TemporaryDirectory() as folder:
        options = Options("bench", Path(folder), f"{folder}/store", (_ENCODER,), device="cpu", ray_device="cpu",
                          workers=1, manifest=manifest)  # fmt: skip
        report = stage.extract(options)
    if held is not None:
        ray_cluster.end(held)
    if report.outcome.committed != len(manifest):
        raise SystemExit(f"{report.outcome.committed} of {len(manifest)} committed")
    return rates[-1]


def main(arguments: Sequence[str]) -> None:
    """Print the rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=160)
    given = parser.parse_args(arguments)
    utterances = [Utterance(f"clip{n:04d}", text=str(n), duration=20.0) for n in range(given.clips)]
    manifest = Manifest.from_utterances("bench", utterances)
    found: dict[int, list[float]] = {1: [], 2: []}
    with two_machines(), mock.patch.object(stage, "Progress", Rate):
        for _ in range(given.rounds):
            for workers, noted in found.items():
                noted.append(extracted(manifest, workers))
    for workers, noted in found.items():
        print(f"{workers} worker{'s' if workers > 1 else ''}: {np.median(noted):.1f} clips a second")
    ratios = [two / one for one, two in zip(found[1], found[2], strict=True)]
    low, middle, high = interval(ratios)
    print(f"two beside one: {middle:.2f} x (95 % interval {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main(sys.argv[1:])
