"""Word vectors, against a dictionary of the whole file."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError, InputFailure, Item, Utterance, Word
from emocache.cache.frames.segments import word_segments
from emocache.extract.encoders import Clip
from emocache.extract.encoders.glove import VectorFile, WordVectors, unknown
from emocache.extract.encoders.inference import Runtime

DIM = 5
# What 840B holds: punctuation, words with spaces, both cases, spaces of other kinds, bytes that are no UTF-8.
WORDS = [
    b",", b"the", b"The", b"door", b". . .", b"at name@domain.com", b"--", b"don't", b"0.5", "naïve".encode(),
    b"U.S", b"a\xc2\xa0b", b"a\xe2\x80\xa8b", b"a\x0cb", b"\xff\xfe", "हिन्दी".encode(), b"the",
]  # fmt: skip


def vectors() -> npt.NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((len(WORDS), DIM)).astype(np.float32)


def text(header: str = "", end: str = "\n") -> bytes:
    """The file's bytes, every number with the digits that give it back."""
    lines = [
        word + b" " + " ".join(map(str, row)).encode() for word, row in zip(WORDS, vectors().tolist(), strict=True)
    ]
    return header.encode() + b"".join(line + end.encode() for line in lines)


def whole() -> Mapping[bytes, npt.NDArray[np.float32]]:
    """Every word with its vector, the first where there are two."""
    return dict(reversed(list(zip(WORDS, vectors(), strict=True))))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes a file of vectors."""

    def write(data: bytes) -> Path:
        (tmp_path / "vectors.txt").write_bytes(data)
        return tmp_path / "vectors.txt"

    return write


@pytest.fixture
def encoder(write: Callable[[bytes], Path]) -> WordVectors:
    return WordVectors("glove-tiny", write(text()), Runtime.create("cpu", "float32"))


def encode(encoder: WordVectors, *clips: Clip) -> list[Item]:
    items = []
    for result in encoder.encode(clips, [None]):
        assert isinstance(result, Mapping), result
        item = result[None]
        assert isinstance(item, Item)
        items.append(item)
    return items


@pytest.mark.parametrize(
    "data",
    [text(), text(end="\r\n"), text(end=" \n"), text(header=f"{len(WORDS)} {DIM}\n"), text()[:-1]],
    ids=["glove", "crlf", "trailing space", "word2vec", "no last line feed"],
)
def test_every_line_is_found(write: Callable[[bytes], Path], data: bytes) -> None:
    file = VectorFile(write(data))
    assert file.dim == DIM and file.sha256 == hashlib.sha256(data).hexdigest()
    readable = [word.decode() for word in WORDS if word != b"\xff\xfe"]
    found, known = file.vectors_for(readable)
    assert known.all() and found.dtype == np.float32
    np.testing.assert_array_equal(found, [whole()[word.encode()] for word in readable])


def test_punctuation_and_case(write: Callable[[bytes], Path]) -> None:
    file = VectorFile(write(text()))
    asked = {
        "The": b"The", "THE": b"the", "«door!»": b"door", "DON'T,": b"don't", "--": b"--", "U.S.": b"U.S",
        "Naïve?": "naïve".encode(), "हिन्दी।": "हिन्दी".encode(), "$0.5": b"0.5",
        "window": None, "dont": None, "...": None, "": None, "\ud800": None, "name@domain.com": None,
    }  # fmt: skip
    found, known = file.vectors_for(list(asked))
    assert known.tolist() == [word is not None for word in asked.values()]
    np.testing.assert_array_equal(found[known], [whole()[word] for word in asked.values() if word is not None])
    empty, nothing = file.vectors_for([])
    assert empty.shape == (0, DIM) and nothing.shape == (0,)


def test_every_unknown_word_has_small_numbers_of_its_own(write: Callable[[bytes], Path]) -> None:
    file = VectorFile(write(text()))
    words = ["window", "windows", "wnidow", "घर", ""]
    found, known = file.vectors_for([*words, "Window!", "घर।", "..."])
    assert not known.any() and (np.abs(found) <= 0.05).all() and np.abs(found).max() > 0.01
    assert len(np.unique(found[: len(words)].astype(np.float16), axis=0)) == len(words)
    np.testing.assert_array_equal(found[5:7], found[[0, 3]])
    (again,), _ = VectorFile(write(text()[:-1])).vectors_for(["window"])  # whatever else the file holds
    np.testing.assert_array_equal(again, found[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1 is not a word and its numbers; is this word vectors as text"),
        (b"PK\x03\x04\n", "line 1 is not a word and its numbers"),
        (
            b"PK\x03\x04 \xff a b\n",
            r"line 1: could not convert string to float: .*; expected a word and 3 finite numbers",
        ),
        (
            b"the " + b"x" * 5000 + b" 1\n",
            r"line 1: could not convert string to float: b'x{1,60}; expected a word and 2",
        ),
        (b"0 5\n", "no word follows line 1; get the file again"),
        (b"the nan 1 2\n", "line 1: a number that is not finite"),
        (b"1 " + b"9" * 5000 + b"\n", "line 1: a number that is not finite"),
        (text() + b"short 1 2 3 4\n", f"line {len(WORDS) + 1}: 4 numbers after the word; expected a word and 5 finite"),
        (text("17 5\n") + b"short 1 2 3 4\n", f"line {len(WORDS) + 2}: 4 numbers after the word"),
        (text("18 5\n"), "line 1 announces 18 words, but there are 17; get the file again"),
        (b"the 1 2\n" + b"x" * (1 << 20), "line 2 is longer than 1048576 bytes"),
    ],
    ids=[
        "empty",
        "zip",
        "no numbers",
        "long",
        "no words",
        "nan",
        "no number of words",
        "short",
        "short after header",
        "truncated",
        "endless",
    ],
)
def test_what_is_no_vector_file_is_named(write: Callable[[bytes], Path], data: bytes, message: str) -> None:
    with pytest.raises(EmocacheError, match=rf"vectors\.txt: {message}"):
        VectorFile(write(data))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"nowhere\.txt: there is no such file; expected word vectors as text"):
        VectorFile(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("number", [b"0,5", b"inf", b""])
def test_numbers_are_checked_when_their_word_is_looked_up(write: Callable[[bytes], Path], number: bytes) -> None:
    file = VectorFile(write(text() + b"odd 1 2 " + number + b" 4 5\n"))
    assert file.vectors_for(["door"])[1].all()
    with pytest.raises(EmocacheError, match=f"line {len(WORDS) + 1}: .*; expected a word and 5 finite numbers"):
        file.vectors_for(["odd"])


def test_a_file_changed_meanwhile_is_told(write: Callable[[bytes], Path]) -> None:
    file = VectorFile(write(text()))
    write(text()[::-1])
    with pytest.raises(EmocacheError, match=r"vectors\.txt"):
        file.vectors_for(["door"])
    write(text().replace(b"door", b"gate"))
    with pytest.raises(EmocacheError, match="was changed while it was in use; start again"):
        file.vectors_for(["door"])


def test_a_frame_per_word_of_the_text(encoder: WordVectors) -> None:
    (item,) = encode(encoder, Clip("a", text="The door, [LAUGHTER] the window!\n"))
    known = [whole()[word] for word in (b"The", b"door", b"the")]
    np.testing.assert_array_equal(item.frames, [*known, unknown("window", DIM)])
    assert item.aux["known"].tolist() == [True, True, True, False] and item.aux["word"].tolist() == [0, 1, 3, 4]
    assert item.aux["known"].dtype == np.bool_ and item.aux["word"].dtype == np.int32
    assert item.times is not None and item.times.shape == (4, 2) and np.isnan(item.times).all()


def test_a_frame_per_aligned_word_is_a_frame_per_segment(encoder: WordVectors) -> None:
    spans = [("<s>", 0, 0.2), ("the", 0.2, 0.5), ("<sil>", 0.5, 0.8), ("window", 0.8, 1.0), ("--", 1.0, 1.1)]
    words = tuple(Word(*span) for span in spans)
    (item,) = encode(encoder, Clip("a", text="The window [LAUGHTER] and more", words=words))
    np.testing.assert_array_equal(item.frames, [whole()[b"the"], unknown("window", DIM), whole()[b"--"]])
    assert item.aux["word"].tolist() == [1, 3, 4] and item.aux["known"].tolist() == [True, False, True]
    assert item.times is not None and item.times.tolist() == [[0.2, 0.5], [0.8, 1.0], [1.0, 1.1]]
    assert len(item.frames) == len(word_segments(words, 2.0))


def test_batched_equals_alone_and_failures_are_named(encoder: WordVectors) -> None:
    silent = (Word("<sil>", 0, 1), Word("++LAUGHTER++", 1, 2))
    clips = [Clip("a", text="the door"), Clip("b"), Clip("c", text="door " * 50), Clip("d", text=" \n"),
             Clip("e", text="the", words=silent), Clip("f", words=(Word("door", 0, 1),))]  # fmt: skip
    results = encoder.encode(clips, [None])
    for clip, together in zip(clips, results, strict=True):
        (alone,) = encoder.encode([clip], [None])
        if isinstance(together, InputFailure) or isinstance(alone, InputFailure):
            assert str(together) == str(alone)
        else:
            for name in ("frames", "times"):
                np.testing.assert_array_equal(getattr(together[None], name), getattr(alone[None], name))
    assert [i for i, r in enumerate(results) if isinstance(r, InputFailure)] == [1, 3, 4]
    assert str(results[1]) == str(results[3]) == "no_text: the corpus gives neither words nor text for the utterance"
    assert str(results[4]) == "no_text: all words are special tokens, such as '<sil>'"


def test_what_is_declared(encoder: WordVectors, write: Callable[[bytes], Path]) -> None:
    recipe = encoder.recipe(None)
    assert recipe["dim"] == encoder.dim == DIM and recipe["times"] is None and encoder.rate is None
    assert recipe["aux"] == {"known": {"dtype": "bool", "shape": []}, "word": {"dtype": "int32", "shape": []}}
    assert recipe["inputs"] == ["text", "words"] and recipe["encoder"] == "glove-tiny"
    assert recipe["weights_sha256"] == hashlib.sha256(text()).hexdigest()
    other = WordVectors("glove-tiny", write(text(end="\r\n")), Runtime.create("cpu", "bf16"))
    assert other.recipe(None) == {**recipe, "weights_sha256": other.recipe(None)["weights_sha256"]} != recipe
    with pytest.raises(EmocacheError, match="has no layers, but layer 1"):
        encoder.encode([], [1])


def test_what_is_expected_of_an_utterance(encoder: WordVectors) -> None:
    assert encoder.expected_frames(Utterance("a", text="the door")) == 2
    assert encoder.expected_frames(Utterance("a", text="the door", words=(Word("x", 0, 1),) * 3)) == 3
    assert encoder.expected_frames(Utterance("a", duration=4.0)) == 10 and encoder.cost(Utterance("a", text="")) > 0
