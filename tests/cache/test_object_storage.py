"""S3 by moto, behind a proxy that spoils requests: the store holds what a folder does that was written plainly."""

import http.client
import logging
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from emocache.cache import Cache, EmocacheError
from emocache.cache import providers as providers_
from emocache.cache.objects import create_once
from emocache.cache.opening import open_objects
from emocache.cache.patience import Patience
from emocache.cache.remote import RemoteObjects
from emocache.cache.verify import verify

from .conftest import snapshot
from .faulty_proxy import FAULTS, now_and_then, proxy
from .s3_writer import UNITS, write

ROOT = Path(__file__).parents[2]
Address = tuple[str, int]


@pytest.fixture(scope="module")
def moto() -> Iterator[Address]:
    """Host and port of an S3 server in this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def bucket(moto: Address, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket of the test's own; the environment tells where it is."""
    name = f"b{zlib.crc32(request.node.nodeid.encode())}"
    connection = http.client.HTTPConnection(*moto)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()
    reach(monkeypatch, f"http://{moto[0]}:{moto[1]}")
    return f"s3://{name}/some/where"


def reach(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in (("ENDPOINT_URL", endpoint), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two tries: not obstore, and not ours."""
    monkeypatch.setattr(providers_, "_RETRIES", {"max_retries": 0})
    monkeypatch.setattr("emocache.cache.remote.Patience", lambda: Patience(sleep=lambda seconds: None, tell=print))


def same_as_plain(url: str, tmp_path: Path) -> None:
    """The cache holds what one in a folder does that was written without trouble, and is whole."""
    plain = Cache(tmp_path / "plain")
    write(plain)
    cache = Cache(url)
    assert snapshot(cache.stream("toy", "toy")) == snapshot(plain.stream("toy", "toy"))
    assert list(verify(cache, full=True)) == []


def test_s3_of_the_tests_heeds_conditions(bucket: str) -> None:
    objects = open_objects(bucket)
    assert isinstance(objects, RemoteObjects)
    assert create_once(objects, "a", b"1") and not create_once(objects, "a", b"2") and objects.creating.proved
    assert objects.get("a") == b"1" and objects.names("") == ["a"] and objects.names("", "a") == ["a"]


def test_any_fault_anywhere(
    bucket: str, moto: Address, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(moto, now_and_then(0, 0.25)) as between:
        reach(monkeypatch, between.url)
        write(Cache(bucket))
        same_as_plain(bucket, tmp_path)
        assert set(between.seen) == {"", *FAULTS}


@pytest.mark.parametrize("fault", ["lose", "500 after"])
def test_an_answer_that_is_lost_after_the_record_was_created(
    bucket: str, moto: Address, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer to each conditional put is lost; asked again, the store says that the name is taken: by us."""
    met = set[str]()

    def choose(method: str, path: str) -> str:
        documents = ("/commits/" in path or "/plans/" in path or path.endswith("recipe.json")) and method == "PUT"
        if not documents or path in met:
            return ""
        met.add(path)
        return fault

    monkeypatch.setattr("emocache.cache.remote.Patience", lambda: Patience(sleep=lambda seconds: None, tell=print))
    with proxy(moto, choose) as between:
        reach(monkeypatch, between.url)
        write(Cache(bucket))
        assert between.seen[fault] == len(met) == UNITS + 2
    same_as_plain(bucket_at(moto, bucket, monkeypatch), tmp_path)
    cache = Cache(bucket)
    names = cache.objects.names(f"{cache.streams('toy')[0].folder}/commits")
    assert len(names) == UNITS and all(name.endswith(".0.json") for name in names)  # none was committed a second time


def bucket_at(moto: Address, bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    reach(monkeypatch, f"http://{moto[0]}:{moto[1]}")
    return bucket


@pytest.mark.slow
def test_three_writers_and_kills(bucket: str, moto: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes want all of one stream through a network that spoils every tenth request; two are killed."""
    with proxy(moto, now_and_then(2, 0.1)) as between:
        reach(monkeypatch, between.url)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "tests.cache.s3_writer", bucket]
        writers = [
            subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        try:
            for writer, units in zip(writers[:2], (2, 4), strict=True):  # in the middle of a unit
                assert writer.stdout is not None
                for _ in range(units):
                    writer.stdout.readline()
                writer.kill()
            assert writers[2].wait(120) == 0 and writers[0].wait(10) == writers[1].wait(10) == -9
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()
        assert between.seen[""] and len(between.seen) > 4
    same_as_plain(bucket_at(moto, bucket, monkeypatch), tmp_path)


def test_a_large_object_whose_last_answer_is_lost(
    bucket: str, moto: Address, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that were put together are gone for who asks again, so that all is put once more."""
    data = os.urandom(9 << 20)
    lost: list[str] = []

    def choose(method: str, path: str) -> str:
        if method == "POST" and "uploadId" in path and not lost:
            lost.append(path)
            return "lose"
        return ""

    with proxy(moto, choose) as between:
        reach(monkeypatch, between.url)
        objects = open_objects(bucket)
        objects.replace("large", data)
        assert objects.get("large") == data and len(lost) == 1
        assert sum(method == "PUT" for method, _ in between.requests) == 4


def test_waiting_is_told_once_and_ends(
    bucket: str, moto: Address, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    now, told, down = [0.0], list[str](), [False]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    said = "503 Service Unavailable (SlowDown: Please reduce your request rate.)"
    with proxy(moto, lambda method, path: "503" if down[0] else "") as between:
        reach(monkeypatch, between.url)
        objects = open_objects(bucket)
        assert isinstance(objects, RemoteObjects)
        objects.patience = Patience(clock=lambda: now[0], sleep=sleep, tell=told.append, between_lines=1e9)
        objects.replace("a", b"1")
        down[0] = True
        with pytest.raises(OSError) as caught:
            objects.below("below").replace("a", b"2")
        pattern = r", asked \d\d times in 300 s; try again later"
        assert re.fullmatch(re.escape(f"{bucket}/below/a: {said}") + pattern, str(caught.value))
        assert told == [f"{bucket}/below makes us wait ({said}); asking again for 300 s"]
        began, tries = now[0], len(between.requests)
        with pytest.raises(EmocacheError, match="what was committed is safe: mend the cause"):
            create_once(objects, "b", b"2")
        assert now[0] - began < 12 * 15 + 1 and len(between.requests) - tries < 80  # given up once: less patient now
        assert len(told) == 1
        down[0] = False
        assert objects.get("a") == b"1" and create_once(objects, "b", b"2")
