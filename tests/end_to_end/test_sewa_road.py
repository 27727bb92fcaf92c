"""From `make extract DATASET=sewa` to the tables and figures of paper 1, on SEWA in miniature."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import emocache
from emocache.train.config.stream_lists import experiments_for
from emocache.train.records.systems import read_systems

from .miniature_sewa import Media, write_avec, write_checkpoints, write_database

ROOT = Path(emocache.__file__).resolve().parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


class Place:
    """A folder to work in, and `make` with the environment of the tests in the place of one of its own."""

    def __init__(self, folder: Path, shelf: Path) -> None:
        self.folder = folder
        venv = folder / "venv"
        (venv / "bin").mkdir(parents=True)
        (venv / "bin/emocache").write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -Pc "from emocache.cli import main; main()" "$@"\n'
        )
        (venv / "bin/emocache").chmod(0o755)
        for stamp in (".venv", ".base", ".extract-faces-egemaps"):
            (venv / stamp).touch()
        # A machine that has everything of the papers but the media: no hub, two threads for a command.
        self._environment = os.environ | {"EMOCACHE_CHECKPOINTS": str(shelf), "EMOCACHE_DATA": str(folder / "data")}

    def words(self, *words: str) -> list[str]:
        """The command as it is typed, with where the environment, the store and the runs are."""
        own = {"VENV": "venv", "CACHE": "store", "RUNS": "runs"}
        where = [f"{name}={self.folder / folder}" for name, folder in own.items()]
        return ["make", "-s", "-C", str(ROOT), *words, *where, "DEVICE=cpu"]

    def make(self, *words: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(self.words(*words), capture_output=True, text=True, env=self._environment, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def stopped(self, *words: str, at: str) -> None:
        """Start a command, and interrupt it when it has printed a line with these words."""
        command = subprocess.Popen(
            self.words(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment,
            start_new_session=True, preexec_fn=listens,
        )  # fmt: skip
        assert command.stdout is not None
        for line in command.stdout:
            if at in line:
                os.killpg(command.pid, signal.SIGINT)
                break
        command.stdout.read()
        assert command.wait() != 0

    def results(self) -> Mapping[str, dict[str, object]]:
        """{experiment: its result} of the evaluation."""
        document = json.loads((self.folder / "runs/evaluation/results.json").read_text())
        return {result["experiment"]: result for result in document["results"]}


def listens() -> None:
    """Before a command starts: tests that run in the background ignore Ctrl-C, and so would it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small checkpoints."""
    folder = tmp_path_factory.mktemp("weights") / "shelf"
    write_checkpoints(folder)
    return folder


def test_the_database_in_three_commands(tmp_path: Path, shelf: Path, shared: Callable[[str], Path]) -> None:
    clips = write_database(tmp_path / "data/sewa", Media(shared))
    place = Place(tmp_path, shelf)
    told = place.make("extract", "DATASET=sewa")
    assert "it is corpus sewa-basic in the cache" in told
    assert f"5 streams of sewa-basic, {clips} utterances: 0 there, 5 to make, 0 cannot be made here" in told
    names = experiments_for("sewa-basic")
    told = place.make("train", "ARGS=--set training.epochs=1")
    assert f"sewa-basic: {len(names)} experiments are for it, {len(names)} can be trained here" in told
    assert f"[{len(names)}/{len(names)}]" in told and "failed" not in told
    place.make("evaluate")
    rows = [row for row in read_systems().row if row.paper == 1]
    assert set(place.results()) == {name for row in rows for name in row.experiments} == set(names)
    # Figures 3, 4 and 5.
    figures = {path.name for path in (tmp_path / "runs/evaluation").iterdir()}
    assert any(re.fullmatch(r"confusion-paper1\.classify-text-valence-.*-culture-C2\.png", name) for name in figures)
    # Both tasks are in one figure, named after the first.
    for kind in ("gate-channels", "gate-similarity"):
        assert any(re.fullmatch(rf"{kind}-paper1\.av-cats-arousal-[0-9a-f]+\.png", name) for name in figures)


def test_the_package_in_three_commands_with_a_stop_in_each(
    tmp_path: Path, shelf: Path, shared: Callable[[str], Path]
) -> None:
    clips = write_avec(tmp_path / "data/sewa", Media(shared))
    place = Place(tmp_path, shelf)
    place.stopped("extract", "DATASET=sewa", at=" utterances to encode")
    told = place.make("extract", "DATASET=sewa")
    there = int(re.search(r"vgg-face +(\d+) of", told)[1])  # type: ignore[index]
    committed, already = map(int, re.search(r"vgg-face.*: (\d+) items committed .*, (\d+) were there", told).groups())  # type: ignore[union-attr]
    assert (committed + already) % clips == 0 and already >= there
    assert "nothing to extract: everything is in the cache" in place.make("extract", "DATASET=sewa")
    names = experiments_for("sewa")
    place.stopped("train", "ARGS=--set training.epochs=1", at="[9/")
    stored = len([*(tmp_path / "runs").rglob("run.json")])
    told = place.make("train", "ARGS=--set training.epochs=1")
    asked, kept = map(int, re.search(r"experiments: (\d+) runs to train, (\d+) stored", told).groups())  # type: ignore[union-attr]
    assert 0 < kept == stored and len([*(tmp_path / "runs").rglob("run.json")]) == asked + kept
    assert f"sewa: {len(names)} experiments are for it, {len(names)} can be trained here" in told
    place.make("evaluate")
    assert set(place.results()) == set(names)
