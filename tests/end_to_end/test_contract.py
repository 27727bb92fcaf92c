"""What users' scripts rely on: help texts, exit statuses, JSON keys, and what the Makefile says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import emocache
from emocache.cache import Cache, Item, Manifest, Media, Utterance
from emocache.cli import app
from emocache.extract.corpora import REGISTRY

from .conftest import Run

ROOT = Path(emocache.__file__).parent
GOLDEN = Path(__file__).parent.parent / "data" / "help.txt"
COMMANDS = ["", "extract", "encoders", "corpora", "train", "predict", "export", "evaluate", "composition", "cache",
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
    """`emocache --help` loads no framework, nor anything else that takes a while."""
    heavy = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "zarr", "h5py", "numpy", "pyarrow", "tqdm")
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
    assert 'make extract DATASET=emodb DATA=/path/to/emodb ENCODER="hubert-base" LAYERS="6"' in done.stderr
    assert not list(tmp_path.iterdir())  # and nothing is installed before


def made(tmp_path: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`make extract` with an emocache that notes its arguments, and refuses emodb."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for stamp in (".venv", ".base", ".extract"):
        (tmp_path / "venv" / stamp).touch()
    command = tmp_path / "venv" / "bin" / "emocache"
    command.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/typed"\n[ "$2" != emodb ]\n')
    command.chmod(0o755)
    given = {"VENV": str(tmp_path / "venv"), "EXTRAS": "extract", **variables}
    words = ["make", "-C", str(ROOT), "extract", *(f"{name}={value}" for name, value in given.items())]
    environment = {**os.environ, "EMOCACHE_DATA": str(tmp_path / "data")}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_extract_makes_what_is_there_and_ends_with_what_is_not(tmp_path: Path) -> None:
    for corpus in ("emodb", "ravdess"):
        (tmp_path / "data" / corpus).mkdir(parents=True)
    done = made(tmp_path, DATASET="sewa emodb ravdess", ARGS="--dry-run")
    assert done.returncode == 2
    assert [line.split()[1] for line in (tmp_path / "typed").read_text().splitlines()] == ["emodb", "ravdess"]
    told = done.stderr.splitlines()
    assert told[:3] == [
        "emocache extract emodb",
        "emocache extract ravdess",
        f"there is no folder {tmp_path}/data/sewa, which corpus sewa is looked for in",
    ]
    assert "  licence: the EULA of the SEWA database, for academic use" in told
    assert any(line.startswith("    make extract DATASET=sewa DATA=/path/to/sewa ") for line in told)
    assert told[-2] == "not complete: emodb sewa"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_extract_refuses_a_corpus_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "data" / "ravdess").mkdir(parents=True)
    done = made(tmp_path, DATASET="ravdess swea")
    assert done.returncode == 2 and not (tmp_path / "typed").exists()
    assert done.stderr.splitlines()[0] == f"unknown corpus swea; there are: {' '.join(sorted(REGISTRY))}"


def test_extract_tells_what_belongs_into_a_folder_that_is_missing(tmp_path: Path) -> None:
    command = ["extract", "sewa", "--cache", str(tmp_path / "my store"), "--stream", "mfcc", "--offline"]
    done = CliRunner().invoke(app, [*command, "--data", str(tmp_path / "no"), "--map", "culture.DE=German"])
    assert done.exit_code == 1 and not (tmp_path / "my store").exists()
    told = done.stderr.splitlines()
    assert told[0].startswith("sewa: ") and f"  layout in {tmp_path}/no: labels/Train_DE_01.csv" in told
    assert told[-2] == (
        f"    emocache extract sewa --data /path/to/sewa --cache '{tmp_path}/my store' --stream mfcc"
        " --map culture.DE=German --offline"
    )
    assert told[-1].startswith("error: corpus sewa (") and "does not exist; give the corpus's folder" in told[-1]
    done = CliRunner().invoke(app, ["extract", "swea", *command[2:]])
    assert done.exit_code == 1 and "did you mean sewa? there are: audformat, bhavvani" in done.stderr
