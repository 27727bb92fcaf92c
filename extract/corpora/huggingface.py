"""Hugging Face datasets on disk, as `save_to_disk` of the library `datasets` writes them."""

import hashlib
import secrets
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from ...cache import EmocacheError, Manifest
from ..media.audio import MEDIA_SUFFIXES
from .files import MediaHasher
from .table import utterances

EXPORTED = "emocache-media"
"""Folder in the dataset's own that takes the media out of its Arrow files, each named by its sha256."""

_SIGNATURES = {
    b"RIFF": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    **dict.fromkeys((b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"), ".mp3"),
}


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each row of a Dataset, or of every split of a DatasetDict.

    The media are the only column of type Audio or Video, or the one of paths that `file=COLUMN` names. Class labels
    are taken by name. The splits are those of a DatasetDict, and ids the row numbers from 0: "000123", or
    "train-000123" in a DatasetDict.

    Args:
        root: the folder that `save_to_disk` wrote; paths are relative to it.
        mapping: as for `table.load`, without `table`. `export=yes` writes embedded media to `root/EXPORTED` unless
            they are there. `corpus=NAME` defaults to "huggingface".
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: datasets is not installed, the folder is no dataset, embedded media are not exported yet, or
            cannot be; and whatever `table.load` raises.
    """
    if "table" in mapping:
        raise EmocacheError(f"--map table={mapping['table']}: a dataset has no tables; give a split's folder as --data")
    export = mapping.get("export", "no")
    if export not in ("yes", "no"):
        raise EmocacheError(f"--map export={export}: say yes to have the media written to {root / EXPORTED}")
    fields = {field: column for field, column in mapping.items() if field != "export"}
    rows = []
    for split, dataset in _splits(root).items():
        source = root.absolute() / split
        column = _media_column(source, dataset, fields.get("file"))
        columns = _plain_columns(source, dataset)
        if column is not None:
            columns[column] = _files(source, root, column, dataset.data.column(column), export == "yes")
            fields = {**fields, "file": column}
        if split and "split" not in fields:
            columns["split"] = [split] * len(dataset)
        columns.setdefault("id", [f"{split}-{row:06}" if split else f"{row:06}" for row in range(len(dataset))])
        rows += utterances(source, root, columns, fields, hasher)
    for media in (media for row in rows for media in row.media if media.path.startswith(f"{EXPORTED}/")):
        if PurePath(media.path).stem != media.sha256:
            raise EmocacheError(f"corpus huggingface: {root / media.path} was changed; delete it and export it again")
    return Manifest.from_utterances(mapping.get("corpus", "huggingface"), rows)


def _splits(root: Path) -> dict[str, Any]:
    """{split: Dataset}; a Dataset alone is the split ""."""
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise EmocacheError(
            f"corpus huggingface needs the library datasets ({error}): pip install 'emocache[huggingface]'"
        ) from error
    try:
        loaded = datasets.load_from_disk(str(root.absolute()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
        raise EmocacheError(
            f"corpus huggingface: {root} cannot be read as a folder of save_to_disk: {' '.join(str(error).split())}"
        ) from error
    return dict(loaded) if isinstance(loaded, dict) else {"": loaded}


def _kind(dataset: Any, column: str) -> str:
    return type(dataset.features[column]).__name__


def _media_column(source: Path, dataset: Any, wanted: str | None) -> str | None:
    """The column of media, or None where they are given by paths."""
    found = [name for name in dataset.column_names if _kind(dataset, name) in ("Audio", "Video")]
    if wanted is not None:
        return wanted if wanted in found else None
    if len(found) > 1:
        raise EmocacheError(
            f"corpus huggingface: {source} has several columns of media ({', '.join(found)});"
            " choose with --map file=COLUMN"
        )
    return found[0] if found else None


def _plain_columns(source: Path, dataset: Any) -> dict[str, list[Any]]:
    """{column: cells} of all columns but media, pictures and nested ones."""
    columns = {}
    for name in dataset.column_names:
        data = dataset.data.column(name)
        if pa.types.is_nested(data.type) or pa.types.is_binary(data.type) or pa.types.is_large_binary(data.type):
            continue
        cells = data.to_pylist()
        if _kind(dataset, name) == "ClassLabel":
            names = [*dataset.features[name].names, None]  # -1 is "no label"
            wrong = next((row for row, c in enumerate(cells) if c is not None and not -1 <= c < len(names) - 1), None)
            if wrong is not None:
                raise EmocacheError(f"{source.name}, row {wrong + 1}: {name} {cells[wrong]} is none of its classes")
            cells = [None if cell is None else names[cell] for cell in cells]
        columns[name] = cells
    return columns


def _files(source: Path, root: Path, column: str, data: Any, export: bool) -> list[str | None]:
    """The path of each row's media below `root`, written there first if `export` says so."""
    paths: list[str | None] = []
    for row, cell in enumerate(data):
        if not cell.is_valid or not cell["bytes"].is_valid:
            paths.append(cell["path"].as_py() if cell.is_valid else None)
            continue
        content = cell["bytes"].as_buffer()
        suffix = _suffix(cell["path"].as_py(), bytes(content[:4]))
        if suffix is None:
            raise EmocacheError(
                f"{source.name}, row {row + 1}: {column} has no file name that tells its format, and is no WAV, FLAC,"
                " Ogg or MP3"
            )
        path = root / EXPORTED / f"{hashlib.sha256(content).hexdigest()}{suffix}"
        if not path.is_file():
            if not export:
                raise EmocacheError(
                    f"corpus huggingface: {source} holds its media inside Arrow files ({data.nbytes / 1e6:.1f} MB);"
                    f" have them written to {root / EXPORTED}, once, with --map export=yes"
                )
            _write(path, content)
        paths.append(path.relative_to(root).as_posix())
    return paths


def _suffix(name: str | None, start: bytes) -> str | None:
    suffix = PurePath(name or "").suffix.lower()
    if suffix in MEDIA_SUFFIXES:
        return suffix
    return next((known for signature, known in _SIGNATURES.items() if start.startswith(signature)), None)


def _write(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EmocacheError(f"corpus huggingface: cannot write {path} ({error.strerror}); free or allow it") from error
