"""Fold files: who is in which fold, as a table of one's own, EmoBox's lists, or EMO-SUPERB's tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ....cache.recipe import canonical_json
from ...config.experiment_names import data_file
from .fold_rows import Row, rows_of_list, rows_of_table, wrong

_LARGEST = 256 << 20  # bytes of all that a fold file consists of
_MOST_FOLDS = 1000
_EMOBOX = re.compile(r"fold_(\d+)/(.+)_(train|valid|test)_fold_\1\.jsonl")
_EMO_SUPERB = re.compile(r"labels_consensus_(\d+)\.csv")
_LAYOUTS = "fold_1/CORPUS_train_fold_1.jsonl, ... of EmoBox, or labels_consensus_1.csv, ... of EMO-SUPERB"


@dataclass(frozen=True)
class FoldFile:
    """A fold file as it is written.

    Attributes:
        path: of the file or the folder. rows: in its order. of_speakers: they name speakers, not utterances.
        sha256: of the file; of a folder that of the names and hashes of what was read.
    """

    path: Path
    rows: list[Row]
    of_speakers: bool
    sha256: str


def read_fold_file(file: str) -> FoldFile:
    """Read a fold file.

    Args:
        file: `protocol.file`: a table with the columns `id` or `speaker`, and `fold` or `part` or both; or a folder
            with the lists of EmoBox (Ma et al. 2024), or the tables of EMO-SUPERB (Wu et al. 2024), each of one fold.

    Returns:
        Its rows.

    Raises:
        EmocacheError: it is not there, too large, of another form, or has more folds than anybody trains; see also
            `fold_rows`.
    """
    path = data_file(file)
    try:
        found = list(_files(path))
        if (size := sum(one.stat().st_size for one, _, _ in found)) > _LARGEST:
            raise wrong(path, f"{size / 1e6:.0f} MB; no fold file is larger than {_LARGEST / 1e6:.0f} MB")
        contents = [one.read_bytes() for one, _, _ in found]
    except OSError as error:
        raise wrong(path, f"cannot be read: {error.strerror or error}") from error
    rows: list[Row] = []
    of_speakers: set[bool] = set()
    hashes = []
    for (one, fold, part), content in zip(found, contents, strict=True):
        name = path.name if one == path else one.relative_to(path).as_posix()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise wrong(path, f"{name} is not UTF-8 ({error.reason}); save it as UTF-8") from error
        speakers, own = rows_of_table(path, name, text, fold) if part is None else (
            False, rows_of_list(path, name, text, fold, part))  # fmt: skip
        of_speakers.add(speakers)
        rows += own
        hashes.append([name, sha256(content).hexdigest()])
    if len(of_speakers) > 1:
        raise wrong(path, "some of its tables list speakers and others utterances; give those of one kind")
    if len({bool(row.part) for row in rows}) > 1:
        raise wrong(path, "some of its tables have a column `part` and others have none; give it to all")
    if (count := len({row.fold for row in rows})) > _MOST_FOLDS:
        raise wrong(path, f"{count} folds, such as {rows[0].fold!r} and {rows[-1].fold!r}, and at most {_MOST_FOLDS}"
                          " are trained; is `fold` another column?")  # fmt: skip
    whole = sha256(canonical_json(hashes)).hexdigest() if path.is_dir() else hashes[0][1]
    return FoldFile(path, rows, of_speakers.pop(), whole)


def _files(path: Path) -> Iterator[tuple[Path, str, str | None]]:
    """Yield (file, fold, part) of all that a fold file consists of; no part where the rows tell it."""
    if path.suffix.lower() in (".jsonl", ".json"):
        raise wrong(path, f"one list of several; give the folder that holds {_LAYOUTS}")
    if not path.is_dir():
        if not path.is_file():
            raise wrong(path, "is no file" if path.exists() else "does not exist; give its path from the experiment's"
                              " file, or the whole path")  # fmt: skip
        yield path, "1", None
        return
    below = sorted([*path.glob("fold_*/*.jsonl"), *path.glob("labels_consensus_*.csv")])
    named = [(one, one.relative_to(path).as_posix()) for one in below]
    lists = [(one, found) for one, name in named if (found := _EMOBOX.fullmatch(name))]
    tables = [(one, found) for one, name in named if (found := _EMO_SUPERB.fullmatch(name))]
    if not lists and not tables:
        raise wrong(path, f"a folder without fold lists; expected {_LAYOUTS}")
    kinds = sorted({found[2] for _, found in lists}) + ["labels_consensus"] * bool(tables)
    if len(kinds) > 1:
        raise wrong(path, f"lists of several kinds, {' and '.join(kinds)}; give a folder with those of one")
    yield from ((one, found[1], found[3]) for one, found in lists)
    yield from ((one, found[1], None) for one, found in tables)
