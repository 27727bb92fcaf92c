"""Reading a table of any of the kinds the `table` corpus takes."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from ...cache import EmocacheError, parquet

_SUFFIXES = (".csv", ".tsv", ".parquet")
_MISSING = ("", "nan", "NaN", "NA", "N/A", "null")


def find_table(root: Path, name: str | None) -> Path:
    """Find the table of a corpus folder.

    Args:
        root: the folder.
        name: of the table, relative to `root`; without one it is the only table in that folder.

    Returns:
        The path of the table.

    Raises:
        EmocacheError: there is no table, there are several, or the one named is not there.
    """
    found = sorted(p for p in root.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file() and p.name[0] != ".")
    listed = ", ".join(p.name for p in found)
    if name is not None:
        source = root / name
        if not source.is_file():
            raise EmocacheError(f"--map table={name}: no such file in {root}; there are: {listed or 'no tables'}")
        if source.suffix.lower() not in _SUFFIXES:
            raise EmocacheError(f"--map table={name}: a table is a file named {', '.join(_SUFFIXES)}")
        return source
    if not found:
        raise EmocacheError(f"corpus table: no {', '.join(_SUFFIXES)} in {root}; name one with --map table=FILE")
    if len(found) > 1:
        raise EmocacheError(f"corpus table: several tables in {root} ({listed}); choose one with --map table=FILE")
    return found[0]


def read_table(source: Path) -> dict[str, list[Any]]:
    """Read a table.

    Args:
        source: the file.

    Returns:
        {column: cells}; a missing cell is None. Cells of CSV and TSV are all text, so that "01" stays what it
        is.

    Raises:
        EmocacheError: the file cannot be read as what its name says, has no rows, or has a column twice.
    """
    import pyarrow as pa

    try:
        table = parquet.read(source.read_bytes()) if source.suffix.lower() == ".parquet" else _read_text(source)
    except UnicodeDecodeError as error:
        raise EmocacheError(f"table {source} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (pa.ArrowException, OSError) as error:
        raise EmocacheError(f"table {source} cannot be read: {str(error).splitlines()[0]}") from error
    twice = [name for name, count in Counter(table.column_names).items() if count > 1 and name]
    if twice:
        raise EmocacheError(f"table {source} has two columns named {twice[0]!r}; rename one")
    if table.num_rows == 0:
        raise EmocacheError(f"table {source} has no rows")
    return {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True) if name}


def _read_text(source: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    with source.open(encoding="utf-8-sig") as file:
        header = file.readline()
    delimiter = "\t" if source.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with csv.open_csv(source, parse_options=parse) as reader:
        names = reader.schema.names
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=list(_MISSING),
    )
    # One thread, see `cache.parquet`.
    read = csv.ReadOptions(use_threads=False)
    return csv.read_csv(source, read, parse, convert)


def finite_number(text: str) -> float | None:
    """The number that a cell holds; None where it holds no finite one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
