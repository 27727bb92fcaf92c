"""The optimisers against torch's own, to the last bit."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch

from emocache.train.config.sections import Training
from emocache.train.fit import optimisers
from emocache.train.fit.optimisers import BlockwiseAdamW, make_optimiser, matrices


def network() -> torch.nn.Module:
    """Parameters below, at and above the size of a block, one that has no gradient, and one that has none at first."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(1000, 131), torch.nn.ReLU(), torch.nn.Linear(131, 3))
    layers.register_parameter("unused", torch.nn.Parameter(torch.ones(5, 7)))
    layers.register_parameter("late", torch.nn.Parameter(torch.ones(3)))
    layers.register_parameter("exact", torch.nn.Parameter(torch.randn(4, optimisers._BLOCK // 4)))
    return layers


def trained(layers: Any, optimiser: torch.optim.Optimizer) -> list[float]:
    random, losses = torch.Generator().manual_seed(1), []
    for step in range(6):
        given = torch.randn(16, 1000, generator=random)
        optimiser.param_groups[0]["lr"] = 0.01 / (step + 1)

        def closure(step: int = step, given: torch.Tensor = given) -> Any:
            optimiser.zero_grad()
            found = layers[2](layers[1](layers[0](given))) + (layers.late if step > 2 else 0)
            loss = found.square().mean() + (layers.exact * given[0, 0]).sum() / 1000
            loss.backward()
            return loss.detach()

        losses.append(float(optimiser.step(closure)))
    return losses


@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_give_what_whole_parameters_give(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours: Any = network()
        theirs: Any = copy.deepcopy(ours)
        large, small = ([p for p in net.parameters() if p.ndim >= 2] for net in (ours, theirs))
        rest, others = ([p for p in net.parameters() if p.ndim < 2] for net in (ours, theirs))
        blockwise = BlockwiseAdamW([(large, 0.1), (rest, 0.0)], 0.01)
        groups = [{"params": small, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        assert trained(ours, blockwise) == trained(theirs, torch.optim.AdamW(groups, lr=0.01))
        assert len(blockwise.param_groups[0]["params"]) > len(large)
    finally:
        torch.set_num_threads(before)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    assert ours.unused.grad is None and torch.equal(ours.unused, torch.ones(5, 7))


def test_matrices_decay_and_vectors_do_not() -> None:
    head: Any = torch.nn.Linear(4, 3)
    optimiser = make_optimiser(head, Training(weight_decay=0.5, learning_rate=0.1))
    decays = {group["weight_decay"]: group["params"] for group in optimiser.param_groups}
    assert isinstance(optimiser, BlockwiseAdamW)
    assert [len(block) for block in decays[0.5]] == [12] and [len(block) for block in decays[0.0]] == [3]
    assert matrices(head) == [head.weight]
    lbfgs = make_optimiser(head, Training(optimiser="lbfgs"))
    assert isinstance(lbfgs, torch.optim.LBFGS)


STEPS = """
import sys, torch
from emocache.train.config.sections import Training
from emocache.train.fit.loop import seeded
from emocache.train.fit.optimisers import make_optimiser
with seeded(0, torch.device("cpu")):
    for name in ("adamw", "lbfgs"):
        layer = torch.nn.Linear(3, 2)
        optimiser = make_optimiser(layer, Training(optimiser=name))
        def closure():
            optimiser.zero_grad()
            loss = layer(torch.ones(1, 3)).square().sum()
            loss.backward()
            return loss.detach()
        before = float(closure())
        optimiser.step(closure)
        assert float(closure()) < before
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


def test_training_does_not_load_torchs_compiler() -> None:
    """Nothing is compiled, and loading it takes as long as a probe takes to train."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
