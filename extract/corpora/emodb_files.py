"""The label files that come with EmoDB: syllables with their times, and what the listeners judged.

Burkhardt et al. 2005; erklaerung.txt. The phones of lablaut/ are not read: they name no words.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from ...cache import EmocacheError, Word
from .files import read_lines


def read_judgements(path: Path) -> dict[str, dict[str, float]]:
    """Read how many of the 20 or 21 listeners recognised an emotion, and found it natural.

    Args:
        path: erkennung.txt.

    Returns:
        {recording: {"recognised": %, "natural": %}}.

    Raises:
        EmocacheError: the file cannot be read, or a line has other columns.
    """
    judgements = {}
    for number, line in enumerate(read_lines(path)[1:], start=2):
        if not line:
            continue
        try:
            _, name, recognised, natural = line.replace(",", ".").split()
            judgements[Path(name).stem] = {"recognised": float(recognised), "natural": float(natural)}
        except ValueError as error:
            raise EmocacheError(
                f"{path}, line {number}: {line!r} is not a number, a file and two percentages;"
                " take the erkennung.txt of the corpus or remove it"
            ) from error
    return judgements


def read_words(path: Path, sentence: str) -> tuple[Word, ...]:
    """The words of a known sentence, timed by the syllables of a .silb file; none where the two do not fit together.

    Each row of the file holds the second at which a syllable starts and the syllable as it was said ("gehn",
    "bm"); "(" starts a pause, and "." is the end of speech.

    Args:
        path: the .silb file.
        sentence: what is said, with its syllables separated by hyphens: "Der Lap-pen liegt ...".

    Returns:
        Words in the order in which they are said; none where file and sentence do not fit together.

    Raises:
        EmocacheError: the file cannot be read.
    """
    rows = [line.split() for line in read_lines(path) if line]
    try:
        times = [float(row[0]) for row in rows]
    except ValueError:
        return ()
    tokens = ["".join(row[1:]) for row in rows]
    said = [i for i, token in enumerate(tokens) if any(letter.isalpha() for letter in token)]
    rises = all(before < after for before, after in pairwise([0.0, *times, float("inf")]))
    if not said or not rises or said[-1] == len(rows) - 1:  # the last syllable's end is the next row's time
        return ()
    words = [word.strip(".,?") for word in sentence.split(" ")]
    divisions = list(_divide([tokens[i] for i in said], words))
    if len(divisions) != 1:
        return ()
    spans = pairwise([0, *divisions[0]])
    return tuple(
        Word(word.replace("-", ""), times[said[first]], times[said[stop - 1] + 1])
        for word, (first, stop) in zip(words, spans, strict=True)
    )


def _divide(syllables: Sequence[str], words: Sequence[str], start: int = 0) -> Iterator[list[int]]:
    """Every way to divide syllables among words: where each word stops.

    A word takes as many as it has, or one less where two were said as one ("gehn"), and starts with its own letter.
    """
    if not words:
        if start == len(syllables):
            yield []
        return
    count = words[0].count("-") + 1
    for taken in {count, max(count - 1, 1)}:
        stop = start + taken
        if stop <= len(syllables) and syllables[start][0].casefold() == words[0][0].casefold():
            for rest in _divide(syllables, words[1:], stop):
                yield [stop, *rest]
