"""The format: what stock readers find in a shard is what was committed, and a map of the record's bytes is the same."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import zarr

from emocache.cache import Cache, InputFailure, Item, shard_zarr

from .conftest import (
    CORPUS,
    IDS,
    assert_serves,
    fill,
    item,
    manifest,
    plain_recipe,
    recipe,
    row,
    table_recipe,
)

Arrays = dict[str, npt.NDArray[Any]]


def stock(folder: Path) -> dict[str, Arrays]:
    """{id: {array: rows}} of every shard of a stream, through stock zarr and h5py alone."""
    found: dict[str, Arrays] = {}
    for shard in sorted((folder / "shards").iterdir()):
        arrays: Arrays
        if shard.suffix == ".zarr":
            group: Any = zarr.open_group(shard, mode="r")
            ids = group.attrs["ids"]
            arrays = {name: array[:] for name, array in group.arrays()}
            if "aux" in group:
                arrays |= {f"aux/{name}": array[:] for name, array in group["aux"].arrays()}
        else:
            with h5py.File(shard, "r") as file:
                ids = file["ids"].asstr()[:].tolist()
                arrays = {name: file[name][:] for name in file if name not in ("ids", "aux")}
                arrays |= {f"aux/{name}": array[:] for name, array in file.get("aux", {}).items()}
        offsets = arrays.pop("offsets")
        assert offsets.dtype == np.int64
        assert offsets[0] == 0 and offsets[-1] == len(arrays["frames"]) and len(offsets) == len(ids) + 1
        for i, start, end in zip(ids, offsets, offsets[1:], strict=False):
            assert i not in found
            found[i] = {name: array[start:end] for name, array in arrays.items()}
    return found


def assert_stock(folder: Path, items: Mapping[str, Item], dtype: str) -> None:
    found = stock(folder)
    assert set(found) == set(items)
    for i, expected in items.items():
        frames = found[i]["frames"]
        assert frames.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(frames, expected.frames.astype(dtype))
        wanted = {f"aux/{name}" for name in expected.aux} | ({"times"} if expected.times is not None else set())
        assert set(found[i]) == {"frames", *wanted}
        if expected.times is not None:
            np.testing.assert_array_equal(found[i]["times"], expected.times)
        for name, values in expected.aux.items():
            assert found[i][f"aux/{name}"].shape == values.shape
            np.testing.assert_array_equal(found[i][f"aux/{name}"], values)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("counts", [[1], [64], [63], [65], [1] * 6, [3, 200, 1, 130]])
def test_stock_readers_find_what_was_committed(
    tmp_path: Path, backend: str, dtype: str, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_from = recipe(dtype=dtype)
    monkeypatch.setattr(shard_zarr, "_CHUNK_BYTES", 64 * 5 * np.dtype(dtype).itemsize)  # 64 frames to the chunk
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    items = {i: item(i, made_from, frames=count) for i, count in zip(IDS, counts, strict=False)}
    writer = cache.create_stream(CORPUS, "toy", made_from, backend=backend)
    fill(writer, items)
    assert_stock(tmp_path / CORPUS / f"toy@{writer.fingerprint[:12]}", items, dtype)
    assert_serves(cache.stream(CORPUS, "toy"), items)


def test_blocks_of_zeros_and_regular_times(tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of nothing but the fill value are stored all the same, or the map would be shifted."""
    monkeypatch.setattr(shard_zarr, "_CHUNK_BYTES", 8 * 5 * 2)
    made_from = plain_recipe()
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    items = {i: item(i, made_from, frames=20) for i in IDS[:4]}
    items[IDS[0]] = Item(np.zeros((40, 5)))
    items[IDS[2]] = Item(np.zeros((1, 5)))
    items[IDS[3]] = Item(np.zeros((17, 5)))
    writer = cache.create_stream(CORPUS, "toy", made_from, backend=backend)
    fill(writer, items)
    assert_stock(tmp_path / CORPUS / f"toy@{writer.fingerprint[:12]}", items, "float16")
    stream = cache.stream(CORPUS, "toy")
    assert_serves(stream, items)
    times = stream.times(IDS[1])
    np.testing.assert_allclose(times[3], [0.05, 0.07], atol=1e-12)
    assert times.shape == (20, 2) and stream.rate == 50.0


@pytest.mark.parametrize("kind", ["frames", "times", "aux/box"])
def test_a_zarr_array_is_flat_in_its_object(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte 0 of the object is row 0, and each row follows the last one, whatever the chunks."""
    monkeypatch.setattr(shard_zarr, "_CHUNK_BYTES", 48)
    made_from = recipe()
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    items = {i: item(i, made_from) for i in IDS}
    fill(cache.create_stream(CORPUS, "toy", made_from), items)
    [shard] = tmp_path.glob(f"{CORPUS}/*/shards/*.zarr")
    array: Any = zarr.open_array(shard, path=kind, mode="r")
    assert array.nchunks_initialized > 0 and array.metadata.codecs[0].chunk_shape[1:] == array.shape[1:]
    data = next((shard / kind / "c").rglob("0")) if array.ndim == 1 else shard / kind / "c" / "0" / "0"
    np.testing.assert_array_equal(np.fromfile(data, array.dtype, array.size).reshape(array.shape), array[:])


def test_the_record_says_where_the_bytes_lie(tmp_path: Path, backend: str) -> None:
    """A reader that knows no more than NumPy and the record reads every array."""
    made_from = recipe()
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    items = {i: item(i, made_from) for i in IDS}
    writer = cache.create_stream(CORPUS, "toy", made_from, backend=backend)
    fill(writer, items)
    folder = tmp_path / CORPUS / f"toy@{writer.fingerprint[:12]}"
    [path] = (folder / "commits").iterdir()
    record = json.loads(path.read_bytes())
    assert record["format"] == 1 and set(record["arrays"]) == {"frames", "times", "aux/box", "aux/face"}
    for i, _, start, length, _ in record["items"]:
        for name, (target, offset, dtype, shape) in record["arrays"].items():
            flat = np.memmap(folder / target, dtype, "r", offset, tuple(shape))[start : start + length]
            expected = {"frames": items[i].frames.astype("f2"), "times": items[i].times}
            np.testing.assert_array_equal(flat, expected.get(name, items[i].aux.get(name[4:])))


def test_equal_items_give_equal_bytes(tmp_path: Path, backend: str) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    for unit in ("0", "1"):
        writer.commit(unit * 16, {i: item(i, recipe()) for i in IDS})
    found = []
    for shard in tmp_path.glob(f"{CORPUS}/*/shards/*"):
        found.append(b"".join(path.read_bytes() for path in sorted([shard, *shard.rglob("*")]) if path.is_file()))
    assert len(found) == 2 and found[0] == found[1]


def test_reads_are_read_only_views(tmp_path: Path, backend: str) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    fill(cache.create_stream(CORPUS, "toy", recipe(), backend=backend), {"a": item("a", recipe())})
    frames = cache.stream(CORPUS, "toy").read("a")
    assert not frames.flags.writeable and frames.base is not None
    with pytest.raises(ValueError, match="read-only"):
        frames[0, 0] = 1


def test_table_shards_are_parquet(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "words", table_recipe())
    fill(writer, {i: row(i) for i in IDS})
    [shard] = tmp_path.glob(f"{CORPUS}/*/shards/*.parquet")
    table = pq.read_table(shard)
    assert table.column("id").to_pylist() == sorted(IDS) and "text" in table.column_names
    stream = cache.stream(CORPUS, "words")
    assert {i: stream.row(i) for i in stream.ids} == {i: row(i) for i in IDS}


def bad_items() -> dict[str, tuple[Item, str, str]]:
    """{id: (item, reason of its failure, what the detail must name)}."""
    good = {i: item(i, recipe()) for i in IDS}

    def changed(i: str, value: float, at: int = 0) -> Item:
        frames = good[i].frames.copy()
        frames.flat[at] = value
        return Item(frames, good[i].times, good[i].aux)

    empty = Item(np.zeros((0, 5)), np.zeros((0, 2)), {n: a[:0] for n, a in good["@h"].aux.items()})
    return {
        IDS[0]: (changed(IDS[0], np.nan, -1), "not_finite", "--precision float32"),
        IDS[1]: (changed(IDS[1], np.inf), "not_finite", "NaN or infinity"),
        IDS[2]: (changed(IDS[2], -7e4), "overflow", "--dtype float32"),
        IDS[4]: (empty, "no_frames", "no frame"),
    }


def test_bad_values_become_failures_and_nothing_else_is_lost(tmp_path: Path, backend: str) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    good = {i: item(i, recipe()) for i in (IDS[3], IDS[5])}
    bad = bad_items()
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    fill(writer, {**good, **{i: it for i, (it, _, _) in bad.items()}})
    stream = cache.stream(CORPUS, "toy")
    assert_serves(stream, good)
    assert set(stream.failures) == set(bad) and not stream.missing
    for i, (_, reason, remedy) in bad.items():
        assert stream.failures[i][0] == reason and remedy in stream.failures[i][1]
    wide = cache.create_stream(CORPUS, "toy", recipe(dtype="float32"), backend=backend)
    fill(wide, {IDS[2]: bad[IDS[2]][0]})
    assert cache.stream(CORPUS, f"toy@{wide.fingerprint}").read(IDS[2]).min() == np.float32(-7e4)


def test_only_failures_need_no_shard(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    fill(cache.create_stream(CORPUS, "toy", recipe()), {}, {"a": InputFailure("no_audio", "silence")})
    assert not list(tmp_path.glob(f"{CORPUS}/*/shards/*"))
    assert cache.stream(CORPUS, "toy").failures == {"a": ("no_audio", "silence")}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (lambda it: Item(it.frames[:, :4], it.times, it.aux), r"the recipe says \(T, 5\)"),
        (lambda it: Item(it.frames, it.times[:-1], it.aux), "times of shape"),
        (lambda it: Item(it.frames, it.times * [1, np.nan], it.aux), "not finite"),
        (lambda it: Item(it.frames, it.times + np.inf, it.aux), "not finite"),
        (lambda it: Item(it.frames, None, it.aux), "not those of the recipe"),
        (lambda it: Item(it.frames, it.times, {}), "not those of the recipe"),
        (lambda it: Item(it.frames, it.times, {**it.aux, "box": it.aux["box"][:, :3]}), "'box' of shape"),
        (lambda it: Item(it.frames, it.times, {**it.aux, "face": it.aux["face"] + 7}), "'face' holds values"),
        (lambda it: Item(it.frames, it.times, {**it.aux, "box": np.full((3, 4), 1e60)}), "'box' holds values"),
    ],
)  # fmt: skip
def test_an_item_that_contradicts_the_recipe_is_a_bug_not_a_failure(
    tmp_path: Path, changed: Any, complaint: str
) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    with pytest.raises(ValueError, match=complaint):
        writer.commit("0" * 16, {"a": changed(item("a", recipe(), version=1, frames=3))})
    assert not list(tmp_path.glob(f"{CORPUS}/*/commits/*"))


@pytest.mark.parametrize(("library", "name"), [("zarr", "alpha.L2"), ("h5py", "beta.L2")])
def test_the_documented_lines_read_every_shard(library: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    blocks = (root / "docs" / "format.md").read_text().split("```python\n")[1:]
    [lines] = [block.split("```")[0] for block in blocks if f", {library}\n" in block]
    assert len([line for line in lines.splitlines() if line]) == 6
    found: dict[str, Any] = {}
    exec(lines, found)
    stream = Cache("tests/data/store-v1").stream("small", name)
    assert set(found["items"]) == {*stream.ids, "chen 2"}  # the stale one is in its shard too
    for i in stream.ids:
        np.testing.assert_array_equal(found["items"][i], stream.read(i))
