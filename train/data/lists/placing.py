"""The utterances of the corpora that the rows of a fold file mean, without guessing."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ....cache import Manifest
from .fold_file import FoldFile
from .fold_rows import Row, wrong

_TOLD = 3  # names in an error
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")  # of a media file

Places = tuple[tuple[str, str], ...]
"""(fold, part) of all that an utterance is in; the part is "" in a file that only says in which fold each is tested."""


@dataclass(frozen=True)
class Listing:
    """A fold file beside the corpora that are trained by it.

    Attributes:
        name: of the file. sha256: of its content. kind: "utterances" or "speakers", which it lists.
        listed: their number. absent: those that the corpora lack, by their names in the file.
        unlisted: utterances with a label that it does not list, and that are left out.
    """

    name: str
    sha256: str
    kind: str
    listed: int
    absent: tuple[str, ...]
    unlisted: int = 0


def place(manifests: Sequence[Manifest], file: FoldFile) -> tuple[list[Places], Listing]:
    """Find the utterances that a fold file means.

    A name is compared with the ids (`03a02Wb`; `emodb/03a02Wb` where corpora have the same); then, by its last two
    parts or its last one, and without an ending such as .wav, with ids and the paths of media; then so without the
    corpus and the dash that the keys of EmoBox begin with. Speakers are compared as they are written.

    Args:
        manifests: of every corpus.
        file: with its rows.

    Returns:
        The places of every utterance, in the order of corpora and ids; and what is to be told of the file.

    Raises:
        EmocacheError: none of the rows is in the corpora; a name that several utterances have; an utterance that is
            twice in a fold, or tested in two.
    """
    subjects = _speakers(manifests) if file.of_speakers else _utterances(manifests)
    names = _Names(subjects, [] if file.of_speakers else manifests)
    places: list[list[tuple[str, str]]] = [[] for manifest in manifests for _ in manifest.ids]
    rows: dict[tuple[str, str], Row] = {}  # by who it is, and the fold or "tested"
    listed: dict[str, bool] = {}  # who: whether it is there
    several: dict[str, int] = {}
    for row in file.rows:
        found = names.find(row)
        if len(found) > 1:
            several[row.names[0]] = len(found)
            continue
        who = next(iter(found), row.names[0])
        _check_once(file, rows, row, who)
        listed[who] = bool(found)
        for at in subjects.get(who, ()) if found else ():
            places[at].append((row.fold, row.part))
    kind = "speakers" if file.of_speakers else "utterances"
    if several:
        told = ", ".join(f"{name!r} ({count})" for name, count in list(several.items())[:_TOLD])
        raise wrong(file.path, f"{len(several)} names mean several {kind} each: {told}; write CORPUS/NAME, or the"
                               " whole id")  # fmt: skip
    absent = tuple(who for who, there in listed.items() if not there)
    corpora = " + ".join(manifest.corpus for manifest in manifests)
    if len(absent) == len(listed):
        raise wrong(file.path, f"none of its {len(absent)} {kind} is in {corpora}: it lists {_some(absent)}; {corpora}"
                               f" has {_some(subjects)}; give the file of this corpus, or its names")  # fmt: skip
    return [tuple(own) for own in places], Listing(file.path.name, file.sha256, kind, len(listed), absent)


def _check_once(file: FoldFile, rows: dict[tuple[str, str], Row], row: Row, who: str) -> None:
    """Refuse who has been in the same fold, or is tested in another."""
    before = rows.setdefault((who, f"fold {row.fold}"), row)
    how = f"twice in fold {row.fold}"
    if before is not row and before.part != row.part:
        how = f"in {before.part} and in {row.part} of fold {row.fold}"
    if before is row and row.part in ("", "test"):
        before = rows.setdefault((who, "tested"), row)
        how = f"tested in fold {before.fold} and in fold {row.fold}, and so would count twice in the pooled score"
    if before is not row:
        raise wrong(file.path, f"{who!r} is {how} ({before.place}; {row.place}); leave one out")


class _Names:
    """Finds who is meant by a name."""

    def __init__(self, subjects: Collection[str], with_files: Sequence[Manifest]) -> None:
        self._whole: dict[str, set[str]] = defaultdict(set)
        self._ends: dict[str, set[str]] = defaultdict(set)
        self._corpora = [manifest.corpus for manifest in with_files]
        for who in subjects:
            self._whole[who].add(who)
            self._whole[who.partition("/")[2]].add(who)
        for manifest in with_files:
            for id_, media in zip(manifest.ids, manifest.column("media"), strict=True):
                for text in (id_, *(medium["path"] for medium in media or ())):
                    for end in _ends(text):
                        self._ends[end].add(f"{manifest.corpus}/{id_}")

    def find(self, row: Row) -> set[str]:
        """Return the one that a row means; none, or several, where that cannot be told."""
        several: set[str] = set()
        for text in self._spellings(row):
            whole = self._whole.get(text, set())
            for found in (whole, *(self._ends.get(end, set()) for end in _ends(text))):
                if len(found) == 1:
                    return found
                several = several or found
        return several

    def _spellings(self, row: Row) -> Iterator[str]:
        for name in row.names:
            yield name
            yield from (name.removeprefix(f"{one}-") for one in self._corpora if name.startswith(f"{one}-"))


def _ends(path: str) -> list[str]:
    """Return the last two parts of a path, where there are two, and the last one; without the ending of a file."""
    parts = [part for part in _ENDING.sub("", path.replace("\\", "/")).split("/") if part]
    return ["/".join(parts[-2:])] * (len(parts) > 1) + parts[-1:]


def _utterances(manifests: Sequence[Manifest]) -> Mapping[str, list[int]]:
    """{corpus/id: the row of the utterance}."""
    keys = [f"{manifest.corpus}/{id_}" for manifest in manifests for id_ in manifest.ids]
    return {key: [row] for row, key in enumerate(keys)}


def _speakers(manifests: Sequence[Manifest]) -> Mapping[str, list[int]]:
    """{corpus/speaker: the rows of the utterances}."""
    found: dict[str, list[int]] = defaultdict(list)
    spoken = [(manifest.corpus, speaker) for manifest in manifests for speaker in manifest.column("speaker")]
    for row, (corpus, speaker) in enumerate(spoken):
        if speaker is not None:
            found[f"{corpus}/{speaker}"].append(row)
    return found


def _some(names: Iterable[str]) -> str:
    told = [repr(name) for name in names]
    return ", ".join(told[:_TOLD]) + (", ..." if len(told) > _TOLD else "") if told else "none"
