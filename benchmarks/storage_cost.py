"""Print the cost of hours of sound in an object store: `python -m emocache.benchmarks.storage_cost`.

One object of each width is written to a store in memory by the writer that extraction uses. Its bytes, those of its
record, and the requests of its commit are counted, and scaled to the hours; the manifest and the index are left out.
The prices are options, since they change; the defaults are those of Amazon's S3 Standard in us-east-1, as
https://aws.amazon.com/s3/pricing/ lists them (first 50 TB; lists are priced as puts; deleting is free).
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import obstore

from emocache.cache import Cache, Item, Manifest, Media, Utterance
from emocache.cache.objects import Objects
from emocache.cache.remote import PART

RATE, CLIP = 50, 250
"""Frames a second, as of Whisper, HuBERT and WavLM, and of a clip of 5 s."""
WIDTHS = {"whisper-base": 512, "wavlm-base, hubert-base": 768, "wavlm-large, hubert-large": 1024}
_PUTS, _GETS = ("put", "list", "list_with_delimiter"), ("get", "get_range", "head")


@dataclass(frozen=True)
class Commit:
    """One commit: hours of sound, bytes that stay, and requests that are priced as puts and as gets."""

    hours: float
    bytes: int
    puts: int
    gets: int


class Counting:
    """obstore, whose requests are counted by name; a large object takes one for each part, a first and a last one."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        called = getattr(obstore, name)

        def count(*arguments: Any, **options: Any) -> Any:
            parts = -(-len(arguments[2]) // PART) if name == "put" else 1
            self.seen[name] += parts + 2 if parts > 1 else 1
            return called(*arguments, **options)

        return count


def measure(dim: int, size: int, backend: str) -> Commit:
    """Commit two objects, and tell of the second.

    Args:
        dim: D; frames are float16.
        size: bytes of frames in one object.
        backend: "zarr" or "hdf5".
    """
    clips = max(1, round(size / (CLIP * dim * 2)))
    ids = [f"{number:06d}" for number in range(2 * clips)]
    media = (Media("audio", "a.wav", "0" * 64),)
    cache = Cache("memory://")
    cache.put_manifest(Manifest.from_utterances("sound", [Utterance(i, media, duration=5.0) for i in ids]))
    times = {"rate": float(RATE), "first_start": 0.0, "width": 1 / RATE}
    recipe = {"kind": "frames", "encoder": "noise", "layer": None, "inputs": ["audio"], "dim": dim, "dtype": "float16",
              "times": times, "aux": {}}  # fmt: skip
    writer = cache.create_stream("sound", "noise", recipe, backend=backend)
    frames = np.random.default_rng(0).standard_normal((CLIP, dim)).astype(np.float32)
    writer.commit("00", dict.fromkeys(ids[:clips], Item(frames)))
    before, counting = _stored(writer.objects), Counting()
    with patch("emocache.cache.remote.obstore", counting):
        writer.commit("01", dict.fromkeys(ids[clips:], Item(frames)))
    puts, gets = (sum(counting.seen[name] for name in names) for names in (_PUTS, _GETS))
    return Commit(clips * CLIP / RATE / 3600, _stored(writer.objects) - before, puts, gets)


def _stored(objects: Objects) -> int:
    return sum(found.size for found in objects.list(""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1000.0)
    parser.add_argument("--object-mib", type=float, default=64.0, help="frames in one object")
    parser.add_argument("--backend", choices=("zarr", "hdf5"), default="zarr")
    parser.add_argument("--gb-month", type=float, default=0.023, help="price of a GB (1e9 bytes) a month")
    parser.add_argument("--puts", type=float, default=0.005, help="price of 1,000 puts or lists")
    parser.add_argument("--gets", type=float, default=0.0004, help="price of 1,000 gets")
    parser.add_argument("--gb-out", type=float, default=0.09, help="price of a GB that leaves the provider")
    options = parser.parse_args(arguments)
    print(f"{options.hours:,.0f} h at {RATE} frames a second, float16, {options.backend}, {options.object_mib:g} MiB an"
          " object; prices in dollars")  # fmt: skip
    print(f"{'':<26} {'D':>5} {'MB/h':>7} {'GB':>7} {'objects':>8} {'requests':>9} {'to write':>9} {'a month':>8}"
          f" {'to take out':>12}")  # fmt: skip
    for name, dim in WIDTHS.items():
        one = measure(dim, round(options.object_mib * 2**20), options.backend)
        commits = options.hours / one.hours
        gb = one.bytes * commits / 1e9
        written = commits * (one.puts * options.puts + one.gets * options.gets) / 1000
        print(f"{name:<26} {dim:>5} {one.bytes / one.hours / 1e6:7.1f} {gb:7.1f} {commits:8,.0f}"
              f" {commits * (one.puts + one.gets):9,.0f} {written:9.2f} {gb * options.gb_month:8.2f}"
              f" {gb * options.gb_out:12.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
