"""Transfers: which values train and which test, over cultures and over corpora."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from emocache.cache import EmocacheError, Manifest, Utterance
from emocache.train.config.loading import load_settings
from emocache.train.config.sections import Protocol
from emocache.train.data.example import Example
from emocache.train.data.examples import Examples, make_examples
from emocache.train.protocols.folds import make_folds, overlap
from emocache.train.protocols.grouping import joined, natural

if TYPE_CHECKING:
    from .conftest import Toy


def test_transfer_tests_all_of_one_side_and_keeps_sessions_together() -> None:
    found = [
        Example("sewa", f"{culture}{s}{who}-{c}", f"{culture}{s}{who}", f"{culture}{s}", who, None, 0, culture)
        for culture in ("zh", "hu", "de", "en") for s in range(5) for who in "fm" for c in range(2)
    ]  # fmt: skip
    # models.md 4, SEWA: train on C1 and C4, test the others apart
    codes: dict[str, tuple[str, ...]] = {"C1": ("zh",), "C2": ("hu",), "C4": ("en",)}
    protocol = Protocol(name="transfer", train_on="culture=C1|C4", test_on="culture=C2", codes=codes)
    (fold,) = make_folds(found, protocol)
    assert {found[row].culture for row in fold.test} == {"hu"} and len(fold.test) == 20
    assert {found[row].culture for row in [*fold.train, *fold.valid]} == {"zh", "en"}
    assert (len(fold.train), len(fold.valid)) == (32, 8) and not any(overlap(found, fold, "session").values())
    (alone,) = make_folds(found, protocol.model_copy(update={"validation_group": "speaker", "seed": 3}))
    assert (
        overlap(found, alone, "session")["train and valid"] and not overlap(found, alone, "speaker")["train and valid"]
    )


@pytest.mark.parametrize("seed", range(20))
def test_speakers_who_meet_by_way_of_others_stay_together(seed: int) -> None:
    random = np.random.default_rng(seed)
    speakers = [str(k) for k in random.integers(0, 12, 20)]
    sessions = [None if k > 12 else f"D{k}" for k in random.integers(0, 16, 20)]
    # The definition: whoever shares a name, a session or such a neighbour, until nothing more is found.
    together = [{row} for row in range(20)]
    for _ in range(20):
        for one in range(20):
            for other in range(20):
                met = sessions[one] is not None and sessions[one] == sessions[other]
                if met or speakers[one] == speakers[other] or together[one] & together[other]:
                    together[one] |= together[other]
    names = joined(speakers, [() if name is None else (name,) for name in sessions])
    assert [{row for row in range(20) if names[row] == name} for name in names] == together
    assert names == [min((speakers[row] for row in rows), key=natural) for rows in together]


@pytest.mark.parametrize("seed", range(20))
def test_neither_conversations_nor_their_speakers_are_divided(seed: int) -> None:
    """A corpus of which some conversations are unknown, and some speakers meet again in another one."""
    random = np.random.default_rng(seed)
    found = []
    for k in range(60):
        speaker = int(random.integers(0, 24))
        session = None if speaker > 18 else f"D{(speaker + int(random.integers(0, 2)) * (speaker % 5 == 0)) // 2}"
        found.append(Example("a", f"{k:02}", str(speaker), session, None, "train" if k < 50 else "valid", 0))
    found = [e for e in found if e.split == "train" or e.speaker not in {f.speaker for f in found[:50]}]
    told = {e.session for e in found[:50]}
    found = [e for e in found if e.split == "train" or e.session not in told or e.session is None]
    found.append(Example("a", "test", "alone", "D99", None, "valid", 0))
    split: dict[str, Any] = {"name": "transfer", "train_on": "split=train", "test_on": "split=valid"}
    (fold,) = make_folds(found, Protocol(**split, group="session"))
    for kind in ("speaker", "session"):
        assert not any(overlap(found, fold, kind).values())
    assert len(fold.valid) >= 10


def test_transfer_without_speakers_draws_utterances() -> None:
    found = [Example("a", f"{k:02}", None, None, None, "train" if k < 20 else "valid", 0) for k in range(30)]
    split: dict[str, Any] = {"name": "transfer", "train_on": "split=train", "test_on": "split=valid"}
    (fold,) = make_folds(found, Protocol(**split, validation_fraction=0.1))
    assert (len(fold.train), len(fold.valid), len(fold.test)) == (18, 2, 10)
    (fold,) = make_folds(found, Protocol(**split, validation="test"))
    assert np.array_equal(fold.valid, fold.test) and (len(fold.train), len(fold.test)) == (20, 10)


def manifest(name: str, cultures: Sequence[str | None], **labels: Sequence[str | float | None]) -> Manifest:
    """One utterance for each culture, each of a speaker of their own; angry and sad in turn."""
    rows = [
        Utterance(
            f"{k}",
            speaker=f"s{k}",
            culture=culture,
            labels={"emotion": ("angry", "sad")[k % 2], **{label: values[k] for label, values in labels.items()}},
        )
        for k, culture in enumerate(cultures)
    ]
    return Manifest.from_utterances(name, rows)


def transferred(toy: "Toy", manifests: Sequence[Manifest], train_on: str, test_on: str, *more: str) -> Examples:
    """The examples of a transfer, by way of an experiment file and overrides."""
    protocol = f'protocol={{name="transfer", train_on="{train_on}", test_on="{test_on}"}}'
    text = 'streams = ["toy"]\ntargets = ["emotion"]\n[head]\nkind = "probe"\n'
    settings = load_settings(toy.experiment(text, "transfer"), [protocol, *more])[1]
    return make_examples(manifests, settings)


def test_only_the_two_sides_are_read(toy: "Toy") -> None:
    one = manifest("one", ["zh", "zh", "hu", "de", "el", None])
    found = transferred(toy, [one], "culture=C1|de", "culture=hu", 'protocol.codes.C1="zh"')
    assert [example.id for example in found.rows] == ["0", "1", "2", "3"]


def test_corpora_with_different_columns(toy: "Toy") -> None:
    acted = manifest("acted", ["en"] * 6, scenario=["improvised", "scripted"] * 3, take=[1.0, 2.0, 2.5] * 2)
    other = manifest("other", ["de"] * 4)
    found = transferred(toy, [acted, other], "corpus=acted,scenario=improvised,take=1|2.5", "corpus=other")
    assert [example.key for example in found.rows] == ["acted/0", "acted/2", *(f"other/{k}" for k in range(4))]
    (fold,) = make_folds(found.rows, Protocol(name="transfer", train_on="corpus=acted", test_on="corpus=other"))
    assert fold.test.tolist() == [2, 3, 4, 5] and len(fold.train) == len(fold.valid) == 1


def test_labels_are_mapped_over_corpora(toy: "Toy") -> None:
    one = manifest("one", ["en"] * 4, mood=["wut", "trauer", "calm", None])
    other = manifest("other", ["en"] * 4, mood=[1.0, 2.0, 3.0, 1.0])
    labels = 'labels={angry=["wut", "1"], sad=["trauer", "2"]}'
    found = transferred(toy, [one, other], "corpus=one", "corpus=other", "targets=mood", labels)
    assert found.classes == ("angry", "sad") and found.dropped == {"3": 1, "calm": 1} and found.unlabelled == 1
    assert [(e.key, e.reference) for e in found.rows] == [
        ("one/0", 0), ("one/1", 1), ("other/0", 0), ("other/1", 1), ("other/3", 0)
    ]  # fmt: skip


def test_classes_are_those_of_the_two_sides(toy: "Toy") -> None:
    one = manifest("one", ["zh", "hu", "de", "de"], mood=["x", "x", "y", "z"])
    assert transferred(toy, [one], "culture=zh", "culture=hu", "targets=mood").classes == ("x",)


@pytest.mark.parametrize(
    ("train_on", "test_on", "message"),
    [
        (
            "culture=zh|C9",
            "culture=hu",
            "protocol.train_on = 'culture=zh|C9': no utterance with a reference has culture 'C9'; there are: de, hu,"
            " zh; correct it, or name it in protocol.codes",
        ),
        (
            "culture=zh",
            "culture=C2",
            "protocol.test_on = 'culture=C2': no utterance with a reference has culture 'C2' (magyar); there are:"
            " de, hu, zh; correct it, or name it in protocol.codes",
        ),
        (
            "culture=zh|de",
            "culture=C1",
            "protocol.train_on = 'culture=zh|de' and protocol.test_on = 'culture=C1' both select 2 utterances, such as"
            " 'one/0' (both name culture zh); leave them out of one side",
        ),
        (
            "all",
            "culture=hu",
            "protocol.train_on = 'all' and protocol.test_on = 'culture=hu' both select 1 utterances, such as 'one/2';"
            " leave them out of one side",
        ),
        (
            "culture=zh,take=first",
            "culture=hu",
            "protocol.train_on = 'culture=zh,take=first': no utterance with culture 'zh' fits the other terms; leave it"
            " out, or correct them",
        ),
        (
            "culture",
            "culture=hu",
            "protocol.train_on: expression 'culture': 'culture' is not column=value[|value]; or say 'all'",
        ),
        (
            "cultur=zh",
            "culture=hu",
            "protocol.train_on: corpus 'one' has no column 'cultur'; did you mean 'culture'? it has: speaker, session,"
            " culture, language, gender, split, text, words_source, emotion, take",
        ),
    ],
)
def test_wrong_expressions_are_told(toy: "Toy", train_on: str, test_on: str, message: str) -> None:
    one = manifest("one", ["zh", "zh", "hu", "de"], take=["second", "second", "first", "first"])
    with pytest.raises(EmocacheError) as caught:
        transferred(toy, [one], train_on, test_on, 'protocol.codes={C1="zh", C2="magyar"}')
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "expression", ["take=1", "take=1.0|2.50", "take=1e0,culture=zh", "code=01", "code=1.0", "corpus=one", "all"]
)
def test_an_expression_means_the_same_here_and_for_a_projection(toy: "Toy", expression: str) -> None:
    takes, codes = [1.0, 2.5, 1.0, 2.0], ["01", "1.0", "1", "01"]
    one = manifest("one", ["zh", "zh", "hu", "zh"], take=takes, code=codes)
    other = manifest("other", ["de"] * 2, take=[9.0] * 2, code=["9"] * 2)
    found = transferred(
        toy, [one, other], f"corpus=one,{expression}" if expression != "all" else "corpus=one", "culture=de"
    )
    assert [example.id for example in found.rows if example.corpus == "one"] == one.select(expression)


def test_a_column_that_no_corpus_has_is_told_of_all(toy: "Toy") -> None:
    corpora = [manifest("one", ["zh"] * 2), manifest("other", ["hu"] * 2)]
    with pytest.raises(
        EmocacheError, match=r"^protocol\.test_on: corpus 'one' has no column 'x'.*; corpus 'other' has"
    ):
        transferred(toy, corpora, "corpus=one", "x=y")


def test_groups_on_both_sides_are_refused() -> None:
    found = [
        Example("a", f"{culture}{k}", f"{culture}{k}", None, None, None, 0, culture, columns={"sentence": f"{k}"})
        for culture in ("de", "zh") for k in range(3)
    ]  # fmt: skip
    protocol = Protocol(name="transfer", train_on="culture=de", test_on="culture=zh")
    assert make_folds(found, protocol)
    with pytest.raises(EmocacheError, match="train and test of fold 0 share 2 sentences, such as 'a/"):
        make_folds(found, protocol.model_copy(update={"group": "sentence"}))


def test_speakers_on_both_sides_are_refused() -> None:
    found = [Example("a", f"{s}-{c}", s, None, None, None, 0, c) for s in ("1", "2", "3") for c in ("de", "zh")]
    protocol = Protocol(name="transfer", train_on="culture=de", test_on="culture=zh")
    with pytest.raises(EmocacheError) as caught:
        make_folds(found, protocol)
    assert str(caught.value) == (
        "transfer: train and test of fold 0 share 2 speakers, such as 'a/1'; narrow train_on or test_on, or declare it"
        " with protocol.overlap = true"
    )
    assert make_folds(found, protocol.model_copy(update={"overlap": True}))
