"""Epochs as they happen: the file beside the run, TensorBoard's event files, trackers of one's own."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from typer.testing import CliRunner, Result

from emocache.cache import EmocacheError
from emocache.cli import app
from emocache.train.run.crew import Crew
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.stored_results import read_stored
from emocache.train.watch.watching import Watching

from .conftest import EXPERIMENT

if TYPE_CHECKING:
    from .conftest import Toy

TRACKER = '''
import json, os, random
from pathlib import Path
import numpy, torch

OUT = Path(os.environ["TRACKED"])

class Keeps:
    """Writes what it is given, and does all that must not matter."""
    def __init__(self, run):
        self.path = OUT / f"{run['experiment'].replace('/', '_')}-{run['fold']}-{run['seed']}.txt"
        self.lines = [sorted(run)]
        self.watched = Path(run["folder"]).with_name(f"fold{run['fold']}-seed{run['seed']}.watch.jsonl")
        run.clear()
    def epoch(self, line):
        torch.manual_seed(1); numpy.random.seed(1); random.seed(1); torch.rand(3)
        torch.use_deterministic_algorithms(False); torch.set_num_threads(1)
        self.lines.append(dict(line)); line["train_loss"] = 0.0
        self.lines.append([json.loads(one) for one in self.watched.read_text().splitlines()])
    def end(self, stored):
        self.path.write_text(json.dumps([*self.lines, stored]))

class Fails:
    def __init__(self, run): pass
    def epoch(self, line): raise ValueError("no network")
    def end(self, stored): pass

class Starts:
    def __init__(self, run): raise OSError("no account")
    def epoch(self, line): pass
    def end(self, stored): pass

class Endless:
    def __init__(self, run): pass
    def epoch(self, line): pass

def takes_nothing(): pass
'''
QUICK = EXPERIMENT.replace("epochs = 15", "epochs = 2")


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the tracker writes to; the module is `own_tracker`."""
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "own_tracker.py").write_text(TRACKER)
    monkeypatch.syspath_prepend(tmp_path / "module")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "module"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delitem(sys.modules, "own_tracker", raising=False)
    out = tmp_path / "tracked"
    out.mkdir()
    monkeypatch.setenv("TRACKED", str(out))
    return out


def carried_out(toy: "Toy", runs: Path, *names: str, jobs: int = 1) -> Path:
    """Train the quick experiment; returns the folder with its runs."""
    toy.cache(toy.corpus())
    request = Request(toy.cache(toy.corpus()), ["toys"], runs, watching=Watching(names, runs / ".tensorboard"))
    plan = request.plan(request.experiment(str(toy.experiment(QUICK, "quick"))))
    with Crew(jobs) as crew:
        list(carry_out(plan, crew, False))
    return plan.folder(0, 0).parent


def stored(folder: Path) -> dict[str, Any]:
    """What decides numbers of all runs: predictions, weights, and history without times."""
    found: dict[str, Any] = {}
    for run in sorted(folder.glob("fold*-seed*")):
        lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        history = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        files = [(run / name).read_bytes() for name in ("predictions.parquet", "weights.safetensors")]
        found[run.name] = [history, *files]
    return found


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_tracker_sees_every_epoch_and_changes_nothing(toy: "Toy", tracked: Path, tmp_path: Path, jobs: int) -> None:
    threads = torch.get_num_threads()
    bare = carried_out(toy, tmp_path / "bare")
    seen = carried_out(toy, tmp_path / "seen", "own_tracker:Keeps", jobs=jobs)
    assert torch.get_num_threads() == threads
    assert seen.name == bare.name  # the hash of the setting
    if jobs == 1:  # with several, each has its share of threads
        assert stored(seen) == stored(bare)
    assert not list(seen.glob("*.watch.jsonl"))
    files = sorted(tracked.iterdir())
    assert len(files) == len(list(seen.glob("fold*"))) > 1
    for file in files:
        about, *lines, end = json.loads(file.read_text())
        assert end is True and {"experiment", "fold", "seed", "settings", "setting", "folder", "log_dir"} <= set(about)
        epochs, watched = lines[::2], lines[1::2]
        _, fold, seed = file.stem.rsplit("-", 2)
        history = (seen / f"fold{fold}-seed{seed}" / "history.jsonl").read_text().splitlines()
        assert [{"epochs": 2, **json.loads(line)} for line in history] == epochs
        for k, own in enumerate(watched, 1):  # the file has all epochs so far, below the process that writes it
            assert own[1:] == epochs[:k] and own[0]["host"] == socket.gethostname()


def test_event_files_are_read_back(toy: "Toy", tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = tmp_path / "runs"
    folder = carried_out(toy, runs, "tensorboard")
    written = sorted({path.parent for path in (runs / ".tensorboard").rglob("events.out.tfevents.*")})
    assert len(written) == len(list(folder.glob("fold*")))
    for place in written:
        run = folder / place.name.partition("-")[2]
        history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        events = EventAccumulator(str(place))
        events.Reload()
        for tag in ("train_loss", "valid_loss", "learning_rate"):
            own = events.Scalars(f"search/{tag}")
            expected = [(line["epoch"], line[tag]) for line in history if line["phase"] == "search"]
            assert [one.step for one in own] == [epoch for epoch, _ in expected]
            assert [one.value for one in own] == pytest.approx([value for _, value in expected])
    assert {one.state for one in read_stored(runs).results} == {"current"}  # event files are no runs


def command(toy: "Toy", log: str) -> Result:
    cache = toy.cache(toy.corpus())
    file = toy.experiment(QUICK, "quick")
    store = [str(file), "--cache", cache.objects.url, "--corpus", "toys", "--runs", str(toy.folder / "runs")]
    return CliRunner().invoke(app, ["train", *store, "--log", log])


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("wandb", "--log wandb: give tensorboard, or module:attribute"),
        ("nowhere_at_all:Tracker", "--log nowhere_at_all:Tracker: module 'nowhere_at_all' cannot be imported"),
        ("own_tracker:Nothing", "has nothing called 'Nothing'"),
        ("own_tracker:takes_nothing", "--log own_tracker:takes_nothing: it must take one argument"),
        ("own_tracker:Endless", "--log own_tracker:Endless: it has no method 'end'"),
        ("own_tracker:Starts", "--log own_tracker:Starts failed at start (OSError: no account)"),
        ("own_tracker:Fails", "--log own_tracker:Fails failed at epoch 1 (ValueError: no network)"),
    ],
)
def test_a_tracker_that_fails_is_named_in_one_line(toy: "Toy", tracked: Path, log: str, told: str) -> None:
    done = command(toy, log)
    last = done.stderr.strip().splitlines()[-1]
    assert done.exit_code == 1 and last.startswith("error: ") and told in last
    runs = toy.folder / "runs"
    assert not list(runs.rglob("run.json")) and not list(runs.rglob("*.watch.jsonl"))


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emocache.train.watch.event_files.find_spec", lambda _: None)
    with pytest.raises(EmocacheError, match=r"pip install 'emocache\[tensorboard\]'"):
        Watching(("tensorboard",)).check()


OURS, NOBODY = socket.gethostname(), 2**22 + 1  # no process has a number as large


@pytest.mark.parametrize("case", ["living", "gone", "elsewhere", "unknown"])
def test_the_file_of_a_killed_run_is_a_leftover(tmp_path: Path, case: str) -> None:
    first, held = {
        "living": ({"host": OURS, "process": os.getpid()}, f"process {os.getpid()} is at work"),
        "gone": ({"host": OURS, "process": NOBODY}, ""),
        "elsewhere": ({"host": "elsewhere", "process": 1}, "of another machine, elsewhere"),
        "unknown": ({}, "written within the hour"),
    }[case]
    path = tmp_path / "probe" / "demo" / "0" / "fold0-seed1.watch.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(first) + "\n")
    (left,) = read_stored(tmp_path).leftovers
    assert (left.path, left.held) == (path, held)
    done = CliRunner().invoke(app, ["runs", "prune", str(tmp_path), "--yes"])
    assert done.exit_code == 0 and path.exists() == bool(held)
