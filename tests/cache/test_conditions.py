"""A store that takes every put, whatever its condition, against one that heeds it: a server on the loopback address."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from obstore.store import S3Store

from emocache.cache import EmocacheError
from emocache.cache.objects import create_once
from emocache.cache.remote import Creating, RemoteObjects

Open = Callable[..., tuple[RemoteObjects, dict[str, bytes]]]


class _Handler(BaseHTTPRequestHandler):
    """As much of S3 as putting, getting and deleting one object takes."""

    protocol_version = "HTTP/1.1"
    held: dict[str, bytes]
    heeds: bool

    def answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.heeds and self.headers.get("If-None-Match") == "*" and self.path in self.held:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        self.held[self.path] = body
        self.answer(200)

    def do_GET(self) -> None:
        body = self.held.get(self.path)
        self.answer(404) if body is None else self.answer(200, body)

    def do_HEAD(self) -> None:
        body = self.held.get(self.path)
        self.answer(404) if body is None else self.answer(200, length=len(body))

    def do_POST(self) -> None:
        """Deleting, which S3 takes as a list."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall("<Key>(.*?)</Key>", body)
        for key in keys:
            self.held.pop(f"/bucket/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def opened() -> Iterator[Open]:
    """Function from what a store heeds to the store, and what lies in it."""
    servers = []

    def start(heeds: bool, single_writer: bool = False) -> tuple[RemoteObjects, dict[str, bytes]]:
        handler = type("Handler", (_Handler,), {"held": {}, "heeds": heeds})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        store = S3Store(
            "bucket", endpoint=f"http://127.0.0.1:{server.server_port}", access_key_id="a", secret_access_key="b",
            region="us-east-1", virtual_hosted_style_request=False, client_options={"allow_http": True},
        )  # fmt: skip
        return RemoteObjects("s3://bucket", store, "cache", Creating(single_writer)), handler.held  # type: ignore[attr-defined]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_store_that_heeds_conditions_has_one_winner(opened: Open) -> None:
    objects, held = opened(heeds=True)
    below = objects.below("toy/stream")
    assert create_once(below, "commits/1", b"first") and not create_once(below, "commits/1", b"second")
    assert held == {"/bucket/cache/toy/stream/commits/1": b"first"}  # nothing is left of the proof
    assert objects.creating.proved


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_created(opened: Open) -> None:
    objects, held = opened(heeds=False)
    with pytest.raises(EmocacheError, match=r"ignores the condition of a put .* --single-writer"):
        create_once(objects.below("toy"), "commits/1", b"first")
    assert held == {}


def test_a_single_writer_looks_before_it_puts(opened: Open) -> None:
    objects, held = opened(heeds=False, single_writer=True)
    assert create_once(objects, "commits/1", b"first") and not create_once(objects, "commits/1", b"second")
    assert held == {"/bucket/cache/commits/1": b"first"}
