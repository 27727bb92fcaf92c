"""Small corpora and streams whose numbers follow from the utterance's id, so that every test knows what to find."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from emocache.cache import Cache, InputFailure, Item, Load, Manifest, Media, Stream, StreamWriter, Utterance, plan_tasks
from emocache.cache.index import Index, save
from emocache.cache.objects import Objects
from emocache.cache.opening import open_objects
from emocache.cache.recipe import Recipe

CORPUS = "toy"
AUX = {"face": {"dtype": "bool", "shape": []}, "box": {"dtype": "float32", "shape": [4]}}
IDS = ["a", "b/with/slash", "Ünïcödé 語 😀", "d.e-f_g", "@h", "zz" * 40]


def recipe(**changes: Any) -> Recipe:
    """A recipe of explicit times and two auxiliary arrays."""
    plain = {"kind": "frames", "encoder": "toy", "layer": None, "inputs": ["audio"], "dim": 5, "dtype": "float16",
             "times": None, "aux": AUX}  # fmt: skip
    return {**plain, **changes}


def plain_recipe(**changes: Any) -> Recipe:
    """A recipe of regular frames and nothing else."""
    return recipe(times={"rate": 50.0, "first_start": -0.01, "width": 0.02}, aux={}, **changes)


def table_recipe(**changes: Any) -> Recipe:
    """A recipe of rows."""
    return {"kind": "table", "encoder": "words", "layer": None, "inputs": ["text"], **changes}


def utterance(utterance_id: str, version: int = 0, **fields: Any) -> Utterance:
    """An utterance whose media hash is that of this version of it."""
    media = (Media("audio", f"{zlib.crc32(utterance_id.encode())}.wav", f"{version:064x}"),)
    return Utterance(utterance_id, media, **{"speaker": utterance_id[:1], "duration": 1.0, "text": "hm", **fields})


def manifest(ids: Iterable[str] = IDS, versions: Mapping[str, int] | None = None) -> Manifest:
    """The manifest of these utterances."""
    return Manifest.from_utterances(CORPUS, [utterance(i, (versions or {}).get(i, 0)) for i in ids])


def item(utterance_id: str, made_from: Recipe, version: int = 0, frames: int | None = None) -> Item:
    """Frames, times and auxiliary arrays that follow from the id and the version."""
    random = np.random.default_rng([zlib.crc32(utterance_id.encode()), version])
    count = frames or int(random.integers(1, 9))
    values = random.standard_normal((count, made_from["dim"])).astype(np.float32)
    times = None
    if made_from["times"] is None:
        starts = np.cumsum(random.uniform(0.01, 0.1, count))
        times = np.stack([starts, starts + 0.02], axis=1)
    aux: dict[str, npt.NDArray[Any]] = {}
    for name, declared in sorted(made_from["aux"].items()):
        aux[name] = (10 * random.standard_normal((count, *declared["shape"]))).astype(np.float32) > 0
        if declared["dtype"] != "bool":
            aux[name] = random.standard_normal((count, *declared["shape"])).astype(declared["dtype"])
    return Item(values, times, aux)


def row(utterance_id: str) -> dict[str, Any]:
    """A row of a table stream; some of its values are absent in some rows."""
    words = [{"word": w, "start": float(n), "end": n + 0.5} for n, w in enumerate(utterance_id[:3])]
    return {"text": utterance_id, "words": words, **({"note": 1.5} if len(utterance_id) % 2 else {})}


def fill(
    writer: StreamWriter,
    items: Mapping[str, Item | Mapping[str, Any]],
    failures: Mapping[str, InputFailure] | None = None,
    *,
    retry_failed: bool = False,
    units: int = 1,
) -> list[str]:
    """Plan and commit what is missing of these, as an extraction does; returns the ids that were missing."""
    failed = dict(failures or {})
    loads = {i: Load(1.0, len(i)) for i in [*items, *failed]}
    done: list[str] = []
    for task in plan_tasks([writer], loads, retry_failed=retry_failed, min_units=units):
        unit = task.units[writer.name]
        writer.commit(unit, {i: items[i] for i in task.ids if i in items},
                      {i: failed[i] for i in task.ids if i in failed})  # fmt: skip
        done += task.ids
    writer.finish()
    return done


def snapshot(stream: Stream) -> dict[str, Any]:
    """All that a stream serves, in plain values."""
    served: dict[str, Any] = {"failures": stream.failures, "missing": stream.missing, "stale": stream.stale}
    for i in stream.ids:
        aux = {name: value.tobytes() for name, value in stream.aux(i).items()}
        served[i] = (stream.read(i).tobytes(), stream.times(i).tobytes(), aux, stream.crc32c(i))
    return served


def assert_serves(stream: Stream, items: Mapping[str, Item]) -> None:
    """The stream serves these items and no others, to the bit."""
    assert stream.ids == sorted(items)
    for i, expected in items.items():
        np.testing.assert_array_equal(stream.read(i), expected.frames.astype(stream.dtype))
        if expected.times is not None:
            np.testing.assert_array_equal(stream.times(i), expected.times)
        assert set(stream.aux(i)) == set(expected.aux)
        for name, values in expected.aux.items():
            np.testing.assert_array_equal(stream.aux(i)[name], values)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests wait for thousands of fsyncs."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="emocache-test-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(params=["local", "remote"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty store of each kind."""
    return open_objects(tmp_path / "objects" if request.param == "local" else "memory://")


@pytest.fixture(params=["local", "remote"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    """An empty cache in each kind of store."""
    return Cache(tmp_path / "cache" if request.param == "local" else "memory://")


@pytest.fixture(params=["zarr", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each way to store shards."""
    return str(request.param)


def save_marked(objects: Objects, found: Index, manifest_sha256: str, current: Mapping[str, str] | None = None) -> None:
    """Store an index as if it had been worked out for a manifest with these {id: key}."""
    keys = current or {}
    told = zip(found.items.column("id").to_pylist(), found.items.column("key").to_pylist(), strict=True)
    marks = pa.array([keys.get(utterance) == key.hex() for utterance, key in told], pa.bool_())
    at = found.items.schema.get_field_index("current")
    save(objects, replace(found, items=found.items.set_column(at, "current", marks), manifest=manifest_sha256))
