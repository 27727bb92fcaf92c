"""`verify --full`: recipe against record against shard, and what is derived or remembered beside them."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from emocache.cache import Cache, Manifest
from emocache.cache import index as index_
from emocache.cache.commit import ItemEntry, Record
from emocache.cache.media_hashes import FILE, MediaHashes, Remembered, fault
from emocache.cache.objects import Objects
from emocache.cache.verify import Problem, verify

from .conftest import CORPUS, IDS, fill, item, manifest, recipe, save_marked, table_recipe, utterance


def filled(cache: Cache, backend: str = "zarr") -> tuple[Objects, Record]:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    fill(writer, {i: item(i, recipe(), frames=4) for i in IDS})
    [name] = writer.objects.names("commits")
    return writer.objects, Record.from_bytes(writer.objects.get(f"commits/{name}"), name)


def exchanged_rows(record: Record) -> list[ItemEntry]:
    a, b, *rest = record.items
    return [a._replace(row=b.row, crc32c=b.crc32c), b._replace(row=a.row, crc32c=a.crc32c), *rest]


def exchanged_ids(record: Record) -> list[ItemEntry]:
    a, b, *rest = record.items
    return [a._replace(id=b.id), b._replace(id=a.id), *rest]


def a_row_less(record: Record) -> list[ItemEntry]:
    *rest, a, b = record.items
    return [*rest, a._replace(length=a.length - 1), b]


def another_checksum(record: Record) -> list[ItemEntry]:
    a, *rest = record.items
    return [a._replace(crc32c=a.crc32c ^ 1), *rest]


WRONG: dict[Callable[[Record], list[ItemEntry]], tuple[int, str]] = {
    exchanged_rows: (2, "wrong: the shard holds it at row"),
    exchanged_ids: (2, "wrong: its item key is that of '"),
    a_row_less: (1, "damaged: checksum of the utterance differs"),
    another_checksum: (1, "damaged: checksum of the utterance differs"),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_record_sealed_over_wrong_rows_is_named(
    cache: Cache, backend: str, change: Callable[[Record], list[ItemEntry]]
) -> None:
    """All of its own checksums are right, and so are those of the shard."""
    objects, record = filled(cache, backend)
    resealed = replace(record, items=tuple(change(record)))
    objects.replace(f"commits/{record.name}", resealed.to_bytes())
    objects.delete("index.arrow")
    count, reason = WRONG[change]
    found = list(verify(cache, full=True))
    changed = {a.id for a, b in zip(resealed.items, record.items, strict=True) if a != b}
    assert {problem.utterance for problem in found} == changed and len(changed) == count
    assert any(reason in problem.reason for problem in found), found
    assert all(f"; restore it, or delete commits/{record.name} and extract again" in p.reason for p in found)


def test_a_shard_of_other_arrays_than_its_record_says(tmp_path: Path, backend: str) -> None:
    """A writer's fault: the record's place in the shard is that of other rows, whose checksums it tells."""
    cache = Cache(tmp_path)
    objects, record = filled(cache, backend)
    located = record.arrays["times"]
    narrowed = {**record.arrays, "times": located._replace(shape=(located.shape[0] - 1, 2))}
    shorter = {n: one._replace(shape=(located.shape[0] - 4, *one.shape[1:])) for n, one in narrowed.items()}
    last = max(record.items, key=lambda entry: entry.row)
    kept = tuple(entry for entry in record.items if entry != last)
    objects.replace(f"commits/{record.name}", replace(record, arrays=shorter, items=kept).to_bytes())
    objects.delete("index.arrow")
    found = list(verify(cache, full=True))
    assert {problem.object for problem in found} == {record.shard} and len(found) == 4
    assert all("wrong: the shard has " in problem.reason for problem in found)


def test_the_checksums_of_items_are_computed_even_where_the_object_has_its_own(tmp_path: Path) -> None:
    """A record whose sha256 was taken of bytes that had changed before."""
    import hashlib

    cache = Cache(tmp_path)
    objects, record = filled(cache)
    path = record.arrays["frames"].object
    data = bytearray(objects.get(path))
    data[record.items[2].row * 10] ^= 4
    objects.replace(path, bytes(data))
    sealed = {**record.objects, path: (len(data), hashlib.sha256(data).hexdigest())}
    objects.replace(f"commits/{record.name}", replace(record, objects=sealed).to_bytes())
    [problem] = verify(cache, full=True)
    assert (problem.utterance, problem.object) == (record.items[2].id, path)


SAID = [f"clip{number:02d}" for number in range(20)]


def spoken(utterance_id: str) -> dict[str, Any]:
    random = np.random.default_rng(int(utterance_id[-2:]))
    words = [{"word": str(w), "start": float(n), "end": n + 0.5} for n, w in enumerate(random.integers(0, 999, 6))]
    return {"text": " ".join(str(word["word"]) for word in words), "words": words, "logprob": float(random.normal())}


def test_damage_in_a_table_names_the_row(tmp_path: Path) -> None:
    """One flipped bit in each of 120 bytes: always found, and mostly one row of the twenty is named."""
    cache = Cache(tmp_path)
    cache.put_manifest(Manifest.from_utterances(CORPUS, [utterance(i) for i in SAID]))
    writer = cache.create_stream(CORPUS, "words", table_recipe())
    fill(writer, {i: spoken(i) for i in SAID})
    [shard] = tmp_path.glob(f"{CORPUS}/words@*/shards/*")
    whole = shard.read_bytes()
    random = np.random.default_rng(0)
    named = []
    for position in random.choice(len(whole), 120, replace=False):
        data = bytearray(whole)
        data[position] ^= 1 << int(random.integers(8))
        shard.write_bytes(data)
        found = list(verify(cache, full=True))
        assert found and all(problem.object == f"shards/{shard.name}" for problem in found)
        named.append(len({problem.utterance for problem in found}))
    assert np.mean(np.array(named) == 1) > 0.6, np.bincount(named)
    # A letter of a text: just that row, and the others are still served.
    text = spoken("clip07")["text"].encode()
    shard.write_bytes(whole.replace(text, text[:-1] + b"?"))
    assert [(p.utterance, p.reason.split(";")[0]) for p in verify(cache, full=True)] == [
        ("clip07", "damaged: checksum of the row differs")
    ]


def test_an_index_that_is_damaged_or_wrong_is_named_and_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    objects, _ = filled(cache)
    whole = objects.get("index.arrow")
    random = np.random.default_rng(0)
    expected = Problem(f"{CORPUS}/{Path(objects.url).name}", "-", "index.arrow", "")
    for position in random.choice(len(whole), 40, replace=False):
        data = bytearray(whole)
        data[position] ^= 1 << int(random.integers(8))
        objects.replace("index.arrow", bytes(data))
        [problem] = verify(cache, full=True)
        assert problem._replace(reason="") == expected
        assert problem.reason == "damaged: checksum differs; delete it, the next extraction makes it again"
    found = index_.load(objects)
    crcs = found.items.column("crc32c").to_pylist()
    at = found.items.schema.get_field_index("crc32c")
    lying = found.items.set_column(at, found.items.schema.field(at), pa.array([crcs[-1], *crcs[:-1]], pa.uint32()))
    failure = index_.Failure(found.records[0], "a", "0" * 64, "", "")
    keys = manifest().item_keys(cache.streams(CORPUS)[0].fingerprint, ["audio"])
    for other in (
        index_.Index(lying, found.records, found.arrays, ()),
        index_.Index(found.items.slice(1), found.records, found.arrays, ()),
        index_.Index(found.items, found.records, found.arrays, (failure,)),
    ):
        save_marked(objects, other, manifest().sha256, keys)
        [problem] = verify(cache, full=True)
        assert problem.reason.startswith("wrong: it says other things than the records; delete it") and not list(
            verify(cache)
        )
    save_marked(objects, found, manifest().sha256)  # nothing current
    assert [problem.object for problem in verify(cache, full=True)] == ["index.arrow"]
    objects.delete("index.arrow")
    cache.create_stream(CORPUS, "toy", recipe()).finish()
    assert list(verify(cache, full=True)) == []
    save_marked(objects, found, "of an older manifest")  # outdated is not wrong
    assert list(verify(cache, full=True)) == []


def test_a_folder_or_a_record_under_another_name(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    objects, record = filled(cache)
    moved = tmp_path / CORPUS / f"toy@{'0' * 12}"
    Path(objects.url).rename(moved)
    assert [p.reason for p in verify(cache)] == [
        f"is that of a stream @{cache.streams(CORPUS)[0].fingerprint[:12]}; give the folder its name back"
    ]
    moved.rename(objects.url)
    (Path(objects.url) / "commits" / record.name).rename(Path(objects.url) / "commits" / "ab.0.json")
    assert [p.reason for p in verify(cache)] == [f"is the record {record.name}; give it its name back"]


def remembered(path: Path, count: int = 20) -> list[Remembered]:
    rows = [Remembered(f"/data/{n}.wav", 1000 + n, 10**18 + n, n, f"{n:064x}", n / 8 or None) for n in range(count)]
    memory = MediaHashes(path)
    memory.remember(rows)
    assert not memory.notes
    return rows


def test_no_flipped_bit_of_the_media_memory_is_believed(tmp_path: Path) -> None:
    """Whatever the bit, what is recalled is right; and what is not recalled any more, `verify --full` has named."""
    cache = Cache(tmp_path / "store")
    filled(cache)
    path = tmp_path / "store" / CORPUS / FILE
    rows = {row.path: row for row in remembered(path)}
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))
    lost = 0
    for position in {*range(100), *random.choice(used, 150, replace=False).tolist()}:
        data = bytearray(whole)
        data[position] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        found = fault(path)
        memory = MediaHashes(path)
        recalled = memory.recall()
        assert recalled.items() <= rows.items()
        if len(recalled) < len(rows):
            lost += 1
            assert found and memory.notes, (position, found)
            path.write_bytes(data)
            [problem] = verify(cache, full=True)
            assert (problem.stream, problem.object) == (f"{CORPUS}/-", FILE) and problem.reason.startswith("damaged: ")
            if lost % 8:
                continue
            # The next extraction makes it right.
            MediaHashes(path).recall()
            MediaHashes(path).remember(list(rows.values()))
            assert MediaHashes(path).recall() == rows and not fault(path)
    assert lost > 80
    path.write_bytes(whole)
    assert list(verify(cache, full=True)) == []


def test_a_media_memory_of_somebody_else(tmp_path: Path) -> None:
    """No database, other tables, a view in place of the table, rows that are none: not believed, made again."""
    path = tmp_path / FILE
    assert fault(path) is None and fault(None) is None
    path.write_bytes(b"no database at all" * 100)
    assert "damaged: file is not a database" in str(fault(path))
    for script in (
        "CREATE TABLE other (a); INSERT INTO other VALUES (1)",
        "CREATE VIEW media AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
        "CREATE TABLE media (path TEXT PRIMARY KEY, other INT); INSERT INTO media VALUES ('a', 1)",
    ):
        path.unlink()
        with sqlite3.connect(path) as made:
            made.executescript(script)
        made.close()
        assert str(fault(path)).startswith("damaged: it")
        memory = MediaHashes(path)
        assert memory.recall() == {} and "is damaged" in memory.notes[0] and not path.exists()
        path.touch()
    assert fault(path) is None and MediaHashes(path).recall() == {}  # empty, as a kill may leave it


def test_a_media_memory_whose_writer_was_killed(tmp_path: Path) -> None:
    """A kill in the middle of a write leaves a journal, which the next extraction rolls back."""
    live, killed = tmp_path / FILE, tmp_path / "killed" / FILE
    rows = {row.path: row for row in remembered(live, 3000)}
    with closing(sqlite3.connect(live, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 2")  # so that pages go to the file before the commit
        writer.execute("BEGIN")
        writer.execute("UPDATE media SET size = 7")
        killed.parent.mkdir()
        for name in (FILE, f"{FILE}-journal"):
            shutil.copy(tmp_path / name, killed.parent / name)
    memory = MediaHashes(killed)
    assert fault(killed) is None  # a check writes nothing, and there is nothing to tell
    assert memory.recall() == rows and not memory.notes and fault(killed) is None


def test_a_media_memory_of_an_earlier_version_is_used_and_sealed(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with sqlite3.connect(path) as made:
        made.execute(
            "CREATE TABLE media (path TEXT PRIMARY KEY, size INT, mtime_ns INT, inode INT, sha256 TEXT, duration REAL)"
        )
        made.execute("INSERT INTO media VALUES ('/a.wav', 1, 2, 3, ?, 0.5)", ("a" * 64,))
        made.execute("INSERT INTO media VALUES ('/b.wav', 1, 'x', 3, 'none', 0.5)")
    made.close()
    old = Remembered("/a.wav", 1, 2, 3, "a" * 64, 0.5)
    assert MediaHashes(path).recall() == {"/a.wav": old}
    new = old._replace(path="/c.wav", duration=None)
    MediaHashes(path).remember([new])
    assert MediaHashes(path).recall() == {"/a.wav": old, "/c.wav": new}
    assert fault(path) == "damaged: the checksums of 1 rows differ"
