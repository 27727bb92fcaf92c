"""The cost of an epoch from the cache, against the same batches held in a list: part of `make bench`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emocache.cache import Cache, Item, Load, Manifest, Utterance, plan_tasks
from emocache.train.config.loading import load_settings
from emocache.train.data.reading import load_dataset
from emocache.train.fit.losses import Loss, batch_loss, make_loss
from emocache.train.heads import Head, Shape, build_head
from emocache.train.inputs.batch import Batch
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.transforms import prepare

_CLIPS = 160


def bench_epoch(root: Path, frames: Mapping[str, npt.NDArray[Any]], pairs: int) -> list[float]:
    """Seconds of an epoch over a list of batches, divided by those of the same epoch over the cache; one per pair.

    The head is the BiGRU experiment's. Each pair runs the same batches both ways; their losses must agree.
    """
    chosen = dict(list(frames.items())[:_CLIPS])
    dim = next(iter(chosen.values())).shape[1]
    cache = Cache(root)
    labels = ("happy", "sad", "angry", "neutral")
    cache.put_manifest(Manifest.from_utterances("bench", [
        Utterance(i, speaker=f"s{n % 8}", labels={"emotion": labels[n % 4]}) for n, i in enumerate(chosen)
    ]))  # fmt: skip
    recipe: dict[str, Any] = {
        "kind": "frames", "encoder": "bench", "layer": None, "inputs": [], "dim": dim, "dtype": "float16",
        "times": {"rate": 50, "first_start": 0.0, "width": 0.02}, "aux": {},
    }  # fmt: skip
    writer = cache.create_stream("bench", "bench", recipe)
    for task in plan_tasks([writer], {i: Load(0.0, array.nbytes) for i, array in chosen.items()}):
        writer.commit(task.units["bench"], {i: Item(chosen[i]) for i in task.ids})
    _, settings = load_settings("bigru", ['streams=["bench"]', "features.average_frames=1"])
    dataset = load_dataset(cache, ["bench"], settings)
    rows = np.arange(len(dataset.examples))
    batches = Batches(dataset, settings, prepare(dataset, settings, rows), torch.device("cpu"))
    head = build_head(settings.head, Shape(batches.dims, len(dataset.classes)))
    head.eval()  # no dropout, so that both ways must give the same losses
    loss = make_loss(settings.loss, torch.full((4,), _CLIPS // 4))
    ratios = []
    for pair in range(pairs + 1):  # the first one warms up
        held = list(batches.epoch(rows, 32, np.random.default_rng(pair)))
        sources = {
            "list": iter(held),
            "cache": batches.epoch(rows, 32, np.random.default_rng(pair)),
        }
        seconds, losses = dict.fromkeys(sources, 0.0), dict.fromkeys(sources, 0.0)
        # In turn, step by step: whatever else the machine does then hits both alike.
        for step in range(len(held)):
            for way in sorted(sources, reverse=bool((pair + step) % 2)):
                started = time.perf_counter()
                losses[way] += _step(head, next(sources[way]), loss)
                seconds[way] += time.perf_counter() - started
        if losses["list"] != losses["cache"]:
            raise SystemExit(f"the losses differ: {losses}")
        ratios.append(seconds["list"] / seconds["cache"])
    return ratios[1:]


def _step(head: Head, batch: Batch, loss: Loss) -> float:
    """Forward and backward; the loss. Weights stay, so that both ways must give the same."""
    head.zero_grad()
    value = batch_loss(loss, head(*batch.inputs), batch)
    value.backward()  # type: ignore[no-untyped-call]
    return float(value.detach())
