"""An encoder that costs nothing, over a corpus without media: what the pipeline is tested with where models are beside
the point. Needs no torch, so that processes that use it start and fork quickly."""

import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emocache.cache import Cache, InputFailure, Item, Load, Manifest, Media, Stream, Utterance, Word, plan_tasks
from emocache.cache.recipe import Recipe, stream_name
from emocache.extract.encoders.encoder import Clip, LayerItems, Layers
from emocache.extract.pipeline import encoding_loop
from emocache.extract.pipeline.batching import Budget

CORPUS = "light"


@dataclass(eq=False)
class LightEncoder:
    """Three layers of frames that follow from the samples; counts what it is asked for.

    Clips called `empty...` fail, and the values of those called `loud...` do not fit float16.
    """

    name: str = "light"
    inputs: tuple[str, ...] = ("audio",)
    layers: int = 2
    dim: int = 3
    rate: float | None = None
    calls: Counter[str] = field(default_factory=Counter)  # utterance -> how often it was encoded
    passes: list[tuple[list[str], list[int | None]]] = field(default_factory=list)

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {"kind": "frames", "encoder": self.name, "layer": layer, "inputs": list(self.inputs), "dim": self.dim,
                "times": None, "aux": {"voiced": {"dtype": "bool", "shape": []}}}  # fmt: skip

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        return round((utterance.duration or 1.0) * 10)

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return utterance.duration or 1.0

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        self.passes.append(([clip.id for clip in clips], list(layers)))
        self.calls.update(clip.id for clip in clips)
        return [self.one(clip, layers) for clip in clips]

    def one(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
        """The result for one clip."""
        if clip.id.startswith("empty"):
            return InputFailure("empty", "0 samples")
        heard = clip.audio if clip.audio is not None else np.frombuffer((clip.text or "?").encode(), np.uint8)
        frames = heard.astype(np.float32)[:, None] * np.arange(1, self.dim + 1, dtype=np.float32)
        if clip.id.startswith("loud"):
            frames = frames + np.float32(1e6)
        starts = np.arange(len(frames)) / 10
        times = np.stack([starts, starts + 0.1], axis=1)
        aux = {"voiced": heard.astype(np.float32) > 0}
        return {layer: Item(frames + (0 if layer is None else layer + 1), times, aux) for layer in layers}


def manifest(ids: Sequence[str], changed: Sequence[str] = ()) -> Manifest:
    """A corpus of these utterances; the media of some have changed."""
    return Manifest.from_utterances(CORPUS, [
        Utterance(i, (Media("audio", f"{n}.wav", f"{int(i in changed):064x}"),), text=i, words=(Word(i, 0.0, 1.0),),
                  duration=1 + zlib.crc32(i.encode()) % 7)
        for n, i in enumerate(ids)
    ])  # fmt: skip


def decode(utterance: Utterance) -> Clip:
    """Samples that follow from the id and the media's hash."""
    media = utterance.media[0]
    random = np.random.default_rng([zlib.crc32(utterance.id.encode()), int(media.sha256, 16)])
    return Clip(utterance.id, random.standard_normal(int(utterance.duration or 1)).astype(np.float32), utterance.text)


def extract(
    root: Path | str | Cache,
    of: Manifest,
    encoders: Sequence[LightEncoder],
    layers: Sequence[int | None] = (None,),
    *,
    limit: int | None = None,
    shard: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
    backend: str = "hdf5",
    units: int | None = None,
    budget: float | Budget = 12.0,
    decoder: encoding_loop.Decode = decode,
    passes: int = 1,
    threads: int = 1,
    workers: int = 2,
    clock: Callable[[], float] = time.monotonic,
) -> encoding_loop.Outcome:
    """One run, from the manifest to the index, in the steps of the real one."""
    cache = root if isinstance(root, Cache) else Cache(root)
    cache.put_manifest(of)
    targets = [
        encoding_loop.Target(encoder, layer, cache.create_stream(
            CORPUS, stream_name(encoder.name, layer), {**encoder.recipe(layer), "dtype": "float16"}, backend=backend
        ))
        for encoder in encoders for layer in layers
    ]  # fmt: skip
    wanted = {utterance.id: utterance for utterance in list(of)[:limit]}
    loads = {i: Load(1.0, encoders[0].expected_frames(utterance) * 6) for i, utterance in wanted.items()}
    writers = [target.writer for target in targets]
    number, of_shards = shard
    tasks = plan_tasks(writers, loads, retry_failed=retry_failed, min_units=units or 4 * of_shards)
    tasks = [task for task in tasks if task.number % of_shards == number - 1]
    budget = budget if isinstance(budget, Budget) else Budget(budget)
    outcome = encoding_loop.run(
        tasks,
        targets,
        wanted,
        decoder,
        budget=budget,
        passes=passes,
        writers=threads,
        workers=workers,
        retry_failed=retry_failed,
        clock=clock,
    )
    for writer in writers:
        writer.finish()
    return outcome


def snapshot(stream: Stream) -> dict[str, Any]:
    """All that a stream says, as JSON values: (id -> bytes, times), failures, and what is not there."""
    items = {}
    for i in stream.ids:
        parts = [stream.read(i), stream.times(i), stream.aux(i)["voiced"]]
        items[i] = [part.tobytes().hex() for part in parts]
    failures = {i: list(why) for i, why in stream.failures.items()}
    return {"items": items, "failures": failures, "missing": list(stream.missing), "stale": stream.stale}
