"""audformat databases: a header db.yaml, and a CSV or Parquet file for each table beside it.

The format is described at https://audeering.github.io/audformat, "Database", "Header" and "Tables".
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...cache import EmocacheError, Manifest
from .files import MediaHasher
from .table import utterances
from .table_file import read_table


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each row of a filewise or segmented table.

    A column whose scheme tells more about its labels brings that as columns: speakers bring their gender and age. The
    split is that of the table, and the language that of the database if it has only one. The id is the file, followed
    by ":start-end" in seconds where the row is a segment.

    Args:
        root: the folder with db.yaml; media paths are relative to it.
        mapping: as for `table.load`, except that `table=NAME` names a table of the header, and `table=A|B` several:
            their rows are put together, and what is said of whole files goes to each segment of these. The default is
            the only table. `corpus=NAME` defaults to "audformat".
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: audformat is not installed, the database cannot be read, a table is not there or there are
            several, and whatever `table.load` raises.
    """
    database = _database(root)
    names = _names(database, mapping.get("table"))
    schemes = database.schemes.values()
    for name in (*dict.fromkeys(scheme.labels for scheme in schemes if scheme.uses_table), *names):
        _read(root, name, database[name])
    try:
        columns = _columns(_joined(database, names))
    except _BROKEN as error:
        raise EmocacheError(f"corpus audformat: {'|'.join(names)} in {root}: {_line(error)}") from error
    rows = utterances(root / f"db.{'|'.join(names)}", root, columns, mapping, hasher)
    return Manifest.from_utterances(mapping.get("corpus", "audformat"), rows)


_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""The errors that audformat, PyYAML, pandas and pyarrow raise for files that are not what they should be."""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _library(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise EmocacheError(
            f"corpus audformat needs the library audformat ({error}): pip install 'emocache[audformat]'"
        ) from error


def _database(root: Path) -> Any:
    audformat, yaml = _library("audformat"), _library("yaml")
    try:
        # audformat.Database.load would take PyYAML's unsafe loader, which runs whatever code the header names.
        with (root / "db.yaml").open("rb") as file:
            header = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return audformat.Database.load_header_from_yaml(header)
    except FileNotFoundError as error:
        raise EmocacheError(
            f"corpus audformat: no db.yaml in {root}; give the database's folder with --data"
        ) from error
    except (*_BROKEN, yaml.YAMLError) as error:
        raise EmocacheError(f"corpus audformat: {root / 'db.yaml'} is no audformat header: {_line(error)}") from error


def _names(database: Any, wanted: str | None) -> list[str]:
    listed = ", ".join(database.tables) or "no tables"
    if wanted is None:
        if len(database.tables) != 1:
            raise EmocacheError(
                f"corpus audformat: db.yaml lists {listed}; choose with --map table=NAME, or several with table=A|B"
            )
        return list(database.tables)
    names = [name.strip() for name in wanted.split("|")]
    for name in names:
        if name not in database.tables:
            raise EmocacheError(f"--map table={wanted}: db.yaml lists no table {name!r}; there are: {listed}")
    return list(dict.fromkeys(names))


def _read(root: Path, name: str, table: Any) -> None:
    found = [path for path in (root / f"db.{name}{suffix}" for suffix in (".parquet", ".csv")) if path.is_file()]
    if not found or "/" in name:
        raise EmocacheError(
            f"corpus audformat: neither db.{name}.parquet nor db.{name}.csv in {root}; pickles are not read, so write"
            " one of these with the database's save()"
        )
    cells = read_table(found[0])  # refuses rows too long or too short, which audformat takes without a word
    # audformat prefers a pickle beside the table, and unpickling runs code: it is shown a folder without one.
    with TemporaryDirectory() as folder:
        try:
            Path(folder, f"table{found[0].suffix}").symlink_to(found[0].absolute())
            table.load(f"{folder}/table")
        except _BROKEN as error:
            raise EmocacheError(f"corpus audformat: {found[0]} cannot be read: {_line(error)}") from error
    wanted = [*table.df.index.names, *table.df.columns]
    if list(cells) != wanted:
        raise EmocacheError(
            f"corpus audformat: {found[0]} has the columns {', '.join(cells)}; by db.yaml they are {', '.join(wanted)}"
        )
    for column in table.df.columns:
        for row, (cell, missing) in enumerate(zip(cells[column], table.df[column].isna(), strict=True)):
            if missing and cell is not None and cell == cell:  # a NaN differs from itself
                raise EmocacheError(
                    f"{found[0].name}, row {row + 1}: {column} {cell!r} is no label of its scheme in db.yaml; mend one"
                )


def _joined(database: Any, names: Sequence[str]) -> Any:
    """One DataFrame of all tables, with the levels of their index as columns."""
    audformat = _library("audformat")
    files: list[Any] = []
    segments: list[Any] = []
    for name in names:
        table = database[name]
        frame = _described(database, table)
        split = database.splits[table.split_id].type if table.split_id is not None else "other"
        if split != "other":
            frame["split"] = split
        (segments if "start" in frame.index.names else files).append(frame)
    joined = audformat.utils.concat(segments or files)
    if segments and files:
        joined = joined.join(audformat.utils.concat(files), on="file")
    if "language" not in joined and len(database.languages) == 1:
        code = database.languages[0]
        joined["language"] = _library("iso639").Lang(code).pt1 or code
    return joined.reset_index()


def _described(database: Any, table: Any) -> Any:
    """The table's DataFrame, with what the schemes of its columns say of their labels."""
    frame = table.get()
    for column in list(table.columns.values()):
        labels = database.schemes[column.scheme_id].labels if column.scheme_id is not None else None
        if isinstance(labels, str):
            fields = list(database[labels].df.columns)
        else:
            said = labels.values() if isinstance(labels, dict) else ()
            fields = [field for value in said if isinstance(value, dict) for field in value]
        for field in dict.fromkeys(fields):
            if field not in frame:
                frame[field] = column.get(map=field)
    return frame


def _columns(frame: Any) -> dict[str, list[Any]]:
    """{column: cells}; times in seconds, None where something is missing."""
    columns: dict[str, list[Any]] = {}
    for name in frame.columns:
        series = frame[name]
        if series.dtype.kind == "m":
            series = series.dt.total_seconds()
        missing = series.isna()
        columns[str(name)] = [None if gap else cell for cell, gap in zip(series.tolist(), missing, strict=True)]
    if "id" not in columns:
        whole: list[Any] = [None] * len(frame)
        spans = zip(columns["file"], columns.get("start", whole), columns.get("end", whole), strict=True)
        columns["id"] = [_id(*span) for span in spans]
    return columns


def _id(file: str, start: float | None, end: float | None) -> str:
    if not start and end is None:
        return file
    return f"{file}:{_seconds(start or 0.0)}-{'' if end is None else _seconds(end)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
