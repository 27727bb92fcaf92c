"""Folds cover, are disjoint, and tell when they leak."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from emocache.cache import EmocacheError
from emocache.train.config.sections import Protocol
from emocache.train.data.example import Example
from emocache.train.protocols.folds import Fold, make_folds, overlap, split_sha256
from emocache.train.protocols.grouping import drawn, natural


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


def test_half_of_the_held_out_part_validates_and_only_the_other_half_is_ever_tested() -> None:
    found = examples(10, 10)
    folds = make_folds(found, Protocol(name="random_folds", folds=5, validation="half"))  # models.md 7.2, random5
    assert all((len(f.train), len(f.valid), len(f.test)) == (80, 10, 10) for f in folds)
    held = np.concatenate([np.concatenate([f.valid, f.test]) for f in folds])
    assert np.array_equal(np.sort(held), np.arange(100))


def test_ten_random_folds_are_eight_one_one() -> None:
    found = examples(10, 10)
    folds = make_folds(found, Protocol(name="random_folds", folds=10))  # models.md 9.5, random10
    assert all((len(f.train), len(f.valid), len(f.test)) == (80, 10, 10) for f in folds)
    check(found, folds, by_speaker=False)


@pytest.mark.parametrize("validation", ["next", "half", "random_utterance", "test"])
@pytest.mark.parametrize("sizes", [(40, 7, 7, 3, 2, 1), (5,) * 6, (100, 1, 1, 1, 1, 1)])
def test_stratified_parts_hold_their_share_of_every_class(sizes: tuple[int, ...], validation: str) -> None:
    classes = np.repeat(np.arange(len(sizes)), sizes)
    found = [Example("toys", f"{k:03}", None, None, None, None, int(c)) for k, c in enumerate(classes)]
    protocol = Protocol.model_validate({"name": "random_folds", "folds": 5, "stratify": True, "validation": validation})
    folds = make_folds(found, protocol)
    parts = {
        "next": [(f.test, 1 / 5) for f in folds],
        "half": [(part, 1 / 10) for f in folds for part in (f.valid, f.test)],
        "random_utterance": [(f.valid, 0.2 * 4 / 5) for f in folds],
        "test": [(f.test, 1 / 5) for f in folds],
    }[validation]
    whole = 1 if validation in ("next", "test") else 2  # a share of a share is rounded twice
    for part, share in parts:
        counts = np.bincount(classes[part], minlength=len(sizes))
        assert (np.abs(counts - share * np.array(sizes)) < whole).all()
        assert abs(len(part) - share * len(found)) < whole
    if validation == "half":
        for fold in folds:
            halves = [np.bincount(classes[part], minlength=len(sizes)) for part in (fold.valid, fold.test)]
            assert (np.abs(halves[0] - halves[1]) <= 1).all()


def test_stratify_needs_classes() -> None:
    found = [Example("toys", str(k), None, None, None, None, np.array([k / 2])) for k in range(9)]
    with pytest.raises(EmocacheError, match=r"protocol.stratify needs classes, and the references are numbers"):
        make_folds(found, Protocol(name="random_folds", folds=3, stratify=True))


def test_a_fraction_is_about_as_large_as_asked_for() -> None:
    found = examples(40)
    for validation in ("fraction", "random_utterance"):
        cut = {"name": "group_folds", "folds": 4, "validation": validation, "validation_fraction": 0.1}
        protocol = Protocol.model_validate(cut)
        assert [len(fold.valid) for fold in make_folds(found, protocol)] == [9] * 4


def iemocap() -> list[Example]:
    """Five sessions of two speakers with four dialogues each; both speak in all dialogues of their session."""
    return [
        Example("iemocap", f"Ses0{s}_{d}_{who}{c}", f"{s}{who}", f"Ses0{s}", who, None, 0,
                columns={"dialogue": f"Ses0{s}_{d}"})
        for s in range(1, 6) for d in range(4) for who in "FM" for c in range(3)
    ]  # fmt: skip


def test_one_recording_in_two_corpora_is_no_two_recordings() -> None:
    one = [replace(e, media=(e.id,)) for e in examples(6)]
    pieces = [replace(e, corpus="pieces", speaker=f"p{e.speaker}") for e in one]
    strangers = [replace(e, media=(f"other-{e.id}",)) for e in pieces]
    by_speaker = Protocol(name="group_folds", folds=3)
    make_folds([*one, *strangers], by_speaker)
    told = r"'toys/\d-\d' in \w+ and 'pieces/\d-\d' in \w+ of fold 0 are of one recording; name only one of their"
    with pytest.raises(EmocacheError, match=told):
        make_folds([*one, *pieces], by_speaker)
    make_folds([*one, *pieces], Protocol(name="group_folds", folds=3, overlap=True))
    shared = [replace(e, media=("dialogue",)) for e in examples(6)]
    make_folds(shared, by_speaker)  # one corpus knows what it cuts


def test_what_a_bootstrap_draws() -> None:
    known = iemocap()[0]
    nobody, spoken = replace(known, speaker=None, session=None), replace(known, session=None)
    assert drawn(known, Protocol()) == "1F" and drawn(nobody, Protocol()) == known.id
    assert drawn(replace(known, speaker=None), Protocol()) == "Ses01"
    assert drawn(known, Protocol(group="session")) == "Ses01" and drawn(spoken, Protocol(group="session")) == "1F"
    assert drawn(known, Protocol(group="session", resample="dialogue")) == "Ses01_0"
    with pytest.raises(EmocacheError, match=f"'iemocap/{known.id}' has no session, which protocol.resample needs"):
        drawn(nobody, Protocol(resample="session"))


def test_leave_one_session_out_validates_on_the_next_or_on_dialogues() -> None:
    found = iemocap()
    for k, fold in enumerate(make_folds(found, Protocol(group="session"))):  # models.md 7.2, corrected
        assert {found[row].session for row in fold.test} == {f"Ses0{k + 1}"}
        assert {found[row].session for row in fold.valid} == {f"Ses0{(k + 1) % 5 + 1}"}
        assert len({found[row].session for row in fold.train}) == 3
    by_dialogue: dict[str, Any] = {"validation": "fraction", "validation_group": "dialogue", "validation_fraction": 0.1}
    for fold in make_folds(found, Protocol(group="session", **by_dialogue)):
        assert len({found[row].session for row in fold.train}) == 4
        assert len({found[row].column("dialogue") for row in fold.valid}) == 2  # of 16, so that they hold a tenth
        assert not any(overlap(found, fold, "dialogue").values())
        shared = overlap(found, fold, "speaker")
        assert shared["train and valid"] and not shared["train and test"] and not shared["valid and test"]


def test_a_culture_is_one_group_over_corpora_and_a_speaker_is_not() -> None:
    found = [
        Example(name, f"{culture}-{s}-{c}", f"{s}{culture}", None, None, None, 0, culture)
        for name in "ab" for culture in ("de", "hu", "zh") for s in range(2) for c in range(2)
    ]  # fmt: skip
    folds = make_folds(found, Protocol(group="culture"))
    assert [{found[row].culture for row in f.test} for f in folds] == [{"de"}, {"hu"}, {"zh"}]
    assert all({found[row].corpus for row in f.test} == {"a", "b"} for f in folds)
    assert len(make_folds(found, Protocol())) == 12
    assert len(make_folds(found, Protocol(group="corpus", validation="fraction", validation_group="speaker"))) == 2


def test_a_speaker_of_two_cultures_is_refused() -> None:
    found = [
        Example("toys", f"{culture}-{c}", "bilingual" if c == 0 else f"{culture}{c}", None, None, None, 0, culture)
        for culture in ("de", "hu", "zh")
        for c in range(3)
    ]
    with pytest.raises(EmocacheError) as caught:
        make_folds(found, Protocol(group="culture"))
    assert str(caught.value) == (
        "leave_one_out: train and test of fold 0 share 1 speakers, such as 'toys/bilingual'; use protocol.group ="
        " 'speaker', or declare it with protocol.overlap = true"
    )
    assert len(make_folds(found, Protocol(group="culture", overlap=True))) == 3


@pytest.mark.parametrize(
    ("protocol", "allowed"),
    [
        (Protocol(group="session"), set()),
        (Protocol(group="session", validation="random_utterance"), {"train and valid"}),
        (Protocol(group="session", validation="half"), {"valid and test"}),
        (Protocol(group="session", validation="test"), {"valid and test"}),
    ],
)
def test_a_protocol_declares_only_the_pair_of_parts_that_its_nature_shares(
    protocol: Protocol, allowed: set[str]
) -> None:
    """One speaker in two sessions: in every protocol some fold trains on one of them and tests on the other."""
    found = [Example("toys", f"{s}-{c}", f"{s}", f"D{s}", None, None, 0) for s in range(6) for c in range(4)]
    for fold in make_folds(found, protocol):
        assert {parts for parts, shared in overlap(found, fold, "speaker").items() if shared} == allowed
    found += [Example("toys", f"again-{c}", "0", "D3", None, None, 0) for c in range(2)]
    with pytest.raises(EmocacheError, match=r"of fold 0 share 1 speakers, such as 'toys/0'; use protocol\.group"):
        make_folds(found, protocol)


def test_names_that_differ_in_zeros_only_have_an_order() -> None:
    assert sorted(["1", "01", "10", "2", "a", "a1", "A_2", "A_10"], key=natural) == (
        ["01", "1", "2", "10", "A_2", "A_10", "a", "a1"]
    )


def test_what_cannot_validate_is_told() -> None:
    one = [Example("a", str(k), "S1", None, None, None, 0, "de") for k in range(4)]
    other = [Example("a", f"t{k}", "S2", None, None, None, 0, "zh") for k in range(4)]
    with pytest.raises(EmocacheError) as caught:
        make_folds(one + other, Protocol(name="transfer", train_on="culture=de", test_on="culture=zh"))
    assert str(caught.value) == (
        "transfer: no speaker can validate, since all that could train belongs together, to 'a/S1'; set"
        " protocol.validation_group to what divides it, or protocol.validation = 'random_utterance'"
    )
    with pytest.raises(
        EmocacheError, match=r"protocol.validation_group is what validation = 'fraction' and 'nested' keep together"
    ):
        make_folds(one + other, Protocol(validation_group="session"))
    with pytest.raises(
        EmocacheError, match=r"utterance 'a/t?0' has no session, which protocol\.validation_group needs"
    ):
        make_folds(one + other, Protocol(validation="fraction", validation_group="session"))
    with pytest.raises(EmocacheError, match=r"leave_one_out: fold 0 has no valid utterance; use another protocol\.val"):
        make_folds(examples(4, 1), Protocol(validation="half"))


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


def test_an_official_validation_part_is_not_passed_over() -> None:
    found = official({"a": "train", "b": "valid", "c": "test"})
    with pytest.raises(
        EmocacheError, match=r"has a validation part of its own, which protocol\.validation = 'test' would"
    ):
        make_folds(found, Protocol(name="official", validation="test"))


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
