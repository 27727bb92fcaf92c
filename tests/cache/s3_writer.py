"""A process that writes one stream to a cache, all of it that is missing: `python -m tests.cache.s3_writer URL`."""

import sys

from emocache.cache import Cache, Load, StreamWriter, plan_tasks

from .conftest import item, manifest, recipe

UTTERANCES = [f"u{number:02d}" for number in range(12)]
UNITS = 6


def open_writer(cache: Cache) -> StreamWriter:
    """A writer of the stream, whose corpus and recipe it creates."""
    cache.put_manifest(manifest(UTTERANCES))
    return cache.create_stream("toy", "toy", recipe(), backend="hdf5")


def write(cache: Cache) -> None:
    """Commit what is missing, a unit after the other; a line for each that was begun."""
    writer = open_writer(cache)
    for task in plan_tasks([writer], {i: Load(1.0, 1) for i in UTTERANCES}, min_units=UNITS):
        print("unit", flush=True)
        unit = task.units[writer.name]
        ids = writer.still_missing(unit, task.ids)
        if ids:
            writer.commit(unit, {i: item(i, recipe()) for i in ids})
    writer.finish()


if __name__ == "__main__":
    write(Cache(sys.argv[1]))
