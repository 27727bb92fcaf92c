"""One recording is one group, whatever the protocol and whoever it is said to be of."""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from emocache.cache import Cache, EmocacheError, Manifest, Media
from emocache.train.config.sections import Protocol
from emocache.train.data.example import Example
from emocache.train.protocols.copies import record
from emocache.train.protocols.folds import Fold, make_folds, split_sha256
from emocache.train.protocols.grouping import drawn, draws
from emocache.train.run import dry_run
from emocache.train.run.experiment_plan import Plan, make_plan

from .test_protocols import CUTS, VALIDATIONS, by_key, corpora, named

if TYPE_CHECKING:
    from .conftest import Toy

PAIRS = (("train", "valid"), ("train", "test"), ("valid", "test"))


def copied(found: Sequence[Example], seed: int, count: int = 4) -> list[Example]:
    """Pairs of utterances, of one corpus and of any speakers, made one recording each."""
    random = np.random.default_rng(seed)
    rows = list(found)
    for number in range(count):
        one, other = random.choice(len(rows), 2, replace=False)
        if rows[one].corpus == rows[other].corpus:
            for row in (one, other):
                rows[row] = replace(rows[row], recordings=(*rows[row].recordings, f"r{number}"))
    return rows


def shared(found: Sequence[Example], fold: Fold, one: str, other: str) -> set[str]:
    held = [{recording for row in getattr(fold, part) for recording in found[row].recordings} for part in (one, other)]
    return held[0] & held[1]


@pytest.mark.parametrize("cut", CUTS, ids=named)
def test_no_two_parts_share_a_recording(cut: dict[str, Any]) -> None:
    divided = 0
    for validation, seed in itertools.product(VALIDATIONS, range(2)):
        protocol = Protocol(**cut, **validation, seed=seed)
        plain = corpora(seed, owner_validates=protocol.validation == "next")
        found = copied(plain, seed)
        before = make_folds(plain, protocol)
        pairs = [pair for pair in PAIRS if protocol.validation != "test" or pair != ("valid", "test")]
        divided += sum(len(shared(found, fold, *pair)) for fold in before for pair in pairs)
        try:
            folds = make_folds(found, protocol)
        except EmocacheError as error:  # of the few cultures two have become one
            assert re.search(r"needs at least \d cultures, there are \d; \d more count as one with another", str(error))
            continue
        assert not any(shared(found, fold, *pair) for fold in folds for pair in pairs)
        tested = np.concatenate([fold.test for fold in folds])
        assert len(tested) == len(set(tested.tolist()))
        if cut["name"] in ("official", "transfer", "file"):
            if protocol.validation != "half":  # the owner's, whatever trains
                assert all(np.array_equal(fold.test, was.test) for fold, was in zip(folds, before, strict=True))
        else:
            parts = [np.concatenate([f.train, f.valid, [] if protocol.validation == "test" else f.test]) for f in folds]
            assert all(np.array_equal(np.sort(rows), np.arange(len(found))) for rows in parts)
        shuffled = [found[row] for row in np.random.default_rng(seed).permutation(len(found))]
        assert by_key(shuffled, make_folds(shuffled, protocol)) == by_key(found, folds)
    assert divided  # without this some fold would have had one on both sides


def test_too_few_groups_are_told_with_the_copies() -> None:
    found = speakers(("a",), ("a",), ("a",), ("a",), (), ())
    with pytest.raises(EmocacheError) as caught:
        make_folds(found, Protocol(name="group_folds", folds=4))
    assert str(caught.value) == (
        "group_folds needs at least 4 speakers, there are 3; 3 more count as one with another, whose recordings they"
        " share: take the copies out of the corpus, use fewer folds, or declare it with protocol.overlap = true"
    )


def speakers(*recordings: tuple[str, ...]) -> list[Example]:
    """A speaker with three clips for each argument, which names what the first of them are copies of."""
    return [
        Example("baved", f"{s}-{c}", str(s), None, None, None, c % 3, recordings=held[c : c + 1])
        for s, held in zip((7, 12, 46, 53, 60, 61), recordings, strict=False)
        for c in range(3)
    ]


def test_speakers_that_share_recordings_are_tested_together() -> None:
    found = speakers((), (), ("a", "b"), ("a", "b"), (), ())
    folds = make_folds(found, Protocol())
    assert [sorted({found[row].speaker for row in fold.test}) for fold in folds] == [
        ["7"], ["12"], ["46", "53"], ["60"], ["61"]
    ]  # fmt: skip
    assert [*record(found, folds, Protocol()).values()] == [2, [["baved/46", "baved/53"]], []]
    assert set(draws(found, Protocol())) == {"7", "12", "46", "60", "61"}
    apart = Protocol(overlap=True)
    assert len(make_folds(found, apart)) == 6 and "53" not in draws(found, apart)
    by_hand = [replace(example, speaker="46") if example.speaker == "53" else example for example in found]
    renamed = make_folds([replace(example, recordings=()) for example in by_hand], Protocol())
    assert split_sha256(found, folds) == split_sha256(found, renamed)


def test_copies_of_one_speaker_change_nothing_between_speakers() -> None:
    """RAVDESS: two files of actor 7 are the same bytes."""
    found = speakers(("a",), (), (), (), (), ())
    found[1] = replace(found[1], recordings=("a",))
    plain = [replace(example, recordings=()) for example in found]
    for protocol in (Protocol(), Protocol(name="group_folds", folds=3), Protocol(validation="fraction")):
        folds = make_folds(found, protocol)
        assert split_sha256(found, folds) == split_sha256(plain, make_folds(plain, protocol))
        assert [*record(found, folds, protocol).values()] == [1, [], []]
        assert draws(found, protocol) == [drawn(example, protocol) for example in found]


def test_what_an_official_part_tests_is_left_out_of_training() -> None:
    splits = {"7": "train", "12": "train", "46": "train", "53": "test", "60": "valid", "61": "train"}
    found = [replace(e, split=splits[str(e.speaker)]) for e in speakers((), (), ("a", "b"), ("a",), ("b",), ())]
    (fold,) = make_folds(found, Protocol(name="official"))
    assert [found[row].id for row in fold.train] == [*(f"{s}-{c}" for s in (7, 12) for c in range(3)), "46-2",
                                                     *(f"61-{c}" for c in range(3))]  # fmt: skip
    assert {found[row].speaker for row in fold.test} == {"53"} and len(fold.valid) == 3
    assert record(found, [fold], Protocol(name="official"))["left_out"] == ["baved/46-0", "baved/46-1"]


def twins(toy: "Toy") -> Cache:
    """Six speakers, of whom S3's first two clips are the bytes of S5's."""
    corpus = toy.corpus()
    named = {f"spk5_{clip}": f"spk3_{clip}" for clip in range(2)}
    corpus.rows = [
        replace(row, media=(Media("audio", f"{row.id}.wav", named.get(row.id, row.id)),)) for row in corpus.rows
    ]
    corpus.frames |= {copy: corpus.frames[of] for copy, of in named.items()}
    return toy.cache(corpus)


def plan_of(toy: "Toy", cache: Cache, *changes: str) -> Plan:
    settings = toy.settings("training.epochs=2", *changes)
    return make_plan(cache, ["toys"], toy.folder / "runs", "small", settings)


def test_it_is_told_before_training_and_in_the_run(toy: "Toy") -> None:
    cache = twins(toy)
    plan = plan_of(toy, cache, "protocol.folds=5")
    lines = list(dry_run.summary(plan))
    assert "recordings that several utterances have: 2; each lies in one part of a fold" in lines
    assert "speakers that share a recording, which count as one: S3 = S5" in lines
    (number,) = [n for n, fold in enumerate(plan.folds) if plan.dataset.examples[fold.test[0]].speaker in ("S3", "S5")]
    plan.train(number, 0)
    stored = json.loads((plan.folder(number, 0) / "run.json").read_text())
    assert stored["recordings"] == {"shared": 2, "one_group": [["toys/S3", "toys/S5"]], "left_out": []}
    declared = plan_of(toy, cache, "protocol.overlap=true")
    told = list(dry_run.summary(declared))
    assert any("2; they may lie in two parts of a fold, as protocol.overlap = true declares" in line for line in told)
    marked = [number for number in range(3) if declared.cautions(number)[1:]]
    assert marked and all(declared.cautions(n)[1].kind == "copies trained and tested" for n in marked)
    assert not any(plan.cautions(number)[1:] for number in range(5))


def test_runs_of_corpora_without_copies_are_found_again_and_others_are_not(toy: "Toy") -> None:
    """A run is another one as soon as intervals draw something else, even if the split is the same."""
    corpus = toy.corpus()
    cache = toy.cache(corpus)
    settings = toy.settings().model_copy(update={"protocol": Protocol(name="official", overlap=True)})
    plain = make_plan(cache, ["toys"], toy.folder / "runs", "small", settings)
    other = Cache(toy.root)
    media = [replace(row, media=(Media("audio", f"{row.id}.wav", "x"),)) if row.id in ("spk1_0", "spk2_0") else row
             for row in corpus.rows]  # fmt: skip
    other.put_manifest(Manifest.from_utterances("toys", media))
    merged = make_plan(other, ["toys"], toy.folder / "runs", "small", settings)
    assert merged.split == plain.split and merged.setting != plain.setting
    assert merged.recordings["one_group"] == [["toys/S1", "toys/S2"]]


def test_a_projection_that_heard_a_test_recording_under_another_id_is_refused(toy: "Toy") -> None:
    cache = twins(toy)
    corpus = toy.corpus()
    for fit, leaks in ((["S3"], True), (["S1"], False)):
        projection = {"kind": "pca", "fit_on": f"speaker={fit[0]}", "speakers": fit, "ids": None}
        toy.commit(cache, "toys", f"pca{fit[0]}", corpus.frames, recipe=toy.recipe("pca", projection=projection))
        split = ['protocol={name="transfer", train_on="speaker=S1|S2|S3|S4", test_on="speaker=S5|S6"}']
        if leaks:
            with pytest.raises(EmocacheError, match="holds utterance 'spk5_0', under another id, of the test part of"):
                plan_of(toy, cache, f'streams=["pca{fit[0]}"]', *split)
        else:
            plan_of(toy, cache, f'streams=["pca{fit[0]}"]', *split)
