"""The utterances that enrol a speaker: a few of those nobody trains on, unlabelled, and left out of the score."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from ...cache.expression import chosen, parse_expression
from ..config.settings import Settings
from .dataset import Dataset
from .example import Example

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Enrolment:
    """The enrolling utterances of every speaker; they enrol in the folds in which the speaker does not train.

    Attributes:
        clips: asked for, of each speaker. where: the expression that they fit; None: any.
        mask: (U,) bool. speakers: U names, unique over corpora. fewer: {speaker: how many it has instead}.
    """

    clips: int
    where: str | None
    mask: npt.NDArray[np.bool_]
    speakers: list[str]
    fewer: dict[str, int]

    @property
    def words(self) -> str:
        """The mark of numbers that rest on it."""
        which = "" if self.where is None else f" of {self.where}"
        return f"enrolled with {self.clips} clip{'' if self.clips == 1 else 's'}{which}"

    def scored(self, rows: Rows) -> Rows:
        """Return the rows, none of a speaker that trains, that are scored."""
        return rows[~self.mask[rows]]

    def of(self, rows: Rows) -> Rows:
        """Return the utterances that enrol the speakers of some rows, ascending."""
        own = {self.speakers[row] for row in rows}
        return np.array([row for row in np.flatnonzero(self.mask) if self.speakers[row] in own], np.int64)


def enrolment_of(dataset: Dataset, settings: Settings) -> Enrolment | None:
    """Draw the utterances that enrol each speaker.

    They are those whose sha256 of "<protocol.seed> <corpus>/<id>" (UTF-8) comes first, among the speaker's with
    features that fit `features.enrolment_where` and are no copies of others: the same whatever else the corpus holds
    and in whatever order, and those of a smaller number are some of those of a larger one. One utterance with features
    is always left to score.

    Args:
        dataset: the utterances; their references are not looked at.
        settings: of the experiment.

    Returns:
        Them; None where the settings enrol nobody.

    Raises:
        EmocacheError: an utterance without a speaker, or an expression that nothing fits.
    """
    asked = settings.enrolment
    if asked is None:
        return None
    clips, where = asked
    fits = _fitting(dataset.examples, where)
    of_speaker: dict[str, list[int]] = defaultdict(list)
    speakers = speakers_of(dataset, "features.enrolment")
    for row, speaker in enumerate(speakers):
        if dataset.present[row]:
            of_speaker[speaker].append(row)
    mask = np.zeros(len(dataset.examples), bool)
    fewer = {}
    for speaker, rows in of_speaker.items():
        own = [row for row in rows if fits[row] and not dataset.examples[row].recordings]
        order = sorted(own, key=lambda row: _lot(dataset.examples[row], settings))
        enrols = order[: min(clips, len(rows) - 1)]
        mask[enrols] = True
        if len(enrols) < clips:
            fewer[speaker] = len(enrols)
    return Enrolment(clips, where, mask, speakers, fewer)


def speakers_of(dataset: Dataset, needs: str) -> list[str]:
    """Return "corpus/speaker" of every utterance, or raise an EmocacheError that says what `needs` it."""
    for example in dataset.examples:
        if example.speaker is None:
            own = example.key.removeprefix("/")  # of new media no corpus is known
            raise EmocacheError(f"{needs}: utterance {own!r} has no speaker; name one in the corpus, or for"
                                " new media in a table with a column speaker, or use another normalise")  # fmt: skip
    return [f"{example.corpus}/{example.speaker}" for example in dataset.examples]


def _fitting(examples: Sequence[Example], where: str | None) -> Sequence[bool]:
    if where is None:
        return [True] * len(examples)
    terms = [(column, {value: {value} for value in sorted(values)}) for column, values in parse_expression(where)]
    try:
        kept = chosen(terms, lambda column: [example.cell(column) for example in examples], "utterance")
    except EmocacheError as error:
        raise EmocacheError(f"features.enrolment_where = {where!r}: {error}") from None
    return [True] * len(examples) if kept is None else kept


def _lot(example: Example, settings: Settings) -> bytes:
    return sha256(f"{settings.protocol.seed} {example.key}".encode()).digest()
