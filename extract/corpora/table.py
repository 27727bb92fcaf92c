"""Any folder of media with one table of utterances beside them: CSV, TSV or Parquet."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from ...cache import EmocacheError, Manifest, Media, Utterance
from ..media.audio import VIDEO_SUFFIXES
from .files import MediaHasher, Probe, media
from .table_file import find_table, finite_number, read_table

_TEXTS = ("speaker", "session", "culture", "language", "gender", "split", "text")
_FIELDS = ("id", "file", "start", "end", *_TEXTS)
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")  # of spreadsheets in most of Europe
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "devel", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each row of the table.

    Args:
        root: the folder; media paths are relative to it.
        mapping: {field: column}. Fields are `id`, `file`, `start` and `end` (seconds), `speaker`, `session`,
            `culture`, `language`, `gender`, `split`, `text`; a field that is not mapped is read from the column of its
            name, if there is one. `file` falls back to the column of the ids, and `id` to that of the files.
            `label=COLUMN` takes a label under its column's name, `label.NAME=COLUMN` under another; without any of
            these, every column left is a label. `table=FILE` names the table where there are several, and
            `corpus=NAME` the corpus in the cache (default "table").
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no table or several, an unknown field, a column that is not there, a row without id or file, an
            id twice, a path that leaves the folder, media that are not there, or a cell that cannot be read.
    """
    source = find_table(root, mapping.get("table"))
    rows = utterances(source, root, read_table(source), mapping, hasher)
    return Manifest.from_utterances(mapping.get("corpus", "table"), rows)


def utterances(
    source: Path, root: Path, columns: Mapping[str, Sequence[Any]], mapping: Mapping[str, str], hasher: MediaHasher
) -> list[Utterance]:
    """One utterance for each row, whatever the table was read from.

    Args:
        source: what error messages name.
        root: the folder; media paths are relative to it.
        columns: {column: cells}, all of one length.
        mapping: {field: column}, as for `load`.
        hasher: hashes the media.

    Returns:
        In the order of the rows.

    Raises:
        EmocacheError: as for `load`, except for the table itself.
    """
    fields, labels = _choose(source, columns, mapping)
    cells = {field: columns[column] for field, column in fields.items()}
    ids = _ids(source, cells["id"])
    paths = _paths(source, root, cells["file"])
    probes = hasher.probe(set(paths))
    values = {name: _label(source, column, columns[column]) for name, column in labels.items()}
    found = []
    for row, (id_, path) in enumerate(zip(ids, paths, strict=True)):
        start, end = (_seconds(source, row, f, cells[f][row]) if f in cells else None for f in ("start", "end"))
        if start is not None and end is not None and end <= start:
            raise EmocacheError(f"{source.name}, row {row + 1}: end {end:g} s is not after start {start:g} s")
        texts: dict[str, Any] = {f: _text(cells[f][row]) for f in _TEXTS if f in cells}
        if texts.get("split") is not None:
            texts["split"] = _split(source, row, str(texts["split"]))
        found.append(
            Utterance(
                id=id_,
                media=_media(root, path, probes),
                start=start,
                end=end,
                duration=_duration(probes[path].duration, start, end),
                labels={name: column[row] for name, column in values.items() if column[row] is not None},
                **texts,
            )
        )
    return found


def _choose(
    source: Path, columns: Mapping[str, Any], mapping: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """({field: column}, {label: column})."""
    fields = {name: name for name in _FIELDS if name in columns}
    labels: dict[str, str] = {}
    for key, column in mapping.items():
        if key in ("table", "corpus"):
            continue
        if key == "label":
            labels[column] = column
        elif key.startswith("label.") and len(key) > 6:
            labels[key[6:]] = column
        elif key in _FIELDS:
            fields[key] = column
        else:
            known = ", ".join((*_FIELDS, "label", "label.NAME", "table", "corpus"))
            raise EmocacheError(f"--map {key}={column}: there is no field {key!r}; there are: {known}")
        if column not in columns:
            raise EmocacheError(
                f"--map {key}={column}: {source.name} has no column {column!r}; it has: {', '.join(columns)}"
            )
    # One column is enough: a path is an id, and an id may be a path.
    for field, other in (("file", "id"), ("id", "file")):
        if field not in fields and other in fields:
            fields[field] = fields[other]
    if "id" not in fields:
        raise EmocacheError(
            f"{source.name} has no column 'file' or 'id'; say which column names the media with --map file=COLUMN;"
            f" it has: {', '.join(columns)}"
        )
    if not labels:
        labels = {name: name for name in columns if name not in fields.values() and _is_plain(columns[name])}
    return fields, labels


def _ids(source: Path, cells: Sequence[Any]) -> list[str]:
    first: dict[str, int] = {}
    for row, cell in enumerate(cells):
        id_ = _text(cell)
        if id_ is None:
            raise EmocacheError(f"{source.name}, row {row + 1}: the id is empty")
        if id_ in first:
            raise EmocacheError(
                f"{source.name}: id {id_!r} stands in row {first[id_] + 1} and in row {row + 1}; ids must be unique,"
                " so name another column with --map id=COLUMN"
            )
        first[id_] = row
    return list(first)


def _paths(source: Path, root: Path, cells: Sequence[Any]) -> list[Path]:
    names = [_name(source, root, row, cell) for row, cell in enumerate(cells)]
    paths = {name: _found(root, name) for name in dict.fromkeys(names)}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise EmocacheError(
            f"{source.name}: {len(missing)} of its media files are not in {root} (first: {', '.join(missing[:3])});"
            " paths are relative to that folder; copy the files there or remove their rows"
        )
    return [path for name in names if (path := paths[name])]


def _name(source: Path, root: Path, row: int, cell: Any) -> str:
    """The path of a row's media file below the folder, with / between its parts."""
    text = (_text(cell) or "").replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts:
        raise EmocacheError(f"{source.name}, row {row + 1}: the media file is empty")
    if text.startswith("/") or ".." in parts or (":" in text and PureWindowsPath(text).drive):
        raise EmocacheError(
            f"{source.name}, row {row + 1}: {str(cell)!r} leaves {root}; media paths are relative to that folder"
        )
    return "/".join(parts)


def _found(root: Path, name: str) -> Path | None:
    """The file of that name, with its accents on the letters or, as macOS writes them, off."""
    forms = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    return next((path for form in dict.fromkeys(forms) if (path := root / form).is_file()), None)


def _media(root: Path, path: Path, probes: Mapping[Path, Probe]) -> tuple[Media, ...]:
    roles = ("audio", "video") if path.suffix.lower() in VIDEO_SUFFIXES else ("audio",)
    return tuple(media(root, path, role, probes) for role in roles)


def _duration(whole: float | None, start: float | None, end: float | None) -> float | None:
    if end is None and whole is None:
        return None
    stop = min(x for x in (end, whole) if x is not None)
    return max(stop - (start or 0.0), 0.0)


def _text(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    # A column of whole numbers with a gap is one of floats to most programs that write tables.
    text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
    return text.strip() or None


def _seconds(source: Path, row: int, field: str, cell: Any) -> float | None:
    text = _text(cell)
    if text is None:
        return None
    seconds = finite_number(text)
    if seconds is None or seconds < 0:
        raise EmocacheError(f"{source.name}, row {row + 1}: {field} {text!r} is not a number of seconds")
    return seconds


def _split(source: Path, row: int, text: str) -> str:
    if text.lower() not in _SPLITS:
        raise EmocacheError(
            f"{source.name}, row {row + 1}: split {text!r} is none of train, valid, test;"
            " rename the column if it means something else"
        )
    return _SPLITS[text.lower()]


def _is_plain(cells: Sequence[Any]) -> bool:
    return not any(isinstance(cell, (list, dict, bytes)) for cell in cells)


def _label(source: Path, column: str, cells: Sequence[Any]) -> list[str | float | None]:
    """Numbers where every cell is one, text otherwise; NaN and empty cells are missing."""
    texts = [_text(cell) for cell in cells]
    numbers = [None if text is None else finite_number(text) for text in texts]
    others = [text for text, number in zip(texts, numbers, strict=True) if text is not None and number is None]
    if others and all(map(_DECIMAL_COMMA.fullmatch, others)):
        raise EmocacheError(
            f"{source.name}: label column {column} has a decimal comma in {others[0]!r}; write points, or leave the"
            " column out by naming the others with --map label=COLUMN"
        )
    if others:
        return list(texts)
    return list(numbers)
