"""The scripts of docs/clusters: linted, and the one of Slurm run under a stand-in for it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..machines import CALL, CLIPS, UNIT, WAIT, Job, clips, environment, until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "clusters"
SLURM, RAY, KUBERNETES = (FOLDER / name for name in ("slurm-array.sh", "ray-autoscaler.yaml", "kubernetes-job.yaml"))
SHARES = 2


def document(path: Path) -> Any:
    """A YAML file."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(path.read_text("utf-8"))


class Slurm:
    """What of a scheduler an array needs: it starts tasks, sends TERM to one, and queues again what asks for it."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._requeued = folder / "requeued"
        commands = {"emocache": f'exec {sys.executable} -c "{CALL}" "$@"', "scontrol": f'echo "$@" >>{self._requeued}'}
        for name, text in commands.items():
            (folder / "bin").mkdir(exist_ok=True)
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / "bin" / name).chmod(0o755)
        path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
        self._environment = {**environment(), "PATH": path, "SLURM_ARRAY_JOB_ID": "4711", "SLURM_CPUS_PER_TASK": "1",
                             "SLURM_ARRAY_TASK_COUNT": str(SHARES)}  # fmt: skip

    def start(self, task: int) -> "subprocess.Popen[str]":
        """Run the script as a task."""
        own = {**self._environment, "SLURM_ARRAY_TASK_ID": str(task)}
        return subprocess.Popen(["bash", str(SLURM), *self._arguments], env=own, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    def requeued(self) -> list[str]:
        """The lines that scontrol was given."""
        return self._requeued.read_text().splitlines() if self._requeued.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_an_array_whose_task_is_stopped_and_queued_again(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    corpus, folders = clips(tmp_path / "corpus"), [tmp_path / "local", tmp_path / "slurm"]
    for folder in folders:
        folder.mkdir()
    local, job = (Job(folder, corpus) for folder in folders)
    assert local.run().exit_code == 0
    job.tell("hold", UNIT + 1)
    _, *arguments = job.arguments  # without --workers 1, which the script gives
    slurm = Slurm(tmp_path, arguments[:-2])
    tasks = [slurm.start(number) for number in range(SHARES)]
    until(lambda: len(job.encoded()) == 2 * SHARES * UNIT or any(task.poll() is not None for task in tasks))
    tasks[1].send_signal(signal.SIGTERM)
    told, _ = tasks[1].communicate(timeout=WAIT)
    assert tasks[1].returncode == 143 and "stopped; what was finished is stored" in told, told
    assert slurm.requeued() == ["requeue 4711_1"]
    job.tell("hold")
    tasks[1] = slurm.start(1)
    told = "".join(task.communicate(timeout=WAIT)[0] for task in tasks)
    assert [task.returncode for task in tasks] == [0, 0], told
    assert job.digest() == local.digest() and len(job.encoded()) == CLIPS + UNIT  # what was under way, again
    assert slurm.requeued() == ["requeue 4711_1"]  # nobody else


@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_the_script_of_slurm_is_sound(tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SLURM)], check=True)
    told = re.findall(r"^#SBATCH --([a-z-]+)", SLURM.read_text("utf-8"), re.MULTILINE)
    assert {"requeue", "signal", "open-mode"} <= set(told)
    # One that ends by itself has its own exit status, and is not queued again.
    slurm = Slurm(tmp_path, ["table", "--data", "/nowhere", "--cache", str(tmp_path / "store"), "--encoder", "mfcc"])
    task = slurm.start(0)
    text, _ = task.communicate(timeout=WAIT)
    assert task.returncode == 1 and "/nowhere" in text and not slurm.requeued()


def test_the_cluster_of_ray_is_what_ray_takes() -> None:
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text("utf-8"))
    found = document(RAY)
    jsonschema.validate(found, schema)
    assert found["head_node_type"] in found["available_node_types"]
    gpu = found["available_node_types"]["gpu"]
    assert gpu["max_workers"] <= found["max_workers"] and gpu["resources"]["GPU"] == 1


# The fields of a Job of Kubernetes that the file may have, after its API reference (batch/v1, core/v1); `str` and the
# like are kinds of values, a list stands for any number of its only element.
CONTAINER = {"name": str, "image": str, "command": [str], "args": [str],
             "resources": {"requests": {"cpu": str, "memory": str}, "limits": {"memory": str, "nvidia.com/gpu": int}},
             "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}]}  # fmt: skip
POD = {"restartPolicy": str, "terminationGracePeriodSeconds": int, "containers": [CONTAINER],
       "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}}]}  # fmt: skip
RULE = {"action": str, "onPodConditions": [{"type": str, "status": str}],
        "onExitCodes": {"containerName": str, "operator": str, "values": [int]}}  # fmt: skip
JOB = {"apiVersion": str, "kind": str, "metadata": {"name": str},
       "spec": {"completionMode": str, "completions": int, "parallelism": int, "backoffLimitPerIndex": int,
                "podFailurePolicy": {"rules": [RULE]}, "template": {"spec": POD}}}  # fmt: skip


def check(found: Any, known: Any, where: str) -> None:
    """Refuse fields that nobody knows, and values of another kind."""
    if isinstance(known, Mapping):
        assert isinstance(found, Mapping) and found.keys() <= known.keys(), where
        for name, value in found.items():
            check(value, known[name], f"{where}.{name}")
    elif isinstance(known, list):
        assert isinstance(found, list) and found, where
        for value in found:
            check(value, known[0], f"{where}[]")
    else:
        assert type(found) is known, where


def test_the_job_of_kubernetes_is_what_its_reference_says() -> None:
    found = document(KUBERNETES)
    check(found, JOB, "job")
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "Job")
    spec = found["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    # Both are asked for by backoffLimitPerIndex, and Never by podFailurePolicy besides.
    assert (spec["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    exits = [rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert all(codes["containerName"] == container["name"] for codes in exits)
    (command,) = container["args"]
    assert command.startswith("exec emocache extract ") and f'+ 1))/{spec["completions"]}"' in command
    assert spec["parallelism"] == spec["completions"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
def test_each_pod_has_a_share_of_its_own(tmp_path: Path) -> None:
    """The command is run by a shell, as Kubernetes has it run."""
    (container,) = document(KUBERNETES)["spec"]["template"]["spec"]["containers"]
    (tmp_path / "emocache").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "emocache").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    own = {**os.environ, "PATH": path, "JOB_COMPLETION_INDEX": "7"}
    done = subprocess.run(
        [*container["command"], *container["args"]], env=own, capture_output=True, text=True, check=True
    )
    words = done.stdout.split("\n")
    assert words[words.index("--shard") + 1] == "8/8" and not done.stderr
