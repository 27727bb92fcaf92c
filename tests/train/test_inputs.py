"""Heads with several inputs, learned layer weights and word vectors, second targets, targets apart, what is kept."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from emocache.cache import Cache, EmocacheError, Item, Manifest, Track, Utterance
from emocache.evaluate.scoring.result_groups import group
from emocache.evaluate.scoring.scored import evaluate_result, scores_of
from emocache.evaluate.scoring.stored_predictions import read_predictions
from emocache.evaluate.scoring.stored_runs import discover, read_run
from emocache.train.config.sections import Protocol, Training
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.data.memory import Memory
from emocache.train.data.reading import load_dataset
from emocache.train.fit.fold_result import FoldResult
from emocache.train.fit.fold_run import learned
from emocache.train.fit.loop import learning_rate
from emocache.train.fit.predict import predict
from emocache.train.fit.prediction_table import vote
from emocache.train.fit.train_fold import train_fold
from emocache.train.heads import HEADS, Frames, Head, HeadEntry, HeadSettings, Outputs, Shape, build_head
from emocache.train.heads.head import Segments, Term
from emocache.train.heads.layers.pooling import masked_mean
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.fitting import find_words
from emocache.train.inputs.normalisation import fit_normaliser, normalise_utterances
from emocache.train.inputs.prepared import Joined
from emocache.train.inputs.transforms import prepare
from emocache.train.inputs.vectors import pool
from emocache.train.protocols.folds import Fold
from emocache.train.run import dry_run
from emocache.train.run.experiment_plan import make_plan
from emocache.train.stored.run_folders import setting_hash

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")


class PairSettings(HeadSettings):
    """A head of two inputs for these tests."""

    kind: Literal["pair"] = "pair"
    second: bool = False
    pieces: bool = False

    def roles(self) -> tuple[str, ...]:
        return ("left", "right")

    def multitask(self) -> bool:
        return self.second

    def segments(self) -> Segments | None:
        return Segments("right", "left", "words", 0.0, 300) if self.pieces else None


class Pair(Head[PairSettings]):
    """Means of both inputs, one linear map for each output."""

    def __init__(self, settings: PairSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        width = sum(shape.dims.values())
        self.main = torch.nn.Linear(width, shape.outputs)
        self.second = torch.nn.Linear(width, shape.auxiliary) if settings.second else None

    def forward(self, left: Frames, right: Frames) -> torch.Tensor | Outputs:
        both = torch.cat([masked_mean(left.values, left.mask), masked_mean(right.values, right.mask)], dim=1)
        main = cast(torch.Tensor, self.main(both))
        terms: tuple[Term, ...] = (Term(0.5, main),)
        if self.second is not None:
            terms += (Term(0.25, self.second(both), "auxiliary"),)
        return Outputs(main, terms, {"means": both, "frames": left.values[..., :1]}, constant=0.125)


@pytest.fixture(autouse=True)
def pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "pair", HeadEntry(PairSettings, Pair))


def pair_settings(toy: "Toy", *changes: str) -> Settings:
    text = """
streams = { left = "toy", right = "slow" }
targets = "emotion"
head = { kind = "pair" }
protocol = { name = "group_folds", folds = 3 }
training = { epochs = 3 }
"""
    from emocache.train.config.loading import load_settings

    return load_settings(toy.experiment(text, "pair"), changes)[1]


def loaded(toy: "Toy", settings: Settings, absent: tuple[str, ...] = ()) -> Dataset:
    corpus = toy.corpus(speakers=3)
    cache = toy.cache(corpus)
    toy.streams(cache, corpus, absent)
    return load_dataset(cache, ["toys"], settings)


def thirds(dataset: Dataset) -> Fold:
    rows = np.arange(len(dataset.examples))
    return Fold(rows[:6], rows[6:12], rows[12:])


def run(dataset: Dataset, settings: Settings) -> FoldResult:
    return train_fold(dataset, settings, thirds(dataset), 0, CPU)


def test_each_role_has_its_own_frames_and_settings(toy: "Toy") -> None:
    settings = pair_settings(toy, "features.right.normalise=none", "features.left.average_frames=2")
    dataset = loaded(toy, settings)
    prepared = prepare(dataset, settings, range(18))
    batch = Batches(dataset, settings, prepared, CPU).gather(np.array([4, 7]))
    left, right = batch.inputs
    for at, row in enumerate((4, 7)):
        raw = dataset.features["slow"].of(row)
        assert np.array_equal(right.values[at, : len(raw)], raw) and int(right.lengths[at]) == len(raw)
        assert int(left.lengths[at]) == -(-len(dataset.features["toy"].of(row)) // 2)
    assert prepared.inputs["right"].normaliser is None and prepared.inputs["left"].normaliser is not None


def test_an_absent_stream_leaves_an_empty_mask_where_any_will_do(toy: "Toy") -> None:
    strict = pair_settings(toy)
    assert loaded(toy, strict, ("slow",)).present.sum() == 12


def test_an_absent_stream_is_allowed_by_name(toy: "Toy") -> None:
    settings = pair_settings(toy, "modalities=any")
    dataset = loaded(toy, settings, ("slow",))
    assert dataset.present.all()
    left, right = Batches(dataset, settings, prepare(dataset, settings, range(18)), CPU).gather(np.array([0, 1])).inputs
    assert right.mask[0].any() and not right.mask[1].any() and left.mask.any(dim=1).all()
    assert (right.values[1] == 0).all()


def test_pieces_are_the_frames_of_each_word(toy: "Toy") -> None:
    settings = pair_settings(
        toy, "streams.left=words", "streams.right=toy", "features.left.words=true", "head.pieces=true"
    )
    dataset = loaded(toy, settings)
    _, right = Batches(dataset, settings, prepare(dataset, settings, range(18)), CPU).gather(np.arange(18)).inputs
    assert right.segments is not None
    for row in range(18):
        length = len(dataset.features["toy"].of(row))
        bounds = [(a, b) for a, b in right.segments[row].tolist() if b > a]
        # The words tile the utterance, so the pieces tile its frames; words shorter than a frame share the nearest.
        assert {i for a, b in bounds for i in range(a, b)} == set(range(length))
        assert len(bounds) == min(4, length)


def test_a_second_target_counts_by_its_weight_where_it_is_known(toy: "Toy") -> None:
    settings = pair_settings(toy, "head.second=true", "auxiliary=gender")
    dataset = loaded(toy, settings)
    assert dataset.auxiliary == ("female", "male")
    unknown = replace(dataset.examples[0], auxiliary=None)
    dataset = replace(dataset, examples=[unknown, *dataset.examples[1:]])
    batches = Batches(dataset, settings, prepare(dataset, settings, range(18)), CPU)
    head = build_head(settings.head, Shape(batches.dims, 3, False, 2)).eval()
    from emocache.train.fit.losses import make_loss

    rows = np.arange(18)
    found = predict(head, batches, rows, make_loss(settings.loss, None))
    assert found.auxiliary is not None
    main, second = torch.tensor(np.stack(found.outputs)), torch.tensor(found.auxiliary)
    emotion = [-torch.log_softmax(main[row], 0)[batches.targets_of(rows)[0][row]] for row in rows]
    gender = [-torch.log_softmax(second[row], 0)[dataset.examples[row].auxiliary or 0] for row in rows[1:]]
    naive = 0.125 + 0.5 * float(np.mean(emotion)) + 0.25 * float(np.mean(gender))
    assert found.loss == pytest.approx(naive, abs=1e-5)
    table = run(dataset, settings).predictions
    assert set(table["auxiliary.prediction.gender"].to_pylist()) <= {"female", "male"}
    assert "auxiliary.reference.gender" in table.column_names


def test_what_is_kept_is_what_the_head_gave_each_utterance(toy: "Toy") -> None:
    settings = pair_settings(toy, 'keep=["means", "frames"]')
    dataset = loaded(toy, settings)
    kept = run(dataset, settings).kept
    assert kept is not None and kept.num_rows == 12 and set(kept["part"].to_pylist()) == {"valid", "test"}
    for name, shape, id_ in zip(kept["frames"], kept["frames.shape"], kept["id"].to_pylist(), strict=True):
        row = next(r for r, e in enumerate(dataset.examples) if e.id == id_)
        assert shape.as_py() == [len(dataset.features["toy"].of(row)), 1] and len(name.as_py()) == shape.as_py()[0]
    with pytest.raises(EmocacheError, match="keep: head 'pair' has no 'gate'; it gives: means, frames"):
        run(dataset, pair_settings(toy, "keep=gate"))


def test_roles_that_do_not_fit_are_told(toy: "Toy") -> None:
    with pytest.raises(
        EmocacheError, match=r"head 'pair' takes left, right; the streams are for frames; set \[streams\]"
    ):
        pair_settings(toy, 'streams="toy"')
    with pytest.raises(EmocacheError, match=r"features.middle is neither a setting .* nor an input of head 'pair'"):
        pair_settings(toy, "features.middle.pca=2")
    with pytest.raises(EmocacheError, match="head 'pair': set auxiliary to a label column"):
        pair_settings(toy, "head.second=true")
    with pytest.raises(EmocacheError, match="head 'pair': leave auxiliary out"):
        pair_settings(toy, "auxiliary=gender")


def test_targets_apart_are_the_experiments_of_single_targets(toy: "Toy") -> None:
    common = ("task=regression", "head.kind=recurrent", "head.hidden=4", "training.epochs=3")
    both = toy.settings(*common, 'targets=["intensity", "loudness"]', "targets_apart=true")
    corpus = toy.corpus(speakers=3)
    corpus.rows = [replace(r, labels={**r.labels, "loudness": float(i % 5)}) for i, r in enumerate(corpus.rows)]
    cache = toy.cache(corpus)
    dataset = load_dataset(cache, ["toys"], both)
    joint = run(dataset, both)
    for target in both.targets:
        alone = toy.settings(*common, f"targets={target}")
        single = run(load_dataset(cache, ["toys"], alone), alone)
        assert joint.predictions[f"prediction.{target}"].equals(single.predictions[f"prediction.{target}"])
        assert all(torch.equal(joint.weights[f"{target}.{name}"], w) for name, w in single.weights.items())


def lacking(row: Utterance, target: str) -> Utterance:
    """Without a label and a track."""
    labels = {name: value for name, value in row.labels.items() if name != target}
    return replace(row, labels=labels, tracks={name: t for name, t in row.tracks.items() if name != target})


@pytest.mark.parametrize("task", ["regression", "frame_regression"])
def test_an_utterance_that_lacks_a_target_still_trains_and_scores_the_others(toy: "Toy", task: str) -> None:
    """Each head is that of the experiment with its target alone; the tables have null for what is not known."""
    common = (f"task={task}", "head.kind=recurrent", "head.hidden=4", "training.epochs=2", "protocol.folds=3")
    both = toy.settings(*common, 'targets=["one", "two"]', "targets_apart=true")
    corpus = toy.corpus()
    rows = []
    for number, row in enumerate(corpus.rows):
        track = row.tracks["valence"]
        tracks = {"one": track, "two": Track(track.times, track.values**2)}
        row = replace(row, labels={"one": row.labels["intensity"], "two": float(number % 5)}, tracks=tracks)
        rows.append(lacking(row, "one" if number % 6 == 1 else "two" if number % 6 in (2, 3) else ""))
    rows[34] = lacking(lacking(rows[34], "one"), "two")
    corpus.rows = rows
    cache = toy.cache(corpus)
    known = {
        t: [r.id for r in rows if t in (r.tracks if task == "frame_regression" else r.labels)] for t in both.targets
    }
    plan = make_plan(cache, ["toys"], toy.folder / "runs", "apart", both)
    assert len(plan.dataset.examples) == 35 and plan.dataset.unlabelled == 1
    assert f"each head trains on the utterances that have its target, of 35: one {len(known['one'])}, two" in "\n".join(
        dry_run.summary(plan)
    )
    for fold in range(3):
        plan.train(fold, 0)
    run = read_run(plan.folder(0, 0))
    assert run.record.coverage.test == 12
    table = pq.read_table(run.predictions)
    for target in both.targets:
        held = [
            value is not None and value != [None] * len(times)
            for value, times in zip(
                table[f"reference.{target}"].to_pylist(),
                table["times"].to_pylist() if task == "frame_regression" else [()] * len(table),
                strict=True,
            )
        ]
        assert [i for i, h in zip(table["id"].to_pylist(), held, strict=True) if h] == [
            i for i in table["id"].to_pylist() if i in known[target]
        ]
        alone = toy.settings(*common, f"targets={target}")
        single = make_plan(cache, ["toys"], toy.folder / "runs", target, alone)
        single.train(0, 0)
        own = pq.read_table(read_run(single.folder(0, 0)).predictions)
        mine = table.filter(pa.array(held))
        assert own["id"].equals(mine["id"]) and len(own) == sum(held) < len(table)
        for kind in ("reference", "prediction"):
            assert own[f"{kind}.{target}"].to_pylist() == mine[f"{kind}.{target}"].to_pylist()
        score = scores_of(read_predictions(run, []))[f"rmse.{target}"]
        naive = scores_of(read_predictions(read_run(single.folder(0, 0)), []))[f"rmse.{target}"]
        left_out = 12 - len(set(own.filter(pc.field("part") == "test")["id"].to_pylist()))
        assert (
            score.value == naive.value and score.note == f"{left_out} of 12 utterances left out, which have no {target}"
        )
    (result,) = group([r for r in discover([toy.folder / "runs"]) if r.record.experiment == "apart"])
    evaluation = evaluate_result(result)
    assert all(np.isfinite(evaluation.metrics[f"rmse.{t}"].pooled) for t in both.targets)


def test_a_speaker_without_a_target_is_no_fold_of_it(toy: "Toy") -> None:
    settings = toy.settings("task=regression", 'targets=["intensity", "loudness"]', "targets_apart=true",
                            "training.epochs=2", "protocol.folds=6")  # fmt: skip
    corpus = toy.corpus()
    corpus.rows = [
        replace(r, labels={**r.labels, "loudness": None if r.speaker == "S2" else float(i % 5)})
        for i, r in enumerate(corpus.rows)
    ]
    with pytest.raises(EmocacheError, match="fold 0 has no valid utterance with loudness"):
        make_plan(toy.cache(corpus), ["toys"], toy.folder / "runs", "small", settings)  # the next speaker validates
    rows = [replace(r, labels={**r.labels, "loudness": 1.0}) if r.id == "spk2_0" else r for r in corpus.rows]
    failed = toy.cache(replace(corpus, rows=rows), failures=["spk2_0"], name="failed")
    with pytest.raises(EmocacheError, match="fold 0 has no valid utterance with loudness and features"):
        make_plan(failed, ["failed"], toy.folder / "runs", "small", settings)
    by_session = Protocol(name="leave_one_out", validation="fraction", validation_group="session")
    settings = settings.model_copy(update={"protocol": by_session.model_copy(update={"overlap": True})})
    plan = make_plan(Cache(toy.root), ["toys"], toy.folder / "runs", "small", settings)
    folds = range(6)
    for fold in folds:
        plan.train(fold, 0)
    (result,) = group(discover([toy.folder / "runs"]))
    summary = evaluate_result(result).metrics["rmse.loudness"]
    alone = [
        scores_of(read_predictions(result.runs[fold, 0], []))["rmse.loudness"].value for fold in folds if fold != 1
    ]
    assert summary.mean == pytest.approx(np.mean(alone)) and 1 in folds
    assert "the mean is over the other folds than 1, which have none" in summary.notes


def test_targets_that_all_have_are_filed_as_they_were(toy: "Toy") -> None:
    """What changes no number is not hashed; an utterance more is another split, and other items."""
    settings = toy.settings("task=regression", 'targets=["intensity", "loudness"]', "targets_apart=true")
    corpus = toy.corpus()
    corpus.rows = [replace(r, labels={**r.labels, "loudness": float(i % 5)}) for i, r in enumerate(corpus.rows)]
    whole = make_plan(toy.cache(corpus), ["toys"], toy.folder / "runs", "small", settings)
    assert len(whole.dataset.examples) == 36 and not any("its target" in line for line in dry_run.summary(whole))
    together = settings.model_copy(update={"targets_apart": False})
    assert make_plan(Cache(toy.root), ["toys"], toy.folder / "runs", "small", together).split == whole.split
    corpus.rows[7] = lacking(corpus.rows[7], "loudness")
    cache = Cache(toy.root)
    cache.put_manifest(Manifest.from_utterances("toys", corpus.rows))
    assert len(make_plan(cache, ["toys"], toy.folder / "runs", "small", together).dataset.examples) == 35
    assert make_plan(cache, ["toys"], toy.folder / "runs", "small", settings).split == whole.split


def test_a_target_that_nobody_has_is_told(toy: "Toy") -> None:
    settings = toy.settings("task=regression", 'targets=["intensity", "loudness"]', "targets_apart=true")
    corpus = toy.corpus()
    corpus.rows = [
        replace(r, labels={**r.labels, "loudness": float(i) if r.speaker in ("S1", "S2") else None})
        for i, r in enumerate(corpus.rows)
    ]
    with pytest.raises(EmocacheError, match="fold 0 has no train utterance with loudness; use fewer folds, another"):
        make_plan(toy.cache(corpus), ["toys"], toy.folder / "runs", "small", settings)
    corpus.rows = [replace(r, labels={"intensity": r.labels["intensity"], "loudness": None}) for r in corpus.rows]
    cache = Cache(toy.root)
    cache.put_manifest(Manifest.from_utterances("toys", corpus.rows))
    with pytest.raises(EmocacheError, match="loudness"):
        make_plan(cache, ["toys"], toy.folder / "runs", "small", settings)


def test_learned_layer_weights_are_a_weighted_sum(toy: "Toy") -> None:
    settings = toy.settings('streams=["toy", "twin"]', "features.combine=weighted", "features.normalise=none",
                            "head.kind=recurrent")  # fmt: skip
    corpus = toy.corpus(speakers=3)
    cache = toy.cache(corpus)
    toy.commit(cache, "toys", "twin", {i: f * 2 - 1 for i, f in corpus.frames.items()})
    dataset = load_dataset(cache, ["toys"], settings)
    prepared = prepare(dataset, settings, range(18))
    batches = Batches(dataset, settings, prepared, CPU)
    assert batches.dims == {"frames": 8} and prepared.inputs["frames"].layers == 2
    head = build_head(settings.head, Shape(batches.dims, 3), learned(prepared, settings)).eval()
    weights = dict(head.named_parameters())["layers.frames.scores"]
    with torch.no_grad():
        weights.copy_(torch.tensor([0.0, 1.0]))
    (frames,) = batches.gather(np.array([3])).inputs
    a, b = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    raw = corpus.frames[dataset.examples[3].id]
    naive = torch.from_numpy((a * raw + b * (raw * 2 - 1)).astype(np.float32))[None]
    inner: Any = cast(Any, head).head
    assert torch.allclose(cast(torch.Tensor, head(frames)), inner(Frames(naive, frames.mask)), atol=1e-5)


@pytest.mark.parametrize("how", ["vector", "unk"])
def test_word_vectors_are_learned_and_unknown_words_are_told_apart(toy: "Toy", how: str) -> None:
    """With "unk" a word that training has once is unknown too."""
    settings = toy.settings("streams=words", "features.words=true", f"features.trainable_words={how}",
                            "features.normalise=none", "head.kind=recurrent")  # fmt: skip
    dataset = loaded(toy, settings)
    seen = np.arange(6)
    prepared = prepare(dataset, settings, seen)
    one = prepared.inputs["frames"]
    assert one.vocabulary is not None
    words, vectors = one.vocabulary.words, one.vocabulary.vectors
    for row in range(18):
        for at in range(one.features.offsets[row], one.features.offsets[row + 1]):
            if words[at] >= 0:
                assert np.array_equal(vectors[words[at]], one.features.frames[at])
            else:
                assert (how == "unk" or row not in seen) and not (vectors == one.features.frames[at]).all(axis=1).any()
    # The second word is the same everywhere, so it is known everywhere.
    assert (words[one.features.offsets[:-1] + 1] == words[one.features.offsets[0] + 1]).all()
    head = build_head(settings.head, Shape({"frames": 4}, 3), learned(prepared, settings)).eval()
    batch = Batches(dataset, settings, prepared, CPU).gather(np.array([17]))
    (frames,) = batch.inputs
    assert frames.words is not None and (frames.words < 0).any()
    values = head.words["frames"](frames.values, frames.words)  # type: ignore[index, operator]
    expected = frames.values if how == "vector" else torch.where(frames.words[..., None] >= 0, frames.values, 0.0)
    assert torch.equal(values, expected)
    assert how == "unk" or len(find_words(one.features, seen).vectors) == len(np.unique(vectors, axis=0))


@pytest.mark.parametrize("kind", ["per_utterance", "l2_over_time"])
def test_utterances_normalised_by_themselves(toy: "Toy", kind: str) -> None:
    settings = toy.settings(f"features.normalise={kind}", "head.kind=recurrent")
    dataset = loaded(toy, settings)
    features = prepare(dataset, settings, range(6)).inputs["frames"].features
    for row in (0, 9, 17):
        raw = dataset.features["toy"].of(row).astype(np.float64)
        mean, std = raw.mean(axis=0), raw.std(axis=0)
        naive = (raw - mean) / std if kind == "per_utterance" else raw / np.sqrt((raw**2).sum(axis=0))
        assert np.allclose(features.of(row), naive, atol=1e-5)


def test_without_masks_padding_counts_but_the_batch_does_not(toy: "Toy") -> None:
    settings = toy.frame_settings("masking=none", "head.kind=recurrent")
    dataset = loaded(toy, settings)
    batches = Batches(dataset, settings, prepare(dataset, settings, range(18)), CPU)
    batch = batches.gather(np.array([0, 5]))
    longest = int(batches.lengths.max())
    assert batch.inputs[0].mask.all() and batch.inputs[0].values.shape[1] == longest
    for at, row in enumerate((0, 5)):
        assert (
            batch.target_mask[at, batches.lengths[row] :].all()
            and (batch.targets[at, batches.lengths[row] :] == 0).all()
        )


def test_a_vector_for_unknown_words_is_learned_from_words_that_come_once(toy: "Toy") -> None:
    settings = toy.settings("streams=words", "features.words=true", "features.trainable_words=unk",
                            "features.normalise=none", "head.kind=recurrent", "training.epochs=2")  # fmt: skip
    dataset = loaded(toy, settings)
    unknown = run(dataset, settings).weights["words.frames.unknown"]
    assert (unknown != 0).all()


def test_holes_are_not_frames(toy: "Toy") -> None:
    """Pooling, CMVN and the statistics of training see only where a stream has something."""
    values = np.array([[1.0], [5.0], [0.0], [0.0]], np.float32)
    valid = np.array([[True], [True], [False], [False]])
    nothing = np.zeros((2, 1), np.float32)
    both = Joined(
        np.concatenate([values, nothing]), np.array([0, 4, 6]), np.zeros((6, 2)), None, (1,),
        np.concatenate([valid, np.zeros((2, 1), bool)]),
    )  # fmt: skip
    pooled = pool(both, "mean_std")
    assert pooled.frames.tolist() == [[3.0, 2.0], [0.0, 0.0]]
    assert pooled.valid is not None and pooled.valid.tolist() == [[True], [False]]
    assert normalise_utterances(both, l2=False, memory=Memory())[:, 0].tolist() == [-1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert fit_normaliser(both, ["", ""], [0, 1]).mean.tolist() == [[3.0]]
    assert fit_normaliser(pooled, ["", ""], [0, 1]).mean.tolist() == [[3.0, 2.0]]


def test_one_stream_in_two_roles_is_masked_where_that_is_asked_for(toy: "Toy") -> None:
    corpus = toy.corpus(speakers=3)
    cache = toy.cache(corpus)
    seen = {i: np.arange(len(f)) % 2 == 0 for i, f in corpus.frames.items()}
    recipe = toy.recipe("film", 8, aux={name: {"dtype": "bool", "shape": []} for name in ("found", "lost")})
    writer = cache.create_stream("toys", "film", recipe)
    writer.commit("ab" * 8, {i: Item(f, aux={"found": seen[i], "lost": ~seen[i]}) for i, f in corpus.frames.items()})
    writer.finish()
    settings = pair_settings(toy, "streams={left='film', right='film'}", "features.left.where=found")
    dataset = load_dataset(cache, ["toys"], settings)
    inputs = prepare(dataset, settings, range(18)).inputs
    lengths = np.array([len(corpus.frames[example.id]) for example in dataset.examples])
    assert np.array_equal(inputs["right"].features.lengths, lengths)
    assert np.array_equal(inputs["left"].features.lengths, -(-lengths // 2))
    other = ("features.left.where=found", "features.right.where=lost")
    with pytest.raises(EmocacheError, match=r"stream 'film' is read with where = 'found' and 'lost'; use one"):
        load_dataset(cache, ["toys"], pair_settings(toy, "streams={left='film', right='film'}", *other))


def test_frames_without_a_place_in_time_have_no_label_in_time(toy: "Toy") -> None:
    settings = toy.frame_settings("streams=words")
    dataset = loaded(toy, settings)
    with pytest.raises(EmocacheError, match=r"toys/spk1_0: frames without a place in time.*set features.words"):
        Batches(dataset, settings, prepare(dataset, settings, range(18)), CPU)


def test_parts_vote_within_their_corpus_and_those_without_features_do_not() -> None:
    table = pa.table({
        "corpus": ["a", "a", "a", "b", "b"], "id": ["1", "2", "3", "1", "2"],
        "missing": [False, True, False, True, True],
        "prediction": ["x"] * 5, "prob.x": [0.2, 0.9, 0.6, 0.5, 0.5], "prob.y": [0.8, 0.1, 0.4, 0.5, 0.5],
    })  # fmt: skip
    found = vote(table, ["u", "u", None, "u", "u"]).to_pydict()
    assert list(zip(found["corpus"], found["id"], strict=True)) == [("a", "u"), ("a", "3"), ("b", "u")]
    assert found["prob.x"] == [0.2, 0.6, 0.5] and found["missing"] == [False, False, True]
    assert found["prediction"] == ["y", "x", "x"]


def test_the_content_of_a_heads_weights_is_part_of_the_setting(
    toy: "Toy", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "start.safetensors"
    monkeypatch.setattr(PairSettings, "files", lambda self: (str(weights),))
    settings = pair_settings(toy)
    dataset = loaded(toy, settings)
    found = []
    for content in (b"one", b"one", b"two"):
        weights.write_bytes(content)
        found.append(setting_hash(settings, dataset, "split"))
    assert found[0] == found[1] != found[2]
    weights.unlink()
    with pytest.raises(EmocacheError, match=r"\[head\] names .*start.safetensors, which cannot be read: No such file"):
        setting_hash(settings, dataset, "split")


def test_plateau_lowers_when_torchs_scheduler_does() -> None:
    training = Training(schedule="plateau", plateau_factor=0.1, plateau_patience=2, learning_rate=1.0)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=2)
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    history: list[dict[str, float]] = []
    stalled, least = 0, float("inf")
    for epoch, loss in enumerate(losses, 1):
        rate = learning_rate(training, epoch, stalled, history)
        assert rate == pytest.approx(optimiser.param_groups[0]["lr"])
        history.append({"learning_rate": rate})
        stalled = 0 if loss < least else stalled + 1
        least = min(least, loss)
        scheduler.step(loss)


def test_the_last_epoch_counts_where_that_is_asked_for(toy: "Toy") -> None:
    settings = toy.settings("selection.epoch=last", "training.epochs=4", "training.patience=4", "head.kind=recurrent")
    dataset, folds = toy.load(settings)
    assert train_fold(dataset, settings, folds[0], 0, CPU).record.selection.best_epoch == 4
