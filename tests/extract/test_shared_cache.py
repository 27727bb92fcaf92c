"""One cache for two users of a group, and a cache that may only be read: through the real command line."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import emocache
from emocache.cache import Cache, EmocacheError
from emocache.cache.local import LocalObjects
from emocache.cache.media_hashes import FILE, MediaHashes
from emocache.cli import app
from emocache.extract.corpora import MediaHasher
from emocache.extract.listing import parse_mapping

GROUP, ANNA, BEN = 64242, 64001, 64002
RATE = 16_000
CALL = "import sys; from emocache.cli import main; main()"


def clip(path: Path, seed: int) -> None:
    """A clip last written long ago, so that its time stamp can be trusted; one written over keeps size and inode."""
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(RATE // 2), RATE)
    os.utime(path, (10**9, 10**9))


def write_table(folder: Path, names: str) -> None:
    rows = [f"{name}.wav,{('happy', 'sad')[n % 2]},{name}" for n, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join(["file,emotion,spk", *rows]))


def arguments(root: Path, *more: str) -> list[str]:
    columns = ["--map", "id=file,label=emotion", "--map", "speaker=spk"]
    return ["extract", "table", "--data", str(root / "data"), "--cache", str(root / "store"), *columns,
            "--encoder", "mfcc", "--device", "cpu", *more]  # fmt: skip


@pytest.fixture
def shared() -> Iterator[Path]:
    """Three clips, and a folder that a group may write, outside pytest's own, which only its user may enter."""
    with TemporaryDirectory(prefix="emocache-shared-") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "data").mkdir(mode=0o755)
        for n, letter in enumerate("abc"):
            clip(root / "data" / f"{letter}.wav", n)
        write_table(root / "data", "abc")
        (root / "store").mkdir()
        yield root


def as_user(user: int, *call: str) -> list[str]:
    """The command line that runs as a user of the group; skips the test where this process may not do that."""
    setpriv = shutil.which("setpriv")
    if os.name == "nt" or os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can run a command as two users, with util-linux's setpriv")
    plain = [setpriv, f"--reuid={user}", f"--regid={user}", f"--groups={GROUP}"]
    # An interpreter in root's home can only be read by others with this capability, which writes nothing.
    readable = [*plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    for prefix in (plain, readable):
        probe = subprocess.run([*prefix, sys.executable, "-c", "import numpy"], capture_output=True, check=False)
        if probe.returncode == 0:
            return [*prefix, *call]
    pytest.skip(f"another user cannot run {sys.executable}")


def run(root: Path, user: int, *more: str) -> subprocess.CompletedProcess[str]:
    """`emocache extract` as a user whose files the group may write."""
    command = as_user(user, sys.executable, "-c", CALL, *arguments(root, *more))
    package = str(Path(emocache.__file__).parent.parent)
    environment = {**os.environ, "HOME": str(root), "PYTHONPATH": package, "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, env=environment, cwd=root, umask=0o002, capture_output=True, text=True, check=False)


def writable_by_others(store: Path) -> set[str]:
    """What the group may not write."""
    return {p.name for p in store.rglob("*") if not stat.S_IMODE(p.stat().st_mode) & stat.S_IWGRP}


def test_two_users_of_a_group_share_a_cache_and_what_it_remembers(shared: Path) -> None:
    store, memory = shared / "store", shared / "store" / "table" / FILE
    os.chown(store, 0, GROUP)
    store.chmod(0o2775)
    first = run(shared, ANNA)
    assert first.returncode == 0 and "3 items committed" in first.stdout, first.stderr
    assert memory.stat().st_uid == ANNA and memory.stat().st_gid == GROUP
    assert writable_by_others(store) == set()

    # Ben hashes what is new and nothing else: had he read a.wav, he would have found other sound in it.
    clip(shared / "data" / "a.wav", 99)
    clip(shared / "data" / "d.wav", 3)
    write_table(shared / "data", "abcd")
    second = run(shared, BEN)
    assert second.returncode == 0 and "1 items committed" in second.stdout, second.stderr
    assert "hash" not in second.stderr
    with closing(sqlite3.connect(memory)) as opened:
        assert opened.execute("SELECT count(*) FROM media").fetchall() == [(4,)]
    assert writable_by_others(store) == set() and {p.stat().st_gid for p in store.rglob("*")} == {GROUP}
    assert {p.stat().st_uid for p in store.rglob("*")} == {ANNA, BEN}

    # A memory that only its owner may write, as earlier versions made it, is read, and the rest is told.
    memory.chmod(0o644)
    clip(shared / "data" / "e.wav", 4)
    write_table(shared / "data", "abcde")
    third = run(shared, BEN)
    assert third.returncode == 0 and "1 items committed" in third.stdout, third.stderr
    assert f"{memory} cannot be written" in third.stderr and "will be hashed again next time" in third.stderr
    assert "chmod g+w" in third.stderr


def test_a_finished_stream_of_a_cache_that_may_only_be_read(shared: Path) -> None:
    store = shared / "store"
    assert CliRunner().invoke(app, arguments(shared, "--pca", "2", "--fit-on", "all")).exit_code == 0
    next(store.glob("table/mfcc@*/index.arrow")).unlink()  # nor is an index needed
    for path in [store, *store.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    done = run(shared, BEN, "--pca", "2", "--fit-on", "all")
    assert done.returncode == 0 and "nothing to extract" in done.stdout, done.stderr
    assert "hash" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_nothing_is_written_for_a_finished_stream(
    shared: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a file system says that may only be read; and what is missing cannot be extracted, in one line."""
    call = arguments(shared, "--pca", "2", "--fit-on", "all")
    assert CliRunner().invoke(app, call).exit_code == 0

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    for name in ("put_shard", "create", "replace", "delete"):
        monkeypatch.setattr(LocalObjects, name, refuse)
    again = CliRunner().invoke(app, call)
    assert again.exit_code == 0 and "nothing to extract" in again.stdout, again.output
    [index] = (shared / "store").glob("table/mfcc@*/index.arrow")
    index.unlink()
    assert CliRunner().invoke(app, call).exit_code == 0
    clip(shared / "data" / "d.wav", 3)
    write_table(shared / "data", "abcd")
    assert CliRunner().invoke(app, call).exit_code != 0


def test_an_index_is_written_only_where_it_says_something_new(tmp_path: Path, shared: Path) -> None:
    assert CliRunner().invoke(app, arguments(shared)).exit_code == 0
    [index] = (shared / "store").glob("table/mfcc@*/index.arrow")
    before = index.stat()
    assert CliRunner().invoke(app, arguments(shared)).exit_code == 0
    assert index.stat() == before


def test_a_projection_alone_is_told(shared: Path) -> None:
    first = CliRunner().invoke(app, arguments(shared))
    assert "3 items committed" in first.stdout and "nothing to extract" not in first.stdout
    projected = CliRunner().invoke(app, arguments(shared, "--pca", "2", "--fit-on", "all"))
    assert "table: mfcc, mfcc.pca2: 3 items committed" in projected.stdout and "3 were there" in projected.stdout
    assert "nothing to extract" not in projected.stdout
    again = CliRunner().invoke(app, arguments(shared, "--pca", "2", "--fit-on", "all"))
    assert " 0 items committed" in again.stdout and "nothing to extract: everything is in the cache" in again.stdout


def test_maps_add_up(shared: Path) -> None:
    assert parse_mapping(["id=name,label=emotion", "speaker=spk"]) == {
        "id": "name",
        "label": "emotion",
        "speaker": "spk",
    }
    assert parse_mapping(None) == parse_mapping([]) == parse_mapping([""]) == {}
    assert CliRunner().invoke(app, arguments(shared)).exit_code == 0  # with two --map
    assert Cache(shared / "store").manifest("table").column("speaker") == ["a", "b", "c"]
    data = ["--data", str(shared / "data")]
    maps = ["--map", "id=file,label=emotion", "--map", "speaker=spk"]
    counted = CliRunner().invoke(app, ["corpora", "table", *data, *maps])
    assert counted.exit_code == 0 and re.search(r"speakers +3\n", counted.stdout) and "happy" in counted.stdout
    for command in (arguments(shared), ["corpora", "table", *data, "--map", "speaker=spk"]):
        twice = CliRunner().invoke(app, [*command, "--map", "speaker=file"])
        assert twice.exit_code == 2 and "'speaker' is given twice" in twice.output


def test_writers_of_one_memory_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while another has the file locked loses nothing."""
    for n, letter in enumerate("ab"):
        clip(tmp_path / f"{letter}.wav", n)
    memory = tmp_path / FILE
    MediaHasher(memory).probe([tmp_path / "a.wav"])
    connect, arrived = sqlite3.connect, threading.Event()
    lock = connect(memory, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")

    def arriving(name: str, **options: Any) -> sqlite3.Connection:
        if "mode=rw" in name:
            arrived.set()
        made: sqlite3.Connection = connect(name, **options)
        return made

    monkeypatch.setattr(sqlite3, "connect", arriving)
    hasher = MediaHasher(memory)
    other = threading.Thread(target=hasher.probe, args=([tmp_path / "b.wav"],))
    other.start()
    assert arrived.wait(60)
    lock.execute("COMMIT")
    lock.close()
    other.join()
    assert not hasher.notes and len(MediaHashes(memory).recall()) == 2


def test_a_memory_out_of_reach_is_told_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(tmp_path / "a.wav", 0)
    taken = MediaHasher(tmp_path / "a.wav" / FILE)
    assert taken.probe([tmp_path / "a.wav"]) and "cannot be written (File exists)" in taken.notes[0]
    first = MediaHasher(tmp_path / FILE)
    first.probe([tmp_path / "a.wav"])
    assert not first.notes

    def locked(*_: Any, **__: Any) -> Any:
        error = sqlite3.OperationalError("locking protocol")
        error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
        raise error

    monkeypatch.setattr(sqlite3, "connect", locked)  # as a network file system without locks may say
    second = MediaHasher(tmp_path / FILE)
    assert second.probe([tmp_path / "a.wav"])
    assert "cannot be read (locking protocol), so all media are hashed again" in second.notes[0]
    assert "cannot be written (locking protocol)" in second.notes[1] and (tmp_path / FILE).exists()
    with pytest.raises(EmocacheError):
        second.probe([tmp_path / "gone.wav"])
