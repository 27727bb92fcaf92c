"""Copies of remote shards on a disk here: the same bits, within the limit, whatever happens to the copies."""

import errno
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from obstore.store import LocalStore

from emocache.cache import Cache, DamagedError, EmocacheError, LocalCopy, Stream, items, local_copy, ranges
from emocache.cache.commit import Record
from emocache.cache.remote import RemoteObjects

from .conftest import CORPUS, IDS, assert_serves, fill, item, manifest, plain_recipe, recipe, snapshot

MANY = [f"u{n:02d}" for n in range(12)]


class Far(RemoteObjects):
    """A folder that is read like an object store; counts what is asked for."""

    asked: ClassVar[list[tuple[str, int, int]]] = []

    def get_range(self, path: str, start: int, length: int) -> bytes:
        self.asked.append((path, start, length))
        return super().get_range(path, start, length)


def far(folder: Path, copy: LocalCopy | Path | None = None) -> Cache:
    """The cache in a folder as a remote one."""
    cache = Cache("memory://", local_copy=copy)
    cache.objects = Far("far://store", LocalStore(folder))
    Far.asked.clear()
    return cache


@pytest.fixture
def store(tmp_path: Path, backend: str) -> Path:
    """A stream of explicit times and auxiliary arrays in four shards."""
    cache = Cache(tmp_path / "store")
    cache.put_manifest(manifest([*IDS, *MANY]))
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    fill(writer, {i: item(i, recipe()) for i in [*IDS, *MANY]}, units=4)
    return tmp_path / "store"


def plain(folder: Path, shards: int, rows: int = 2000) -> Path:
    """A stream of frames only in several shards of about 20 KB, in one object each."""
    cache = Cache(folder)
    cache.put_manifest(manifest(MANY[:shards]))
    writer = cache.create_stream(CORPUS, "toy", plain_recipe(), backend="hdf5")
    fill(writer, {i: item(i, plain_recipe(), frames=rows) for i in MANY[:shards]}, units=shards)
    return folder


def files(folder: Path) -> dict[str, int]:
    """{name: bytes} of all copies and parts."""
    return {path.name: path.stat().st_size for path in folder.glob("*/*")}


def test_the_same_bits_and_nothing_is_fetched_twice(store: Path, tmp_path: Path) -> None:
    expected = snapshot(Cache(store).stream(CORPUS, "toy"))
    assert snapshot(far(store, tmp_path / "copy").stream(CORPUS, "toy")) == expected
    assert Far.asked and all(start == 0 for _, start, _ in Far.asked)
    assert len(Far.asked) == len({path for path, _, _ in Far.asked}) == len(files(tmp_path / "copy"))
    for order in (IDS, MANY[::-1]):
        again = far(store, tmp_path / "copy").stream(CORPUS, "toy")
        frames, _ = again.read_many(order)
        assert frames.tobytes() == b"".join(expected[i][0] for i in order) and not Far.asked
    assert snapshot(again) == expected and not Far.asked
    # Names come from hashes, and nothing but copies is left.
    assert all(re.fullmatch(r"[0-9a-f]{64}\.copy", name) for name in files(tmp_path / "copy"))


def test_large_objects_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain(tmp_path / "store", 2)
    monkeypatch.setattr(local_copy, "_PART", 1000)
    expected = snapshot(Cache(tmp_path / "store").stream(CORPUS, "toy"))
    assert snapshot(far(tmp_path / "store", tmp_path / "copy").stream(CORPUS, "toy")) == expected
    assert len(Far.asked) > 40 and all(length <= 1000 for _, _, length in Far.asked)


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    plain(tmp_path / "store", 4)
    size = max(f.stat().st_size for f in (tmp_path / "store").rglob("*.h5"))
    copy = LocalCopy(tmp_path / "copy", 3 * size)
    cache = far(tmp_path / "store", copy)
    names: dict[str, str] = {}
    for number, i in enumerate(MANY[:3]):
        before = set(files(tmp_path / "copy"))
        cache.stream(CORPUS, "toy").read(i)
        [names[i]] = set(files(tmp_path / "copy")) - before
        os.utime(next((tmp_path / "copy").glob(f"*/{names[i]}")), (number, number))
    cache.stream(CORPUS, "toy").read(MANY[0])  # is used again
    cache.stream(CORPUS, "toy").read(MANY[3])
    left = files(tmp_path / "copy")
    assert names[MANY[1]] not in left and {names[MANY[0]], names[MANY[2]]} < set(left)
    assert sum(left.values()) <= 3 * size


def test_what_is_in_use_stays_and_the_rest_is_read_from_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(tmp_path / "store", 6)
    size = max(f.stat().st_size for f in (tmp_path / "store").rglob("*.h5"))
    stream = far(tmp_path / "store", LocalCopy(tmp_path / "copy", 2 * size)).stream(CORPUS, "toy")
    for _ in range(3):
        assert_serves(stream, {i: item(i, plain_recipe(), frames=2000) for i in MANY[:6]})
        assert len(files(tmp_path / "copy")) == 2
    kept = files(tmp_path / "copy")
    other = far(tmp_path / "store", LocalCopy(tmp_path / "copy", 2 * size)).stream(CORPUS, "toy")
    other.array()
    assert files(tmp_path / "copy") == kept  # another process would not take them either
    told = capsys.readouterr().err
    assert told.count("takes no more (its limit of") == 2 and told.count("what it lacks is read from far://store/") == 2
    del stream, other
    far(tmp_path / "store", LocalCopy(tmp_path / "copy", size - 1)).stream(CORPUS, "toy").read(MANY[5])
    assert files(tmp_path / "copy") == kept  # nothing goes for what finds no room in any case
    far(tmp_path / "store", LocalCopy(tmp_path / "copy", 2 * size)).stream(CORPUS, "toy").read(MANY[5])
    assert len(files(tmp_path / "copy")) == 2 and files(tmp_path / "copy") != kept


def test_without_a_limit_a_gib_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain(tmp_path / "store", 1)
    size = next((tmp_path / "store").rglob("*.h5")).stat().st_size
    for free, there in (((1 << 30) + size - 1, 0), ((1 << 30) + size, 1)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: (0, 0, free) and _Usage(free))
        assert_serves(
            far(tmp_path / "store", tmp_path / "copy").stream(CORPUS, "toy"),
            {MANY[0]: item(MANY[0], plain_recipe(), frames=2000)},
        )
        assert len(files(tmp_path / "copy")) == there


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def damage_none(path: Path) -> None:
    path.unlink()


def damage_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(byte ^ 1 for byte in data))


@pytest.mark.parametrize("damage", [damage_none, damage_short, damage_empty, damage_bit])
def test_a_damaged_copy_is_fetched_anew(store: Path, tmp_path: Path, damage: Any) -> None:
    expected = snapshot(Cache(store).stream(CORPUS, "toy"))
    far(store, tmp_path / "copy").stream(CORPUS, "toy").array()
    good = files(tmp_path / "copy")
    for path in (tmp_path / "copy").glob("*/*.copy"):
        damage(path)
    assert snapshot(far(store, tmp_path / "copy").stream(CORPUS, "toy")) == expected
    assert Far.asked and files(tmp_path / "copy") == good
    assert snapshot(far(store, tmp_path / "copy").stream(CORPUS, "toy")) == expected and not Far.asked


def test_a_shard_that_is_not_that_of_its_record_is_refused(store: Path, tmp_path: Path) -> None:
    stream = Cache(store).stream(CORPUS, "toy")
    name = stream.objects.names("commits")[0]
    record = Record.from_bytes(stream.objects.get(f"commits/{name}"), name)
    path = record.arrays["frames"].object
    good = stream.objects.get(path)
    for wrong, told in (
        (good[:-1] + bytes([good[-1] ^ 1]), "its bytes are not those of its record"),
        (good[: len(good) // 2], f"has {len(good) // 2} bytes, its record says {len(good)}"),
        (good + b"more", f"has {len(good) + 4} bytes, its record says {len(good)}"),
    ):
        stream.objects.replace(path, wrong)
        for call in ("read", "array"):
            copied = far(store, tmp_path / "copy").stream(CORPUS, "toy")
            with pytest.raises(DamagedError, match=f"^far://store/.*/{re.escape(path)}:? {told}"):
                copied.read(record.items[0].id) if call == "read" else copied.array()
        assert not [name for name in files(tmp_path / "copy") if name.endswith(".part")]
    stream.objects.delete(path)
    with pytest.raises(EmocacheError, match=f"^far://store/.*/{re.escape(path)} is gone"):
        far(store, tmp_path / "copy").stream(CORPUS, "toy").read(record.items[0].id)
    stream.objects.replace(path, good)
    assert_serves(far(store, tmp_path / "copy").stream(CORPUS, "toy"), {i: item(i, recipe()) for i in stream.ids})


def test_items_that_contradict_a_shard_are_refused_after_one_more_fetch(tmp_path: Path) -> None:
    """A writer's fault: the bytes are those of the record, and not those of the item."""
    plain(tmp_path / "store", 1)
    objects = Cache(tmp_path / "store").stream(CORPUS, "toy").objects
    [name] = objects.names("commits")
    record = Record.from_bytes(objects.get(f"commits/{name}"), name)
    wrong = tuple(entry._replace(crc32c=entry.crc32c ^ 1) for entry in record.items)
    objects.replace(f"commits/{name}", Record(**{**vars(record), "items": wrong}).to_bytes())
    objects.delete("index.arrow")
    stream = far(tmp_path / "store", tmp_path / "copy").stream(CORPUS, "toy")
    for _ in range(3):
        with pytest.raises(DamagedError, match="are not those that were committed"):
            stream.read(MANY[0])
    assert len(Far.asked) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_told_once_and_reading_goes_on(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(tmp_path / "store", 4)
    copy = LocalCopy(tmp_path / "copy", 1 << 30)
    far(tmp_path / "store", copy).stream(CORPUS, "toy").read(MANY[0])
    written: list[int] = []

    def fail(descriptor: int, data: Any) -> int:
        written.append(len(data))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    stream = far(tmp_path / "store", copy).stream(CORPUS, "toy")
    for _ in range(2):
        assert_serves(stream, {i: item(i, plain_recipe(), frames=2000) for i in MANY[:4]})
    told = capsys.readouterr().err
    assert told.count("takes no more") == 1 and told.count("\n") == 1
    assert ("its disk is full" if number != errno.EIO else os.strerror(number)) in told
    assert len(files(tmp_path / "copy")) == 1 and len(written) == (1 if number != errno.EIO else 3)


def test_folders_that_do_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EmocacheError, match=r"the local copy .*file.* cannot be written or locked \(.*; give a fo"):
            Cache("memory://", local_copy=folder)
    with pytest.raises(EmocacheError, match="is a folder, which needs no local copy"):
        Cache(tmp_path / "store", local_copy=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_nothing_of_others_is_touched(tmp_path: Path) -> None:
    plain(tmp_path / "store", 3)
    copy = tmp_path / "copy"
    mine = [copy / "ab" / "notes.copy", copy / "ab" / "x.part", copy / "photo.jpg", copy / ("a" * 64 + ".copy")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine" * 10_000)
    size = max(f.stat().st_size for f in (tmp_path / "store").rglob("*.h5"))
    for i in MANY[:3]:
        far(tmp_path / "store", LocalCopy(copy, size)).stream(CORPUS, "toy").read(i)
    assert all(path.read_bytes() == b"mine" * 10_000 for path in mine)


def test_another_process_gets_the_same_folder_and_limit(store: Path, tmp_path: Path) -> None:
    copy = LocalCopy(tmp_path / "copy", 10**6)
    again = pickle.loads(pickle.dumps(copy))
    assert (again.folder, again.limit) == (tmp_path / "copy", 10**6)
    stream = far(store, copy).stream(CORPUS, "toy")
    expected = snapshot(stream)
    theirs = pickle.loads(pickle.dumps((stream, stream)))[1]
    Far.asked.clear()
    assert snapshot(theirs) == expected and not Far.asked
    assert [len(s._items._copies.used) for s in (theirs, stream)] == [len(files(tmp_path / "copy"))] * 2  # type: ignore[union-attr]


def child(store: Path, copy: Path, stops_at: int) -> "subprocess.Popen[str]":
    """A process that reads everything once it is told to, in parts of 1,000 bytes; waits for good at one of them."""
    code = f"""
import sys, threading
from tests.cache import test_local_copy as here
from emocache.cache import local_copy
from pathlib import Path
local_copy._PART, real, first = 1000, here.Far.get_range, threading.Lock()
def get_range(self, *args):
    if len(here.Far.asked) == {stops_at} and first.acquire(blocking=False):
        print("stopped", flush=True)
        threading.Event().wait()
    return real(self, *args)
here.Far.get_range = get_range
cache = here.far(Path(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
frames, _ = cache.stream("{CORPUS}", "toy").array()
print(len(here.Far.asked), here.np.sum(frames, dtype=float), flush=True)
"""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", code, str(store), str(copy)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def told(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_fetch_a_shard_once(tmp_path: Path) -> None:
    plain(tmp_path / "store", 4)
    both = [child(tmp_path / "store", tmp_path / "copy", -1) for _ in range(2)]
    assert [told(one) for one in both] == ["ready", "ready"]
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    found = [one.communicate()[0].split() for one in both]
    frames, _ = Cache(tmp_path / "store").stream(CORPUS, "toy").array()
    parts = sum(-(-f.stat().st_size // 1000) for f in (tmp_path / "store").rglob("*.h5"))
    assert sum(int(asked) for asked, _ in found) == parts
    assert {float(total) for _, total in found} == {float(np.sum(frames, dtype=float))}


def test_a_kill_leaves_a_part_that_the_next_one_removes(tmp_path: Path) -> None:
    plain(tmp_path / "store", 4)
    killed = child(tmp_path / "store", tmp_path / "copy", 30)
    assert told(killed) == "ready"
    assert killed.stdin is not None
    killed.stdin.write("\n")
    killed.stdin.flush()
    assert told(killed) == "stopped"
    parts = [name for name in files(tmp_path / "copy") if name.endswith(".part")]
    assert parts
    _ = LocalCopy(tmp_path / "copy").copies  # another process leaves alone what is being made
    assert set(parts) <= set(files(tmp_path / "copy"))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert set(parts) <= set(files(tmp_path / "copy"))
    stream = far(tmp_path / "store", tmp_path / "copy").stream(CORPUS, "toy")
    assert not [name for name in files(tmp_path / "copy") if name.endswith(".part")]
    assert_serves(stream, {i: item(i, plain_recipe(), frames=2000) for i in MANY[:4]})


def naive_runs(at: Sequence[int], record: Any, row: Any, length: Any, size: int) -> Iterator[list[int]]:
    run: list[int] = []
    for one in at:
        more = [*run, one]
        first, end = row[more[0]], max(row[m] + length[m] for m in more)
        before = max((row[m] + length[m] for m in run), default=0)
        if run and (
            record[one] != record[run[0]]
            or row[one] < first
            or (row[one] - before) * size > ranges._GAP_BYTES
            or (end - first) * size > ranges._RUN_BYTES
        ):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_of_neighbours(seed: int) -> None:
    random = np.random.default_rng(seed)
    record, length = np.sort(random.integers(0, 3, 50)), random.integers(0, 400, 50)
    row = np.concatenate([np.cumsum([0, *length[record == n][:-1]]) for n in range(3) if (record == n).any()])
    size = int(random.integers(1, 3000))
    at = [int(k) for k in random.integers(0, 50, 40)]
    for order in (at, sorted(at), list(range(50)), []):
        found = list(ranges.runs(order, record, row, length, lambda _: size))
        assert found == list(naive_runs(order, record, row, length, size))
        assert [one for run in found for one in run] == order


def test_without_a_copy_neighbours_come_by_one_request(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Cache(store).stream(CORPUS, "toy")
    expected = snapshot(local)
    random = np.random.default_rng(0)
    for wanted in (local.ids, [str(i) for i in random.choice(local.ids, 30)], [local.ids[3]], []):
        stream = far(store).stream(CORPUS, "toy")
        frames, offsets = stream.read_many(wanted)
        assert frames.tobytes() == b"".join(expected[i][0] for i in wanted)
        assert [clip.tobytes() for clip in stream.each(wanted)] == [expected[i][0] for i in wanted]
        assert np.diff(offsets).tolist() == local.lengths(wanted).tolist() if wanted else not len(frames)
    stream = far(store).stream(CORPUS, "toy")
    in_turn = stream.each(stream.stored_order(stream.ids))
    next(in_turn)
    assert sum(1 for _ in in_turn) == len(stream) - 1
    shards = len(list(stream.objects.names("commits")))
    assert len(Far.asked) == 4 * shards  # one for each of the four arrays
    assert snapshot(stream) == expected
    many: Any = Stream.read_many
    monkeypatch.setattr(items, "_REQUESTS", 1)
    assert many(far(store).stream(CORPUS, "toy"), local.ids)[0].tobytes() == local.array()[0].tobytes()
