"""The experiments of paper 2 and the general ones beside them, on small corpora with the labels that they name."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from emocache.cache import Cache, Manifest, Utterance
from emocache.train.config.experiment_names import experiment_names
from emocache.train.config.loading import load_settings
from emocache.train.config.settings import Settings
from emocache.train.data.reading import load_dataset
from emocache.train.fit.train_fold import train_fold
from emocache.train.protocols.folds import make_folds

if TYPE_CHECKING:
    from .conftest import Toy

EMOTIONS = (
    "anger",
    "boredom",
    "calmness",
    "concentration",
    "determination",
    "excitement",
    "interest",
    "sadness",
    "tiredness",
)
SMALL = ("head.channels=[8, 8, 8]", "head.hidden=8", "head.feedforward=[8]", "training.epochs=2")
SPLITS = ("train",) * 7 + ("valid",) * 2 + ("test",)
CLIPS = 60


def corpus(toy: "Toy", *streams: str) -> Cache:
    """Clips of no known speaker with shares of nine emotions, which the test part keeps back."""
    random = np.random.default_rng(0)
    frames = {f"c{k:02}": random.normal(size=(int(random.integers(2, 9)), 8)).astype(np.float32) for k in range(CLIPS)}
    rows = []
    for k, (name, values) in enumerate(frames.items()):
        split = SPLITS[k % 10]
        shares = dict(zip(EMOTIONS, 1 / (1 + np.exp(-values.mean(axis=0)[[*range(8), 0]])), strict=True))
        hidden = split == "test"
        rows.append(Utterance(name, split=split, labels={e: None if hidden else float(s) for e, s in shares.items()}))
    cache = Cache(toy.root)
    cache.put_manifest(Manifest.from_utterances("emotionshare", rows))
    for stream in streams:
        toy.commit(cache, "emotionshare", stream, frames)
    return cache


def parts(toy: "Toy", settings: Settings) -> tuple[set[str], set[str], set[str]]:
    """The splits of each part of the only fold."""
    dataset = load_dataset(corpus(toy, *settings.stream_names), ["emotionshare"], settings)
    (fold,) = make_folds(dataset.examples, settings.protocol)
    assert len(fold.train) + len(fold.valid) <= 42 + 12
    return tuple({str(dataset.examples[row].split) for row in rows} for rows in (fold.train, fold.valid, fold.test))  # type: ignore[return-value]


def test_devel_is_looked_at_once_and_hidden_shares_never(toy: "Toy") -> None:
    settings = load_settings("paper2/hubert-large-arch2")[1]
    assert parts(toy, settings) == ({"train"}, {"train"}, {"valid"})


def test_the_faithful_rows_choose_epochs_on_devel(toy: "Toy") -> None:
    settings = load_settings("paper2/faithful-hubert-large-arch2")[1]
    assert parts(toy, settings) == ({"train"}, {"valid"}, {"valid"})
    assert settings.protocol.validation == "test" and settings.training.patience == settings.training.epochs == 150


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("acoustic-arch1", SMALL),
        ("joint-acoustic-arch2", SMALL),
        ("faithful-hubert-base-arch2", (*SMALL, "head.padded_frames=8")),
        ("transformer", ("head.width=8", "head.heads=2", "head.feedforward=8", "training.epochs=2")),
    ],
)
def test_nine_emotions_are_predicted_apart_or_together(toy: "Toy", name: str, changes: tuple[str, ...]) -> None:
    settings = load_settings(f"paper2/{name}", changes)[1]
    dataset = load_dataset(corpus(toy, *settings.stream_names), ["emotionshare"], settings)
    (fold,) = make_folds(dataset.examples, settings.protocol)
    result = train_fold(dataset, settings, fold, 0, torch.device("cpu"))
    table = result.predictions
    assert {f"{kind}.{e}" for kind in ("reference", "prediction") for e in EMOTIONS} <= set(table.column_names)
    assert table.column("part").to_pylist().count("test") == 12
    apart = not name.startswith("joint")
    assert settings.targets_apart is apart and bool(result.record.selection.by_target) is apart


def test_every_feature_has_its_rows() -> None:
    """Ten rows of Table 1, each apart, together and faithful, and what differs between the two architectures."""
    features = {"wav2vec2-base", "wav2vec2-large", "hubert-base", "hubert-large", "acoustic"}
    for feature in features:
        for prefix in ("", "joint-", "faithful-"):
            one, two = (load_settings(f"paper2/{prefix}{feature}-arch{number}")[1] for number in (1, 2))
            assert one.streams == two.streams and one.targets == two.targets == EMOTIONS
            changed = {key for key, value in one.head if value != getattr(two.head, key)}
            assert changed == ({"attention", "layer_norm", "feedforward"} if prefix == "faithful-" else {"attention"})
            assert one.targets_apart is two.targets_apart is (prefix != "joint-")
    assert load_settings("paper2/faithful-acoustic-arch2")[1].head.model_dump()["padded_frames"] == 797
    assert len([name for name in experiment_names() if name.startswith("paper2/")]) == 10 * 3 + 4 + 4 + 1


def test_shares_of_raters_are_learned_as_a_distribution(toy: "Toy") -> None:
    settings = load_settings("rater-shares", ["streams=logmel", "head.hidden=8", "training.epochs=2"])[1]
    dataset = load_dataset(corpus(toy, "logmel"), ["emotionshare"], settings)
    assert all(np.asarray(example.reference).sum() == pytest.approx(1) for example in dataset.examples)
    (fold,) = make_folds(dataset.examples, settings.protocol)
    table = train_fold(dataset, settings, fold, 0, torch.device("cpu")).predictions
    predicted = np.stack([table.column(f"prediction.{e}").to_numpy() for e in EMOTIONS])
    assert np.allclose(predicted.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["layers-probe", "layers-bigru"])
def test_weights_of_layers_are_learned(toy: "Toy", name: str) -> None:
    cache = toy.cache()
    clips = toy.corpus().frames
    toy.commit(cache, "toys", "noise", {i: np.roll(f, 3, axis=1) for i, f in clips.items()})
    changes = ["streams=['toy', 'noise']", "protocol.name=group_folds", "protocol.folds=3", "training.epochs=3"]
    settings = load_settings(name, [*changes, "training.weight_decay=0"])[1]
    dataset, folds = toy.load(settings, cache)
    weights = train_fold(dataset, settings, folds[0], 0, torch.device("cpu")).weights
    (scores,) = (tensor for key, tensor in weights.items() if key.startswith("layers."))
    assert scores.shape == (2,) and bool(scores.any())


def test_valence_arousal_and_dominance_are_a_triple(toy: "Toy") -> None:
    made = toy.corpus()
    rows = [
        Utterance(u.id, speaker=u.speaker, labels={d: made.frames[u.id][:, k].mean().item() for k, d in enumerate(VAD)})
        for u in made.rows
    ]
    cache = Cache(toy.root)
    cache.put_manifest(Manifest.from_utterances("toys", rows))
    toy.commit(cache, "toys", "toy", made.frames)
    settings = load_settings("vad", ["streams=toy", "training.epochs=2", "head.hidden=8"])[1]
    dataset, folds = toy.load(settings, cache)
    assert len(folds) == 6
    table = train_fold(dataset, settings, folds[0], 0, torch.device("cpu")).predictions
    assert {f"prediction.{dimension}" for dimension in VAD} <= set(table.column_names)


VAD = ("valence", "arousal", "dominance")
