"""Every head on the demo corpus: learns what is there, and nothing where there is nothing."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from emocache.cache import Cache
from emocache.extract import stage
from emocache.train.batches import Batches
from emocache.train.dataset import Dataset, load_dataset
from emocache.train.fold import train_fold
from emocache.train.folds import Fold, make_folds
from emocache.train.heads import Shape, build_head
from emocache.train.loop import train_head
from emocache.train.losses import make_loss
from emocache.train.reading import load_settings
from emocache.train.settings import Settings
from emocache.train.transforms import prepare

CPU = torch.device("cpu")
HEADS = {
    "probe": ["probe"],
    "probe-meanstd": ["probe-meanstd"],
    **{cell: [cell] for cell in ("rnn", "lstm", "gru")},
    **{f"bi{cell}": [cell, "head.bidirectional=true"] for cell in ("rnn", "lstm", "gru")},
    "transformer": ["transformer"],
    **{f"bigru-{p}": ["bigru", f'head.pooling="{p}"'] for p in ("mean", "mean_std", "attention", "last")},
}
COMMON = ['streams=["mfcc"]', "features.average_frames=16", 'protocol={name="official"}', "seeds=[0]"]
QUICK = ["training.epochs=12", "training.patience=12", "training.learning_rate=5e-3", "training.batch_size=16"]
FIT = ["head.dropout=0.0", "head.input_dropout=0.0", "training.weight_decay=0.0"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The demo corpus with its MFCC stream."""
    pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra 'demo'")
    folder = tmp_path_factory.mktemp("demo")
    stage.extract(stage.Options("demo", folder / "corpus", str(folder / "store"), ("mfcc",)))
    return Cache(folder / "store")


def experiment(name: str, *more: str) -> Settings:
    base, *own = HEADS[name]
    quick = [] if base.startswith("probe") else QUICK
    return load_settings(base, [*COMMON, *own, *quick, *more])[1]


def loaded(cache: Cache, settings: Settings) -> tuple[Dataset, Fold]:
    dataset = load_dataset(cache, ["demo"], settings)
    return dataset, make_folds(dataset.examples, settings.protocol)[0]


def test_accuracy(dataset: Dataset, settings: Settings, fold: Fold) -> tuple[float, float, int]:
    """(accuracy on the test speakers, share of the training part's majority class there, utterances)."""
    table = train_fold(dataset, settings, fold, 0, CPU).predictions.to_pydict()
    rows = [i for i, part in enumerate(table["part"]) if part == "test"]
    references = [table["reference"][i] for i in rows]
    hits = [table["reference"][i] == table["prediction"][i] for i in rows]
    majority = Counter(dataset.examples[row].reference for row in fold.train).most_common(1)[0][0]
    share = np.mean([reference == dataset.classes[int(majority)] for reference in references])
    return float(np.mean(hits)), float(share), len(hits)


test_accuracy.__test__ = False  # type: ignore[attr-defined]


def standard_error(share: float, count: int) -> float:
    return float(np.sqrt(share * (1 - share) / count))


@pytest.mark.parametrize("name", HEADS)
def test_overfits_sixteen_utterances(cache: Cache, name: str) -> None:
    settings = experiment(name, *([] if name.startswith("probe") else FIT), *probe_without_decay(name))
    dataset, fold = loaded(cache, settings)
    rows = fold.train[:: max(1, len(fold.train) // 16)][:16]
    batches = Batches(dataset, settings, prepare(dataset, settings, rows), CPU)
    torch.manual_seed(0)
    head = build_head(settings.head, Shape(batches.dims, len(dataset.classes)))
    rates = [1.0] * 30 if name.startswith("probe") else [0.01] * 120
    history = train_head(head, batches, rows, settings, make_loss(settings.loss, None), 0, None, rates).history
    assert history[-1]["train_loss"] < 0.05 * history[0]["train_loss"]


def probe_without_decay(name: str) -> list[str]:
    """The probe's settings for overfitting: no weight decay, nothing to search, and a loss that starts at chance."""
    if not name.startswith("probe"):
        return []
    return ["search={}", "training.weight_decay=0.0", 'training.optimiser="adamw"']


@pytest.mark.parametrize("name", HEADS)
def test_beats_the_majority_on_unseen_speakers(cache: Cache, name: str) -> None:
    settings = experiment(name)
    dataset, fold = loaded(cache, settings)
    accuracy, majority, count = test_accuracy(dataset, settings, fold)
    assert accuracy - 3 * standard_error(accuracy, count) > majority


@pytest.mark.parametrize("name", HEADS)
def test_shuffled_labels_give_chance(cache: Cache, name: str) -> None:
    settings = experiment(name)
    dataset, fold = loaded(cache, settings)
    shuffled = list(dataset.examples)
    learned = np.concatenate([fold.train, fold.valid])
    for row, other in zip(learned, np.random.default_rng(0).permutation(learned), strict=True):
        shuffled[row] = replace(dataset.examples[row], reference=dataset.examples[other].reference)
    changed: dict[str, Any] = {"examples": shuffled}
    accuracy, _, count = test_accuracy(replace(dataset, **changed), settings, fold)
    chance = 1 / len(dataset.classes)
    assert abs(accuracy - chance) < 3 * standard_error(chance, count)
