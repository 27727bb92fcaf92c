"""A proxy before a store that loses, delays and spoils answers, as networks and busy stores do."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("drop", "delay", "500", "503", "lose", "cut", "500 after")
"""drop: no answer, nothing done; delay: some ms; 500, 503: nothing done; lose: done, and no answer; cut: done, and half
an answer; 500 after: done, and 500 is answered, as a gateway does that has lost the answer."""

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DELAY = 0.005  # seconds

Choose = Callable[[str, str], str]
"""From the method and the path of a request to its fault, "" for none."""


def now_and_then(seed: int, share: float) -> Choose:
    """Any fault, for so many of all requests; those of one request and the next are drawn one by one."""
    drawn = random.Random(seed)
    return lambda method, path: drawn.choice(FAULTS) if drawn.random() < share else ""


class Proxy(ThreadingHTTPServer):
    """Hands one request after the other to a server, whose own checks and writes may then take their time.

    Args:
        upstream: host and port of the server.
        choose: the fault of each request.

    Attributes:
        seen: how many requests met each fault; "" for none.
        requests: the methods and paths, in order.
    """

    daemon_threads = True

    def __init__(self, upstream: tuple[str, int], choose: Choose) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.choose = choose
        self.seen: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is nobody's trouble."""


@contextmanager
def proxy(upstream: tuple[str, int], choose: Choose) -> Iterator[Proxy]:
    """A proxy that answers until the block ends."""
    server = Proxy(upstream, choose)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers: list[tuple[str, str]] = []
        with self.server.lock:
            fault = self.server.choose(self.command, self.path)
            self.server.seen[fault] += 1
            self.server.requests.append((self.command, self.path))
            if fault == "delay":
                time.sleep(_DELAY)
            if fault in ("drop", "500", "503"):
                status, content = int(fault) if fault != "drop" else 0, _SLOW_DOWN
            else:
                status, headers, content = self.forward(body)
        if fault == "500 after":
            status, headers, content = 500, [], b""
        if fault in ("drop", "lose"):
            self.close_connection = True
            return
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "cut":
            self.close_connection = True
            content = content[: len(content) // 2]
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            hidden = {"connection", "transfer-encoding"} | ({"content-length"} if self.command != "HEAD" else set())
            told = [(name, value) for name, value in response.getheaders() if name.lower() not in hidden]
            return response.status, told, response.read()
        finally:
            connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass
