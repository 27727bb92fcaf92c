"""The three kinds of text file of IEMOCAP: labelled turns, transcriptions, forced alignments."""

import re
from dataclasses import dataclass
from pathlib import Path

from ...cache import EmocacheError, Word
from .files import read_lines
from .table_file import finite_number

# The letter behind the session is who wears the markers; the one before the number is who speaks.
_ID = r"(?P<dialogue>Ses0[1-5][FM]_(?:impro|script)\w*)_(?P<speaker>[FM])\d{3}"
_TURN = re.compile(rf"\[(\d+\.\d+) - (\d+\.\d+)\]\t(?P<id>{_ID})\t([a-z]{{3}})\t\[([^,]*),([^,]*),([^,]*)\]")
_SPOKEN = re.compile(rf"(?P<id>{_ID}) \[\d+\.\d+-\d+\.\d+\]:(?P<text>.*)")
_ALIGNED = re.compile(r"\s*(\d{1,9})\s+(\d{1,9})\s+-?\d+\s+(\S+)")
_FRAME = 0.01  # seconds, of the aligner
_SLACK = 0.1  # seconds that an alignment may reach behind the audio's end, which the aligner's windows overlap


@dataclass(frozen=True, slots=True)
class Turn:
    """One labelled utterance of a dialogue."""

    id: str
    dialogue: str  # such as "Ses01F_impro01"
    speaker: str  # "F" or "M"
    start: float  # seconds into the dialogue
    end: float
    code: str  # the majority's emotion, three letters; "xxx" where there is none
    ratings: tuple[float | None, float | None, float | None]  # valence, activation, dominance, 1 to 5

    @property
    def marked(self) -> str:
        """Who wears the markers: "F" or "M"."""
        return self.dialogue[5]


def read_turns(path: Path) -> list[Turn]:
    """The turns of dialog/EmoEvaluation/<dialogue>.txt, from the first line of each block.

    That line holds the external raters' majority and mean. Single raters' lines (C-E1, A-E1) and the actors' own
    (C-F1, A-M1) are left out.

    Args:
        path: of the dialogue's file.

    Returns:
        The turns, in the order of the file.

    Raises:
        EmocacheError: a line that begins a block cannot be read.
    """
    turns = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.startswith("["):
            continue
        match = _TURN.fullmatch(line)
        if match is None:
            raise EmocacheError(
                f"{path}, line {number}: {line!r} is not '[START - END]<TAB>TURN<TAB>CODE<TAB>[V, A, D]';"
                " take the file from the release again"
            )
        start, end, id_, dialogue, speaker, code, *ratings = match.groups()
        valence, activation, dominance = map(finite_number, ratings)
        turns.append(Turn(id_, dialogue, speaker, float(start), float(end), code, (valence, activation, dominance)))
    return turns


def read_transcript(path: Path) -> dict[str, str]:
    """{turn: text} of dialog/transcriptions/<dialogue>.txt; lines without a numbered turn (`M: ...`, XX) left out."""
    matches = filter(None, map(_SPOKEN.fullmatch, read_lines(path)))
    return {match["id"]: match["text"].strip() for match in matches}


def read_alignment(path: Path, duration: float | None) -> tuple[Word, ...]:
    """The words of sentences/ForcedAlignment/<dialogue>/<utterance>.wdseg, in seconds from the utterance's start.

    Words are lower-cased and lose the number of the pronunciation, WHAT(2). Silences, noises and sentence ends (<sil>,
    ++LAUGHTER++, <s>) are left out: they are the gaps between the words. An alignment whose rows overlap or run
    backwards, or which ends behind the audio, is broken and gives no words.

    Args:
        path: the file, written by CMU Sphinx: frames of 10 ms, the last one included.
        duration: of the audio, in seconds; None where unknown.

    Returns:
        Words, lower-cased; none of a broken alignment.
    """
    words = []
    before = -1
    for match in filter(None, map(_ALIGNED.fullmatch, read_lines(path))):
        first, last, token = int(match[1]), int(match[2]), match[3]
        if first <= before or last < first:
            return ()
        before = last
        if not token.startswith(("<", "++")):
            words.append(Word(re.sub(r"\(\d+\)$", "", token).lower(), first * _FRAME, (last + 1) * _FRAME))
    if duration is not None and words and words[-1].end > duration + _SLACK:
        return ()
    return tuple(words)
