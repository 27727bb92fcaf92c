"""IEMOCAP: a small tree with the names and line formats of the full release."""

import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emocache.cache import EmocacheError, Manifest, Utterance, Word
from emocache.extract import corpora
from emocache.extract.corpora import CorpusEntry, MediaHasher, iemocap
from emocache.extract.media.audio import decode_audio

DIALOGUE = "Ses01F_impro01"
LABELS = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral; Anger;\t()
C-F1:\tNeutral;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-E4:\tval 2; act 3; dom  3;\t(mildly aggravated but staying polite, attitude)
A-F1:\tval 3; act 2; dom  1;\t()

[14.8872 - 18.0175]\tSes01F_impro01_M001\txxx\t[2.0000, 3.5000, 3.0000]
C-E2:\tNeutral;\t()
A-E3:\tval 2; act 3; dom   ;\t()

[21.3257 - 28.4257]\tSes01F_impro01_F002\texc\t[4.0000, 4.0000, 3.5000]
C-E2:\tExcited;\t()
"""
TRANSCRIPT = """\
Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
Ses01F_impro01_MXX0 [009.0000-010.0000]: Mmhmm.
M: Next!
Ses01F_impro01_M001 [014.8872-018.0175]:  Did you get the mail? [LAUGHTER]
Ses01F_impro01_F002 [021.3257-028.4257]:
"""
ALIGNMENT = """\
\t SFrm  EFrm    SegAScr Word
\t    0    44    -195010 <s>
\t   45    79     -17530 EXCUSE(8)
\t   80   102    -258661 ME
\t  103   140    -308615 ++LAUGHTER++
\t  141   193      -3086 </s>
 Total score:    -782902
"""


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def write_wav(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(16000 * seconds)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Session1 with one dialogue of three turns; one turn has no alignment."""
    release = tmp_path / "IEMOCAP_full_release"
    session = release / "Session1"
    write(session / "dialog/EmoEvaluation" / f"{DIALOGUE}.txt", LABELS)
    write(session / "dialog/EmoEvaluation" / f"._{DIALOGUE}.txt", "\0\5\x16\7 Mac OS X")
    write(session / "dialog/EmoEvaluation/Categorical" / f"{DIALOGUE}_e2_cat.txt", "[broken")
    write(session / "dialog/EmoEvaluation/Self-evaluation" / f"{DIALOGUE}_f1_atr.txt", "[broken")
    write(session / "dialog/transcriptions" / f"{DIALOGUE}.txt", TRANSCRIPT)
    write(session / "dialog/avi/DivX" / f"{DIALOGUE}.avi", "a picture of both")
    for turn, seconds in (("F000", 1.946), ("M001", 3.09), ("F002", 7.1)):
        write_wav(session / "sentences/wav" / DIALOGUE / f"{DIALOGUE}_{turn}.wav", seconds)
    write(session / "sentences/wav" / DIALOGUE / f"._{DIALOGUE}_F000.wav", "x")
    aligned(release, "F000", ALIGNMENT)
    return release


def aligned(release: Path, turn: str, text: str) -> None:
    write(release / "Session1/sentences/ForcedAlignment" / DIALOGUE / f"{DIALOGUE}_{turn}.wdseg", text)


def load(root: Path, **mapping: str) -> Manifest:
    return iemocap.load(root, mapping, MediaHasher())


def turn(root: Path, name: str, **mapping: str) -> Utterance:
    return load(root, **mapping)[f"{DIALOGUE}_{name}"]


def test_a_turn(root: Path) -> None:
    one = turn(root, "F000")
    assert (one.speaker, one.gender, one.session, one.language) == ("1F", "female", "Ses01", "en")
    assert one.text == "Excuse me."
    assert one.duration == pytest.approx(1.946)
    assert one.labels == {
        "dialogue": DIALOGUE, "scenario": "improvised", "code": "neu", "emotion": "neutral", "emotion4": "neutral",
        "emotion6": "neutral", "emotion7": "neutral", "valence": 2.5, "arousal": 2.5, "dominance": 2.5,
    }  # fmt: skip
    assert [word.word for word in one.words] == ["excuse", "me"]
    assert [(word.start, word.end) for word in one.words] == [pytest.approx((0.45, 0.8)), pytest.approx((0.8, 1.03))]
    assert one.words_source == "corpus"


def test_the_speaker_is_who_talks_and_not_who_wears_the_markers(root: Path) -> None:
    other = turn(root, "M001")
    assert (other.speaker, other.gender, other.session) == ("1M", "male", "Ses01")
    assert other.text == "Did you get the mail? [LAUGHTER]"


def test_emotions_outside_a_set_are_missing(root: Path) -> None:
    disputed, excited = turn(root, "M001"), turn(root, "F002")
    assert disputed.labels["code"] == "xxx"
    assert not {"emotion", "emotion4", "emotion6", "emotion7"} & set(disputed.labels)
    assert (disputed.labels["valence"], disputed.labels["arousal"]) == (2.0, 3.5)
    names = [excited.labels[name] for name in ("emotion", "emotion4", "emotion6", "emotion7")]
    assert names == ["excited", "happy", "excited", "excited"]


def test_numbered_turns_only_and_only_of_the_consensus_files(root: Path) -> None:
    assert load(root).ids == [f"{DIALOGUE}_{turn}" for turn in ("F000", "F002", "M001")]
    assert turn(root, "F002").text is None  # nothing stands behind the colon


def test_media_are_cut_at_their_own_times(root: Path) -> None:
    one = turn(root, "F000")
    assert one.media_of("audio").path == f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_F000.wav"  # type: ignore[union-attr]
    assert one.media_of("video").path == f"Session1/dialog/avi/DivX/{DIALOGUE}.avi"  # type: ignore[union-attr]
    assert one.span_of("audio") == (None, None)
    assert one.span_of("video") == (6.2901, 8.2357)
    assert one.media_of("video").region is None  # type: ignore[union-attr]


def test_the_folder_above_the_release_will_do(root: Path) -> None:
    assert load(root.parent).ids == load(root).ids
    assert turn(root.parent, "F000").media[0].path.startswith("IEMOCAP_full_release/Session1/")


@pytest.mark.parametrize(
    ("left", "woman_is_left"), [("marked", True), ("unmarked", False), ("female", True), ("male", False)]
)
def test_the_mapping_says_which_half_shows_the_speaker(root: Path, left: str, woman_is_left: bool) -> None:
    halves = {True: (0.0, 0.0, 0.5, 1.0), False: (0.5, 0.0, 1.0, 1.0)}
    assert turn(root, "F000", left=left).media_of("video").region == halves[woman_is_left]  # type: ignore[union-attr]
    assert turn(root, "M001", left=left).media_of("video").region == halves[not woman_is_left]  # type: ignore[union-attr]


@pytest.mark.parametrize("mapping", [{"left": "both"}, {"right": "marked"}])
def test_another_mapping_is_refused(root: Path, mapping: dict[str, str]) -> None:
    with pytest.raises(EmocacheError, match=r"--map .*: corpus iemocap knows left=marked\|unmarked\|female\|male"):
        load(root, **mapping)


def test_a_turn_without_its_files_stays(root: Path) -> None:
    (root / f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_M001.wav").unlink()
    (root / f"Session1/dialog/avi/DivX/{DIALOGUE}.avi").unlink()
    (root / f"Session1/dialog/transcriptions/{DIALOGUE}.txt").unlink()
    bare = turn(root, "M001")
    assert (bare.media, bare.text, bare.words, bare.words_source) == ((), None, (), None)
    assert bare.duration == pytest.approx(18.0175 - 14.8872)


@pytest.mark.parametrize(
    "broken",
    [
        "    0    44    -1 EXCUSE\n   44    79    -1 ME\n",  # overlap
        "   50    60    -1 EXCUSE\n   10    20    -1 ME\n",  # backwards
        "    0    44    -1 EXCUSE\n  100    90    -1 ME\n",  # ends before it starts
        "    0    44    -1 EXCUSE\n   45   210    -1 ME\n",  # 2.11 s in 1.946 s of audio
        "\t SFrm  EFrm    SegAScr Word\n Total score: 0\n",  # no rows
        f"    0 {'9' * 5000}    -1 ME\n",  # no number of frames
    ],
)
def test_a_broken_alignment_gives_no_words(root: Path, broken: str) -> None:
    aligned(root, "F000", broken)
    assert turn(root, "F000").words == ()
    assert turn(root, "F000").words_source is None


def test_an_alignment_may_reach_a_little_behind_the_end(root: Path) -> None:
    aligned(root, "F000", "    0   199    -1 ME\n")
    assert turn(root, "F000").words == (Word("me", 0.0, 2.0),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_line_ends_and_encodings(root: Path, encoding: str) -> None:
    dialog = root / "Session1/dialog"
    before = load(root)
    write(dialog / "EmoEvaluation" / f"{DIALOGUE}.txt", LABELS.replace("(curious)", "(é)\x85"), encoding)
    assert load(root) == before
    write(dialog / "EmoEvaluation" / f"{DIALOGUE}.txt", LABELS.replace("\n", "\r\n"))
    write(dialog / "transcriptions" / f"{DIALOGUE}.txt", TRANSCRIPT.replace("\n", "\r\n"), encoding)
    aligned(root, "F000", ALIGNMENT.replace("\n", "\r\n"))
    assert load(root) == before


def test_a_missing_rating_is_missing(root: Path) -> None:
    write(root / "Session1/dialog/EmoEvaluation" / f"{DIALOGUE}.txt", LABELS.replace("2.5000]", "]"))
    labels = turn(root, "F000").labels
    assert "dominance" not in labels
    assert labels["valence"] == 2.5


def test_every_kind_of_dialogue_name(tmp_path: Path) -> None:
    names = ("Ses03M_impro05a", "Ses03M_impro08b", "Ses05M_script01_1b", "Ses02F_script02_2")
    for name in names:
        line = f"[1.0000 - 2.0000]\t{name}_F010\tfea\t[1.0000, 5.0000, 1.0000]\n"
        write(tmp_path / f"Session{name[4]}/dialog/EmoEvaluation/{name}.txt", line)
    manifest = load(tmp_path)
    assert manifest.column("dialogue") == sorted(names)
    assert manifest.column("speaker") == ["2F", "3F", "3F", "5F"]
    assert manifest.column("scenario") == ["scripted", "improvised", "improvised", "scripted"]
    assert set(manifest.column("emotion")) == {"fearful"}


def test_a_label_line_that_cannot_be_read_is_named(root: Path) -> None:
    path = root / "Session1/dialog/EmoEvaluation" / f"{DIALOGUE}.txt"
    write(path, LABELS.replace("F000\tneu\t", "F000 neu "))
    with pytest.raises(EmocacheError, match=rf"{DIALOGUE}\.txt, line 3: .*F000 neu.* is not .*TURN<TAB>CODE.*again"):
        load(root)


def test_the_wrong_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"no file like Session1/dialog/EmoEvaluation/Ses01F_impro01\.txt below"):
        load(tmp_path)


def test_pieces_of_three_seconds(root: Path) -> None:
    pieces = iemocap.load_segments(root, {"left": "marked"}, MediaHasher())
    assert pieces.corpus == "iemocap-segments"
    whole = load(root)
    by_utterance = {u: [p for p in pieces if p.labels["utterance"] == u] for u in whole.ids}
    assert [len(found) for found in by_utterance.values()] == [1, 3, 1]  # 1.946 s, 7.1 s, 3.09 s
    for utterance, found in by_utterance.items():
        assert [piece.id for piece in found] == [f"{utterance}#{i:02d}" for i in range(len(found))]
        assert sum(piece.duration or 0 for piece in found) == pytest.approx(whole[utterance].duration)
        spans = [piece.span_of("audio") for piece in found]
        assert spans[0][0] == 0 and spans[-1][1] is None
        assert all(before[1] == after[0] for before, after in pairwise(spans))
        for piece in found:
            assert piece.labels.items() >= whole[utterance].labels.items()
            assert (piece.speaker, piece.session) == (whole[utterance].speaker, "Ses01")
            assert (piece.text, piece.words) == (None, ())
            assert piece.media_of("video").region is not None  # type: ignore[union-attr]
    long = by_utterance[f"{DIALOGUE}_F002"]
    assert [piece.span_of("video") for piece in long] == [
        pytest.approx((21.3257, 24.3257)), pytest.approx((24.3257, 27.3257)), pytest.approx((27.3257, 28.4257)),
    ]  # fmt: skip


def test_the_sound_of_all_pieces_is_that_of_the_utterance(root: Path) -> None:
    path = root / f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_F002.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.arange(7 * 16000 + 5, dtype="<i2").tobytes())
    pieces = [p for p in iemocap.load_segments(root, {}, MediaHasher()) if p.labels["utterance"] == path.stem]
    sounds = [decode_audio(path, *piece.span_of("audio")) for piece in pieces]
    assert [len(sound) for sound in sounds] == [48_000, 48_000, 16_005]
    np.testing.assert_array_equal(np.concatenate(sounds), decode_audio(path))


def test_a_piece_of_unknown_length_is_the_whole_utterance(root: Path) -> None:
    (root / f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_F002.wav").write_bytes(b"RIFF")
    pieces = iemocap.load_segments(root, {}, MediaHasher())
    assert [(p.id, p.start, p.end, p.duration) for p in pieces][1] == (f"{DIALOGUE}_F002#00", 0.0, None, None)


def test_published_counts_agree_with_each_other() -> None:
    classes = iemocap.PUBLISHED.classes
    assert sum(classes["code"].values()) == iemocap.PUBLISHED.utterances == 10_039
    assert sum(classes["emotion4"].values()) == 5_531
    assert sum(classes["emotion7"].values()) == 7_487


def test_both_loaders_through_a_registry(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("iemocap", "iemocap"), ("iemocap-segments", "iemocap:load_segments")):
        monkeypatch.setitem(corpora.REGISTRY, name, CorpusEntry("", module, mapped=True))
        assert corpora.load(name, root, mapping={}, hasher=MediaHasher()).corpus == name
