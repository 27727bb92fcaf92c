"""A model hub and a file server on the loopback address, for the real client and the real downloads."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_MODEL = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_PLAIN = re.compile(r"/(files/.+|records/\d+/files/[^/]+)")
_RECORD = re.compile(r"/api/records/(\d+)")
_LARGE = 1 << 10  # bytes from which a file is "LFS", so that the hub tells its sha256


class SmallHub:
    """Serves `root/<org>/<name>/` as repositories, `root/files/` as plain files, and records as Zenodo does.

    The files of a record are in `root/records/<number>/files/`.

    Attributes:
        commits: {repository: the commit of its main branch}. pinned: {repository: other commits that are known}.
        licences, gated, wrong: what the hub says of a repository; whose sha256, or md5, it tells wrong.
        break_at, hang_at: {path: bytes after which its first answer breaks off, or hangs}. hanging: one hangs.
        never: is never set, to wait on.
        asked: how often each path was. ranges: "path start" of each answer from the middle on.
        sent: {path: bytes of content that were sent}.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commits: dict[str, str] = {}
        self.pinned: dict[str, set[str]] = {}
        self.licences: dict[str, str] = {}
        self.gated: set[str] = set()
        self.wrong: set[str] = set()
        self.break_at: dict[str, int] = {}
        self.hang_at: dict[str, int] = {}
        self.hanging, self.never = threading.Event(), threading.Event()
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.sent: Counter[str] = Counter()
        self.address = ""

    def commit_of(self, repository: str, revision: str) -> str | None:
        """The commit that a revision stands for; None where there is none."""
        main = self.commits.get(repository, hashlib.sha1(repository.encode()).hexdigest())
        if not (self.root / repository).is_dir():
            return None
        return {"main": main, main: main}.get(revision) or (
            revision if revision in self.pinned.get(repository, set()) else None
        )


@contextmanager
def serving(hub: SmallHub) -> Iterator[SmallHub]:
    """Serve until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            self.path = self.path.partition("?")[0]
            hub.asked[f"{self.command} {self.path}"] += 1
            if found := _MODEL.fullmatch(self.path):
                self._model(found[1], found[2] or "main")
            elif found := _FILE.fullmatch(self.path):
                self._file_of(found[1], found[2], found[3], body)
            elif found := _RECORD.fullmatch(self.path):
                self._record(found[1])
            elif (found := _PLAIN.fullmatch(self.path)) and (hub.root / found[1]).is_file():
                self._bytes((hub.root / found[1]).read_bytes(), {}, body)
            else:
                self._send(404, {}, b"")

        def _model(self, repository: str, revision: str) -> None:
            commit = hub.commit_of(repository, revision)
            if commit is None:
                code = "RevisionNotFound" if (hub.root / repository).is_dir() else "RepoNotFound"
                self._send(404, {"X-Error-Code": code}, b"{}")
                return
            files = sorted(file for file in (hub.root / repository).iterdir() if file.is_file())
            siblings = []
            for file in files:
                told: dict[str, Any] = {"rfilename": file.name, "size": file.stat().st_size}
                if file.stat().st_size >= _LARGE:
                    digest = hashlib.sha256(file.read_bytes() + (b"!" if repository in hub.wrong else b"")).hexdigest()
                    told["lfs"] = {"sha256": digest, "size": file.stat().st_size, "pointerSize": 130}
                siblings.append(told)
            card = {"license": hub.licences.get(repository, "apache-2.0")}
            document = {"id": repository, "sha": commit, "siblings": siblings, "cardData": card}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

        def _record(self, number: str) -> None:
            files = []
            for file in sorted((hub.root / "records" / number / "files").iterdir()):
                digest = hashlib.md5(file.read_bytes() + (b"!" if number in hub.wrong else b"")).hexdigest()
                files.append({"key": file.name, "size": file.stat().st_size, "checksum": f"md5:{digest}"})
            self._send(200, {"Content-Type": "application/json"}, json.dumps({"files": files}).encode())

        def _file_of(self, repository: str, revision: str, name: str, body: bool) -> None:
            commit, file = hub.commit_of(repository, revision), hub.root / repository / name
            if commit is None or not file.is_file():
                self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
                return
            if repository in hub.gated and self.headers.get("Authorization") != "Bearer let-me-in":
                self._send(403, {"X-Error-Code": "GatedRepo"}, b"")
                return
            data = file.read_bytes()
            self._bytes(data, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}, body)

        def _bytes(self, data: bytes, headers: dict[str, str], body: bool) -> None:
            start, status = 0, 200
            if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                start, status = int(asked[1]), 206
                hub.ranges.append(f"{self.path} {start}")
                headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                if start >= len(data):
                    self._send(416, {}, b"")
                    return
            limit = (hub.break_at | hub.hang_at).get(self.path) if body else None
            if body:
                hub.break_at.pop(self.path, None)
            self._send(status, headers | {"Accept-Ranges": "bytes"}, data[start:], body, limit)

        def _send(
            self, status: int, headers: dict[str, str], data: bytes, body: bool = True, limit: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body and self.command != "HEAD":
                self.wfile.write(data if limit is None else data[:limit])
                hub.sent[self.path] += len(data if limit is None else data[:limit])
            if limit is not None and hub.hang_at.pop(self.path, None) is not None:
                self.wfile.flush()
                hub.hanging.set()
                self.rfile.read(1)  # until the other side is gone
            if limit is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
