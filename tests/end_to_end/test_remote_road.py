"""The whole road over an object store: every command, and the bits and scores of the same road in a folder."""

import base64
import hashlib
import hmac
import http.client
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
import soundfile
from moto.server import ThreadedMotoServer

from emocache.cache import Cache, Stream

from .conftest import Run
from .test_road import RATE, extract, predictions, train

# The account of every Azurite; its makers publish the key.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment says nothing of stores."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three speakers with a clip of each of two emotions."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = ["name,emotion,spk"]
    for number in range(6):
        emotion, pitch = [("sad", 150.0), ("happy", 600.0)][number % 2]
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(RATE // 4 + 100 * number) / RATE)
        soundfile.write(folder / f"{number}.wav", wave, RATE)
        lines.append(f"{number}.wav,{emotion},s{number // 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def s3(bare: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket of moto's."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        bare.setenv(f"AWS_{name}", value)
    assert ask(host, port, "PUT", "/bucket", {}) == 200
    yield "s3://bucket/caches/one"
    server.stop()


@pytest.fixture
def azure(bare: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of a container of Azurite's, on a machine that has it."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob, of npm's azurite, is not on this machine")
    options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", str(tmp_path / "azurite")]
    server = subprocess.Popen([program, *options, "--blobPort", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = next(int(line.rpartition(":")[2]) for line in server.stdout if "successfully listens" in line)
        headers = {"x-ms-date": formatdate(time.time(), usegmt=True), "x-ms-version": "2021-08-06"}
        signed = "PUT" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        signed += f"/{ACCOUNT}/{ACCOUNT}/container\nrestype:container"
        digest = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
        headers |= {"Authorization": f"SharedKey {ACCOUNT}:{digest}", "Content-Length": "0"}
        assert ask("127.0.0.1", port, "PUT", f"/{ACCOUNT}/container?restype=container", headers) == 201
        bare.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{port}/{ACCOUNT}")
        bare.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        bare.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        yield "az://container/caches/one"
    finally:
        server.terminate()
        server.wait()


def ask(host: str, port: int, method: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(host, port)
    connection.request(method, path, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def bits(stream: Stream) -> dict[str, tuple[bytes, int]]:
    return {i: (stream.read(i).tobytes(), stream.crc32c(i)) for i in stream.ids}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["s3", "azure"])
def test_every_command_over_an_object_store(
    emocache_: Run, corpus: Path, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(place)
    local = tmp_path / "store"
    empty = emocache_("cache", "ls", url)
    assert empty.status == 1 and empty.err.startswith(f"error: cache {url} ") and "Traceback" not in empty.err
    for where in (url, local):
        done = extract(emocache_, corpus, where, "--encoder", "mfcc")
        assert done[0] == 0, done[2]
    assert "nothing to extract" in extract(emocache_, corpus, url, "--encoder", "mfcc")[1]
    for name in ("logmel", "mfcc"):
        assert bits(Cache(url).stream("table", name)) == bits(Cache(local).stream("table", name)) != {}
    # The same lines, but for when and where.
    for command in ("ls", "info", "verify"):
        there, here = (emocache_("cache", command, where) for where in (url, local))
        assert there.status == here.status == 0, there.err
        assert [line.split()[:1] for line in there.out.splitlines()] == [
            line.split()[:1] for line in here.out.splitlines()
        ]
    assert emocache_("cache", "verify", "--full", url).out == "nothing wrong\n"
    assert emocache_("cache", "gc", url, "--grace-hours", 0).out.startswith("0 objects")
    copied = f"{url}-copy"
    assert emocache_("cache", "copy", local, copied).status == emocache_("cache", "copy", url, copied).status == 0
    assert bits(Cache(copied).stream("table", "mfcc")) == bits(Cache(local).stream("table", "mfcc"))
    for where, runs in ((url, "there"), (local, "here")):
        trained = emocache_(*train(where, tmp_path / runs), "--set", "search={}")
        assert trained.status == 0 and "3 trained" in trained.out, trained.err
    assert predictions(tmp_path / "there") == predictions(tmp_path / "here") != []
    assert emocache_("cache", "rm", url, "table", "--yes").status == 0
    assert list(Cache(url).objects.list("")) == []
    assert emocache_("cache", "verify", "--full", copied).status == 0
