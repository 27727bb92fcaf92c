"""Batches cover each epoch once, gather what a loop would, and are drawn as their loss needs."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from emocache.cache import Item
from emocache.train.data.example import Stamps, stamps_of
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.transforms import prepare

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
NO_PROBE = ("head.kind=recurrent",)


def test_a_batch_is_what_a_loop_gathers(toy: "Toy") -> None:
    settings = toy.settings(*NO_PROBE)
    dataset, folds = toy.load(settings)
    prepared = prepare(dataset, settings, folds[0].train)
    batch = Batches(dataset, settings, prepared, CPU).gather(np.array([5, 0, 20]))
    (frames,), normaliser = batch.inputs, prepared.inputs["frames"].normaliser
    assert normaliser is not None
    for at, row in enumerate((5, 0, 20)):
        clip = dataset.features["toy"].of(row)
        naive = (clip - normaliser.mean[0]) / normaliser.std[0]
        assert np.allclose(frames.values[at, : len(clip)], naive, atol=1e-5)
        assert (frames.values[at, len(clip) :] == 0).all() and int(frames.mask[at].sum()) == len(clip)
        assert int(batch.targets[at]) == dataset.examples[row].reference


def test_frame_targets_follow_the_grid_and_the_mask(toy: "Toy") -> None:
    settings = toy.frame_settings("targets_scale=none")
    dataset, folds = toy.load(settings)
    batches = Batches(dataset, settings, prepare(dataset, settings, folds[0].train), CPU)
    batch = batches.gather(np.array([3, 9]))
    for at, row in enumerate((3, 9)):
        stamps, length = dataset.examples[row].reference, batches.lengths[row]
        assert isinstance(stamps, Stamps)
        naive = np.interp((np.arange(length) + 0.5) / 20, stamps.times, stamps.values[:, 0])
        assert np.allclose(batch.targets[at, :length, 0], naive, atol=1e-6)
        assert batch.target_mask[at, :length].all() and not batch.target_mask[at, length:].any()


def test_a_frame_at_which_no_stream_has_anything_has_no_target(toy: "Toy") -> None:
    corpus = toy.corpus()
    cache = toy.cache(corpus)
    holes = {id_: np.arange(len(f)) % 9 < 3 for id_, f in corpus.frames.items()}
    recipe = {**toy.recipe("seen"), "aux": {"face": {"dtype": "bool", "shape": []}}}
    writer = cache.create_stream("toys", "seen", recipe)
    writer.commit("ab" * 8, {i: Item(f, aux={"face": holes[i]}) for i, f in corpus.frames.items()}, {})
    writer.finish()
    common = ("streams=seen", "features.where=face", "features.grid_hz=20")
    for masking in ("proper", "none"):
        settings = toy.frame_settings(*common, f"masking={masking}")
        dataset, folds = toy.load(settings, cache)
        batches = Batches(dataset, settings, prepare(dataset, settings, folds[0].train), CPU)
        longest, stamped = int(np.argmax(batches.lengths)), batches.targets.stamped
        batch = batches.gather(np.array([longest]))
        seen = np.flatnonzero(holes[dataset.examples[longest].id])
        near = [any(abs(at - other) <= 1 for other in seen) for at in range(batches.lengths[longest])]
        assert not all(near) and stamped.there[stamped.frames_of(longest)].tolist() == near
        assert batch.target_mask[0, :, 0].tolist() == (near if masking == "proper" else [True] * len(near))
        # At the labels' stamps: whether a frame with something is within one frame.
        (found,) = stamped.present_at(np.array([longest]))
        times = stamps_of(dataset.examples[longest]).times
        there = (np.flatnonzero(near) + 0.5) / 20
        assert found.tolist() == [min(abs(there - time)) <= 0.05 + 1e-9 for time in times] and not found.all()


def test_an_epoch_covers_every_row_once_and_groups_lengths(toy: "Toy") -> None:
    cache = toy.cache(toy.corpus(speakers=12, clips=9, longest=60))
    padded = {}
    for pooled in (False, True):
        settings = toy.frame_settings("loss.kind=ccc") if pooled else toy.settings(*NO_PROBE)
        dataset, folds = toy.load(settings, cache)
        batches = Batches(dataset, settings, prepare(dataset, settings, folds[0].train), CPU)
        rows = folds[0].train
        found = [list(batches.epoch(rows, 8, np.random.default_rng(seed))) for seed in (0, 1)]
        for epoch in found:
            assert np.array_equal(np.sort(np.concatenate([batch.rows for batch in epoch])), rows)
        assert [b.rows.tolist() for b in found[0]] != [b.rows.tolist() for b in found[1]]
        padded[pooled] = sum(float((~batch.inputs[0].mask).sum()) for batch in found[0])
        smallest = min(len(batch.rows) for batch in found[0])
        assert not pooled or smallest >= 8
    # Batches of the pooled loss are drawn at random: they hold long and short clips together.
    assert padded[False] < padded[True] / 3


def test_pooled_losses_never_see_a_small_batch(toy: "Toy") -> None:
    settings = toy.frame_settings("loss.kind=ccc")
    dataset, folds = toy.load(settings)
    batches = Batches(dataset, settings, prepare(dataset, settings, folds[0].train), CPU)
    sizes = [len(b.rows) for b in batches.epoch(np.arange(21), 8, np.random.default_rng(0))]
    assert sizes == [8, 13]
