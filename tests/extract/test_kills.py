"""kill -9 anywhere, then go on: the same (id -> bytes, times, failures) as an undisturbed run, and nothing twice."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from .crashing import IDS

ROOT = Path(__file__).parents[2]
MODES = {"hdf5": ["1", "layers"], "zarr": ["1"], "random": ["50"]}


@pytest.fixture(scope="module")
def reports() -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """The processes that do the killing, all at once: each forks from a small process of its own."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="emocache-kills-", dir=memory if memory.is_dir() else None) as folder:
        running = {}
        for mode, options in MODES.items():
            command = [sys.executable, "-m", "tests.extract.crashing", mode, f"{folder}/{mode}", *options]
            path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            running[mode] = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        yield running
        for process in running.values():
            process.kill()
            process.wait()


def report(reports: dict[str, "subprocess.Popen[str]"], mode: str) -> dict[str, Any]:
    text, _ = reports[mode].communicate(timeout=500)
    assert reports[mode].returncode == 0
    document: dict[str, Any] = json.loads(text)
    return document


def assert_whole(reference: dict[str, Any], keys: int) -> None:
    """The undisturbed run is what the others are measured by."""
    assert len(reference["keys"]) == len(set(reference["keys"])) == keys
    for stream in reference["streams"]:
        assert sorted(stream["items"]) == sorted(set(IDS) - {"empty", "loud"})
        assert sorted(stream["failures"]) == ["empty", "loud"] and not stream["missing"] and not stream["stale"]


def assert_same(reference: dict[str, Any], outcome: dict[str, Any]) -> None:
    found = outcome["found"]
    assert outcome["code"] == 0, found
    assert found["wrong"] == []  # what the kill left was whole or invisible
    assert found["left"] == []  # gc has taken the litter, all of it and no more, and verify --full is content
    assert found["streams"] == reference["streams"]
    assert found["keys"] == reference["keys"]  # nothing twice


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "streams"), [("hdf5", 2), ("zarr", 1)])
def test_a_kill_before_any_call_and_in_any_write(
    reports: dict[str, "subprocess.Popen[str]"], mode: str, streams: int
) -> None:
    found = report(reports, mode)
    assert_whole(found["reference"], len(IDS) * streams)
    crashes = found["crashes"]
    assert len(crashes) > 150 and {crash["status"] for crash in crashes[:-1]} == {-9} and crashes[-1]["status"] == 0
    for crash in crashes:
        assert_same(found["reference"], crash)


@pytest.mark.slow
def test_random_kills_of_three_workers_on_one_stream(reports: dict[str, "subprocess.Popen[str]"]) -> None:
    """Half of the rounds have three shares, half have three workers that want everything; one or all are killed."""
    found = report(reports, "random")
    assert_whole(found["reference"], len(IDS))
    rounds = found["rounds"]
    assert len(rounds) == 50 and sum(len(one["killed"]) >= 1 for one in rounds) == 50
    assert sum(any(kill["inside"] for kill in one["killed"]) for one in rounds) >= 40
    assert {len(one["killed"]) for one in rounds} >= {1, 3}
    for one in rounds:
        killed = {kill["worker"] for kill in one["killed"]}
        assert [status == -9 for status in one["statuses"]] == [number in killed for number in range(3)]
        assert all(status in (0, -9) for status in one["statuses"])  # the others come through
        assert_same(found["reference"], one)
