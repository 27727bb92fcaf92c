"""The heads that take longest, and where their time goes: `python -m emocache.benchmarks.slow_heads`.

Noise of the papers' shapes on one thread: a step of training, and evaluation, of CATS (frame-wise, fed what it gave),
of Xu's learned alignment and of the two-dimensional CNN. Seconds are medians; behind them the operations that take
most, with their share of the time, by torch's profiler. Then recurrent layers, forwards and backwards: packed, as
torch's documentation has it, and padded, as our heads run them on a CPU.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.profiler import ProfilerActivity, profile

from emocache.train.config.sections import Training
from emocache.train.fit.optimisers import make_optimiser
from emocache.train.heads import HEADS, Frames, Shape, build_head
from emocache.train.heads.layers.packing import states_of

_TOLD = 4  # operations


class Case(NamedTuple):
    """A head on noise: its settings, {role: (frames, channels)}, outputs, and whether every frame has a target."""

    name: str
    head: dict[str, Any]
    inputs: dict[str, tuple[int, int]]
    outputs: int
    per_frame: bool


CASES = (
    Case("CATS", {"kind": "cats"}, {"frames": (750, 100)}, 1, True),
    Case("Xu", {"kind": "xu"}, {"text": (30, 300), "audio": (750, 40)}, 4, False),
    Case("2-D CNN", {"kind": "cnn2d", "frames": 136, "channels": (16, 32, 64), "kernels": (3, 3, 5)},
         {"frames": (136, 512)}, 8, False),
)  # fmt: skip


def inputs_of(case: Case, clips: int) -> tuple[Frames, ...]:
    """Noise, in clips of 60 % to all of the longest length."""
    random = torch.Generator().manual_seed(0)
    made = []
    for frames, channels in case.inputs.values():
        lengths = torch.linspace(0.6 * frames, frames, clips).long()
        values = torch.randn(clips, frames, channels, generator=random)
        made.append(Frames(values, torch.arange(frames) < lengths.unsqueeze(1)))
    return tuple(made)


def works_of(case: Case, clips: int) -> dict[str, Callable[[], object]]:
    """A step of training, and evaluation."""
    settings = HEADS[case.head["kind"]].settings
    shape = Shape({role: dim for role, (_, dim) in case.inputs.items()}, case.outputs, case.per_frame)
    torch.manual_seed(0)
    head = build_head(settings(**case.head), shape)
    inputs = inputs_of(case, clips)
    optimiser = make_optimiser(head, Training())
    truth = {"teacher": torch.randn(*inputs[0].mask.shape, case.outputs)} if head.teacher == "training" else {}

    def step() -> None:
        head.train()
        optimiser.zero_grad()
        found = head(*inputs, **truth)
        getattr(found, "prediction", found).square().mean().backward()
        optimiser.step()

    def evaluate() -> None:
        head.eval()
        with torch.no_grad():
            head(*inputs)

    return {"a step of training": step, "evaluation": evaluate}


def told(work: Callable[[], object]) -> str:
    """The operations that take most, with their share of the time."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    averages = profiled.key_averages()
    whole = sum(one.self_cpu_time_total for one in averages)
    most = sorted(averages, key=lambda one: -one.self_cpu_time_total)[:_TOLD]
    return ", ".join(f"{one.key.removeprefix('aten::')} {one.self_cpu_time_total / whole:.0%}" for one in most)


def packed(cell: torch.nn.RNNBase, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The states as torch's documentation shows how to come by them."""
    rows = pack_padded_sequence(values, mask.sum(dim=1), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(cell(rows)[0], batch_first=True)[0]


def compare_recurrent(clips: int, rounds: int) -> None:
    """Print a line for each kind of cell and length: seconds of both, and the median of their ratios, taken in turn."""
    for kind, frames in ((torch.nn.GRU, 185), (torch.nn.LSTM, 185), (torch.nn.GRU, 750), (torch.nn.LSTM, 750)):
        torch.manual_seed(0)
        cell = kind(100, 128, batch_first=True, bidirectional=True)
        (inputs,) = inputs_of(Case("", {}, {"frames": (frames, 100)}, 1, False), clips)
        taken: dict[str, list[float]] = {"packed": [], "padded": []}
        for _ in range(rounds):
            for name, run in (("packed", packed), ("padded", states_of)):
                started = time.perf_counter()
                torch.autograd.backward(run(cell, inputs.values, inputs.mask).square().mean())
                taken[name].append(time.perf_counter() - started)
        ratio = np.median(np.divide(taken["packed"], taken["padded"]))
        medians = ", ".join(f"{name} {np.median(seconds):.2f} s" for name, seconds in taken.items())
        print(f"bidirectional {kind.__name__}, {frames} frames: {medians}, ratio {ratio:.1f}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=32, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"batches of {options.clips} clips, one thread, torch {torch.__version__}")
    for case in CASES:
        for name, work in works_of(case, options.clips).items():
            work()
            seconds = []
            for _ in range(options.rounds):
                started = time.perf_counter()
                work()
                seconds.append(time.perf_counter() - started)
            print(f"{case.name:<8} {name:<19} {np.median(seconds):7.3f} s  {told(work)}", flush=True)
    compare_recurrent(options.clips, options.rounds)


if __name__ == "__main__":
    main(sys.argv[1:])
