"""Writes the small store that every later version must read: `python tests/data/make_store.py FOLDER`.

store-v1 is what the first version of the format wrote. It is never written again; a format that differs gets a folder
of its own beside it. The numbers follow from formulas, so that the test says what must be there without this script.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from emocache.cache import (
    Cache,
    InputFailure,
    Item,
    Load,
    Manifest,
    Media,
    StreamWriter,
    Track,
    Utterance,
    Word,
    plan_tasks,
)
from emocache.cache.gc import collect
from emocache.extract.pipeline.projecting import project

CORPUS = "small"
IDS = ["anna/01", "anna/02", "béla/01", "béla/02", "béla/empty", "chen 1", "chen 2"]
AUX = {"face_found": {"dtype": "bool", "shape": []}, "box": {"dtype": "float32", "shape": [4]}}


def manifest(version: int) -> Manifest:
    """Seven utterances with everything a manifest can hold; the last one's media differs between the versions."""
    return Manifest.from_utterances(CORPUS, [
        Utterance(
            i, media=(Media("audio", f"wav/{n}.wav", f"{n + (version if i == IDS[-1] else 0):064x}"),),
            start=0.5 * n, end=0.5 * n + 1, duration=9.0, speaker=i[:4], session=f"s{n % 2}", culture="XX",
            language="en", gender="fm"[n % 2], split=("train", "valid", "test")[n % 3], text=f"text of {i}",
            words=(Word("text", 0.0, 0.25), Word("of", 0.25, 0.5)), words_source="corpus",
            labels={"emotion": ("happy", "sad")[n % 2], "arousal": n / 4} if n else {"emotion": "sad"},
            tracks={"valence": Track(np.arange(3) / 10, np.arange(3) / 8 - n)} if n % 2 else {},
        )
        for n, i in enumerate(IDS)
    ])  # fmt: skip


def item(number: int, dim: int = 6) -> Item:
    """Frames that float16 holds exactly, with a time span, a flag and a box for each."""
    count = number + 2
    t, d = np.arange(count)[:, None], np.arange(dim)
    frames = ((number * 31 + t * 7 + d * 3) % 64 - 32) / 16
    times = np.stack([np.arange(count) * 0.04, np.arange(count) * 0.04 + 0.1], axis=1)
    aux = {"face_found": np.arange(count) % 3 == 0, "box": (t * 4 + np.arange(4) + number).astype(np.float32) / 8}
    return Item(frames, times, aux)


def frames_recipe(encoder: str) -> dict[str, Any]:
    """A recipe like those of the encoders."""
    return {"kind": "frames", "encoder": encoder, "layer": 2, "inputs": ["audio"], "dim": 6, "dtype": "float16",
            "times": None, "aux": AUX, "weights_sha256": "0" * 64, "precision": "float32"}  # fmt: skip


def fill(
    writer: StreamWriter, items: dict[str, Any], failures: dict[str, InputFailure], *, retry_failed: bool = False
) -> None:
    """Plan and commit what is missing, in two units."""
    loads = {i: Load(1.0, len(i)) for i in sorted([*items, *failures])}
    for task in plan_tasks([writer], loads, retry_failed=retry_failed, min_units=2):
        good = {i: items[i] for i in task.ids if i in items}
        writer.commit(task.units[writer.name], good, {i: failures[i] for i in task.ids if i in failures})


def make(root: Path) -> None:
    """Write the store: a frames stream in each backend, one with a second attempt; a table; a PCA; stale items."""
    cache = Cache(root)
    cache.put_manifest(manifest(0))
    for backend, encoder in (("zarr", "alpha"), ("hdf5", "beta")):
        writer = cache.create_stream(CORPUS, f"{encoder}.L2", frames_recipe(encoder), backend=backend)
        items = {i: item(n) for n, i in enumerate(IDS) if i != "béla/empty"}
        failures = {"béla/empty": InputFailure("empty", "béla/empty.wav has 0 bytes")}
        if backend == "zarr":
            del items["béla/02"]
            failures["béla/02"] = InputFailure("undecodable", "béla/02.wav is a text file")
        fill(writer, items, failures)
        if backend == "zarr":
            fill(writer, {"béla/02": item(3)}, {"béla/empty": failures["béla/empty"]}, retry_failed=True)
        writer.finish()
    words = cache.create_stream(
        CORPUS, "transcripts", {"kind": "table", "encoder": "transcripts", "layer": None, "inputs": ["audio"]}
    )
    rows: dict[str, Any] = {
        i: {"text": f"heard {i}", "words": [{"word": "heard", "start": 0.0, "end": n / 8}], **({"n": n} if n else {})}
        for n, i in enumerate(IDS)
        if i != "béla/empty"
    }
    fill(words, rows, {"béla/empty": InputFailure("empty", "béla/empty.wav has 0 bytes")})
    words.finish()
    project(cache, CORPUS, "alpha.L2", 2, "speaker=anna|chen", dtype="float32", backend="zarr", environment={})
    cache.put_manifest(manifest(1))  # "chen 2" has changed: its items are stale
    for info in cache.streams(CORPUS):
        writer = cache.create_stream(CORPUS, info.name, info.recipe)
        writer.finish()
    collect(cache, 0.0)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
