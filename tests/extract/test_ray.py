"""`extract --engine ray` on a cluster of two machines, which are processes here: kills, stops, errors, equality."""

import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emocache.cache import EmocacheError, ray_cluster
from emocache.extract.pipeline.engines.options import Options
from emocache.extract.pipeline.engines.readying import make_ready_again
from emocache.extract.pipeline.stream_targets import Expected

from ..machines import CLIPS, ENCODER, UNIT, WAIT, Job, clips, lives, meanwhile, until
from .counted_encoder import Counted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of a tenth of a second and more."""
    return clips(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def job(tmp_path: Path, corpus: Path) -> Job:
    """One with nothing done."""
    return Job(tmp_path, corpus)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> str:
    """The digest of what one process stores."""
    local = Job(tmp_path_factory.mktemp("local"), corpus)
    assert local.run().exit_code == 0
    return local.digest()


def test_one_corpus_by_every_engine_at_once(
    cluster: Any, job: Job, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it is a share of a process of its own; neither ends before three processes are at it.

    The encoder is slowed tenfold: each worker has one task all the same, and all others wait with the command.
    """
    from emocache.extract.pipeline.engines.ray_engine import Dealer

    give, given = Dealer._give, list[int]()

    def watched(dealer: Dealer) -> None:
        give(dealer)
        given.append(sum(len(worker.tasks) for worker in dealer._workers))

    monkeypatch.setattr(Dealer, "_give", watched)
    job.tell("hold", 1)
    job.tell("slow", 0.05)  # of a clip, which takes less than 5 ms else
    local = job.start("--shard", "1/2")
    both = meanwhile(lambda: until(lambda: len(job.processes()) == 3), lambda: job.tell("hold"))
    done = job.run("--engine", "ray")
    both.join()
    told, _ = local.communicate(timeout=WAIT)
    assert done.exit_code == local.returncode == 0, done.output + told
    assert "on Ray: workers of 1 CPU each, room for 2" in done.output
    assert job.digest() == reference
    assert '"done": 24, "encoded": 24, "total": 24' in done.output
    assert max(given) == 2


def in_the_second_unit(job: Job) -> bool:
    """Both workers stand still there, if `hold` is `UNIT + 1`."""
    return len(job.encoded()) == 4 * UNIT


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_ends_takes_its_workers_along(
    cluster: Any, job: Job, reference: str, number: signal.Signals
) -> None:
    job.tell("hold", UNIT + 1)
    command = job.start("--engine", "ray")
    until(lambda: in_the_second_unit(job))
    command.send_signal(number)
    told, _ = command.communicate(timeout=WAIT)
    until(lambda: not any(map(lives, job.processes())))
    if number == signal.SIGTERM:
        assert command.returncode == 143 and "stopped; what was finished is stored" in told
        assert "Traceback" not in told
    else:
        assert command.returncode == -number
    job.tell("hold")
    done = job.run(*(["--engine", "ray"] if number == signal.SIGKILL else []))
    assert done.exit_code == 0, done.output
    assert job.digest() == reference and len(job.done_again()) == 2  # one for each worker that died


def test_several_tasks_of_a_worker_as_on_a_gpu(
    cluster: Any, job: Job, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that ends its worker is the only one that is left out, though others were under way beside it."""
    from emocache.extract.pipeline.engines import ray_engine

    monkeypatch.setattr(ray_engine, "_DEATHS", 2)  # of 3, to save the time of one
    monkeypatch.setattr(ray_engine, "_shares", lambda work: (ray_cluster.Share(1, 0), 3))
    job.tell("deadly", "05.wav")
    done = job.run("--engine", "ray")
    assert done.exit_code == 1 and f"{CLIPS - UNIT} items committed" in done.output, done.output
    assert "unresolved: 05.wav: 2 workers ended while they were at it, probably for want of memory" in done.output
    assert done.output.count("unresolved: ") == UNIT
    job.tell("deadly")
    assert job.run().exit_code == 0 and job.digest() == reference


def test_the_share_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine's CPUs are divided among the GPUs, the scarcest machine counts, and nobody waits for a reader."""
    from emocache.extract.pipeline.engines import ray_engine

    class Model:
        def recipe(self, layer: int | None) -> dict[str, str]:
            return {"precision": "float32"}

    def chosen(device: str, *nodes: tuple[int, int], workers: int | None = None, model: bool = True) -> Any:
        monkeypatch.setattr(ray_cluster, "nodes", lambda: [ray_cluster.Share(*node) for node in nodes])
        options = Options("table", Path(), "store", (), ray_device=device, workers=workers)
        work: Any = SimpleNamespace(options=options, chosen=[Model() if model else Counted(Path())])
        (cpus, gpus), tasks = ray_engine._shares(work)
        return cpus, gpus, tasks, ray_cluster.room_for(ray_cluster.Share(cpus, gpus))

    assert chosen("auto", (8, 2), (64, 2), (16, 0)) == (4, 1, 3, 4)
    assert chosen("cuda", (64, 2)) == (16, 1, 3, 2) and chosen("cuda", (64, 2), workers=24) == (24, 1, 3, 2)
    assert chosen("cuda") == (4, 1, 3, 0) and chosen("cuda", (1, 2)) == (1, 1, 3, 1)  # none yet; less than a CPU a GPU
    assert chosen("cpu", (8, 2), (6, 0)) == (4, 0, 1, 3) and chosen("auto", (2, 0), (1, 0)) == (2, 0, 1, 1)
    assert chosen("auto", (8, 2), model=False) == (4, 0, 1, 2)  # a signal transform


def test_the_error_of_a_worker_is_told_as_it_is(cluster: Any, job: Job) -> None:
    job.tell("broken", "the model is made of cheese; take another")
    done = job.run("--engine", "ray")
    (line,) = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert done.exit_code == 1 and "Traceback" not in done.output
    assert line.startswith("error: worker on ") and line.endswith(": the model is made of cheese; take another")


def test_refusals(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job.run("--engine", "spark")
    assert one.exit_code == 2 and "'spark' is not one of local, ray" in one.output
    one = job.run("--engine", "ray", "--device", "cuda:0")
    assert one.exit_code == 2 and "Ray gives each worker its GPU" in one.output
    told = {
        "ray://head:10001": "an address of Ray Client",
        "127.0.0.1:1": "cannot be joined ([Errno 111] Connection refused); start one with `ray start --head`",
        "nowhere": "which is no address such as 10.0.0.1:6379",
    }
    pytest.importorskip("ray", reason="needs the extra ray")
    for address, why in told.items():
        monkeypatch.setenv("RAY_ADDRESS", address)
        one = job.run("--engine", "ray")
        assert one.exit_code == 1 and why in " ".join(one.output.split()) and "Traceback" not in one.output


def test_without_ray_the_remedy_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    one = job.run("--engine", "ray")
    assert one.exit_code == 1 and "pip install 'emocache[ray]'" in one.output


def test_a_machine_that_sees_something_else_is_told(job: Job) -> None:
    """No stream is created there, and nothing encoded."""
    assert job.run("--limit", "1").exit_code == 0
    manifest, (info,) = job.cache.manifest("table"), job.cache.streams("table")
    options = Options("table", job.corpus, str(job.folder / "store"), (ENCODER,), checkpoints=job.folder, device="cpu")
    work = make_ready_again(options, "table", manifest.sha256, [ENCODER])
    assert [target.writer.fingerprint for target in work.targets] == [info.fingerprint]
    with pytest.raises(EmocacheError, match="another manifest of table than the command has just put there"):
        make_ready_again(options, "table", "0" * 64, [ENCODER])
    with pytest.raises(EmocacheError, match=r"no folder /nowhere, which the command reads table from; give a --data"):
        make_ready_again(replace(options, data=Path("/nowhere")), "table", manifest.sha256, [ENCODER])
    with pytest.raises(EmocacheError, match="other does not exist"):
        make_ready_again(replace(options, cache=str(job.folder / "other")), "table", manifest.sha256, [ENCODER])
    other = {"counted": Expected("0" * 64, {**info.recipe, "dim": 4, "times": [1]}, "the command has")}
    with pytest.raises(EmocacheError, match="would make it otherwise than the command has: times is None"):
        make_ready_again(replace(options, expected=other), "table", manifest.sha256, [ENCODER])
    with pytest.raises(EmocacheError, match="folder /nowhere, which the command was started in, cannot be entered"):
        ray_cluster.settle("/nowhere", 1)


def test_a_machine_that_dies(cluster: Any, job: Job, reference: str) -> None:
    """The last of these tests: the cluster is left with one."""
    job.tell("hold", UNIT + 1)
    (gone,) = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    kill = meanwhile(
        lambda: until(lambda: in_the_second_unit(job)),
        lambda: cluster.remove_node(gone, allow_graceful=False),
        lambda: until(lambda: not all(map(lives, job.processes()))),
        lambda: job.tell("hold"),
    )
    done = job.run("--engine", "ray")
    kill.join()
    assert done.exit_code == 0, done.output
    assert job.digest() == reference and len(job.done_again()) == 1
    assert '"done": 24, "encoded": 24, "total": 24' in done.output  # what was done again is not counted again
