"""The utterances that an epoch draws, and the changes that augmentation may make."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from emocache.train.config.sections import Augmentation, Training
from emocache.train.fit.losses import batch_loss, make_loss
from emocache.train.heads import Frames
from emocache.train.inputs.augmentation import augment
from emocache.train.inputs.batch import Batch
from emocache.train.inputs.batches import Batches, draw
from emocache.train.inputs.transforms import prepare

if TYPE_CHECKING:
    from .conftest import Toy

ROWS = np.arange(10, 110)
CLASSES = np.where(np.arange(200) % 20 == 0, 1, 0)  # one in twenty


def test_shuffled_rows_come_once_and_a_share_of_them_without_repeats() -> None:
    order = draw(ROWS, CLASSES, Training(), np.random.default_rng(0))
    assert np.array_equal(np.sort(order), ROWS) and not np.array_equal(order, ROWS)
    some = draw(ROWS, CLASSES, Training(epoch_share=0.3), np.random.default_rng(0))
    assert len(some) == len(set(some)) == 30


def test_replacement_repeats_and_stays_inside() -> None:
    order = draw(ROWS, None, Training(sampling="replacement"), np.random.default_rng(0))
    assert len(order) == 100 and len(set(order)) < 100 and set(order) <= set(ROWS)


def test_balanced_classes_are_drawn_as_often() -> None:
    generator = np.random.default_rng(0)
    drawn = np.concatenate([draw(ROWS, CLASSES, Training(sampling="balanced"), generator) for _ in range(40)])
    share = CLASSES[drawn].mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(drawn))


CHANGES = {
    "time": Augmentation(time_masks=2, time_mask_share=0.5),
    "channel": Augmentation(channel_masks=1, channel_mask_share=0.5),
    "noise": Augmentation(noise=0.3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_augmentation_changes_valid_frames_only_and_by_the_seed(toy: "Toy", name: str) -> None:
    settings = toy.settings("head.kind=recurrent")
    dataset, _ = toy.load(settings)
    batches = Batches(dataset, settings, prepare(dataset, settings, range(36)), torch.device("cpu"))
    batch = batches.gather(np.arange(20))
    (before,) = batch.inputs
    (after,), (again,) = (augment(batch, CHANGES[name], np.random.default_rng(1)).inputs for _ in range(2))
    assert torch.equal(after.values, again.values) and torch.equal(after.mask, before.mask)
    assert (after.values[~before.mask] == 0).all() and not torch.equal(after.values, before.values)
    changed = after.values != before.values
    if name == "time":  # whole frames, set to zero
        assert (
            changed.any(dim=2) == (after.values == 0).all(dim=2) & before.mask & (before.values != 0).any(dim=2)
        ).all()
    if name == "channel":
        per_row = changed.any(dim=1)
        assert ((after.values == 0).all(dim=1) == per_row).all()
    if name == "noise":
        spread = float((after.values - before.values)[before.mask].std())
        assert abs(spread - 0.3) < 0.02
    assert all(
        torch.equal(a.values, b.values) for a, b in zip(batch.inputs, batches.gather(np.arange(20)).inputs, strict=True)
    )


def test_mixup_mixes_frames_and_losses_alike(toy: "Toy") -> None:
    settings = toy.settings("head.kind=recurrent", "augment.mixup=0.4")
    dataset, _ = toy.load(settings)
    batches = Batches(dataset, settings, prepare(dataset, settings, range(36)), torch.device("cpu"))
    batch = batches.gather(np.arange(8))
    mixed = augment(batch, settings.augment, np.random.default_rng(3))
    assert mixed.mixed is not None
    targets, share = mixed.mixed
    (before,), (after,) = batch.inputs, mixed.inputs
    partner = [int(np.flatnonzero([
        torch.allclose(after.values[a], (1 - share) * before.values[a] + share * before.values[b], atol=1e-6)
        for b in range(8)])[0]) for a in range(8)]  # fmt: skip
    assert torch.equal(targets, batch.targets[partner]) and sorted(partner) == list(range(8))
    assert torch.equal(after.mask, before.mask | before.mask[partner])
    logits, loss = torch.randn(8, 3), make_loss(settings.loss, None)
    ones = torch.ones(8, dtype=torch.bool)
    naive = (1 - share) * loss(logits, batch.targets, ones) + share * loss(logits, targets, ones)
    assert torch.allclose(batch_loss(loss, logits, mixed), naive)


def test_validation_is_never_augmented(toy: "Toy") -> None:
    settings = toy.settings("head.kind=recurrent", "augment.noise=5.0")
    dataset, _ = toy.load(settings)
    batches = Batches(dataset, settings, prepare(dataset, settings, range(36)), torch.device("cpu"))
    for batch in batches.in_order(np.arange(9), 4):
        assert torch.equal(batch.inputs[0].values, batches.gather(batch.rows).inputs[0].values)


def test_noise_stays_out_of_holes() -> None:
    valid = torch.tensor([[[True, False], [False, True], [True, True]]])
    frames = Frames(torch.zeros(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), valid=valid)
    targets = torch.zeros(1, dtype=torch.int64)
    batch = Batch((frames,), targets, torch.ones(1, dtype=torch.bool), np.array([0]))
    (noisy,) = augment(batch, Augmentation(noise=1.0), np.random.default_rng(0)).inputs
    assert torch.equal(noisy.values != 0, valid)
