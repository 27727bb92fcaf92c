"""What users' scripts rely on: help texts, exit statuses, JSON keys, and what the Makefile says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import emocache
from emocache.cache import Cache, Item, Manifest, Media, Utterance

from .conftest import Run

ROOT = Path(emocache.__file__).parent
GOLDEN = Path(__file__).parent.parent / "data" / "help.txt"
COMMANDS = ["", "extract", "encoders", "corpora", "train", "evaluate", "composition", "cache",
            *(f"cache {name}" for name in ("ls", "info", "verify", "copy", "rm", "gc")), "runs",
            *(f"runs {name}" for name in ("ls", "rm", "prune"))]  # fmt: skip


def test_help_texts(emocache_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden file is rewritten by `EMOCACHE_GOLDEN=write make test`; a change of it is a change for users."""
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    monkeypatch.setenv("COLUMNS", "100")
    text = "".join(f"$ emocache {c} --help\n{emocache_(*c.split(), '--help').out}\n" for c in COMMANDS)
    if os.environ.get("EMOCACHE_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_info_json_keys(emocache_: Run, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(Manifest.from_utterances("c", [Utterance("a", media=(Media("audio", "a.wav", "00"),))]))
    recipe = {"kind": "frames", "encoder": "e", "layer": None, "inputs": ["audio"], "dim": 3, "dtype": "float16",
              "times": {"rate": 50, "first_start": 0.0, "width": 0.02}, "aux": {}}  # fmt: skip
    cache.create_stream("c", "e", recipe).commit("0", {"a": Item(np.ones((4, 3)))})
    ran = emocache_("cache", "info", tmp_path, "--json")
    (stream,) = json.loads(ran.out)["streams"]
    wanted = {"name": "e", "backend": "zarr", "dim": 3, "rate": 50.0, "dtype": "float16", "utterances": 1,
              "failures": 0, "stale": 0, "frames": 4, "recipe": recipe}  # fmt: skip
    assert wanted.items() <= stream.items()
    assert len(stream["fingerprint"]) == 64 and stream["bytes"] > 0


def test_help_is_light() -> None:
    """`emocache --help` loads no framework."""
    heavy = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "zarr", "h5py")
    code = f"import sys, emocache.cli; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`emocache encoders | head -1`."""
    command = [sys.executable, "-P", "-c", "from emocache.cli import main; main()", "encoders"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_extract_without_data_prints_the_line_to_type(tmp_path: Path) -> None:
    command = [
        "make",
        "-C",
        str(ROOT),
        "extract",
        f"VENV={tmp_path}",
        "DATASET=emodb",
        "ENCODER=hubert-base",
        "LAYERS=6",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'make extract DATASET=emodb DATA=/path/to/emodb ENCODER="hubert-base" LAYERS="6"' in done.stdout
    assert not list(tmp_path.iterdir())  # and nothing is installed before
