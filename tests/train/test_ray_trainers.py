"""`train --engine ray`: the runs of `--jobs`, to the last bit, whatever dies meanwhile."""

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from emocache.cli import app

from ..machines import CALL, WAIT, environment, lives, until

if TYPE_CHECKING:
    from .conftest import Toy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]

TEXT = """
streams = ["toy"]
targets = ["emotion"]
seeds = [0, 1]
protocol = {{ name = "group_folds", folds = 3 }}
head = {{ kind = "{head}", dropout = 0.3 }}
training = {{ epochs = 2 }}
"""


class Training:
    """Two experiments of six runs each, on one cache."""

    def __init__(self, toy: "Toy") -> None:
        toy.cache()
        self.folder = toy.folder
        experiments = [toy.experiment(TEXT.format(head=head), head) for head in ("recurrent", "mlp")]
        self.arguments = ["train", *map(str, experiments), "--cache", str(toy.root), "--device", "cpu", "--jobs", "2"]

    def run(self, runs: str, *more: str) -> str:
        """The command in this process; returns what it prints."""
        done = CliRunner().invoke(app, [*self.arguments, "--runs", str(self.folder / runs), *more])
        assert done.exit_code == 0, done.output
        return done.output

    def start(self, runs: str, *more: str) -> "subprocess.Popen[str]":
        """The command in another one."""
        command = [sys.executable, "-c", CALL, *self.arguments, "--runs", str(self.folder / runs), *more]
        return subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def numbers(self, runs: str) -> dict[str, Any]:
        """{run: weights and predictions}, of all that are stored; nothing else is left there."""
        folder = self.folder / runs
        assert not list(folder.glob(".features-*")) and not list(folder.rglob(".*.tmp"))
        return {
            str(run.relative_to(folder)): (
                (run / "weights.safetensors").read_bytes(),
                pq.read_table(run / "predictions.parquet").to_pydict(),
            )
            for run in folder.glob("*/*/*/fold*")
        }


def test_the_runs_are_those_of_processes_here(cluster: Any, toy: "Toy") -> None:
    """One process is killed in the middle of a run; a command that is stopped leaves nothing behind."""
    training = Training(toy)
    told = training.run("local")
    log = training.folder / "log"
    log.mkdir()
    (log / "kill").touch()
    watched = ["--log", "tests.train.standing_tracker:Standing", "--log-dir", str(log)]
    assert "6 trained, 0 reused" in told and "6 trained, 0 reused" in training.run("ray", "--engine", "ray", *watched)
    assert not (log / "kill").exists()
    expected = training.numbers("local")
    assert len(expected) == 12 and training.numbers("ray") == expected
    assert "0 trained, 6 reused" in training.run("ray")

    (log / "processes").unlink()
    (log / "hold").touch()
    command = training.start("stopped", "--engine", "ray", *watched)
    until(lambda: (log / "processes").exists() or command.poll() is not None)
    command.send_signal(signal.SIGTERM)
    printed, _ = command.communicate(timeout=WAIT)
    assert command.returncode == 143 and "Traceback" not in printed, printed
    processes = [int(line) for line in (log / "processes").read_text().splitlines()]
    until(lambda: not any(map(lives, processes)))
    assert training.numbers("stopped") == {}


def test_the_error_of_a_run_is_told_as_it_is(cluster: Any, toy: "Toy") -> None:
    training = Training(toy)
    log = training.folder / "log"  # which is not there
    more = ["--engine", "ray", "--log", "tests.train.standing_tracker:Standing", "--log-dir", str(log)]
    done = CliRunner().invoke(app, [*training.arguments, "--runs", str(training.folder / "runs"), *more])
    assert done.exit_code == 1 and "Traceback" not in done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert "worker on " in line and "standing_tracker:Standing" in line and "No such file" in line
