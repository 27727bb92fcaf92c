"""Speakers enrolled with some unlabelled clips: who they are, what they decide, and what is not scored."""

from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from emocache.cache import Cache, EmocacheError
from emocache.train.apply.opening_runs import open_models
from emocache.train.apply.unlabelled import Unlabelled, read_unlabelled
from emocache.train.data.dataset import Dataset
from emocache.train.data.enrolment import Enrolment, enrolment_of
from emocache.train.fit.train_fold import train_fold
from emocache.train.inputs.enrolling import enrol
from emocache.train.inputs.prepared import Joined
from emocache.train.inputs.transforms import prepare
from emocache.train.run.crew import Crew
from emocache.train.run.dry_run import fold_lines, summary
from emocache.train.run.experiment_plan import Plan
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.run_folders import read_run, recorded

from .conftest import Corpus
from .test_fold import poisoned, relabelled, same
from .test_stored_models import train

if TYPE_CHECKING:
    from .conftest import Toy

CPU = torch.device("cpu")
ENROL = ("features.normalise=per_speaker", "features.enrolment=2")
SHORT = ("training.epochs=2",)
GRU = (*SHORT, "head.kind=recurrent", "head.hidden=4")
RIDGE = ("head.pooling=mean_std", "training.optimiser=ridge", "selection.metric=accuracy", "selection.refit=true")


def enrolled(dataset: Dataset, toy: "Toy", *changes: str) -> Enrolment:
    found = enrolment_of(dataset, toy.settings(*ENROL, *changes))
    assert found is not None
    return found


def voices(toy: "Toy") -> Cache:
    """A corpus whose speakers differ by more than chance."""
    corpus = toy.corpus()
    random = np.random.default_rng(7)
    offsets = {speaker: 3 * random.normal(size=8) for speaker in sorted({str(row.speaker) for row in corpus.rows})}
    own = {row.id: (corpus.frames[row.id] + offsets[str(row.speaker)]).astype(np.float32) for row in corpus.rows}
    return toy.cache(Corpus(corpus.rows, own))


def planned(request: Request, toy: "Toy") -> Plan:
    plan = request.plan(request.experiment(toy.experiment()))
    assert isinstance(plan, Plan)
    return plan


def plan_of(toy: "Toy", *changes: str) -> Plan:
    request = Request(voices(toy), ["toys"], toy.folder / "runs", [*ENROL, *changes])
    return planned(request, toy)


def test_clips_are_drawn_by_a_lot_of_their_own(toy: "Toy") -> None:
    """Against the rule in words; with less of the corpus, in another order, the same; of a smaller number some."""
    dataset, _ = toy.load(toy.settings(*ENROL))
    found = enrolled(dataset, toy)
    for speaker in {e.speaker for e in dataset.examples}:
        own = [e.key for e in dataset.examples if e.speaker == speaker]
        lots = sorted(own, key=lambda key: sha256(f"0 {key}".encode()).hexdigest())
        drawn = [e.key for e, there in zip(dataset.examples, found.mask, strict=True) if there and e.speaker == speaker]
        assert sorted(drawn) == sorted(lots[:2])
    turned = replace(dataset, examples=dataset.examples[:9:-1], present=dataset.present[:9:-1])
    assert enrolled(turned, toy).mask.tolist() == found.mask[:9:-1].tolist()
    assert not (found.mask & ~enrolled(dataset, toy, "features.enrolment=4").mask).any()
    assert (found.mask != enrolled(dataset, toy, "protocol.seed=1").mask).any()


def test_one_clip_is_left_to_score_and_only_chosen_ones_enrol(toy: "Toy") -> None:
    dataset, _ = toy.load(toy.settings())
    rows = np.arange(len(dataset.examples))
    many = enrolled(dataset, toy, "features.enrolment=9")
    assert set(many.fewer.values()) == {5} and len(many.scored(rows)) == 6
    lacking = replace(dataset, present=np.arange(len(rows)) % 6 > 2)  # the first three clips of each speaker failed
    assert set(enrolled(lacking, toy, "features.enrolment=9").fewer.values()) == {2}
    copies = [replace(e, recordings=("one",)) if n % 6 > 1 else e for n, e in enumerate(dataset.examples)]
    assert not enrolled(replace(dataset, examples=copies), toy).mask[rows % 6 > 1].any()


def test_a_column_chooses_who_enrols(toy: "Toy") -> None:
    where = "features.enrolment_where=emotion=sad|happy"
    dataset, _ = toy.load(toy.settings(*ENROL, where))
    found = enrolled(dataset, toy, where, "features.enrolment=3")
    assert {dataset.examples[row].columns["emotion"] for row in np.flatnonzero(found.mask)} == {"sad", "happy"}
    with pytest.raises(
        EmocacheError, match=r"features.enrolment_where = 'emotion=sat': no utterance has emotion 'sat'"
    ):
        enrolled(dataset, toy, "features.enrolment_where=emotion=sat")
    with pytest.raises(EmocacheError, match=r"features.enrolment_where: .*emotion.* is not column=value"):
        toy.load(toy.settings(*ENROL, "features.enrolment_where=emotion"))
    with pytest.raises(EmocacheError, match=r"features.enrolment_where: .*mood"):
        toy.load(toy.settings(*ENROL, "features.enrolment_where=mood=bad"))


def naive(clips: list[np.ndarray], speakers: list[str], training: list[int], some: list[int]) -> list[np.ndarray]:
    """A loop over speakers, with the formulas of `enrolling`."""
    of = {s: [clips[r] for r in training if speakers[r] == s] for s in dict.fromkeys(speakers[r] for r in training)}
    means = {s: np.concatenate(own).mean(axis=0) for s, own in of.items()}
    centres = {s: np.stack([clip.mean(axis=0) for clip in own]) for s, own in of.items()}
    rest = np.concatenate([np.concatenate(own) - means[s] for s, own in of.items()])
    scale, mu = np.sqrt((rest**2).mean(axis=0)), np.mean(list(means.values()), axis=0)
    inside = np.concatenate([own - own.mean(axis=0) for own in centres.values()])
    within = (inside**2).sum(axis=0) / sum(len(own) - 1 for own in centres.values())
    apart = np.var([own.mean(axis=0) for own in centres.values()], axis=0, ddof=1)
    between = np.maximum(0, apart - within * np.mean([1 / len(own) for own in centres.values()]))
    out = []
    for clip, speaker in zip(clips, speakers, strict=True):
        mean = means.get(speaker)
        if mean is None:
            own = [clips[r] for r in some if speakers[r] == speaker]
            mean = mu
            if own:
                mean = mu + between / (between + within / len(own)) * (np.concatenate(own).mean(axis=0) - mu)
        out.append((clip - mean) / scale)
    return out


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_statistics_are_those_of_a_loop_over_speakers(offset: float) -> None:
    random = np.random.default_rng(3)
    speakers = [s for s in "abcdefg" for _ in range(5)]
    centre = {s: random.normal(size=3) * (1, 0.3, 2) + offset for s in "abcdefg"}
    clips = [centre[s] + random.normal(size=3) + random.normal(size=(int(random.integers(1, 6)), 3)) for s in speakers]
    offsets = np.cumsum([0, *map(len, clips)])
    features = Joined(np.concatenate(clips), offsets, np.zeros((offsets[-1], 2)), None, widths=(3,))
    training, some = list(range(20)), [3, 21, 22, 25, 26, 27]  # 3 is of a training speaker, g has none
    found = enrol(features, speakers, training, some)
    for row, wanted in enumerate(naive(clips, speakers, training, some)):
        group = found.group_of[row]
        mine = (clips[row] - found.mean[group]) / found.std[group]
        np.testing.assert_allclose(mine, wanted, atol=1e-4 if not offset else 5e-3)


def test_of_one_training_speaker_the_mean_is_taken_as_it_is_and_what_is_absent_does_not_count() -> None:
    frames = np.array([[0.0, 1], [2, 5], [7, 3], [9, 100]])
    valid = np.array([[True, True], [True, True], [True, True], [True, False]])
    features = Joined(frames, np.array([0, 1, 2, 3, 4]), np.zeros((4, 2)), None, widths=(1, 1), valid=valid)
    found = enrol(features, ["a", "a", "b", "b"], [0, 1], [2, 3])
    assert found.mean.tolist() == [[1, 3], [8, 3]] and found.std.tolist() == [[1, 2], [1, 2]]
    assert enrol(features, ["a", "a", "b", "b"], [0, 1], []).mean.tolist() == [[1, 3], [1, 3]]


@pytest.mark.parametrize(
    "changes", [SHORT, GRU, RIDGE, ("features.pca=3", *SHORT)], ids=["probe", "gru", "ridge", "pca"]
)
def test_no_scored_clip_and_no_label_reaches_another_clip(toy: "Toy", changes: tuple[str, ...]) -> None:
    plan = plan_of(toy, *changes)
    (dataset, settings, fold), drawn = (plan.dataset, plan.settings, plan.folds[0]), plan.enrolment
    assert drawn is not None
    before = train_fold(dataset, settings, fold, 0, CPU)
    row, enrols = fold.test[0], drawn.of(fold.test)
    others = [f"{e.corpus}/{e.id}" for e in (dataset.examples[r] for r in fold.test if r != row)]

    def told(table) -> list[dict]:  # type: ignore[no-untyped-def, type-arg]
        rows = table.filter(pc.equal(table["part"], "test")).to_pylist()
        return [one for one in rows if f"{one['corpus']}/{one['id']}" in others]

    changed = train_fold(poisoned(dataset, np.array([row]), 9.0), settings, fold, 0, CPU)
    assert same(changed, before) and told(changed.predictions) == told(before.predictions)
    renamed = train_fold(relabelled(dataset, np.union1d(fold.test, enrols)), settings, fold, 0, CPU)
    assert same(renamed, before)
    heard = train_fold(poisoned(dataset, enrols[:1], 9.0), settings, fold, 0, CPU)
    assert same(heard, before) and told(heard.predictions) != told(before.predictions)


def test_what_enrols_is_not_scored_and_all_is_told(toy: "Toy") -> None:
    plan = plan_of(toy, "training.epochs=1", "features.enrolment_where=emotion=sad")
    assert not plan.transductive and plan.marks == ["enrolled with 2 clips of emotion=sad"]
    lines = [*summary(plan), *fold_lines(plan)]
    assert "  enrol their speakers, and are not scored: 4 beside test, 4 of valid" in lines
    list(carry_out(plan, Crew(1), False))
    record, table = read_run(plan.folder(0, 0))
    assert record.coverage.test == record.coverage.predicted == 8 and record.coverage.enrolled == 4
    assert plan.enrolment is not None
    out = {plan.dataset.examples[row].id for row in np.flatnonzero(plan.enrolment.mask)}
    assert len(table) == 16 and not out & set(table["id"].to_pylist())
    assert "class not tested" in {one.kind for one in record.warnings}  # each speaker has two sad clips
    assert "fewer clips enrolled" not in {one.kind for one in record.warnings}
    (caution,) = [c for c in plan_of(toy, "features.enrolment=6").cautions(0) if c.kind == "fewer clips enrolled"]
    assert caution.text.startswith("2 of 2 speakers of the test part have fewer than the 6 utterances")


def test_a_refit_trains_on_every_clip_of_the_speakers_who_validated(toy: "Toy") -> None:
    plan = plan_of(toy, *RIDGE)
    fold = plan.folds[0]
    result = train_fold(plan.dataset, plan.settings, fold, 0, CPU)
    rows = np.union1d(fold.train, fold.valid)
    wanted = prepare(plan.dataset, plan.settings, rows).tensors()
    assert all(np.array_equal(wanted[name], result.transforms[name]) for name in wanted)
    assert set(wanted) == {f"frames.normalise.{name}" for name in ("mean", "std", "between", "within")}


def test_in_turn_every_part_is_validated_by_enrolled_speakers(toy: "Toy") -> None:
    plan = plan_of(toy, "protocol.validation=nested", "protocol.validation_folds=2", "training.epochs=1")
    table = train_fold(plan.dataset, plan.settings, plan.folds[0], 0, CPU).predictions
    assert table["part"].to_pylist() == ["valid"] * 16 + ["test"] * 8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("protocol.name=random_folds",), "'toys/S.' is trained and validated in fold 0; use protocol.name = 'group_f"),
        (("protocol.validation=random_utterance",), "is trained and validated"),
        (("protocol.validation=half", "features.enrolment=5"), "leaves nothing of the test part of fold 1 to score"),
        (("features.normalise=train",), "set features.normalise = 'per_speaker'"),
        (("features.enrolment=0",), "features.enrolment"),
        (('search={"features.enrolment" = [2, 4]}',), "cannot be searched: it decides what may see test features"),
    ],
)
def test_what_cannot_be_enrolled_is_refused(toy: "Toy", changes: tuple[str, ...], told: str) -> None:
    with pytest.raises(EmocacheError, match=told):
        plan_of(toy, *changes)


def test_enrolment_where_needs_a_number(toy: "Toy") -> None:
    with pytest.raises(EmocacheError, match="enrolment_where says which utterances enrol; set enrolment"):
        toy.settings("features.enrolment_where=emotion=sad")


def test_a_default_says_nothing_and_all_clips_stay_transductive(toy: "Toy") -> None:
    assert not {"enrolment", "enrolment_where"} & set(recorded(toy.settings())["features"])
    request = Request(toy.cache(), ["toys"], toy.folder / "runs", ["features.normalise=per_speaker"])
    plan = planned(request, toy)
    assert plan.transductive and plan.marks == [] and len(plan.folds[0].test) == 12


def test_new_clips_enrol_their_speakers_by_all_that_is_given(toy: "Toy") -> None:
    """A clip more of a speaker changes the answer for the others; one clip alone is answered as well."""
    cache = voices(toy)
    folder = train(toy, ENROL, cache)
    (model,) = open_models(folder / "fold0-seed0").models
    stream = cache.stream("toys", "toy")
    new = [Unlabelled(i, {"toy": (stream, i)}, i.partition("_")[0]) for i in ("spk1_0", "spk1_1", "spk2_0")]

    def values(own: list[Unlabelled]) -> list[list[float]]:
        answers = model.answers(partial(read_unlabelled, own), CPU)
        return [answer.values.tolist() for answer in answers if answer is not None]

    every, alone = values(new), values(new[::2])
    assert every[0] != alone[0] and every[2] == alone[1]
    record, _ = read_run(folder / "fold0-seed0")
    prior = {name: model.parts[0].transforms[f"frames.normalise.{name}"] for name in ("mean", "between", "within")}
    clip = stream.read("spk2_0").mean(axis=0)  # a probe takes the mean
    share = prior["between"] / (prior["between"] + prior["within"])
    mean = prior["mean"] + share * (clip - prior["mean"])
    inputs = (clip - mean) / model.parts[0].transforms["frames.normalise.std"]
    weights = {name.rpartition(".")[2]: w.numpy() for name, w in model.parts[0].weights.items()}
    logits = inputs @ weights["weight"].T + weights["bias"]
    np.testing.assert_allclose(alone[1], (np.exp(logits) / np.exp(logits).sum())[0], atol=1e-5)
    assert record.marks == ("enrolled with 2 clips",)
