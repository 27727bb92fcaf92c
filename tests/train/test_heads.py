"""What every head promises: batches and padding change nothing, and it can learn."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from emocache.train.batches import Batches
from emocache.train.dataset import Dataset
from emocache.train.heads import HEADS, Head, build_head
from emocache.train.loop import train_head
from emocache.train.losses import make_loss
from emocache.train.predictions import predict
from emocache.train.settings import Settings
from emocache.train.transforms import prepare

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
UTTERANCE_HEADS = [
    ("head.kind=probe", "head.pooling=mean"),
    ("head.kind=probe", "head.pooling=mean_std"),
    *[
        (
            "head.kind=recurrent",
            f"head.cell={cell}",
            f"head.bidirectional={both}",
            "head.hidden=6",
            f"head.pooling={pooling}",
        )
        for cell, both, pooling in [
            ("rnn", "false", "last"),
            ("rnn", "true", "mean"),
            ("lstm", "false", "attention"),
            ("lstm", "true", "last"),
            ("gru", "false", "mean_std"),
            ("gru", "true", "attention"),
        ]
    ],
    ("head.kind=recurrent", "head.hidden=6", "head.layers=2"),
    *[
        ("head.kind=transformer", "head.width=8", "head.heads=2", "head.dropout=0.0", f"head.pooling={pooling}")
        for pooling in ("mean", "last", "attention")
    ],
]
FRAME_HEADS = [("head.kind=probe",), UTTERANCE_HEADS[3][:4], UTTERANCE_HEADS[7][:4], UTTERANCE_HEADS[-1][:4]]
HEADS_AND_TASKS = [("emotion", h) for h in UTTERANCE_HEADS] + [("valence", h) for h in FRAME_HEADS]
each_head = pytest.mark.parametrize(("target", "head"), HEADS_AND_TASKS, ids=lambda v: "-".join(v) if len(v) < 6 else v)


def set_up(
    toy: "Toy", target: str, head: tuple[str, ...], *more: str, longest: int = 40
) -> tuple[Dataset, Settings, Batches]:
    """A dataset of 18 clips of 3 to 40 frames, and its batches."""
    settings = toy.settings(*head, *more) if target == "emotion" else toy.frame_settings(*head, *more)
    dataset, _ = toy.load(settings, toy.cache(toy.corpus(speakers=3, longest=longest)))
    prepared = prepare(dataset, settings, range(len(dataset.examples)))
    return dataset, settings, Batches(dataset, settings, prepared, CPU)


def built(settings: Settings, batches: Batches, dataset: Dataset) -> Head:
    torch.manual_seed(1)
    head = build_head(settings.head, batches.dim, len(dataset.classes) or len(settings.targets), settings.per_frame)
    for parameter in head.parameters():  # the probe starts at zero, where everything is equal
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def test_every_head_is_tested() -> None:
    assert {head[0].removeprefix("head.kind=") for _, head in HEADS_AND_TASKS} == set(HEADS)


@each_head
def test_an_output_does_not_depend_on_its_batch(toy: "Toy", target: str, head: tuple[str, ...]) -> None:
    dataset, settings, batches = set_up(toy, target, head)
    module = built(settings, batches, dataset)
    rows = np.arange(len(dataset.examples))
    together = predict(module, batches, rows)
    for row in rows:
        (alone,) = predict(module, batches, rows[row : row + 1])
        assert (
            alone.shape
            == together[row].shape
            == ((batches.lengths[row],) if settings.per_frame else ()) + alone.shape[-1:]
        )
        assert np.abs(alone - together[row]).max() < 1e-5


@each_head
def test_padding_changes_neither_output_nor_loss_nor_gradients(toy: "Toy", target: str, head: tuple[str, ...]) -> None:
    dataset, settings, batches = set_up(toy, target, head)
    counts = torch.bincount(torch.tensor([0, 1, 2])) if target == "emotion" else None
    loss = make_loss(settings.loss, counts)
    module = built(settings, batches, dataset).train()
    found = []
    for padding in (0, 9):
        module.zero_grad()
        batch = batches.gather(np.arange(10), extra_padding=padding)
        frames = batch.frames.masked_fill(~batch.mask.unsqueeze(-1), 0.0 if not padding else 5.0)
        outputs = module(frames, batch.mask)
        value = loss(outputs, batch.targets, batch.target_mask)
        value.backward()  # type: ignore[no-untyped-call]
        valid = outputs[batch.mask] if settings.per_frame else outputs
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        found.append([valid.detach(), value.detach(), *gradients])
        if settings.head.fixed_pooling(settings.per_frame):
            return  # vectors are never padded
    for plain, padded in zip(*found, strict=True):
        assert torch.allclose(plain, padded, atol=1e-5)


@each_head
def test_every_head_overfits_sixteen_utterances(toy: "Toy", target: str, head: tuple[str, ...]) -> None:
    more = ("training.batch_size=16", "training.learning_rate=0.02", "features.normalise=train")
    dataset, settings, batches = set_up(toy, target, head, *more, longest=8)
    rows = np.arange(16)
    if target == "valence":  # frames that tell their value
        assert settings.loss.kind == "mse"
    torch.manual_seed(0)
    module = build_head(settings.head, batches.dim, len(dataset.classes) or 1, settings.per_frame)
    loss = make_loss(settings.loss, None)
    history = train_head(module, batches, rows, settings, loss, 0, None, [0.03] * 100).history
    assert min(line["train_loss"] for line in history) < 0.05 * history[0]["train_loss"]


def test_order_matters_to_the_transformer(toy: "Toy") -> None:
    dataset, settings, batches = set_up(toy, "emotion", UTTERANCE_HEADS[-3])
    module = built(settings, batches, dataset).eval()
    frames, mask = torch.randn(2, 9, 8), torch.ones(2, 9, dtype=torch.bool)
    assert (module(frames, mask) - module(frames.flip(1), mask)).abs().max() > 1e-3
