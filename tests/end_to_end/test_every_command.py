"""Options and habits that every command shares."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emocache.cache import Cache, Manifest, Utterance
from emocache.train.config.experiment_names import experiment_names

from .conftest import Run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A cache with one corpus."""
    Cache(tmp_path / "store").put_manifest(Manifest.from_utterances("c", [Utterance("a")]))
    return tmp_path / "store"


def test_lists_as_json(emocache_: Run, store: Path) -> None:
    told = {
        ("encoders", "--json"): "encoders",
        ("corpora", "--json"): "corpora",
        ("train", "--list", "--json"): "experiments",
        ("train", "--json", "--list"): "experiments",
        ("checkpoints", "logmel", "--offline", "--json"): "checkpoints",
        ("cache", "ls", str(store), "--json"): "corpora",
    }
    for words, key in told.items():
        ran = emocache_(*words)
        rows = json.loads(ran.out)[key]
        assert ran.status == 0 and rows and all(row["name"] for row in rows), words
    assert [row["name"] for row in json.loads(emocache_("train", "--list", "--json").out)["experiments"]] == (
        experiment_names()
    )
    assert json.loads(emocache_("cache", "verify", store, "--json").out) == {"problems": []}
    (store / "c" / "manifest.json").write_text("{}")
    damaged = emocache_("cache", "verify", store, "--json")
    assert damaged.status == 1 and [set(one) for one in json.loads(damaged.out)["problems"]] == [
        {"stream", "utterance", "object", "reason"}
    ]
    refused = emocache_("train", "--json", "--cache", store, "--runs", store.parent / "runs")
    assert refused.status == 2 and "goes with --list" in refused.err


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_log_has_what_was_told_wherever_the_option_stands(
    emocache_: Run, store: Path, tmp_path: Path, place: str
) -> None:
    log = [f"--log-file={tmp_path}/log"] if place == "before" else ["--log-file", str(tmp_path / "log")]
    command = ["cache", "ls", str(store)]
    ran = emocache_(*(log + command if place == "before" else command + log))
    assert ran.status == 0 and ran.out == "c  1 utterances\n"
    assert [line[20:] for line in (tmp_path / "log").read_text().splitlines()] == ran.out.splitlines()
    lost = emocache_("cache", "ls", tmp_path / "none", *log)
    assert lost.status == 1 and (tmp_path / "log").read_text().splitlines()[-1][20:] == lost.err.strip()


def test_quiet_and_verbose_exclude_each_other(emocache_: Run, store: Path, tmp_path: Path) -> None:
    assert emocache_("cache", "ls", store, "--quiet", "--verbose").status == 2
    traced = emocache_("--verbose", "cache", "ls", tmp_path / "none")
    assert traced.status == 1 and "Traceback" in traced.err
    assert emocache_("cache", "ls", tmp_path / "none").err.startswith("error: ")


def test_a_log_that_cannot_be_written_is_told(emocache_: Run, store: Path, tmp_path: Path) -> None:
    ran = emocache_("cache", "ls", store, "--log-file", tmp_path)
    assert ran.status == 1 and ran.err.startswith(f"error: --log-file {tmp_path}: ")


def test_the_shell_completes_names() -> None:
    def completed(typed: str) -> list[str]:
        environment = {
            **os.environ, "_EMOCACHE_COMPLETE": "complete_bash", "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split(" ")) - 1),
        }  # fmt: skip
        code = "from emocache.cli import main; main()"
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment)
        return done.stdout.split()

    assert completed("emocache ev") == ["evaluate"]
    assert completed("emocache extract rav") == ["ravdess"]
    assert "paper4/camulenet" in completed("emocache train paper4/camu")
