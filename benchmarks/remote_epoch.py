"""An epoch from an object store that is 20 ms away, against one from a folder: `make bench-s3`.

A server of S3 (moto) in a process of its own, which waits before each answer, holds the frames. An epoch gathers all
batches as training does of a stream that memory has no room for, without a head, which would hide what reading costs.
Ratios are of speed, over pairs in turn; what both ways gather must be equal. A bound is missed, and the exit status 1,
where the whole interval lies below it.
"""

import argparse
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emocache.benchmarks.figures import Figure, print_figures
from emocache.benchmarks.ratios import checksum, make_frames
from emocache.cache import Cache, Item, Load, LocalCopy, Manifest, Utterance, items, plan_tasks, ranges
from emocache.cache.copy import copy
from emocache.train.config.loading import load_settings
from emocache.train.data.memory import Memory
from emocache.train.data.reading import load_dataset
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.transforms import prepare

_BUCKET, _URL = "bench", "s3://bench/store"
_BOUND = 1 / 1.2
_SIZE = 32


def serve(delay: float) -> None:
    """Serve S3 from memory and print the port; each answer comes `delay` seconds later than it could."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server
    from werkzeug.test import run_wsgi_app

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections

        def log_request(self, *_: object) -> None:
            pass

    app = DomainDispatcherApplication(create_backend_app)
    whole: dict[str, tuple[bytes, list[tuple[str, str]]]] = {}

    def late(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(delay)
        path, asked = environ["PATH_INFO"], environ.get("HTTP_RANGE")
        if environ["REQUEST_METHOD"] != "GET" or not asked or "/shards/" not in path:
            return app(environ, start)  # type: ignore[no-any-return]
        # moto copies all of an object for each of its ranges, which would be most of what is measured.
        if path not in whole:
            del environ["HTTP_RANGE"]
            parts, _, all_headers = run_wsgi_app(app, environ)
            kept = [(name, text) for name, text in all_headers if name.lower() in ("etag", "last-modified")]
            whole[path] = b"".join(parts), kept
        data, headers = whole[path]
        first, last = (int(text) for text in asked.removeprefix("bytes=").split("-"))
        cut = data[first : last + 1]
        told = [("Content-Length", str(len(cut))), ("Content-Range", f"bytes {first}-{last}/{len(data)}")]
        start("206 Partial Content", [*headers, *told])
        return [cut]

    server = make_server("127.0.0.1", 0, late, threaded=True, request_handler=Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def server(delay: float) -> Iterator[None]:
    """A server with an empty bucket, of which the environment tells, as long as the block lasts."""
    command = [sys.executable, "-m", "emocache.benchmarks.remote_epoch", "--serve", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("PUT", f"/{_BUCKET}")
            connection.getresponse().read()
            connection.close()
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ |= {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
            }
            yield
        finally:
            process.kill()


def fill(root: Path, frames: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the frames to a cache in a folder, and the same to the server."""
    cache = Cache(root)
    labels = ("happy", "sad", "angry", "neutral")
    rows = [Utterance(i, speaker=f"s{n % 8}", labels={"emotion": labels[n % 4]}) for n, i in enumerate(frames)]
    cache.put_manifest(Manifest.from_utterances("bench", rows))
    dim = next(iter(frames.values())).shape[1]
    recipe: dict[str, Any] = {
        "kind": "frames", "encoder": "bench", "layer": None, "inputs": [], "dim": dim, "dtype": "float16",
        "times": {"rate": 50.0, "first_start": 0.0, "width": 0.02}, "aux": {},
    }  # fmt: skip
    writer = cache.create_stream("bench", "bench", recipe)
    for task in plan_tasks([writer], {i: Load(0.0, array.nbytes) for i, array in frames.items()}):
        writer.commit(task.units["bench"], {i: Item(frames[i]) for i in task.ids})
    writer.finish()
    copy(cache, Cache(_URL), cache.streams("bench"))


class Reader:
    """A dataset of a cache that memory has no room for, opened; its frames are not read yet."""

    def __init__(self, root: str | Path, local_copy: Path | None = None) -> None:
        self._settings = load_settings("bigru", ['streams=["bench"]', "features.average_frames=1"])[1]
        cache = Cache(root, local_copy=None if local_copy is None else LocalCopy(local_copy))
        self._dataset = load_dataset(cache, ["bench"], self._settings, memory=Memory(1))
        self.rows = np.arange(len(self._dataset.examples))
        self._batches: Batches | None = None

    def epoch(self, seed: int, rows: npt.NDArray[np.int64] | None = None) -> list[int]:
        """Gather all batches; a checksum of each. The first time everything is read and compared before that."""
        if self._batches is None:
            prepared = prepare(self._dataset, self._settings, self.rows)
            self._batches = Batches(self._dataset, self._settings, prepared, torch.device("cpu"))
        batches = self._batches.epoch(self.rows if rows is None else rows, _SIZE, np.random.default_rng(seed))
        return [checksum(batch.inputs[0].values.contiguous().numpy()) for batch in batches]


def compare(ways: Mapping[str, Callable[[], list[int]]], pair: int) -> dict[str, float]:
    """Seconds of each way, in an order that changes; what they gather must be the same."""
    seconds, found = {}, []
    for name in sorted(ways, reverse=bool(pair % 2)):
        started = time.perf_counter()
        found.append(ways[name]())
        seconds[name] = time.perf_counter() - started
    if any(one != found[0] for one in found):
        raise SystemExit("the batches differ")
    return seconds


def figures(root: Path, folder: Path, pairs: int) -> Iterator[Figure]:
    """Yield the ratios."""
    copied, local = folder / "copy", Reader(root)
    warm = Reader(_URL, copied)
    local.epoch(0), warm.epoch(0)
    found = [compare({"a": partial(local.epoch, k), "b": partial(warm.epoch, k)}, k) for k in range(pairs)]
    yield Figure("an epoch, copied : local", _BOUND, [one["a"] / one["b"] for one in found])

    def first(k: int, *where: Any) -> Callable[[], list[int]]:
        return lambda: Reader(*where).epoch(k)

    found = [compare({"a": first(k, root), "b": first(k, _URL, copied)}, k) for k in range(pairs)]
    yield Figure("opening and a first epoch, copied : local", None, [one["a"] / one["b"] for one in found])
    found = []
    for k in range(pairs):
        found.append(compare({"a": first(k, root), "b": first(k, _URL, folder / "new")}, k))
        shutil.rmtree(folder / "new")
    yield Figure("opening and a first epoch, copied meanwhile : local", None, [one["a"] / one["b"] for one in found])
    ranges._KEPT_BYTES = 0  # nothing that one way has fetched is there for the other
    remote = Reader(_URL)
    remote.epoch(0)
    found = [compare({"a": partial(local.epoch, k), "b": partial(remote.epoch, k)}, k) for k in range(pairs)]
    yield Figure("an epoch, requested ahead : local", None, [one["a"] / one["b"] for one in found])
    ratios = []
    for k in range(pairs):
        rows = np.random.default_rng(k).permutation(remote.rows)[: 3 * _SIZE]
        one = compare({"a": partial(one_by_one, remote, k, rows), "b": partial(remote.epoch, k, rows)}, k)
        ratios.append(one["a"] / one["b"])
    yield Figure("three batches, requested ahead : one by one", None, ratios)


def one_by_one(reader: Reader, seed: int, rows: npt.NDArray[np.int64]) -> list[int]:
    """Gather batches as `Reader.epoch`, each request after the one before."""
    several, items._REQUESTS = items._REQUESTS, 1
    try:
        return reader.epoch(seed, rows)
    finally:
        items._REQUESTS = several


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the lines; exits with 1 where a whole interval misses its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs (7)")
    parser.add_argument("--utterances", type=int, default=1440, help="utterances (1440, as RAVDESS has)")
    parser.add_argument("--delay", type=float, default=20, help="ms added to each request (20)")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        serve(options.serve)
    if options.pairs < 1 or options.utterances < 1 or options.delay < 0:
        parser.error("--pairs and --utterances must be 1 or more, --delay 0 or more")
    frames = make_frames(options.utterances)
    told = f"{len(frames)} utterances, {sum(f.nbytes for f in frames.values()) / 1e6:.0f} MB, {options.pairs} pairs"
    print(f"{told}, {options.delay:g} ms added to each request", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, server(options.delay / 1000):
        fill(Path(folder) / "store", frames)
        missed = print_figures(figures(Path(folder) / "store", Path(folder), options.pairs))
    sys.exit(f"{missed} of the bounds missed" if missed else 0)


if __name__ == "__main__":
    main()
