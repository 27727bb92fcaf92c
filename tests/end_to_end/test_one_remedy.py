"""Each mistake on the command line is told in one line, with the thing at fault and one remedy that works as typed."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from emocache import cli
from emocache.cache import Cache, Manifest, Utterance

from .conftest import Run

MAIN = "from emocache.cli import main; main()"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cache `store`, a folder `runs` with what looks like a run, an empty one and a file."""
    monkeypatch.chdir(tmp_path)
    rows = [Utterance(f"u{i}", speaker=f"s{i}", labels={"emotion": "ab"[i % 2]}) for i in range(4)]
    Cache("store").put_manifest(Manifest.from_utterances("toys", rows))
    run = Path("runs/probe/toys/0123456789ab/fold0-seed0")
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    Path("empty").mkdir()
    Path("file").write_text("")
    return tmp_path


TRAIN = "train probe --runs new --cache store --set targets=emotion"
MISTAKES = {
    # A cache that is none.
    "cache ls nowhere": "cache nowhere does not exist; give the folder that `emocache extract --cache` wrote to",
    "cache ls file": "cache file is a file; give a folder",
    "cache ls empty": "cache empty holds no corpus, and is no cache; give the folder",
    "cache verify runs": "cache runs holds runs, and is no cache; give the folder",
    "cache ls store/toys": "lies inside a cache; give the folder above, store",
    "cache copy store file": "cache file is a file",
    "train probe --cache file --runs new": "cache file is a file",
    "train probe --cache runs --runs new": "cache runs holds runs, and is no cache",
    "composition runs toys --out new": "cache runs holds runs, and is no cache",
    "extract demo --data corpus --cache file --encoder logmel": "cache file is a file",
    # Names.
    "cache info store toy": "has no corpus 'toy'; did you mean 'toys'?",
    "cache verify store toy": "has no corpus 'toy'; did you mean 'toys'?",
    "extract demo --cache new --for paper9/*": "no experiment is called so; there are benchmarks/*, msp-podcast/*",
    "extract demo --cache new --for ravdess-prob": "did you mean 'ravdess-probe'?",
    "corpora ravdes": "unknown corpus 'ravdes'; did you mean ravdess?",
    f"{TRAIN} --set streams=logmel": "`emocache extract toys --stream logmel --cache store`",
    "train ravdess-probe --runs new --cache store": "`emocache extract toys --for ravdess-probe --cache store`",
    f"{TRAIN} --set streams=x --set head.kind=prob": "head.kind 'prob' is unknown; did you mean 'probe'?",
    f"{TRAIN} --log tensorbord": "did you mean 'tensorboard'?",
    f"{TRAIN} --log json:loads --log-dir file": "--log-dir file is a file",
    "checkpoints logmel --checkpoints nowhere": "--checkpoints nowhere: there is no such folder",
    "checkpoints logmel --checkpoints file": "--checkpoints file: is a file",
    "extract json:loads --data empty --cache new --encoder logmel": "must take folder, columns and hasher",
    # Told before anything is scored: these runs cannot even be read.
    "evaluate runs --table paper1/table22": "no such table; did you mean 'paper1/table2'?",
    "evaluate runs --out file": "file is a file; name a folder with --out",
    "evaluate runs --report empty": "empty is a folder; name a file with --report, such as empty/report.html",
    "evaluate runs --cache nowhere": "--cache: cache nowhere does not exist",
    "evaluate runs --cache runs": "--cache: cache runs holds runs",
    "evaluate runs --cache store --media nowhere": "--media nowhere: there is no such folder",
    # A run that is not the one asked for.
    "predict runs/probe/toys/0123456789ab/fold0-seed0 x.wav --fold 1": "is not the run of --fold 1; give the folder",
    "predict runs x.wav --out file": "--out file is a file; give a folder",
    "predict runs x.wav --checkpoints nowhere": "--checkpoints nowhere: there is no such folder",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told_in_one_line(emocache_: Run, here: Path, command: str) -> None:
    before = sorted(here.iterdir())
    ran = emocache_(*command.split())
    assert ran.status == 1, ran
    (told,) = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert MISTAKES[command] in told and "Traceback" not in ran.err
    assert len(told) < 700 and sorted(path for path in here.iterdir() if path.name != "new") == before


USAGE = {
    "corpora ravdess": "with --data DIR, or get it with --fetch DIR",
    "corpora --data empty": "goes with CORPUS",
    "train probe --cache store --runs new --jobs 0": "--jobs",
    "train probe --cache store --runs new --device gpu": "'gpu' is not one of auto, cpu, cuda",
    "evaluate runs --style papr": "'screen', 'paper'",
    "evalute runs": "Did you mean 'evaluate'?",
    "cache lss store": "Did you mean 'ls'?",
}


@pytest.mark.parametrize("command", USAGE)
def test_wrong_usage_is_status_2(emocache_: Run, here: Path, command: str) -> None:
    ran = emocache_(*command.split())
    assert ran.status == 2 and USAGE[command] in ran.err and "Traceback" not in ran.err


def test_an_error_is_folded_for_a_terminal_and_commands_stay_whole(here: Path) -> None:
    reader, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "40"}
    command = [sys.executable, "-P", "-c", MAIN, "cache", "ls", "nowhere"]
    done = subprocess.run(command, cwd=here, env=environment, stderr=terminal, stdout=subprocess.DEVNULL)
    os.close(terminal)
    lines = os.read(reader, 10_000).decode().splitlines()
    os.close(reader)
    assert done.returncode == 1 and len(lines) > 1 and all(len(line) <= 40 for line in lines)
    assert any("`emocache extract --cache`" in line for line in lines)


def test_a_long_command_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    told = cli._folded("error: nothing is there; `emocache extract toys --stream logmel --cache store` makes it")
    assert "`emocache extract toys --stream logmel --cache store`" in told.splitlines()[1]


@pytest.mark.parametrize("given", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_names_that_the_terminal_cannot_show_end_nothing(tmp_path: Path, given: dict[str, str]) -> None:
    Cache(tmp_path / "store").put_manifest(Manifest.from_utterances("c", [Utterance("ä", speaker="ö")]))
    words = ["composition", "store", "c", "--column", "speaker", "--out", "ü"]
    command = [sys.executable, "-P", "-c", MAIN, *words]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **given}, capture_output=True)
    assert done.returncode == 0 and b"written: " in done.stdout, done.stderr
