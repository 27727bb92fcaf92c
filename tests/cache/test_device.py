"""The device: chosen, and told with the reason why it is no GPU."""

import os

import pytest
import torch

from emocache.cache import EmocacheError, device

from ..pretend_cuda import NAME, pretend_cuda

CPU = f"on the CPU, {os.cpu_count()} cores (float32)"


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """torch with CUDA 13 that sees no device, on a machine without nvidia-smi."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    return monkeypatch


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        (None, "there is no NVIDIA driver"),
        ((12, 8), "the driver knows CUDA 12.8 and is too old for CUDA 13.0 (needs R580 or newer)"),
        ((13, 1), "torch sees no CUDA device"),
    ],
)
def test_the_reason_why_there_is_no_gpu(blind: pytest.MonkeyPatch, driver: tuple[int, int] | None, told: str) -> None:
    blind.setattr(device, "driver_version", lambda: driver)
    assert device.tell_device("auto") == f"{CPU}: {told}"
    with pytest.raises(EmocacheError, match=r"use --device cpu, or see docs/gpu\.md") as error:
        device.choose_device("cuda:1")
    assert str(error.value).startswith(f"device 'cuda:1': {told}")


def test_a_build_without_cuda_beside_a_gpu_is_warned_of(blind: pytest.MonkeyPatch) -> None:
    blind.setattr(torch.version, "cuda", None)
    blind.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    told = f"torch {torch.__version__} has no CUDA; this machine has a GPU (nvidia-smi is there), see docs/gpu.md"
    assert device.tell_device("auto") == f"{CPU}: {told}"
    assert device.tell_device("cpu") == CPU  # asked for: nothing to warn of


def test_hidden_gpus_are_told(blind: pytest.MonkeyPatch) -> None:
    blind.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.tell_device("auto").endswith(": CUDA_VISIBLE_DEVICES='' hides every GPU")


def test_a_processor_without_bf16_is_told(blind: pytest.MonkeyPatch) -> None:
    blind.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": False})
    told = "(bf16; this processor has no bf16 instructions, float32 is as fast)"
    assert device.tell_device("cpu", "bf16") == CPU.replace("(float32)", told)
    assert device.tell_device("cpu") == CPU
    for name in ("avx512_bf16", "amx_bf16", "bf16"):
        blind.setattr(torch.cpu, "get_capabilities", lambda name=name: {name: True})
        assert device.tell_device("cpu", "bf16") == CPU.replace("float32", "bf16")


def test_a_gpu_is_told_and_others_are_refused() -> None:
    with pretend_cuda():
        assert device.choose_device("auto") == "cuda" and device.choose_device("cuda:0") == "cuda:0"
        assert device.tell_device("auto", "bf16") == f"on {NAME} (bf16)"
        with pytest.raises(EmocacheError, match="device 'cuda:1': torch sees 1 CUDA device, cuda:0"):
            device.choose_device("cuda:1")
    for name in ("gpu", "cuda:x", "CUDA", ""):
        with pytest.raises(EmocacheError, match="is not one of auto, cpu, cuda, cuda:N"):
            device.choose_device(name)
