"""The cache against a dictionary: whatever is done to both, in any order, they say the same."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emocache.cache import Cache, InputFailure, Item, StreamWriter
from emocache.cache.compact import Compaction
from emocache.cache.copy import copy
from emocache.cache.gc import collect
from emocache.cache.verify import verify

from .conftest import CORPUS, IDS, fill, item, manifest, recipe

ids = st.sampled_from(IDS)
some_ids = st.sets(ids, min_size=1)
fates = st.sampled_from(["good", "good", "empty", "overflow"])


@dataclass
class Model:
    """What must be there: all that was ever committed, by id and version of the utterance."""

    versions: dict[str, int] = field(default_factory=dict)  # the manifest
    items: set[tuple[str, int]] = field(default_factory=set)
    failures: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)

    def current(self, i: str) -> tuple[str, int]:
        return i, self.versions[i]


class CacheMachine(RuleBasedStateMachine):
    """Two streams with one fate, one in each backend; one Cache stays open, others come and go."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="emocache-test-", dir=memory if memory.is_dir() else None))
        self.cache = Cache(self.folder / "0")
        self.model = Model()
        self.copies = 0
        self.superseded = False  # records, by a compaction since the last gc

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def writers(self) -> list[StreamWriter]:
        return [
            self.cache.create_stream(CORPUS, f"toy-{backend}", recipe(encoder=backend), backend=backend)
            for backend in ("zarr", "hdf5")
        ]

    @initialize(chosen=some_ids)
    def start(self, chosen: set[str]) -> None:
        self.model.versions = dict.fromkeys(chosen, 0)
        self.put_manifest()

    def put_manifest(self) -> None:
        self.cache.put_manifest(manifest(self.model.versions, self.model.versions))

    @rule(i=ids)
    def add_or_change(self, i: str) -> None:
        self.model.versions[i] = self.model.versions.get(i, -1) + 1
        self.put_manifest()

    @rule(i=ids)
    def change_back(self, i: str) -> None:
        self.model.versions[i] = 0
        self.put_manifest()

    @precondition(lambda self: len(self.model.versions) > 1)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        del self.model.versions[data.draw(st.sampled_from(sorted(self.model.versions)))]
        self.put_manifest()

    @rule(chosen=some_ids, fate=st.dictionaries(ids, fates), retry=st.booleans(), units=st.integers(1, 3))
    def extract(self, chosen: set[str], fate: dict[str, str], retry: bool, units: int) -> None:
        chosen &= set(self.model.versions)
        expected = {
            self.model.current(i) for i in chosen
            if self.model.current(i) not in self.model.items
            and (retry or self.model.current(i) not in self.model.failures)
        }  # fmt: skip
        for writer in self.writers():
            items, failures = {}, {}
            for i in chosen:
                made = item(i, writer.recipe, self.model.versions[i])
                if fate.get(i) == "empty":
                    failures[i] = InputFailure("empty", f"version {self.model.versions[i]}")
                elif fate.get(i) == "overflow":
                    items[i] = Item(made.frames + np.float32(1e9), made.times, made.aux)
                else:
                    items[i] = made
            done = fill(writer, items, failures, retry_failed=retry, units=units)
            assert sorted(done) == sorted(i for i, _ in expected)
        for i, version in expected:
            if fate.get(i) in (None, "good"):
                self.model.items.add((i, version))
                self.model.failures.pop((i, version), None)
            else:
                reason = str(fate[i])
                detail = f"version {version}" if reason == "empty" else "a value of 1e+09 does not fit float16"
                self.model.failures[(i, version)] = (reason, detail)

    @rule(remote=st.booleans())
    def move(self, remote: bool) -> None:
        """Copy to another cache and remove this one."""
        self.copies += 1
        target = Cache("memory://" if remote else self.folder / str(self.copies))
        copy(self.cache, target, self.cache.streams(CORPUS))
        target.put_manifest(self.cache.manifest(CORPUS))
        if (old := self.cache.objects.local("")) is not None:
            shutil.rmtree(old)
        self.cache = target

    @rule()
    def lose_indices(self) -> None:
        for info in self.cache.streams(CORPUS):
            self.cache.objects.delete(f"{info.folder}/index.arrow")

    @rule()
    def compact(self) -> None:
        for info in self.cache.streams(CORPUS):
            Compaction(self.cache, info).run()
        self.superseded = True

    @rule()
    def collect_garbage(self) -> None:
        for info in self.cache.streams(CORPUS):
            self.cache.objects.replace(f"{info.folder}/shards/lost.h5", b"garbage")
        found = len(collect(self.cache, 0.0)[0])
        assert found >= len(self.cache.streams(CORPUS)) and collect(self.cache, 0.0) == ([], 0)
        assert self.superseded or found == len(self.cache.streams(CORPUS))
        self.superseded = False

    @precondition(lambda self: self.cache.objects.local("") is not None)
    @rule()
    def reopen(self) -> None:
        self.cache = Cache(self.cache.objects.url)

    @invariant()
    def same(self) -> None:
        if not self.model.versions or not self.cache.streams(CORPUS):
            return
        current = {self.model.current(i) for i in self.model.versions}
        served = dict(current & self.model.items)
        failed = {i: self.model.failures[i, version] for i, version in current & set(self.model.failures)}
        for backend in ("zarr", "hdf5"):
            stream = self.cache.stream(CORPUS, f"toy-{backend}")
            assert stream.ids == sorted(served)
            assert stream.missing == sorted(set(self.model.versions) - set(served) - set(failed))
            assert stream.stale == len(self.model.items - current)
            assert {i: (reason, detail.split(";")[0]) for i, (reason, detail) in stream.failures.items()} == failed
            for i, version in served.items():
                made = item(i, stream.recipe, version)
                np.testing.assert_array_equal(stream.read(i), made.frames.astype(np.float16))
                np.testing.assert_array_equal(stream.times(i), made.times)
                np.testing.assert_array_equal(stream.aux(i)["box"], made.aux["box"])
        assert list(verify(self.cache, full=True)) == []


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
