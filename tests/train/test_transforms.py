"""Transforms against naive ones; what they are fitted on."""

from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from emocache.cache import EmocacheError
from emocache.train.data.memory import Memory
from emocache.train.heads.head import POOLED_PARTS, FixedPooling
from emocache.train.inputs.joining import average
from emocache.train.inputs.normalisation import fit_normaliser, normalise_utterances
from emocache.train.inputs.prepared import Joined
from emocache.train.inputs.transforms import prepare
from emocache.train.inputs.vectors import pool

if TYPE_CHECKING:
    from .conftest import Toy

RANDOM = np.random.default_rng(0)
LENGTHS = [4, 0, 7, 1]
FRAMES = (RANDOM.normal(size=(12, 3)) * [1, 100, 0.01] + [0, 5000, 0]).astype(np.float32)
TIMES = np.stack([np.arange(12) * 0.1, np.arange(12) * 0.1 + 0.1], axis=1)
FEATURES = Joined(FRAMES, np.concatenate([[0], np.cumsum(LENGTHS)]), TIMES, widths=(3,))


def test_average_is_the_mean_of_blocks_with_their_times() -> None:
    found = average(FEATURES, 3, Memory())
    assert found.lengths.tolist() == [2, 0, 3, 1]
    for row in (0, 2, 3):
        clip = FEATURES.of(row)
        naive = [clip[at : at + 3].mean(axis=0) for at in range(0, len(clip), 3)]
        assert np.allclose(found.of(row), naive, rtol=1e-5)
    assert np.allclose(found.times[:2], [[0.0, 0.3], [0.3, 0.4]])


def test_pool_is_the_mean_and_the_standard_deviation() -> None:
    found = pool(FEATURES, "mean_std")
    assert found.lengths.tolist() == [1, 0, 1, 1]
    for row in (0, 2, 3):
        naive = np.concatenate([FEATURES.of(row).mean(axis=0), FEATURES.of(row).std(axis=0)])
        assert np.allclose(found.of(row)[0], naive, rtol=1e-4, atol=1e-6)
    assert pool(FEATURES, "mean").frames.shape == (3, 3)


@pytest.mark.parametrize("pooling", get_args(FixedPooling))
def test_streams_side_by_side_are_pooled_each_by_itself(pooling: FixedPooling) -> None:
    """Against loops over utterances, frames and the steps between frames that follow each other, with holes."""
    there = np.random.default_rng(3).random((12, 2)) < 0.7
    frames = FRAMES * np.repeat(there, (2, 1), axis=1)
    found = pool(Joined(frames, FEATURES.offsets, TIMES, widths=(2, 1), valid=there), pooling)
    assert found.widths == tuple(width * POOLED_PARTS[pooling] for width in (2, 1)) and found.valid is not None
    for row in (0, 2, 3):
        first = FEATURES.offsets[row]
        naive: list[float] = []
        for stream, channels in enumerate(((0, 1), (2,))):
            at = [t for t in range(first, first + LENGTHS[row]) if there[t, stream]]
            held = [frames[t, channels].astype(float) for t in at]
            steps = [frames[t + 1, channels].astype(float) - frames[t, channels] for t in at if t + 1 in at]
            assert bool(found.valid[row - (row > 1), stream]) == bool(at)
            parts = [moment(of, channels) for of in (held, steps) for moment in (naive_mean, naive_std)]
            naive += [value for part in parts[: POOLED_PARTS[pooling]] for value in part]
        assert np.allclose(found.of(row)[0], naive, rtol=1e-5, atol=1e-6)


def naive_mean(rows: list[np.ndarray], channels: tuple[int, ...]) -> list[float]:
    return [sum(float(row[c]) for row in rows) / max(len(rows), 1) for c in range(len(channels))]


def naive_std(rows: list[np.ndarray], channels: tuple[int, ...]) -> list[float]:
    mean = naive_mean(rows, channels)
    return [
        float(np.sqrt(sum((float(row[c]) - mean[c]) ** 2 for row in rows) / max(len(rows), 1)))
        for c in range(len(channels))
    ]


def test_a_clip_of_one_frame_has_no_steps() -> None:
    one = FEATURES.of(3)[0]
    zeros = np.zeros(3, np.float32)
    assert pool(FEATURES, "mean_std_delta").of(3).tolist() == [[*one, *zeros, *zeros, *zeros]]


def test_normaliser_is_that_of_the_rows_it_is_given() -> None:
    found = fit_normaliser(FEATURES, ["a"] * 4, [0, 2])
    seen = np.concatenate([FEATURES.of(0), FEATURES.of(2)]).astype(np.float64)
    assert np.allclose(found.mean[0], seen.mean(axis=0), rtol=1e-6)
    assert np.allclose(found.std[0], seen.std(axis=0), rtol=1e-4)


def test_constant_channels_are_left_alone() -> None:
    constant = Joined(np.full((5, 2), 3.3, np.float16), np.array([0, 5]), np.zeros((5, 2)), widths=(2,))
    assert fit_normaliser(constant, [""], [0]).std.tolist() == [[1.0, 1.0]]
    assert np.abs(normalise_utterances(constant, l2=False, memory=Memory())).max() < 1e-6


def test_the_rounding_of_float16_near_zero_is_not_blown_up() -> None:
    noise = np.random.default_rng(0).integers(-1, 2, size=(50, 1)) * np.float16(6e-8)
    signal = np.random.default_rng(1).normal(size=(50, 1))
    frames = np.concatenate([noise, signal], axis=1).astype(np.float16)
    one = Joined(frames, np.array([0, 50]), np.zeros((50, 2)), widths=(2,))
    assert fit_normaliser(one, [""], [0]).std[0, 0] == 1.0
    assert np.abs(normalise_utterances(one, l2=False, memory=Memory())).max(axis=0)[0] < 1e-6


@pytest.mark.parametrize("scale", [1e-2, 1e9])
def test_a_channel_s_unit_does_not_matter(scale: float) -> None:
    small = Joined(FEATURES.frames * np.float32(scale), FEATURES.offsets, FEATURES.times, widths=FEATURES.widths)
    one, other = (fit_normaliser(each, ["a"] * 4, [0, 2]) for each in (FEATURES, small))
    assert np.allclose(other.std / scale, one.std, rtol=1e-5) and np.allclose(other.mean / scale, one.mean, rtol=1e-4)
    own, scaled = (normalise_utterances(each, l2=False, memory=Memory()) for each in (FEATURES, small))
    assert np.allclose(own, scaled, atol=1e-4)


def test_per_speaker_statistics_are_those_of_each_speaker(toy: "Toy") -> None:
    settings = toy.settings("features.normalise=per_speaker", "head.kind=recurrent")
    dataset, folds = toy.load(settings)
    found = prepare(dataset, settings, folds[0].train).inputs["frames"].normaliser
    assert found is not None and found.groups == tuple(f"toys/S{n}" for n in range(1, 7))
    for number, speaker in enumerate(found.groups):
        rows = [row for row, e in enumerate(dataset.examples) if f"toys/{e.speaker}" == speaker]
        own = np.concatenate([dataset.features["toy"].of(row) for row in rows])
        assert np.allclose(found.mean[number], own.mean(axis=0), atol=1e-5)
        assert {int(found.group_of[row]) for row in rows} == {number}


def test_per_fold_pca_is_a_plain_one_of_the_training_part(toy: "Toy") -> None:
    settings = toy.settings("features.pca=2", "features.normalise=none", "head.kind=recurrent")
    dataset, folds = toy.load(settings)
    prepared = prepare(dataset, settings, folds[0].train)
    seen = np.concatenate([dataset.features["toy"].of(row) for row in folds[0].train]).astype(np.float64)
    centred = seen - seen.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    one = prepared.inputs["frames"]
    assert one.projection is not None and values[-1] > values[-2]
    naive = np.abs((dataset.features["toy"].of(5) - seen.mean(axis=0)) @ vectors[:, ::-1][:, :2])
    assert np.allclose(np.abs(one.features.of(5)), naive, atol=1e-4)
    assert set(prepared.tensors()) == {"frames.pca.mean", "frames.pca.components"}


def test_equal_streams_are_joined_and_others_refused(toy: "Toy") -> None:
    corpus = toy.corpus()
    cache = toy.cache(corpus)
    toy.commit(cache, "toys", "twin", {i: f[:, :3] * 2 for i, f in corpus.frames.items()})
    toy.commit(cache, "toys", "slow", {i: f[::2] for i, f in corpus.frames.items()})
    settings = toy.settings("streams=['toy', 'twin']", "head.kind=recurrent")
    dataset, folds = toy.load(settings, cache)
    joined = prepare(dataset, settings, folds[0].train).inputs["frames"].features
    clip = corpus.frames[dataset.examples[7].id]
    assert np.array_equal(joined.of(7), np.concatenate([clip, clip[:, :3] * 2], axis=1))
    settings = toy.settings("streams=['toy', 'slow']")
    dataset, folds = toy.load(settings, cache)
    with pytest.raises(
        EmocacheError, match=r"'toys/spk1_0' \(toy \d+, slow \d+; 36 utterances differ\); set features.grid_hz"
    ):
        prepare(dataset, settings, folds[0].train)


def test_per_speaker_needs_speakers(toy: "Toy") -> None:
    settings = toy.settings("features.normalise=per_speaker", "protocol.name=random_folds")
    corpus = toy.corpus()
    corpus.rows[0] = type(corpus.rows[0])(corpus.rows[0].id, labels=corpus.rows[0].labels, tracks=corpus.rows[0].tracks)
    dataset, folds = toy.load(settings, toy.cache(corpus))
    with pytest.raises(EmocacheError, match="'per_speaker': utterance 'toys/spk1_0' has no speaker"):
        prepare(dataset, settings, folds[0].train)
