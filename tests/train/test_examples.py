"""Which utterances of which corpora an experiment reads, and what it knows of each."""

from typing import TYPE_CHECKING, Any

import pytest

from emocache.cache import EmocacheError, Manifest, Utterance
from emocache.train.data.examples import Examples, make_examples
from emocache.train.protocols.folds import make_folds

if TYPE_CHECKING:
    from .conftest import Toy

SPLITS = ["train", "valid", "test", "test", "test"]


def corpus(name: str, *rows: dict[str, Any]) -> Manifest:
    """Utterances 0, 1, ...; what is no field of an utterance is a label."""
    fields = ("speaker", "session", "culture", "language", "gender", "split")
    return Manifest.from_utterances(
        name,
        [
            Utterance(
                str(k),
                **{key: value for key, value in row.items() if key in fields},
                labels={"emotion": "sad", **{key: value for key, value in row.items() if key not in fields}},
            )
            for k, row in enumerate(rows)
        ],
    )


def auxiliaries(found: Examples) -> list[str | None]:
    return [None if e.auxiliary is None else found.auxiliary[e.auxiliary] for e in found.rows]


def with_auxiliary(toy: "Toy", column: str, *more: str) -> Any:
    """Settings with a second target; the head of this test needs none, so it is set behind the checks."""
    return toy.settings(*more).model_copy(update={"auxiliary": column})


def test_keys_are_apart_where_ids_are_not(toy: "Toy") -> None:
    found = make_examples([corpus("b", {}, {}), corpus("a", {})], toy.settings())
    assert [example.key for example in found.rows] == ["b/0", "b/1", "a/0"]
    assert [example.column("corpus") for example in found.rows] == ["b", "b", "a"]


def test_unknown_values_of_the_second_target_stay_unknown(toy: "Toy") -> None:
    rows: tuple[dict[str, Any], ...] = (
        {"gender": "male"},
        {},
        {"gender": "female"},
        {"gender": "other", "emotion": None},
    )
    found = make_examples([corpus("a", *rows)], with_auxiliary(toy, "gender"))
    assert found.auxiliary == ("female", "male") and auxiliaries(found) == ["male", None, "female"]


def test_a_second_target_that_some_corpora_lack(toy: "Toy") -> None:
    manifests = [corpus("a", {"age": 30.0}, {"age": 41.5}, {}), corpus("b", {}, {})]
    found = make_examples(manifests, with_auxiliary(toy, "age"))
    assert auxiliaries(found) == ["30", "41.5", None, None, None]
    with pytest.raises(EmocacheError, match=r"^auxiliary: corpus 'a' has no column 'mood'.*; corpus 'b' has no column"):
        make_examples(manifests, with_auxiliary(toy, "mood"))
    with pytest.raises(EmocacheError, match=r"auxiliary = 'age' has the classes \['30'\]; a head cannot learn it"):
        make_examples([corpus("a", {"age": 30.0}, {})], with_auxiliary(toy, "age"))


def test_numbers_in_named_columns_are_told_apart(toy: "Toy") -> None:
    rows = [{"dialogue": number} for number in (1234567.0, 1234568.0, 0.1, 0.1000001)]
    found = make_examples([corpus("a", *rows)], toy.settings("protocol.group=dialogue"))
    assert [e.column("dialogue") for e in found.rows] == ["1234567", "1234568", "0.1", "0.1000001"]


@pytest.mark.parametrize("setting", ["protocol.group", "protocol.validation_group", "vote"])
def test_a_column_that_no_corpus_has_names_its_setting(toy: "Toy", setting: str) -> None:
    with pytest.raises(EmocacheError, match=f"^{setting}: corpus 'a' has no column 'dialog'; it has: speaker, session"):
        make_examples([corpus("a", {})], toy.settings(f"{setting}=dialog"))


def test_a_column_that_one_corpus_lacks_is_unknown_there(toy: "Toy") -> None:
    found = make_examples([corpus("a", {"dialogue": "x"}), corpus("b", {})], toy.settings("vote=dialogue"))
    assert [example.column("dialogue") for example in found.rows] == ["x", None]


def test_a_target_is_needed_in_every_corpus(toy: "Toy") -> None:
    with pytest.raises(EmocacheError, match="corpus 'b' has no column 'mood'"):
        make_examples([corpus("a", {"mood": "x"}), corpus("b", {})], toy.settings("targets=mood"))


def official(toy: "Toy", *more: str) -> Any:
    settings = toy.settings(*more)
    return settings.model_copy(update={"protocol": type(settings.protocol)(name="official")})


def test_official_reads_what_is_in_the_split(toy: "Toy") -> None:
    rows: tuple[dict[str, Any], ...] = (
        {"split": "train"},
        {"split": "other", "emotion": "odd"},
        {},
        {"split": "test", "emotion": "glad"},
    )
    found = make_examples([corpus("a", *rows)], official(toy))
    assert [example.id for example in found.rows] == ["0", "3"] and found.classes == ("glad", "sad")
    with pytest.raises(EmocacheError) as caught:
        make_examples([corpus("a", {}), corpus("b", {})], official(toy))
    assert str(caught.value) == (
        "no labelled utterance of a + b is in an official split (train, valid or test); use another protocol.name"
    )


def test_what_has_no_reference_is_counted(toy: "Toy") -> None:
    rows: tuple[dict[str, Any], ...] = ({}, {"emotion": None}, {"emotion": "odd"}, {"emotion": None})
    found = make_examples([corpus("a", *rows)], toy.settings("labels={low=['sad'], high=['glad']}"))
    assert (len(found.rows), found.unlabelled, found.dropped) == (1, 2, {"odd": 1})
    assert found.classes == ("high", "low") and found.rows[0].reference == 1


def test_an_official_test_part_may_be_narrowed(toy: "Toy") -> None:
    """What it is narrowed by is looked for among what is tested: who trains has values of the same column."""
    parts = ["Train", "Dev", "Test1", "Test2", "Test1"]
    rows = [{"speaker": str(k), "split": s, "partition": p} for k, (s, p) in enumerate(zip(SPLITS, parts, strict=True))]
    settings = toy.settings("protocol.name=official", "protocol.test_on='partition=Test1'")
    found = make_examples([corpus("a", *rows)], settings)
    assert [example.id for example in found.rows] == ["0", "1", "2", "4"]
    (fold,) = make_folds(found.rows, settings.protocol)
    assert [list(part) for part in (fold.train, fold.valid, fold.test)] == [[0], [1], [2, 3]]
    for value in ("Test3", "Train"):
        wrong = toy.settings("protocol.name=official", f"protocol.test_on='partition={value}'")
        with pytest.raises(EmocacheError, match=f"protocol.test_on = 'partition={value}': .*Test1, Test2"):
            make_examples([corpus("a", *rows)], wrong)
