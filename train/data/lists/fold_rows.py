"""The rows of fold files: of a table, and of EmoBox's lists."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ....cache import EmocacheError

_COLUMNS = {"id": ("id", "filename"), "speaker": ("speaker",), "fold": ("fold",), "part": ("part", "split_set")}
"""{column: its names in a table}; the second ones are EMO-SUPERB's."""
_PARTS = {name: name for name in ("train", "valid", "test")} | dict.fromkeys(("dev", "development"), "valid")


class Row(NamedTuple):
    """One row of a fold file.

    Attributes:
        names: of one utterance, or of one speaker; any of them is enough.
        fold: its name.
        part: "train", "valid" or "test"; "" in a file that only says in which fold each is tested.
        place: the file and the line, for errors.
    """

    names: tuple[str, ...]
    fold: str
    part: str
    place: str


def wrong(path: Path, problem: str) -> EmocacheError:
    """Make the error of a fold file, which names the setting and the file."""
    return EmocacheError(f"protocol.file: {path}: {problem}")


def rows_of_list(path: Path, name: str, text: str, fold: str, part: str) -> list[Row]:
    """Read a list of EmoBox: a JSON object a line, whose `key` is corpus, dash and stem, and `wav` the file's path.

    Args:
        path: of the fold file, for errors.
        name: of the list in it.
        text: its content.
        fold: of all rows.
        part: of all rows.

    Returns:
        A row a line.

    Raises:
        EmocacheError: a line that is none, or nothing in it.
    """
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            names = tuple(entry[key].strip() for key in ("key", "wav") if key == "key" or key in entry)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise wrong(path, f'line {number} of {name} is no JSON object with a "key", as EmoBox has') from error
        rows.append(Row(names, fold, part, f"line {number} of {name}"))
    if not rows:
        raise wrong(path, f"{name} is empty")
    return rows


def rows_of_table(path: Path, name: str, text: str, fold: str) -> tuple[bool, list[Row]]:
    """Read a table whose first row names its columns, divided by comma, semicolon or tab; # begins a comment.

    Args:
        path: of the fold file, for errors.
        name: of the table in it.
        text: its content.
        fold: of the rows, where no column says it.

    Returns:
        Whether the rows name speakers, not utterances; and the rows.

    Raises:
        EmocacheError: it is no table, or lacks a column, rows or a cell; or a part that there is none.
    """
    numbered = enumerate(io.StringIO(text, newline=""), 1)
    lines = [(number, line) for number, line in numbered if line.strip() and not line.startswith("#")]
    delimiter = max(",;\t", key=lines[0][1].count) if lines else ","
    try:
        table = list(csv.reader((line for _, line in lines), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise wrong(path, f"{name} is no table: {error}") from error
    if len(table) != len(lines):
        raise wrong(path, f"{name} has a cell of several lines; no name of an utterance has")
    columns = _columns(path, name, [cell.strip().lower() for cell in table[0]] if table else [])
    subject = "id" if "id" in columns else "speaker"
    rows = []
    for (number, _), cells in zip(lines[1:], table[1:], strict=True):
        place = f"line {number} of {name}"
        if len(cells) != len(table[0]):
            raise wrong(path, f"{place} has {len(cells)} cells, and the first row has {len(table[0])}")
        told = {column: cells[at].strip() for column, at in columns.items()}
        if empty := [column for column, cell in told.items() if not cell]:
            raise wrong(path, f"{place} has no {empty[0]}")
        part = _PARTS.get(told.get("part", "train").lower())
        if part is None:
            raise wrong(path, f"{place} has the part {told['part']!r}; it can be train, valid or test")
        rows.append(Row((told[subject],), told.get("fold", fold), part if "part" in told else "", place))
    if not rows:
        raise wrong(path, f"{name} has no rows below its first one")
    return subject == "speaker", rows


def _columns(path: Path, name: str, header: Sequence[str]) -> dict[str, int]:
    """Return {column: its place} of the columns that are read."""
    found: dict[str, int] = {}
    for column, names in _COLUMNS.items():
        places = [at for at, cell in enumerate(header) if cell in names]
        if len(places) > 1:
            raise wrong(path, f"{name} has two columns {' and '.join(header[at] for at in places)}; take one out")
        if places:
            found[column] = places[0]
    if not {"id", "speaker"} & set(found) or not {"fold", "part"} & set(found):
        there = ", ".join(header)
        raise wrong(path, f"the first row of {name} must name the columns id (or speaker), and fold or part or both;"
                          f" it has {there[:200] or 'nothing'}")  # fmt: skip
    if "id" in found:
        found.pop("speaker", None)  # one more thing that is told of an utterance
    return found
