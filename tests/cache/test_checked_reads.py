"""Every byte that is read is compared with what was committed, once; no record is followed where it cannot be."""

import hashlib
import mmap
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from emocache.cache import Cache, DamagedError, EmocacheError, Stream, items, ranges
from emocache.cache import index as index_
from emocache.cache.commit import Record
from emocache.cache.objects import Objects
from emocache.cache.sealed import seal, unseal
from emocache.cache.verify import verify

from .conftest import CORPUS, IDS, fill, item, manifest, plain_recipe, recipe, row, save_marked, snapshot, table_recipe

ARRAYS = ("frames", "times", "aux/face", "aux/box")
READS: dict[str, Callable[[Stream, str], Any]] = {
    "read": Stream.read, "times": Stream.times, "aux": Stream.aux,
    "read_many": lambda stream, i: stream.read_many([i]), "array": lambda stream, _: stream.array(),
}  # fmt: skip


def filled(cache: Cache, backend: str = "zarr") -> Objects:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    fill(writer, {i: item(i, recipe()) for i in IDS})
    return writer.objects


def record_of(objects: Objects) -> Record:
    [name] = objects.names("commits")
    return Record.from_bytes(objects.get(f"commits/{name}"), name)


def flip(objects: Objects, array: str, utterance: str, times: int = 1) -> None:
    """Flip bits of an item's stored array that leave its numbers finite."""
    record = record_of(objects)
    located, [entry] = record.arrays[array], [e for e in record.items if e.id == utterance]
    row_bytes = int(np.dtype(located.dtype).itemsize * np.prod(located.shape[1:]))
    data = bytearray(objects.get(located.object))
    for n in range(times):
        data[located.byte_offset + entry.row * row_bytes + n % (entry.length * row_bytes)] ^= 1
    objects.replace(located.object, bytes(data))


@pytest.mark.parametrize("array", ARRAYS)
def test_a_flipped_bit_is_refused_by_whoever_reads_the_item_first(cache: Cache, backend: str, array: str) -> None:
    objects = filled(cache, backend)
    flip(objects, array, IDS[2])
    for read in READS.values():
        stream = cache.stream(CORPUS, "toy")
        with pytest.raises(DamagedError) as caught:
            read(stream, IDS[2])
        told = str(caught.value)
        assert told.startswith(f"toy/toy: utterance {IDS[2]!r}: its bytes in {objects.url}/shards/")
        if cache.objects.local("") is not None:
            assert f"`emocache cache verify --full {cache.objects.url}` tells" in told
        with pytest.raises(DamagedError):
            read(stream, IDS[2])  # and again
        for other in IDS:
            if other != IDS[2]:
                np.testing.assert_array_equal(stream.read(other), item(other, recipe()).frames.astype(np.float16))
    assert not cache.stream(CORPUS, "toy").check(IDS[2]) and cache.stream(CORPUS, "toy").check(IDS[0])


def test_a_row_of_a_table_is_refused(cache: Cache) -> None:
    cache.put_manifest(manifest())
    objects = cache.create_stream(CORPUS, "words", table_recipe()).objects
    fill(cache.create_stream(CORPUS, "words", table_recipe()), {i: row(i) for i in IDS})
    record = record_of(objects)
    # A writer's fault: two entries whose rows are exchanged, and one whose checksum is another's.
    a, b, *rest = record.items
    exchanged = (a._replace(row=b.row, crc32c=b.crc32c), b._replace(row=a.row, crc32c=a.crc32c), *rest)
    for bad in (exchanged, (a._replace(crc32c=1), b, *rest)):
        objects.replace(f"commits/{record.name}", replace(record, items=bad).to_bytes())
        objects.delete("index.arrow")
        stream = cache.stream(CORPUS, "words")
        with pytest.raises(DamagedError, match=rf"words: utterance '{a.id}': its bytes in .*verify --full"):
            stream.row(a.id)
        assert stream.row(rest[0].id) == row(rest[0].id) and not stream.check(a.id)
        assert a.id in {problem.utterance for problem in verify(cache, full=True)}


def test_an_item_is_compared_once_and_its_frames_stay_a_view(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(Cache(tmp_path), backend)
    compared: Counter[int] = Counter()
    stream = Cache(tmp_path).stream(CORPUS, "toy")
    real = stream._items._compare

    def counting(at: int, arrays: Any) -> None:
        compared[at] += 1
        real(at, arrays)

    monkeypatch.setattr(stream._items, "_compare", counting)
    for _ in range(3):
        stream.array()
        for i in stream.ids:
            stream.times(i), stream.aux(i)
    assert compared == dict.fromkeys(range(len(IDS)), 1)
    first, second = stream.read(IDS[0]), stream.read(IDS[0])
    assert np.shares_memory(first, second) and not first.flags.writeable
    owner: Any = first
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner.obj, mmap.mmap)


def test_a_remote_item_is_fetched_once_whatever_is_asked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache("memory://")
    filled(cache, "hdf5")
    asked: list[int] = []
    real = ranges.fetch

    def counting(objects: Objects, located: Any, row: int, length: int) -> Any:
        asked.append(length)
        return real(objects, located, row, length)

    monkeypatch.setattr(items, "fetch", counting)
    for order in (("read_many", "times", "aux"), ("aux", "times", "read")):
        stream = cache.stream(CORPUS, "toy")
        asked.clear()
        for name in order:
            for i in IDS:
                READS[name](stream, i)
        assert len(asked) == len(ARRAYS) * len(IDS)  # as many as there are arrays
    # Where frames are more than is kept, they alone come again.
    monkeypatch.setattr(ranges, "_KEPT_BYTES", 0)
    stream = cache.stream(CORPUS, "toy")
    asked.clear()
    for name in ("read", "times", "aux"):
        for i in IDS:
            READS[name](stream, i)
    assert len(asked) == len(ARRAYS) * len(IDS)
    stream.read(IDS[0])
    assert len(asked) == len(ARRAYS) * (len(IDS) + 1)


def test_the_digest_is_of_what_reading_gives(tmp_path: Path, backend: str) -> None:
    """No read gives bytes that are not those of the digest: computed naively from what was read, it is the same."""
    import google_crc32c

    filled(Cache(tmp_path), backend)
    stream = Cache(tmp_path).stream(CORPUS, "toy")
    lines = []
    for i in stream.ids:
        parts = [stream.read(i), stream.times(i), *(stream.aux(i)[name] for name in sorted(recipe()["aux"]))]
        lines.append(f"{i}\t{google_crc32c.value(b''.join(part.tobytes() for part in parts)):08x}\n")
    assert stream.digest(stream.ids) == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def wrong_dtype(record: Record) -> Record:
    return replace(record, arrays={**record.arrays, "frames": record.arrays["frames"]._replace(dtype="<i2")})


def absent_times(record: Record) -> Record:
    return replace(record, arrays={name: one for name, one in record.arrays.items() if name != "times"})


def folded(record: Record) -> Record:
    located = record.arrays["frames"]
    return replace(record, arrays={**record.arrays, "frames": located._replace(shape=(located.shape[0], 1, 5))})


@pytest.mark.parametrize("change", [wrong_dtype, absent_times, folded])
def test_a_record_that_contradicts_the_recipe_is_not_followed(cache: Cache, change: Callable[[Record], Record]) -> None:
    """The bytes have their checksum, and would be read as other numbers."""
    objects = filled(cache)
    record = record_of(objects)
    objects.replace(f"commits/{record.name}", change(record).to_bytes())
    objects.delete("index.arrow")
    for read in READS.values():
        with pytest.raises(
            DamagedError, match=r"commits/\w+\.0\.json: array '\w+' is .*, the recipe says .*; delete it"
        ):
            read(cache.stream(CORPUS, "toy"), IDS[0])
    [problem] = verify(cache, full=True)
    assert problem.object == f"commits/{record.name}" and "the recipe says" in problem.reason


HUGE = 2**40
FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "rows that are not there": lambda d: d["items"][0].__setitem__(3, 10**6),
    "rows before the first": lambda d: d["items"][0].__setitem__(2, -1),
    "no rows": lambda d: d["items"][0].__setitem__(3, 0),
    "shared rows": lambda d: d["items"][1].__setitem__(2, d["items"][0][2]),
    "more rows than the object": lambda d: [one[3].__setitem__(0, HUGE) for one in d["arrays"].values()],
    "a shape without rows": lambda d: d["arrays"]["frames"].__setitem__(3, []),
    "a negative offset": lambda d: d["arrays"]["frames"].__setitem__(1, -8),
    "Python objects": lambda d: d["arrays"]["frames"].__setitem__(2, "|O"),
    "no type": lambda d: d["arrays"]["frames"].__setitem__(2, "nonsense"),
    "a row that is a text": lambda d: d["items"][0].__setitem__(2, "0"),
    "a key that is none": lambda d: d["items"][0].__setitem__(1, "zz"),
    "an id that is none": lambda d: d["items"][0].__setitem__(0, 7),
    "a checksum of 40 bits": lambda d: d["items"][0].__setitem__(4, HUGE),
    "an entry too short": lambda d: d["items"][0].pop(),
    "a size that is none": lambda d: next(iter(d["objects"].values())).__setitem__(0, None),
    "items that are none": lambda d: d.__setitem__("items", 5),
    "another field": lambda d: d.__setitem__("more", 1),
    "a field too few": lambda d: d.pop("unit"),
    "another unit": lambda d: d.__setitem__("unit", "ff"),
    "a path for a unit": lambda d: d.__setitem__("unit", "../x"),
    "no shard": lambda d: d.__setitem__("shard", None),
    "superseding a path": lambda d: d.__setitem__("supersedes", ["../recipe.json"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_record_that_cannot_be_counts_as_damaged(tmp_path: Path, fault: str) -> None:
    """Whoever sealed it: no traceback, nothing allocated on its word, and the utterances are missing."""
    cache = Cache(tmp_path)
    objects = filled(cache)
    [name] = objects.names("commits")
    document = unseal(objects.get(f"commits/{name}"), name)
    FAULTS[fault](document)
    objects.replace(f"commits/{name}", seal(document))
    objects.delete("index.arrow")
    stream = cache.stream(CORPUS, "toy")
    assert stream.damaged == (name,) and stream.missing == sorted(IDS)
    found = list(verify(cache))
    assert [(problem.utterance, problem.object) for problem in found] == [("-", f"commits/{name}")]
    assert "delete it" in found[0].reason or "give it its name back" in found[0].reason


RECIPES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no recipe": lambda d: d.pop("recipe"),
    "no dim": lambda d: d["recipe"].pop("dim"),
    "a dim of a text": lambda d: d["recipe"].__setitem__("dim", "5"),
    "no inputs": lambda d: d["recipe"].__setitem__("inputs", None),
    "a type that is none": lambda d: d["recipe"].__setitem__("dtype", "object"),
    "a rate of nothing": lambda d: d["recipe"].__setitem__("times", {"rate": 0, "first_start": 0, "width": 1}),
    "no fingerprint": lambda d: d.pop("fingerprint"),
    "another fingerprint": lambda d: d.__setitem__("fingerprint", "0" * 64),
}


@pytest.mark.parametrize("fault", RECIPES)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, fault: str) -> None:
    cache = Cache(tmp_path)
    objects = filled(cache)
    document = unseal(objects.get("recipe.json"), "")
    RECIPES[fault](document)
    objects.replace("recipe.json", seal(document, pretty=True))
    with pytest.raises(DamagedError, match=r"recipe\.json: .*restore it, or extract again"):
        cache.stream(CORPUS, "toy")
    assert [problem.object for problem in verify(cache)] == ["recipe.json"]
    # The remedy: an extraction writes it anew.
    assert cache.create_stream(CORPUS, "toy", recipe()) and snapshot(cache.stream(CORPUS, "toy"))["missing"] == []


@pytest.mark.parametrize("data", [b"", b"[" * 10**5, b"null", b'{"sha256": 1}', b"\xff\xfe", b"1" * 10**4])
def test_bytes_that_are_no_document_are_damage(tmp_path: Path, data: bytes) -> None:
    cache = Cache(tmp_path)
    objects = filled(cache)
    [name] = objects.names("commits")
    objects.delete("index.arrow")
    objects.replace(f"commits/{name}", data)
    assert cache.stream(CORPUS, "toy").damaged == (name,)
    assert [problem.object for problem in verify(cache, full=True)] == [f"commits/{name}"]


@pytest.mark.parametrize("units", [[["../../x", [["a", "k"]]]], [["ab", [["a", []]]]], [["ab"]], 5, None])
def test_a_plan_that_cannot_be_is_passed_over(tmp_path: Path, units: Any) -> None:
    """The key of a unit becomes a file's name."""
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    keys = manifest().item_keys(writer.fingerprint, ["audio"])
    if isinstance(units, list) and len(units[0]) == 2 and isinstance(units[0][1][0][1], str):
        units[0][1][0][1] = keys["a"]
    writer.objects.replace("plans/000001.json", seal({"units": units}))
    assert [(p.object, "is no plan of emocache's; delete it" in p.reason) for p in verify(cache)] == [
        ("plans/000001.json", True)
    ]
    assert fill(writer, {"a": item("a", recipe())}) == ["a"]
    assert cache.stream(CORPUS, "toy").ids == ["a"]
    assert not list(tmp_path.rglob("x*")) and len(writer.objects.names("commits")) == 1


def test_a_pointer_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    filled(cache)
    pointer = {"manifest": "x", "manifest_sha256": "../../../../etc/passwd", "utterances": 1}
    cache.objects.replace(f"{CORPUS}/manifest.json", seal(pointer, pretty=True))
    with pytest.raises(DamagedError, match=r"manifest\.json: names no manifest; run `emocache extract \w+` again"):
        cache.manifest(CORPUS)


def sealed_index(objects: Objects, items: pa.Table | None = None, **changes: Any) -> None:
    """An index that passes its own checksum, with something changed in it."""
    found = index_.load(objects)
    found = index_.Index(found.items if items is None else items, found.records, found.arrays, found.failures)
    for name, value in changes.items():
        found = replace(found, **{name: value})
    save_marked(objects, found, "m")


def test_an_index_that_cannot_be_is_passed_over(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    objects = filled(cache)
    expected = snapshot(cache.stream(CORPUS, "toy"))
    table, arrays = index_.load(objects).items, index_.load(objects).arrays

    def column(name: str, value: int) -> pa.Table:
        at = table.schema.get_field_index(name)
        return table.set_column(at, table.schema.field(at), pa.array([value] * len(table), table.schema.field(at).type))

    huge = {name: one._replace(shape=(HUGE, *one.shape[1:])) for name, one in arrays[0].items()}
    objects_type = {**arrays[0], "frames": arrays[0]["frames"]._replace(dtype="|O")}
    for change in (
        {"items": column("row", 10**6)}, {"items": column("row", -1)}, {"items": column("length", 0)},
        {"items": column("record", 3)}, {"arrays": ()}, {"arrays": (objects_type,)},
        {"failures": (("too", "short"),)},
    ):  # fmt: skip
        sealed_index(objects, **change)
        assert snapshot(cache.stream(CORPUS, "toy")) == expected, change
    sealed_index(objects, items=column("row", 0))  # rows that are there, of another item
    with pytest.raises(DamagedError, match="are not those that were committed"):
        cache.stream(CORPUS, "toy").array()
    sealed_index(objects, arrays=(huge,))  # the rows are there, the array is longer than its file
    with pytest.raises(DamagedError, match="is shorter than its record says"):
        cache.stream(CORPUS, "toy").array()


def test_a_record_written_anew_does_not_hide_behind_the_index(tmp_path: Path) -> None:
    """A shard and its record deleted, extracted again: what is read is the new shard, not the place of the old one."""
    cache = Cache(tmp_path)
    for name in ("toy", "words"):
        made_from: Any = plain_recipe() if name == "toy" else table_recipe()
        cache.put_manifest(manifest())
        writer = cache.create_stream(CORPUS, name, made_from)
        values: Any = {i: item(i, made_from) if name == "toy" else row(i) for i in IDS}
        fill(writer, values)
        record = record_of(writer.objects)
        writer.objects.delete(str(record.shard))
        writer.objects.delete(f"commits/{record.name}")
        assert set(fill(cache.create_stream(CORPUS, name, made_from), values)) == set(IDS)
        stream = cache.stream(CORPUS, name)
        for i in IDS:
            stream.row(i) if name == "words" else stream.read(i)
    assert list(verify(cache, full=True)) == []


def test_a_table_that_cannot_be_read_names_the_utterance(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "words", table_recipe())
    fill(writer, {i: row(i) for i in IDS})
    shard = str(record_of(writer.objects).shard)
    writer.objects.replace(shard, b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(DamagedError, match=rf"words: utterance 'a': .*{shard}: unreadable Parquet .*verify --full`"):
        cache.stream(CORPUS, "words").row("a")
    writer.objects.delete(shard)
    with pytest.raises(EmocacheError, match=rf"words: utterance 'a': .*{shard} is gone"):
        cache.stream(CORPUS, "words").row("a")
