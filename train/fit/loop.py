"""The training loop: the only one there is."""

import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...cache import EmocacheError
from ...cache.device import full_precision
from ..config.sections import Training
from ..config.settings import Settings
from ..heads import Head
from ..inputs.batch import Batch
from ..inputs.batches import Batches
from .losses import Loss, batch_loss
from .optimisers import make_optimiser, matrices
from .selection import Score

Watch = Callable[[dict[str, Any]], object]
"""Takes the line of each epoch for the history as it is over, with `epochs`: how many there are at most."""


class Diverged(EmocacheError):
    """A loss that is not finite."""


def adding(watch: Watch, **more: Any) -> Watch:
    """Put more into every line that is watched; what is empty is left out."""
    own = {name: value for name, value in more.items() if value}
    return lambda line: watch({**own, **line})


@dataclass(frozen=True, eq=False)
class Trained:
    """The head at its best epoch.

    Attributes:
        head: with the weights of the best epoch, or of the last one where nothing validated.
        epoch: that epoch, from 1.
        score: its validation score; NaN where nothing validated.
        history: {"epoch", "train_loss", "learning_rate", "valid_loss", "valid_<metric>", "seconds"} of every epoch.
    """

    head: Head
    epoch: int
    score: Score
    history: list[dict[str, float]]


def train_head(
    head: Head,
    batches: Batches,
    rows: npt.NDArray[np.int64],
    settings: Settings,
    loss: Loss,
    seed: int,
    validate: Callable[[Head], Score] | None,
    learning_rates: Sequence[float] | None = None,
    watch: Watch = lambda _: None,
) -> Trained:
    """Train a head, in place.

    Args:
        head: freshly built, on the batches' device.
        batches: gathers the rows.
        rows: the training part.
        settings: the whole experiment; `[training]` rules here.
        loss: see `losses`.
        seed: decides the order of batches.
        validate: scores the head; training stops early on it. None: every epoch is trained and the last one counts.
        learning_rates: one an epoch, instead of the schedule; their number is the number of epochs.
        watch: see `Watch`.

    Returns:
        The head with the weights of its best epoch, and the history of all epochs.

    Raises:
        Diverged: the loss is not finite.
    """
    training = settings.training
    optimiser = make_optimiser(head, training)
    generator = np.random.default_rng(seed)
    size = len(rows) if training.optimiser == "lbfgs" else training.batch_size
    best: tuple[int, Score, dict[str, torch.Tensor]] | None = None
    history: list[dict[str, float]] = []
    stalled = 0  # epochs without getting better
    watched: Score | float | None = None
    epochs = len(learning_rates) if learning_rates else training.epochs
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        rate = learning_rates[epoch - 1] if learning_rates else learning_rate(training, epoch, stalled, history)
        for group in optimiser.param_groups:
            group["lr"] = rate
        head.train()
        # Losses stay on the device until the epoch ends: reading each would wait for the device in every step.
        losses = [_step(head, batch, loss, optimiser, training) for batch in batches.epoch(rows, size, generator)]
        train_loss = float(torch.stack(losses).mean())
        _check_finite("training", train_loss, epoch, rate)
        line = {"epoch": epoch, "train_loss": train_loss, "learning_rate": rate}
        if validate is not None:
            score = validate(head)
            metric = settings.selection.metric
            _check_finite("validation", -score.negative_loss, epoch, rate)
            line |= {"valid_loss": -score.negative_loss, f"valid_{metric}": score.value(metric)}
            if best is None or score > best[1] or settings.selection.epoch == "last":
                best = (epoch, score, copy.deepcopy(head.state_dict()))
            # What stops need not be what chooses: the score chooses the weights even where the loss stops.
            now = score if training.stop_on == "score" else score.negative_loss
            better = watched is None or now > watched  # type: ignore[operator]
            watched, stalled = (now, 0) if better else (watched, stalled + 1)
        history.append({**line, "seconds": time.perf_counter() - started})
        watch({"epochs": epochs, **history[-1]})
        if validate is not None and stalled >= training.patience:
            break
    if best is None:
        return Trained(head, len(history), Score(math.nan, math.nan), history)
    head.load_state_dict(best[2])
    return Trained(head, best[0], best[1], history)


def _check_finite(part: str, loss: float, epoch: int, rate: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(f"the {part} loss is {loss} in epoch {epoch} (learning rate {rate:g}); lower"
                            " training.learning_rate, or set training.clip_norm")  # fmt: skip


def _step(head: Head, batch: Batch, loss: Loss, optimiser: torch.optim.Optimizer, training: Training) -> torch.Tensor:
    """Take one step of the optimiser; return the loss before it."""
    teacher = {} if head.teacher == "never" else {"teacher": batch.targets}

    # L-BFGS evaluates the loss several times a step, AdamW once.
    def closure() -> Any:
        optimiser.zero_grad()
        value = batch_loss(loss, head(*batch.inputs, **teacher), batch)
        if training.optimiser == "lbfgs" and training.weight_decay:
            # torch's L-BFGS knows no weight decay; AdamW's is decoupled from the loss.
            value = value + training.weight_decay / 2 * sum((w**2).sum() for w in matrices(head))
        value.backward()  # type: ignore[no-untyped-call]
        if training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(head.parameters(), training.clip_norm)
        if training.clip_value is not None:
            torch.nn.utils.clip_grad_value_(head.parameters(), training.clip_value)
        return value

    return torch.as_tensor(optimiser.step(closure)).detach()


def learning_rate(training: Training, epoch: int, stalled: int, history: Sequence[dict[str, float]]) -> float:
    """Return the rate of one epoch, counted from 1.

    "plateau" multiplies the last rate by `plateau_factor` when more than `plateau_patience` epochs were no better, and
    counts anew, as torch's ReduceLROnPlateau does;
    "cosine" falls from the full rate towards zero over `epochs`.
    """
    if training.schedule == "cosine":
        return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / training.epochs))
    if training.schedule == "plateau" and history:
        wait = training.plateau_patience or max(1, training.patience // 3)
        lowered = stalled > 0 and stalled % (wait + 1) == 0
        return history[-1]["learning_rate"] * (training.plateau_factor if lowered else 1.0)
    return training.learning_rate


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let the seed decide weights, dropout and kernels inside; leave the caller's random state as it was."""
    # cuBLAS is deterministic only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_deterministic_debug_mode()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        # The same as use_deterministic_algorithms(True, warn_only=True), which loads torch's compiler: seconds.
        torch.set_deterministic_debug_mode("warn")
        try:
            with full_precision():
                yield
        finally:
            torch.set_deterministic_debug_mode(before)
