"""Word vectors from a text file (GloVe, word2vec, fastText): one frame per word."""

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, InputFailure, Item, Utterance
from ...cache.frames.segments import is_special
from ...cache.recipe import Recipe
from .encoder import Clip, LayerItems, Layers, check_layer, seconds
from .inference import Runtime

_WORDS_PER_SECOND = 2.5
_MAX_LINE = 1 << 20  # bytes; 840B's longest line has some 5,000
_CACHED = 1 << 16  # vectors kept in memory: 79 MB of 300 numbers


class WordVectors:
    """One frame per word, its vector. Words that the file does not hold have small numbers of their own, see `unknown`.

    `aux["known"]` is false for those.

    The words are the utterance's own where it has any, with their times, special tokens such as `<sil>` left out: frame
    i then belongs to segment i of `cache.segments.word_segments`. Otherwise they are the whitespace-separated words of
    its text, without times. `aux["word"]` is each one's index among these, special tokens counted.

    Args:
        name: as in stream names.
        file: the vectors; see `VectorFile`.
        runtime: of no use here: looking words up takes no model.
    """

    inputs: tuple[str, ...] = ("text", "words")
    layers = 0
    rate: float | None = None

    def __init__(self, name: str, file: Path, runtime: Runtime) -> None:
        self.name = name
        self._vectors = VectorFile(file)
        self.dim = self._vectors.dim

    def recipe(self, layer: int | None) -> Recipe:
        """See `Encoder.recipe`."""
        return {
            "kind": "frames",
            "encoder": self.name,
            "layer": check_layer(self.name, layer, self.layers),
            "inputs": list(self.inputs),
            "dim": self.dim,
            "times": None,
            "aux": {"known": {"dtype": "bool", "shape": []}, "word": {"dtype": "int32", "shape": []}},
            "family": "glove",
            "version": 2,
            "weights_sha256": self._vectors.sha256,
            "preprocessing": {
                "words": "the utterance's, or its text's between whitespace",
                "special": "left out",
                "punctuation": "stripped at both ends",
                "case": "as is, then lower",
                "unknown": "uniform in -0.05 to 0.05, by SHAKE-256 of the word in lower case",
            },
        }

    def expected_frames(self, utterance: Utterance) -> int:
        """See `Encoder.expected_frames`."""
        if utterance.words:
            return max(1, len(utterance.words))
        if utterance.text is not None:
            return max(1, len(utterance.text.split()))
        return max(1, round(_WORDS_PER_SECOND * seconds(utterance)))

    def cost(self, utterance: Utterance) -> float:
        """See `Encoder.cost`."""
        return self.expected_frames(utterance) / 50

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        for layer in layers:
            check_layer(self.name, layer, self.layers)
        return [self._encode(clip, layers) for clip in clips]

    def _encode(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
        words = [w.word for w in clip.words] or (clip.text or "").split()
        if not words:
            return InputFailure("no_text", "the corpus gives neither words nor text for the utterance")
        index = np.asarray([i for i, word in enumerate(words) if not is_special(word)], np.int32)
        if not index.size:
            return InputFailure("no_text", f"all words are special tokens, such as {words[0]!r}")
        vectors, known = self._vectors.vectors_for([words[i] for i in index])
        times = np.full((len(words), 2), np.nan)
        if clip.words:
            times[:] = [(w.start, w.end) for w in clip.words]
        return {layer: Item(vectors, times[index], {"known": known, "word": index}) for layer in layers}


class VectorFile:
    """A text file of word vectors: `word v1 v2 ... vD` per line, maybe after a first line `lines D` (word2vec's).

    The file is read once to index and hash it, and never loaded: 24 bytes of memory a word, 53 MB for the 2.2 million
    of GloVe 840B. Then a vector is one read at its line's place. A word may hold spaces, and any bytes but a line feed;
    of several lines with the same word the first counts.

    Args:
        file: the text file; it must not change while it is in use.

    Attributes:
        dim: D.
        sha256: of the file's bytes, hex.

    Raises:
        EmocacheError: no such file, or a line that is not a word and D numbers; names the line. Numbers are checked
            when their word is looked up.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        if not file.is_file():
            raise EmocacheError(f"{file}: there is no such file; expected word vectors as text")
        self.dim, header = self._shape()
        hashes, offsets, digest = array("q"), array("q"), hashlib.sha256()
        for number, offset, line in self._lines():
            digest.update(line)
            if number > 1 or header is None:
                # Python's own hash: quick, and equal within one process, which is as long as the index lives.
                hashes.append(hash(self._word(line, number)))
                offsets.append(offset)
        if header not in (None, len(offsets)):
            raise EmocacheError(
                f"{file}: line 1 announces {header} words, but there are {len(offsets)}; get the file again"
            )
        if not offsets:
            raise EmocacheError(f"{file}: no word follows line 1; get the file again")
        self.sha256 = digest.hexdigest()
        unsorted = np.frombuffer(hashes, np.int64)
        order = np.argsort(unsorted, kind="stable")
        self._hashes, self._offsets = unsorted[order], np.frombuffer(offsets, np.int64)[order]
        self._numbers = order + (1 if header is None else 2)
        self._vector = lru_cache(_CACHED)(self._find)

    def vectors_for(self, words: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Look words up.

        Args:
            words: each is looked for without punctuation at both ends (unless it is all there is), as is and then in
                lower case.

        Returns:
            vectors: (V, D) float32, see `unknown` for words that the file lacks; known: (V,) bool.

        Raises:
            EmocacheError: a word's numbers cannot be read, or the file was changed meanwhile.
        """
        vectors, known = np.zeros((len(words), self.dim), np.float32), np.zeros(len(words), np.bool_)
        for i, word in enumerate(words):
            bare = _bare(word)
            found = self._vector(bare)
            if found is None and bare.lower() != bare:
                found = self._vector(bare.lower())
            vectors[i], known[i] = (unknown(bare.lower(), self.dim), False) if found is None else (found, True)
        return vectors, known

    def _shape(self) -> tuple[int, int | None]:
        """Read off the first line the numbers per word, and the number of words if it announces one."""
        with self._file.open("rb") as file:
            first = file.readline(_MAX_LINE)
        parts = first.rstrip().split(b" ")
        if len(parts) == 2 and all(re.fullmatch(rb"\d{1,9}", part) for part in parts) and int(parts[1]):
            return int(parts[1]), int(parts[0])
        dim = len(parts) - 1
        if dim < 1:
            raise EmocacheError(f"{self._file}: line 1 is not a word and its numbers; is this word vectors as text?")
        self._parse(first, 1, dim)
        return dim, None

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Go through the lines: (number from 1, offset in bytes, line) of each."""
        offset = 0
        with self._file.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), 1):
                if len(line) == _MAX_LINE:
                    raise EmocacheError(
                        f"{self._file}: line {number} is longer than {_MAX_LINE} bytes; is this word vectors as text?"
                    )
                yield number, offset, line
                offset += len(line)

    def _word(self, line: bytes, number: int) -> bytes:
        line = line.rstrip()
        spaces = line.count(b" ")
        if spaces < self.dim:
            raise self._malformed(number, f"{spaces} numbers after the word", self.dim)
        return line[: line.index(b" ")] if spaces == self.dim else line.rsplit(b" ", self.dim)[0]

    def _parse(self, line: bytes, number: int, dim: int) -> tuple[bytes, npt.NDArray[np.float32]]:
        # From the right: words may hold spaces, numbers do not.
        word, *fields = line.rstrip().rsplit(b" ", dim)
        try:
            vector = np.asarray([float(field) for field in fields], np.float32)
        except ValueError as error:
            raise self._malformed(number, str(error)[:60], dim) from error
        if not np.isfinite(vector).all():
            raise self._malformed(number, "a number that is not finite", dim)
        return word, vector

    def _malformed(self, number: int, found: str, dim: int) -> EmocacheError:
        return EmocacheError(
            f"{self._file}: line {number}: {found}; expected a word and {dim} finite numbers, each after one space;"
            " get the file again, or unpack it first"
        )

    def _find(self, word: str) -> npt.NDArray[np.float32] | None:
        wanted = word.encode(errors="surrogatepass")
        first, end = np.searchsorted(self._hashes, hash(wanted)), np.searchsorted(self._hashes, hash(wanted), "right")
        # Words may share a hash, so the line decides; the sort was stable, so the file's first line comes first.
        for at in range(first, end):
            with self._file.open("rb") as file:
                file.seek(self._offsets[at])
                found, vector = self._parse(file.readline(_MAX_LINE), int(self._numbers[at]), self.dim)
            if found == wanted:
                return vector
            if hash(found) != hash(wanted):
                raise EmocacheError(f"{self._file} was changed while it was in use; start again")
        return None


def unknown(word: str, dim: int) -> npt.NDArray[np.float32]:
    """Draw (dim,) small numbers for a word without a vector, the same wherever it occurs, unlike any other word's.

    So a head can learn a vector for each of them, and one that learns none can tell them apart. Uniform in -0.05 to
    0.05, from SHAKE-256 of the word, because the streams of random generators may change with their library.
    """
    drawn = np.frombuffer(hashlib.shake_256(word.encode(errors="surrogatepass")).digest(2 * dim), "<u2")
    return ((drawn / 65535 - 0.5) * 0.1).astype(np.float32)


def _bare(word: str) -> str:
    """Strip punctuation and symbols off a word's ends. Marks stay: vowel signs of Indic scripts are marks."""
    return word.strip("".join(c for c in word if unicodedata.category(c)[0] in "PSZC")) or word
