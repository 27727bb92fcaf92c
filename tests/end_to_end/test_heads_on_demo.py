"""Every head on the demo corpus: learns what is there, and nothing where there is nothing."""

from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from emocache.cache import Cache
from emocache.extract.pipeline import stage
from emocache.train.config.loading import load_settings
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.data.reading import load_dataset
from emocache.train.fit.loop import train_head
from emocache.train.fit.losses import make_loss
from emocache.train.fit.train_fold import train_fold
from emocache.train.heads import HEADS as KINDS
from emocache.train.heads import Shape, build_head
from emocache.train.heads.layers.pooling import PoolingName
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.transforms import prepare
from emocache.train.protocols.folds import Fold, make_folds
from emocache.train.records.metrics import ccc

CPU = torch.device("cpu")
BASIC = {
    "probe": ["probe"],
    "probe-meanstd": ["probe-meanstd"],
    **{cell: [cell] for cell in ("rnn", "lstm", "gru")},
    **{f"bi{cell}": [cell, "head.bidirectional=true"] for cell in ("rnn", "lstm", "gru")},
    "transformer": ["transformer"],
    **{f"bigru-{p}": ["bigru", f'head.pooling="{p}"'] for p in get_args(PoolingName)},
}
PAIR = 'streams={text="mfcc", audio="logmel"}'
VALUES = ["task=regression", "targets=arousal", "loss={}", "selection={metric='ccc'}"]
TRACKS = ["task=frame_regression", "targets=arousal", "loss={}", "selection={metric='ccc'}", "training.clip_norm=1.0"]
SPECTRAL = 'streams={whisper="logmel", mfcc="mfcc", spectrogram="logmel"}'
SHARE = 'output="linear", channels=[32, 24, 16], hidden=24, feedforward=[16]'
# The heads of benchmarks and papers, narrower than there. Blocks of MFCC stand for words: what is tested is whether a
# head learns.
PAPERS = {
    "mlp-frames": ['head={kind="mlp", layer_norm_input=true, frame=[64], hidden=[]}'],
    "mlp-vector": ['head={kind="mlp", hidden=[64, 64]}'],
    "mha": ['head={kind="mha", width=48, heads=4, fc=32}'],
    "self-mha": [PAIR, 'head={kind="mha_fusion", attention="self", width=48, heads=4, fc=32}'],
    "cross-mha": [PAIR, 'head={kind="mha_fusion", attention="cross", width=48, heads=4, fc=32}'],
    "mdre": [PAIR, 'head={kind="mdre"}'],
    "cnn1d": ['head={kind="cnn1d"}'],
    "cnn2d": ['head={kind="cnn2d", frames=48, channels=[16, 32], kernels=[3, 3]}', "features.average_frames=8"],
    "camulenet": [
        SPECTRAL, "auxiliary=gender",
        'head={kind="camulenet", width=32, gru_hidden=16, fusion_frames=64, loss_constant=0.0}'],
    "camulenet-no-coattention": [
        SPECTRAL, 'head={kind="camulenet", width=32, gru_hidden=16, gender=false, coattention=false}'],
    "global-attention": ['head={kind="global_attention", hidden=32}'],
    "mha2": [PAIR, 'head={kind="mha2", hidden=32}'],
    "xu": [PAIR, 'head={kind="xu", dense=32, hidden=16, heads=4}'],
    "can": [PAIR, 'head={kind="can", hidden=16}', "features.text.average_frames=32", "features.audio.average_frames=8"],
    "architecture-1": [*VALUES, f'head={{kind="emotion_share", {SHARE}}}'],
    "architecture-2": [*VALUES, f'head={{kind="emotion_share", attention=true, {SHARE}}}'],
    "lstm-attention": [*TRACKS, 'head={kind="lstm_attention", hidden=24}'],
    "cats": [*TRACKS, 'head={kind="cats", width=32, feedforward=64, dropout=0.0}'],
    "cats-no-decoder": [*TRACKS, 'head={kind="cats", decoder="none", width=32, feedforward=64, dropout=0.0}'],
}  # fmt: skip
HEADS = BASIC | {name: ["bigru", *changes] for name, changes in PAPERS.items()}
COMMON = ['streams=["mfcc"]', "features.average_frames=16", 'protocol={name="official"}', "seeds=[0]"]
QUICK = ["training.epochs=12", "training.patience=12", "training.learning_rate=5e-3", "training.batch_size=16"]
LONG = ["training.epochs=30", "training.patience=30"]  # decoders learn to live with their own outputs last


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The demo corpus with its two streams of sound."""
    pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra 'demo'")
    folder = tmp_path_factory.mktemp("demo")
    stage.extract(stage.Options("demo", folder / "corpus", str(folder / "store"), ("mfcc", "logmel")))
    return Cache(folder / "store")


def experiment(name: str, *more: str) -> Settings:
    base, *own = HEADS[name]
    quick = [] if base.startswith("probe") else QUICK
    long = LONG if name in ("cats", "cnn2d") else []
    return load_settings(base, [*COMMON, *own, *quick, *long, *more])[1]


def loaded(cache: Cache, settings: Settings) -> tuple[Dataset, Fold]:
    dataset = load_dataset(cache, ["demo"], settings)
    return dataset, make_folds(dataset.examples, settings.protocol)[0]


def measured(dataset: Dataset, settings: Settings, fold: Fold) -> tuple[float, float, float]:
    """On the test speakers: accuracy or CCC, what chance gives, and the standard error of chance.

    Chance is the training part's majority class, or a CCC of 0 as far as that many independent clips can tell.
    """
    table = train_fold(dataset, settings, fold, 0, CPU).predictions
    table = table.filter(pc.field("part") == "test")
    if settings.task == "classification":
        references = table["reference"].to_numpy()
        majority = Counter(dataset.examples[row].reference for row in fold.train).most_common(1)[0][0]
        share = float(np.mean(references == dataset.classes[int(majority)]))
        hits = float(np.mean(references == table["prediction"].to_numpy()))
        return hits, share, float(np.sqrt(share * (1 - share) / len(references)))
    columns = (table[f"{kind}.{settings.targets[0]}"].combine_chunks() for kind in ("reference", "prediction"))
    y, p = (c.flatten().to_numpy() if pa.types.is_list(c.type) else c.to_numpy() for c in columns)
    return ccc(y, p).value, 0.0, 1 / np.sqrt(table.num_rows)


def test_every_head_is_tried() -> None:
    assert {experiment(name).head.kind for name in HEADS} == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_overfits_sixteen_utterances(cache: Cache, name: str) -> None:
    plain = [] if name.startswith("probe") else ["training.weight_decay=0.0"]
    settings = experiment(name, *plain, *probe_without_decay(name))
    dataset, fold = loaded(cache, settings)
    rows = fold.train[:: max(1, len(fold.train) // 16)][:16]
    batches = Batches(dataset, settings, prepare(dataset, settings, rows), CPU)
    torch.manual_seed(0)
    outputs = len(dataset.classes) or 1
    head = build_head(settings.head, Shape(batches.dims, outputs, settings.per_frame, len(dataset.auxiliary)))
    for dropout in (m for m in head.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)):
        dropout.p = 0.0
    rates = [1.0] * 30 if name.startswith("probe") else [0.01] * 120
    history = train_head(head, batches, rows, settings, make_loss(settings.loss, None), 0, None, rates).history
    assert min(line["train_loss"] for line in history) < 0.05 * history[0]["train_loss"]


def probe_without_decay(name: str) -> list[str]:
    """The probe's settings for overfitting: no weight decay, nothing to search, and a loss that starts at chance."""
    if not name.startswith("probe"):
        return []
    return ["search={}", "training.weight_decay=0.0", 'training.optimiser="adamw"']


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_beats_chance_on_unseen_speakers(cache: Cache, name: str) -> None:
    settings = experiment(name)
    dataset, fold = loaded(cache, settings)
    value, chance, error = measured(dataset, settings, fold)
    assert value - 3 * error > chance


# One cell and one pooling stand for the others: what would leak lies in the data or in a kind of head.
OF_EACH_KIND = [name for name in HEADS if name not in BASIC] + ["probe", "bigru", "transformer"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_shuffled_labels_give_chance(cache: Cache, name: str) -> None:
    settings = experiment(name)
    dataset, fold = loaded(cache, settings)
    shuffled = list(dataset.examples)
    learned = np.concatenate([fold.train, fold.valid])
    for row, other in zip(learned, np.random.default_rng(0).permutation(learned), strict=True):
        shuffled[row] = replace(dataset.examples[row], reference=dataset.examples[other].reference)
    value, chance, error = measured(replace(dataset, examples=shuffled), settings, fold)
    if settings.task == "classification":
        chance = 1 / len(dataset.classes)
        error = float(np.sqrt(chance * (1 - chance) / len(fold.test)))
    assert abs(value - chance) < 3 * error
