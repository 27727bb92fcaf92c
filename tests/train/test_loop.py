"""The training loop against one written out: Adam, decay, clipping, rates, and when it stops."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from emocache.train.config.settings import Settings
from emocache.train.fit.loop import train_head
from emocache.train.fit.losses import cross_entropy, make_loss
from emocache.train.fit.selection import Score
from emocache.train.fit.train_fold import train_fold
from emocache.train.heads import Learned, Shape, build_head
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.transforms import prepare

if TYPE_CHECKING:
    from emocache.train.heads import Head

    from .conftest import Toy

CPU = torch.device("cpu")
ONE = {"frames": Learned()}


@dataclass
class Material:
    """What a head is trained on."""

    settings: Settings
    batches: Batches
    rows: np.ndarray[Any, Any]

    def head(self) -> "Head":
        """The same weights at every call."""
        torch.manual_seed(0)
        return build_head(self.settings.head, Shape(self.batches.dims, 3), ONE)


def material(toy: "Toy", *changes: str) -> Material:
    settings = toy.settings("head.pooling=mean", *changes)
    dataset, folds = toy.load(settings)
    batches = Batches(dataset, settings, prepare(dataset, settings, folds[0].train), CPU)
    return Material(settings, batches, folds[0].train)


def trained(made: Material, validate: Any = None, rates: list[float] | None = None) -> Any:
    loss = make_loss(made.settings.loss, None)
    return train_head(made.head(), made.batches, made.rows, made.settings, loss, 3, validate, rates)


def adam(made: Material, rates: list[float]) -> "Head":
    """Adam with decoupled decay of matrices (Loshchilov & Hutter 2019, algorithm 2), gradients clipped as asked for."""
    training, head = made.settings.training, made.head()
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in head.named_parameters()}
    generator, step = np.random.default_rng(3), 0
    for rate in rates:
        for batch in made.batches.epoch(made.rows, training.batch_size, generator):
            step += 1
            loss = cross_entropy(head(*batch.inputs), batch.targets)
            gradients = dict(zip(moments, torch.autograd.grad(loss, list(head.parameters())), strict=True))
            norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
            for name, p in head.named_parameters():
                g = gradients[name]
                if training.clip_norm is not None and norm > training.clip_norm:
                    g = g * training.clip_norm / norm
                if training.clip_value is not None:
                    g = g.clamp(-training.clip_value, training.clip_value)
                m, v = moments[name]
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                moments[name] = m, v
                decay = training.weight_decay if p.ndim > 1 else 0.0
                update = (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
                with torch.no_grad():
                    p.copy_(p - rate * decay * p - rate * update)
    return head


@pytest.mark.parametrize(
    "changes",
    [
        ("training.weight_decay=0.5",),
        ("training.clip_norm=0.05",),
        ("training.clip_value=0.01",),
        ("training.schedule=cosine", "training.weight_decay=0.1"),
    ],
    ids=("decay", "norm", "value", "cosine"),
)
def test_training_is_adam_written_out(toy: "Toy", changes: tuple[str, ...]) -> None:
    made = material(toy, "training.epochs=3", *changes)
    full = made.settings.training.learning_rate
    rates = [full] * 3
    if made.settings.training.schedule == "cosine":
        rates = [full, 0.75 * full, 0.25 * full]
    found, expected = trained(made), adam(made, rates)
    assert [line["learning_rate"] for line in found.history] == pytest.approx(rates)
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(found.head.state_dict()[name], weight, atol=2e-5, rtol=1e-4)
    plain = adam(material(toy, "training.epochs=3"), [full] * 3).state_dict()["linear.weight"]
    assert not torch.allclose(plain, expected.state_dict()["linear.weight"], atol=1e-3)


def test_lbfgs_ends_where_the_penalised_loss_has_no_slope(toy: "Toy") -> None:
    made = material(toy, "training.optimiser=lbfgs", "training.weight_decay=0.1", "training.epochs=20")
    head = trained(made).head
    batch = made.batches.gather(made.rows)
    loss = cross_entropy(head(*batch.inputs), batch.targets)
    loss = loss + 0.05 * sum((p**2).sum() for p in head.parameters() if p.ndim > 1)
    slopes = torch.autograd.grad(loss, list(head.parameters()))
    # A float32 loss cannot tell smaller ones: along a curvature of 0.1 a slope of 1e-4 lowers it by 5e-8.
    assert max(float(slope.abs().max()) for slope in slopes) < 2e-4
    assert float(head.state_dict()["linear.weight"].abs().max()) > 0.01


SCORES = [0.3, 0.5, 0.5, 0.4, 0.6, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5]
LOSSES = [1.0, 0.9, 0.8, 0.85, 0.86, 0.87, 0.7, 0.9, 0.9, 0.9, 0.9]


@pytest.mark.parametrize(
    ("changes", "epochs", "best"),
    [
        (("training.patience=3",), 8, 5),
        (("training.patience=2",), 7, 5),
        (("training.patience=3", "training.stop_on=loss"), 6, 5),
        (("training.patience=5", "training.stop_on=loss"), 11, 5),
        (("training.patience=3", "selection.epoch=last"), 8, 8),
        (("training.patience=1",), 4, 3),
    ],
)
def test_training_stops_on_what_it_watches_and_keeps_the_best_epoch(
    toy: "Toy", changes: tuple[str, ...], epochs: int, best: int
) -> None:
    """The third epoch has the second's score and a lower loss, which is better."""
    made = material(toy, "training.epochs=11", *changes)
    weights: list[torch.Tensor] = []

    def validate(head: "Head") -> Score:
        weights.append(head.state_dict()["linear.weight"].clone())
        at = len(weights) - 1
        return Score(SCORES[at], -LOSSES[at])

    found = trained(made, validate)
    assert (len(found.history), found.epoch) == (epochs, best)
    assert torch.equal(found.head.state_dict()["linear.weight"], weights[best - 1])
    assert [line["valid_accuracy"] for line in found.history] == SCORES[:epochs]


@pytest.mark.parametrize("changes", [("training.plateau_patience=1",), ("training.patience=6",)], ids=("1", "third"))
def test_a_plateau_lowers_the_rate_as_torch_does(toy: "Toy", changes: tuple[str, ...]) -> None:
    losses = [1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9]
    common = ("training.epochs=12", "training.patience=50", "training.schedule=plateau", "training.stop_on=loss")
    made = material(toy, *common, "training.plateau_factor=0.1", *changes)
    shown = iter(losses)
    found = trained(made, lambda head: Score(0.0, -next(shown)))
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=made.settings.training.learning_rate)
    wait = made.settings.training.plateau_patience or 2
    torch_s = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=wait, threshold=0, eps=0)
    rates = []
    for loss in losses[: len(found.history)]:
        rates.append(optimiser.param_groups[0]["lr"])
        torch_s.step(loss)
    assert [line["learning_rate"] for line in found.history] == pytest.approx(rates)
    assert len(set(rates)) > 2


def test_given_rates_are_the_epochs(toy: "Toy") -> None:
    made = material(toy, "training.epochs=9")
    found, expected = trained(made, rates=[0.02, 0.01]), adam(made, [0.02, 0.01])
    assert len(found.history) == found.epoch == 2
    torch.testing.assert_close(found.head.state_dict(), expected.state_dict(), atol=2e-5, rtol=1e-4)


def test_a_refit_is_training_on_both_parts_with_the_rates_of_the_search(toy: "Toy") -> None:
    settings = toy.settings("selection.refit=true", "training.patience=2", "training.schedule=cosine")
    dataset, folds = toy.load(settings)
    result = train_fold(dataset, settings, folds[0], 0, CPU)
    rates = [line["learning_rate"] for line in result.history if line["phase"] == "refit"]
    both = np.union1d(folds[0].train, folds[0].valid)
    batches = Batches(dataset, settings, prepare(dataset, settings, both), CPU)
    torch.manual_seed(0)
    head = build_head(settings.head, Shape(batches.dims, 3), ONE)
    direct = train_head(head, batches, both, settings, make_loss(settings.loss, None), 0, None, rates)
    torch.testing.assert_close(result.weights, direct.head.state_dict(), rtol=0, atol=0)
    counts = np.bincount([int(dataset.examples[row].reference) for row in both], minlength=3)
    assert list(result.record.prior.values()) == pytest.approx((counts / counts.sum()).tolist())


def test_training_is_deterministic_by_torch_s_own_flag(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = torch.nn.Linear.forward

    def watched(self: torch.nn.Linear, values: torch.Tensor) -> torch.Tensor:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return forward(self, values)

    monkeypatch.setattr(torch.nn.Linear, "forward", watched)
    settings = toy.settings("training.epochs=1")
    dataset, folds = toy.load(settings)
    train_fold(dataset, settings, folds[0], 0, CPU)
    assert seen[0] and not torch.are_deterministic_algorithms_enabled()
