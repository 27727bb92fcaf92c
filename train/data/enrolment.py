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
        clips: asked for, of each speaker. mask: (U,) bool. speakers: U names, unique over corpora.
        fewer: {speaker: how many it has instead}.
    """

    clips: int
    mask: npt.NDArray[np.bool_]
    speakers: list[str]
    fewer: dict[str, int]

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
    return Enrolment(clips, mask, speakers, fewer)


def speakers_of(dataset: Dataset, needs: str) -> list[str]:
    """Return "corpus/speaker" of every utterance, or raise an EmocacheError that says what `needs` it."""
    for example in dataset.examples:
        if example.speaker is None:
            raise EmocacheError(f"{needs}: utterance {example.key!r} has no speaker")
    return [f"{example.corpus}/{example.speaker}" for example in dataset.examples]


def _fitting(examples: Sequence[Example], where: str | None) -> Sequence[bool]:
    if where is None:
        return [True] * len(examples)
    try:
        kept = chosen(parse_expression(where), lambda column: [e.cell(column) for e in examples], "utterance")
    except EmocacheError as error:
        raise EmocacheError(f"features.enrolment_where = {where!r}: {error}") from None
    return [True] * len(examples) if kept is None else kept


def _lot(example: Example, settings: Settings) -> bytes:
    return sha256(f"{settings.protocol.seed} {example.key}".encode()).digest()
