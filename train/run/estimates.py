"""The time that training takes, as far as it can be known before, and how many processes are worth starting for it."""

import os
from collections.abc import Iterable

from ..config.search import search_points
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.memory import Memory
from .experiment_plan import Plan
from .fusion_plan import FusionPlan
from .trainings_told import parts_of

# Seconds of a run, and of one byte of its frames in one epoch on a processor, where no run tells better: those of a
# recurrent head of 128 units, within a factor of ten.
_A_RUN, _A_BYTE = 0.3, 5e-8
_PROCESSES_PAY = 20.0  # seconds of training; a process takes some to start
_A_PROCESS = 1e9  # bytes; half of it are torch's
_ON_A_GPU = 4  # processes, each of which takes half a GB of its memory for itself


def default_jobs(plans: Iterable[Plan | FusionPlan]) -> int:
    """Choose how many processes train some experiments: as many as cores, one where starting more would take longer.

    On a GPU it is one, which has all of its memory.

    It depends on what is asked for only, and not on what is stored already: with other shares of torch's threads,
    numbers differ in their last bits.
    """
    alone = [one for plan in plans for one in (plan.members if isinstance(plan, FusionPlan) else [plan])]
    most = max((len(plan.all_runs()) for plan in alone), default=1)
    if any(plan.device != "cpu" for plan in alone):
        return 1
    return min(most_jobs(), most) if sum(guess(plan, len(plan.all_runs())) for plan in alone) > _PROCESSES_PAY else 1


def most_jobs(device: str = "cpu") -> int:
    """Count the processes that can work at the same time: one a core that this process may use, if memory has room."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(Memory().limit / _A_PROCESS), cores if device == "cpu" else _ON_A_GPU))


def guess(plan: Plan, runs: int) -> float:
    """Guess the seconds that some runs of a plan take, by the bytes that they read."""
    points = [point for _, point in search_points(plan.settings)]
    read = sum(_bytes(plan.dataset, point, role) * point.training.epochs for point in points for role in point.streams)
    read *= parts_of(plan.settings)
    heads = len(plan.settings.targets) if plan.settings.targets_apart else 1
    return runs * (_A_RUN + _A_BYTE * read * heads)


def _bytes(dataset: Dataset, point: Settings, role: str) -> float:
    """The bytes that an epoch reads of one input: a head that takes means reads nothing else."""
    whole = sum(dataset.sizes.get(name, 0) for name in point.streams[role])
    if point.head.fixed_pooling(role, point.per_frame) is None:
        return whole / point.features.of(role).average_frames
    frames = max((dataset.frames.get(name, 0) for name in point.streams[role]), default=0)
    return whole * min(1.0, len(dataset.examples) / max(frames, 1))


def duration(seconds: float) -> str:
    """Write a time as people say it, in one or two units: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
