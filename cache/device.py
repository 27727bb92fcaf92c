"""The device that models run on: chosen, told, kept to full precision, and lost.

The one thing of torch in this room, since extraction and training need it alike. torch is imported where it is used: a
cache is read without.
"""

import ctypes
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import EmocacheError

if TYPE_CHECKING:
    import torch

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
"""The devices that `--device` takes."""
DEVICE_HELP = "auto|cpu|cuda|cuda:N"
_DRIVERS = {12: 525, 13: 580}
"""{major version of CUDA: the first driver that runs it}; docs.nvidia.com/deploy/cuda-compatibility."""
_MEMORY = 2  # cudaErrorMemoryAllocation
_ALLOCATION = ("_ALLOC_FAILED", "can't allocate memory", "out of memory", "calculation overflowed")
"""In the messages of cuBLAS and cuDNN, of torch's allocator of host memory, and of drivers."""


def choose_device(name: str) -> str:
    """Choose the device that models run on.

    Args:
        name: "auto", which is the first GPU where torch sees one, "cpu", "cuda", or "cuda:1".

    Returns:
        "cpu", "cuda" or "cuda:1".

    Raises:
        EmocacheError: no name of a device, or one that torch does not see; says why not.
    """
    if not DEVICE.fullmatch(name):
        raise EmocacheError(f"device {name!r} is not one of {DEVICE_HELP.replace('|', ', ')}")
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise EmocacheError(f"device {name!r}: {why_no_cuda()}; use --device cpu, or see docs/gpu.md")
    if int(name.partition(":")[2] or 0) >= count:
        raise EmocacheError(f"device {name!r}: torch sees {count} CUDA device{'s' if count > 1 else ''}, cuda:0"
                            f"{f' to cuda:{count - 1}' if count > 1 else ''}")  # fmt: skip
    return name


def tell_device(name: str, precision: str = "float32") -> str:
    """Return the line that says where models run, and why not on a GPU.

    Args:
        name: as `choose_device` takes it.
        precision: that they compute in.

    Returns:
        Such as "on NVIDIA H100 80GB HBM3 (bf16)", or "on the CPU, 16 cores (float32): torch 2.13.0+cpu has no CUDA";
        where a CPU is asked for a precision that it computes by way of float32, that it does.
    """
    import torch

    device = choose_device(name)
    if device != "cpu":
        which = f", {device}" if torch.cuda.device_count() > 1 else ""
        return f"on {torch.cuda.get_device_name(device)}{which} ({precision})"
    slow = "bf16" in precision and not multiplies_bf16()
    by_way = "; this processor has no bf16 instructions, float32 is as fast" if slow else ""
    line = f"on the CPU, {os.cpu_count()} cores ({precision}{by_way})"
    if name == "cpu":
        return line
    there = "; this machine has a GPU (nvidia-smi is there), see docs/gpu.md" if shutil.which("nvidia-smi") else ""
    return f"{line}: {why_no_cuda()}{there}"


def multiplies_bf16() -> bool:
    """Tell whether the processor multiplies in bfloat16; where not, torch goes by way of float32."""
    import torch

    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def why_no_cuda() -> str:
    """Tell why torch sees no GPU, where it sees none."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES", "all")) in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU"
    known = driver_version()
    if known is None:
        return "there is no NVIDIA driver"
    major = int(torch.version.cuda.partition(".")[0])
    if known[0] < major:
        needed = f"R{_DRIVERS[major]} or newer" if major in _DRIVERS else "a newer one"
        return (
            f"the driver knows CUDA {known[0]}.{known[1]} and is too old for CUDA {torch.version.cuda} (needs {needed})"
        )
    return "torch sees no CUDA device"


def driver_version() -> tuple[int, int] | None:
    """Return the newest version of CUDA that the NVIDIA driver knows; None where there is no driver."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            found = ctypes.c_int(0)
            if ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(found)) == 0:
                return found.value // 1000, found.value % 1000 // 10
        except (OSError, AttributeError):
            continue
    return None


_sharing = 1  # processes that use the same devices, this one among them


def share_device(processes: int) -> None:
    """Tell that so many processes like this one use the same devices: each gets its share of the memory."""
    global _sharing
    _sharing = processes


def room_on(device: "torch.device") -> int:
    """Return the bytes that this process can still take of a GPU."""
    import torch

    free, whole = torch.cuda.mem_get_info(device)
    taken, kept = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    # The allocator keeps what it once took: used in the driver's eyes, free for what comes next.
    return min(free + kept - taken, whole // _sharing - taken)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device, the host, or a tensor had no room for what was asked for: less may still fit."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, torch.AcceleratorError):
        return getattr(error, "error_code", None) == _MEMORY
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATION)


def is_device_lost(error: BaseException) -> bool:
    """Tell whether a device has failed such that nothing runs on it any more in this process.

    CUDA's errors stick to the context: after an illegal access, a failed assertion or an uncorrectable memory error
    every later call fails with the same one.
    """
    import torch

    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn TF32 off, which keeps 10 bits of the mantissa: cuDNN's default, and in some containers matrix products'."""
    import torch

    # The flags are the process's, not ours: whoever runs emocache from Python gets them back as they were.
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(usual)
