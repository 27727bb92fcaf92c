"""Training and prediction on a GPU: nothing mixes devices, the numbers are the CPU's, and the host hardly waits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from emocache.cache import device
from emocache.train.fit.fold_run import learned
from emocache.train.fit.loop import seeded, train_head
from emocache.train.fit.losses import make_loss
from emocache.train.fit.predict import predict
from emocache.train.heads import Shape, build_head
from emocache.train.inputs.batches import Batches
from emocache.train.run.crew import Crew
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.run_folders import read_run

from ..pretend_cuda import pretend_cuda
from .test_heads import CASES, Ready, each_case

if TYPE_CHECKING:
    from emocache.train.heads import HeadSettings

    from .cases import Case
    from .conftest import Toy

DEVICES = [pytest.param("pretend"), pytest.param("cuda", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")])]  # fmt: skip


def trained(ready: Ready, where: torch.device) -> tuple[list[Any], float, list[float]]:
    """Two epochs, and what the head gives then: outputs, loss, and the losses of the epochs."""
    batches = Batches(ready.dataset, ready.settings, ready.prepared, where)
    loss = make_loss(ready.settings.loss, None)
    outputs = len(ready.dataset.classes) or len(ready.settings.targets)
    shape = Shape(batches.dims, outputs, ready.settings.per_frame, len(ready.dataset.auxiliary))
    with seeded(1, where):
        head = build_head(ready.settings.head, shape, learned(ready.prepared, ready.settings)).to(where)
        done = train_head(head, batches, ready.rows, ready.settings, loss, 1, None, [0.01, 0.01])
        found = predict(done.head, batches, ready.rows, loss)
    return found.outputs, found.loss, [line["train_loss"] for line in done.history]


def without_dropout(head: "HeadSettings") -> list[str]:
    """Changes that turn off every dropout of a head: what is drawn depends on the device and on the order of frames."""
    return [f"head.{name}=0.0" for name in type(head).model_fields if name.endswith("dropout")]


@pytest.mark.parametrize("where", DEVICES)
@each_case
def test_a_head_learns_on_a_device_what_it_learns_on_the_cpu(toy: "Toy", case: "Case", where: str) -> None:
    ready = Ready(toy, case, *without_dropout(Ready(toy, case).settings.head))
    on_host = trained(ready, torch.device("cpu"))
    if where == "pretend":
        with pretend_cuda():
            on_device = trained(ready, torch.device("cuda"))
    else:
        on_device = trained(ready, torch.device("cuda"))
    atol = 1e-6 if where == "pretend" else 2e-3  # a card adds up in another order, and two epochs carry it on
    for here, there in zip(on_host[0], on_device[0], strict=True):
        assert np.allclose(here, there, atol=atol)
    assert np.allclose(on_host[1:][0], on_device[1], atol=atol) and np.allclose(on_host[2], on_device[2], atol=atol)


@pytest.fixture
def probe(toy: "Toy") -> Ready:
    """A probe on three classes."""
    return Ready(toy, CASES[0])


def test_a_batch_costs_one_copy_and_no_wait(probe: Ready) -> None:
    with pretend_cuda() as there:
        batches = Batches(probe.dataset, probe.settings, probe.prepared, torch.device("cuda"))
        there.counts.clear()
        batches.gather(probe.rows[:8])
    assert +there.counts == {"to device": 1}  # neither pageable nor waited for


def test_frames_without_room_stay_on_the_host_and_give_the_same_batches(probe: Ready) -> None:
    on_host = Batches(probe.dataset, probe.settings, probe.prepared, torch.device("cpu")).gather(probe.rows[:8])
    with pretend_cuda() as there:
        there.free = 0
        batches = Batches(probe.dataset, probe.settings, probe.prepared, torch.device("cuda"))
        there.counts.clear()
        found = batches.gather(probe.rows[:8])
        values = found.inputs[0].values.cpu()
    assert torch.equal(values, on_host.inputs[0].values)
    assert there.counts["pageable"] == 0 and there.counts["to device"] == 2  # the rows, and their frames


def test_prediction_waits_once_a_batch(probe: Ready) -> None:
    with pretend_cuda() as there:
        batches = Batches(probe.dataset, probe.settings, probe.prepared, torch.device("cuda"))
        head = build_head(probe.settings.head, Shape(batches.dims, 3, False, 0)).to("cuda")
        there.counts.clear()
        predict(head, batches, probe.rows)  # 18 clips, one batch
    assert there.counts["to host"] == there.counts["waits"] == 1


def test_processes_share_the_memory_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_sharing", 1)
    with pretend_cuda() as there:
        there.free = 80 << 30
        alone = device.room_on(torch.device("cuda"))
        device.share_device(4)
        assert device.room_on(torch.device("cuda")) == alone // 4 == 20 << 30


def test_training_switches_tf32_off_and_back(probe: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        head = build_head(probe.settings.head, Shape(probe.batches.dims, 3, False, 0))
        look = lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))  # noqa: E731
        head.register_forward_hook(look)
        with seeded(1, torch.device("cpu")):
            train_head(head, probe.batches, probe.rows, probe.settings, make_loss(probe.settings.loss, None), 1, None)
        predict(head, probe.batches, probe.rows)
        assert set(seen) == {(False, "highest")} and len(seen) > 2
        assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (True, "high")
    finally:
        torch.set_float32_matmul_precision(usual)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_processes_side_by_side_train_on_one_device(toy: "Toy", tmp_path: Path) -> None:
    """Each run's numbers are those of a process alone."""
    cache = toy.cache()
    found = []
    for jobs in (1, 2):
        request = Request(cache, ["toys"], tmp_path / str(jobs), device="cuda")
        plan = request.plan(request.experiment(toy.experiment()))
        with Crew(jobs) as crew:
            list(carry_out(plan, crew, False))
        found.append([read_run(plan.folder(fold, 0))[1].to_pylist() for fold in range(3)])
    assert found[0] == found[1]
