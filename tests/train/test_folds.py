"""Folds cover, are disjoint, and tell when they leak."""

from collections.abc import Sequence

import numpy as np
import pytest

from emocache.cache import EmocacheError
from emocache.train.examples import Example
from emocache.train.folds import Fold, make_folds, natural, overlap, split_sha256
from emocache.train.tables import Protocol


def examples(speakers: int = 12, clips: int = 3, pad: bool = False) -> list[Example]:
    """Speakers 1, 2, ..., female and male in turn, two a session."""
    return [
        Example("toys", f"{s}-{c}", f"{s:02}" if pad else str(s), f"D{s // 2}", "fm"[s % 2], None, 0)
        for s in range(1, speakers + 1)
        for c in range(clips)
    ]


def speakers_of(found: Sequence[Example], rows: np.ndarray) -> list[str]:
    return sorted({str(found[row].speaker) for row in rows}, key=natural)


def check(found: Sequence[Example], folds: Sequence[Fold], by_speaker: bool = True) -> None:
    """Parts of a fold share nothing and cover everything; test parts share nothing and cover everything."""
    everyone = np.arange(len(found))
    for fold in folds:
        assert np.array_equal(np.sort(np.concatenate([fold.train, fold.valid, fold.test])), everyone)
        if by_speaker:
            assert not any(overlap(found, fold, "speaker").values())
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), everyone)


PROTOCOLS = [
    Protocol(),
    Protocol(validation="fraction"),
    Protocol(name="group_folds", folds=6),
    Protocol(name="group_folds", folds=5, assignment="balanced"),
    Protocol(name="group_folds", folds=2, validation="fraction", validation_fraction=0.4),
    Protocol(name="group_folds", folds=3, group="session"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.name}-{p.assignment}-{p.validation}")
def test_folds_are_disjoint_by_speaker_and_cover(protocol: Protocol) -> None:
    # With sessions as groups, nobody speaks in two of them here.
    found = [e for e in examples(13) if e.speaker not in ("1",)]
    check(found, make_folds(found, protocol))


def test_sorted_assignment_gives_pairs_of_actors() -> None:
    for pad in (False, True):  # 10 comes after 9 however it is written
        found = examples(12, pad=pad)
        folds = make_folds(found, Protocol(name="group_folds", folds=6))
        for k, fold in enumerate(folds):
            pair = [f"{s:02}" if pad else str(s) for s in (2 * k + 1, 2 * k + 2)]
            assert speakers_of(found, fold.test) == pair
            assert np.array_equal(fold.valid, folds[(k + 1) % 6].test)


def test_balanced_assignment_spreads_gender_and_size() -> None:
    found = examples(20)
    for fold in make_folds(found, Protocol(name="group_folds", folds=5, assignment="balanced")):
        genders = [found[row].gender for row in fold.test]
        assert len(fold.test) == 12 and genders.count("f") == genders.count("m")


def test_random_folds_share_speakers_by_declaration() -> None:
    found = examples(6, 10)
    folds = make_folds(found, Protocol(name="random_folds", folds=5, seed=1))
    check(found, folds, by_speaker=False)
    assert any(overlap(found, folds[0], "speaker").values())
    again = make_folds(found, Protocol(name="random_folds", folds=5, seed=1))
    other = make_folds(found, Protocol(name="random_folds", folds=5, seed=2))
    assert split_sha256(found, folds) == split_sha256(found, again) != split_sha256(found, other)


def official(splits: dict[str, str]) -> list[Example]:
    """Three clips of each speaker, in the split given."""
    return [Example("toys", f"{s}-{c}", s, None, None, part, 0) for s, part in splits.items() for c in range(3)]


def test_official_split_is_taken_as_it_is() -> None:
    found = official({"a": "train", "b": "valid", "c": "test"})
    (fold,) = make_folds(found, Protocol(name="official"))
    assert [speakers_of(found, rows) for rows in (fold.train, fold.valid, fold.test)] == [["a"], ["b"], ["c"]]


def test_official_split_without_validation_gives_up_whole_speakers() -> None:
    found = official({"a": "train", "b": "train", "c": "train", "d": "test"})
    (fold,) = make_folds(found, Protocol(name="official"))
    assert speakers_of(found, fold.test) == ["d"] and len(speakers_of(found, fold.valid)) == 1
    assert not any(overlap(found, fold, "speaker").values())


@pytest.mark.parametrize("part", ["train", "valid"])
def test_leaking_official_split_is_refused(part: str) -> None:
    found = official({"a": "train", "b": "train" if part == "train" else "valid", "c": "train"})
    found += [Example("toys", "b-9", "b", None, None, "test", 0)]
    with pytest.raises(EmocacheError) as caught:
        make_folds(found, Protocol(name="official", seed=0))
    assert str(caught.value) == (
        f"official: {part} and test of fold 0 share 1 speakers, such as 'toys/b'; use protocol.name ="
        " 'group_folds', or declare it with protocol.overlap = true"
    )
    assert make_folds(found, Protocol(name="official", overlap=True))


def test_sessions_that_share_speakers_are_refused() -> None:
    found = [Example("toys", f"{s}-{c}", s, f"D{c}", None, None, 0) for s in "abc" for c in range(4)]
    with pytest.raises(EmocacheError, match="share 3 speakers"):
        make_folds(found, Protocol(name="group_folds", folds=4, group="session"))


def test_too_few_groups_and_absent_ones_are_told() -> None:
    with pytest.raises(EmocacheError, match="leave_one_out needs at least 3 speakers, there are 2"):
        make_folds(examples(2), Protocol())
    with pytest.raises(EmocacheError, match="group_folds needs at least 6 speakers, there are 4"):
        make_folds(examples(4), Protocol(name="group_folds", folds=6))
    with pytest.raises(EmocacheError, match="2 folds leave nothing to train on"):
        make_folds(examples(4), Protocol(name="group_folds", folds=2))
    with pytest.raises(EmocacheError, match="utterance 'toys/x' has no speaker, which leave_one_out needs"):
        make_folds([*examples(4), Example("toys", "x", None, None, None, None, 0)], Protocol())
    with pytest.raises(EmocacheError, match="the official split has no train utterance"):
        make_folds(examples(4), Protocol(name="official"))


def test_corpora_do_not_share_speakers_by_name() -> None:
    one, other = examples(3), [Example("other", e.id, e.speaker, e.session, e.gender, None, 0) for e in examples(3)]
    assert len(make_folds(one + other, Protocol())) == 6
