"""The optimisers of the training loop."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..config.sections import Training
from ..heads import Head

_LBFGS_ITERATIONS = 20  # of each epoch
_BLOCK = 1 << 16  # numbers; with gradient and moments they take 1 MB


def make_optimiser(head: Head, training: Training) -> torch.optim.Optimizer:
    """Make AdamW with weight decay on matrices only, or L-BFGS with a line search."""
    if training.optimiser == "lbfgs":
        return LBFGS(head.parameters(), max_iter=_LBFGS_ITERATIONS, line_search_fn="strong_wolfe")
    others = [p for p in head.parameters() if p.ndim < 2]
    groups = [(matrices(head), training.weight_decay), (others, 0.0)]
    if all(p.device.type == "cpu" for p in head.parameters()):
        return BlockwiseAdamW(groups, training.learning_rate)
    decays = [{"params": parameters, "weight_decay": decay} for parameters, decay in groups]
    return AdamW(decays, lr=training.learning_rate)


def matrices(head: Head) -> list[torch.nn.Parameter]:
    """Return the parameters that weight decay is for."""
    return [p for p in head.parameters() if p.ndim >= 2]


class _Eager(torch.optim.Optimizer):
    """An optimiser without the wrappers that load torch's compiler, which takes seconds in every process."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class LBFGS(_Eager, torch.optim.LBFGS):
    """torch's own, see `_Eager`."""


class AdamW(_Eager, torch.optim.AdamW):
    """torch's own, see `_Eager`."""

    _update = inspect.unwrap(torch.optim.AdamW.step)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; return what the closure gives, which is called first."""
        with torch.enable_grad():
            value = None if closure is None else closure()
        with torch.no_grad():
            self._update()
        return value


class BlockwiseAdamW(AdamW):
    """torch's AdamW, given large parameters in blocks that a processor's caches hold: the same numbers, sooner.

    A step is a dozen passes over weights, gradients and moments, and those of a wide layer come from memory each time.
    (torch's `fused=True` is as fast, but rounds otherwise.)

    Args:
        groups: parameters, and their weight decay.
        lr: the learning rate.
    """

    def __init__(self, groups: Sequence[tuple[Sequence[torch.nn.Parameter], float]], lr: float) -> None:
        self._blocks = {p: torch.split(p.detach().view(-1), _BLOCK) for parameters, _ in groups for p in parameters}
        decays = [
            {"params": [block for p in parameters for block in self._blocks[p]], "weight_decay": decay}
            for parameters, decay in groups
        ]
        super().__init__(decays, lr=lr)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for parameter in self._blocks:
            parameter.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; return what the closure gives, which is called first."""
        with torch.enable_grad():
            value = None if closure is None else closure()
        for parameter, blocks in self._blocks.items():
            grads: Sequence[torch.Tensor | None] = [None] * len(blocks)
            if parameter.grad is not None:
                grads = torch.split(parameter.grad.reshape(-1), _BLOCK)
            for block, grad in zip(blocks, grads, strict=True):
                block.grad = grad
        super().step()
        return value
