"""A training process killed with SIGKILL, then the same command again: the same runs as undisturbed, nothing twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from emocache.cache import Cache
from emocache.train.config.loading import load_settings
from emocache.train.run.crew import Crew
from emocache.train.run.experiment_plan import make_plan

if TYPE_CHECKING:
    from .conftest import Toy

# Trains, and dies at the n-th call of a function that training or storing a run goes through.
CHILD = """
import importlib, os, signal, sys
from pathlib import Path
import torch
from emocache.cache import Cache
from emocache.train.run.crew import Crew
from emocache.train.config.loading import load_settings
from emocache.train.run.experiment_plan import make_plan
torch.set_num_threads(1)
root, experiment, runs, place, count = sys.argv[1:]
owner, _, name = place.rpartition(".")
module, calls = importlib.import_module(owner), [int(count)]
real = getattr(module, name)
def dying(*arguments, **named):
    calls[0] -= 1
    if calls[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
setattr(module, name, dying)
plan = make_plan(Cache(root), ["toys"], Path(runs), *load_settings(experiment))
list(Crew(1).train(plan, plan.to_train()))
"""
PLACES = [
    "emocache.train.run.experiment_plan.train_fold",
    "emocache.train.run.experiment_plan.write_run",
    "os.rename",
    "os.fsync",
]


TEXT = """
streams = ["toy"]
targets = ["emotion"]
protocol = { name = "group_folds", folds = 3 }
head = { kind = "recurrent", hidden = 4, dropout = 0.3 }
training = { epochs = 3 }
"""


def trained(toy: "Toy", runs: Path) -> int:
    """Train what is not stored; how many runs that is."""
    plan = make_plan(Cache(toy.root), ["toys"], runs, *load_settings(toy.experiment(TEXT, "killed")))
    return len(list(Crew(1).train(plan, plan.to_train())))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("place", PLACES)
def test_killed_and_resumed_is_undisturbed(toy: "Toy", place: str) -> None:
    toy.cache()
    undisturbed, killed = toy.folder / "undisturbed", toy.folder / "killed"
    assert trained(toy, undisturbed) == 3
    # In the second fold, or in the second call of what is called several times a run.
    command = [sys.executable, "-c", CHILD, str(toy.root), toy.experiment(TEXT, "killed"), str(killed), place, "2"]
    child = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONSAFEPATH": "1"}, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    stored = {path: path.stat().st_mtime_ns for path in killed.glob("*/*/*/fold*/run.json")}
    assert len(stored) < 3 and trained(toy, killed) == 3 - len(stored)
    assert all(path.stat().st_mtime_ns == time for path, time in stored.items())
    runs = sorted(path.relative_to(undisturbed) for path in undisturbed.glob("*/*/*/fold*"))
    assert runs == sorted(path.relative_to(killed) for path in killed.glob("*/*/*/fold*")) and len(runs) == 3
    for run in runs:
        one, other = (folder / run for folder in (undisturbed, killed))
        assert pq.read_table(one / "predictions.parquet").equals(pq.read_table(other / "predictions.parquet"))
        assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
