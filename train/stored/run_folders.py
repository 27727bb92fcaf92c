"""Run folders: complete exactly if they hold run.json."""

import functools
import json
import platform
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors

from ...cache import EmocacheError, parquet
from ...cache.hashing import file_sha256
from ...cache.opening import open_objects
from ...cache.recipe import canonical_json
from ..config.parsing import parse_settings
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..fit.fold_result import FoldResult
from ..records.generations import NOT_HASHED
from ..records.run_record import (
    ASKED,
    FORMAT,
    HISTORY,
    KEPT,
    PREDICTIONS,
    RUN,
    TRANSFORMS,
    WEIGHTS,
    RunRecord,
    parse_record,
)

storing = threading.Lock()
"""Held while a run is stored: a process that is to end waits for it."""

FORMER: dict[str, Any] = {
    "targets_scale": None,
    "training.penalties": None,
    "protocol.file": None,
    "protocol.validation_folds": 5,
    "features.enrolment": None,
    "features.enrolment_where": None,
    "selection.average": 1,
    "selection.widen": False,
}
"""Settings that came after runs had been stored, `table.setting` where they stand in a table, each with the value at
which all is as it was before them: a setting at that value is not hashed, so that those runs still count."""
# Settings of no run: they say where the streams come from, which the streams' fingerprints cover.
_OF_NO_RUN = {"corpora", "encoders", "extract"}


def setting_hash(settings: Settings, dataset: Dataset, split: str, joined_draws: Sequence[Sequence[str]] = ()) -> str:
    """12 hex digits, equal for runs that differ in fold and seed only.

    They cover the settings, the split, the streams' fingerprints, the manifests, and the digest of the items read:
    when a stream is completed or repaired, its runs are trained again. Of a fold file they cover the content, wherever
    it lies. `joined_draws`: see `copies.joined_draws`; covered where there are any.
    """
    config = {name: value for name, value in recorded(settings).items() if name not in NOT_HASHED}
    if settings.protocol.file is not None and dataset.listing is not None:
        config["protocol"] = {**config["protocol"], "file": dataset.listing.sha256}
    streams = [[s.corpus, s.name, s.fingerprint] for s in dataset.sources]
    covered: list[Any] = [FORMAT, config, split, streams, dataset.manifests, dataset.item_digest]
    covered += [list(joined_draws)] if joined_draws else []
    covered += [_sha256_of(file) for file in settings.head.files()]
    return sha256(canonical_json(covered)).hexdigest()[:12]


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings for run.json, without those at their former value: runs from before and after them are alike."""
    config = settings.model_dump(mode="json", exclude=_OF_NO_RUN)
    for name, value in FORMER.items():
        *tables, key = name.split(".")
        table = functools.reduce(dict.__getitem__, tables, config)
        if table[key] == value:
            del table[key]
    return config


def settings_of(config: dict[str, Any]) -> Settings:
    """Return the settings that run.json has recorded."""
    former = {name: value for name, value in FORMER.items() if "." not in name and name not in config}
    return parse_settings(config, lambda _: RUN).model_copy(update=former)


def _sha256_of(file: str) -> str:
    try:
        return file_sha256(Path(file))
    except OSError as error:
        raise EmocacheError(f"[head] names {file}, which cannot be read: {error.strerror}") from error


def is_stored(folder: Path) -> bool:
    """Tell whether a folder holds a finished run.

    Args:
        folder: of the run, which need not be there.

    Returns:
        True where it has a readable run.json, and its predictions.

    Raises:
        EmocacheError: it holds one that was damaged since.
    """
    path = folder / RUN
    if not path.is_file():
        return False
    try:
        json.loads(path.read_bytes())
        path = folder / PREDICTIONS
        path.stat()
    except (OSError, ValueError) as error:
        raise _damaged(folder, path, error) from error
    return True


def check_writable(runs: Path) -> None:
    """Make the folder of runs, and a file in it for a moment; EmocacheError if that cannot be."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=runs):
            pass
    except OSError as error:
        raise EmocacheError(f"--runs {runs}: no run can be stored there ({error.strerror}); give a folder that can be"
                            " written") from error  # fmt: skip


def read_record(folder: Path) -> RunRecord:
    """Read run.json of a finished run.

    Args:
        folder: of the run.

    Returns:
        What it says.

    Raises:
        EmocacheError: it is gone or damaged.
    """
    path = folder / RUN
    try:
        return parse_record(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(folder, path, error) from error


def read_run(folder: Path) -> tuple[RunRecord, pa.Table]:
    """Read run.json and the predictions of a finished run.

    Args:
        folder: of the run.

    Returns:
        What run.json says, and the rows of predictions.parquet.

    Raises:
        EmocacheError: a file is gone or damaged.
    """
    record = read_record(folder)
    path = folder / PREDICTIONS
    try:
        data = path.read_bytes()
        if sha256(data).hexdigest() != record.predictions_sha256:
            raise ValueError("it is not the file that was written with run.json")
        return record, parquet.read(data)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(folder, path, error) from error


def write_run(folder: Path, record: RunRecord, result: FoldResult) -> None:
    """Store a finished run, durably and all at once. A run that another process stored meanwhile stays as it is.

    Args:
        folder: see `run_folder`.
        record: what run.json says, but for the versions, the moment and the hash of the predictions.
        result: weights, transforms, history and predictions.

    Raises:
        EmocacheError: the folder cannot be written.
    """
    predictions = _parquet(result.predictions)
    stored = {"predictions_sha256": sha256(predictions).hexdigest(), "versions": versions()}
    document = record.model_copy(update={**stored, "made": datetime.now(UTC)}).model_dump(mode="json")
    trained = {
        WEIGHTS: save_tensors(result.weights),
        TRANSFORMS: save_arrays(result.transforms),
        HISTORY: "".join(json.dumps(line) + "\n" for line in result.history).encode(),
    }
    files = {
        PREDICTIONS: predictions,
        **({} if result.kept is None else {KEPT: _parquet(result.kept)}),
        **(trained if result.weights else {}),  # a fusion trains nothing
        RUN: (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    try:
        objects = open_objects(folder.parent)
        # A signal is raised in the main thread, and so not in the middle of this.
        with storing, ThreadPoolExecutor(1) as beside:
            beside.submit(objects.put_shard, folder.name, {name: [data] for name, data in files.items()}).result()
    except OSError as error:
        if not is_stored(folder):
            remedy = "; delete this folder, which holds no finished run" if folder.is_dir() else ""
            raise EmocacheError(f"run {folder} cannot be written: {error.strerror or error}{remedy}") from error


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Read the epochs of a finished run.

    Args:
        folder: of the run.

    Returns:
        A line an epoch.

    Raises:
        EmocacheError: history.jsonl is gone or damaged.
    """
    path = folder / HISTORY
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise _damaged(folder, path, error) from error


def mark_asked(folder: Path) -> None:
    """Note that the runs in a folder are what training would make today; by it they count, see `generations`.

    Args:
        folder: of one setting.

    Raises:
        EmocacheError: it cannot be written.
    """
    try:
        text = json.dumps({"asked": datetime.now(UTC).isoformat()})
        open_objects(folder).replace(ASKED, f"{text}\n".encode())
    except OSError as error:
        raise EmocacheError(f"{folder / ASKED} cannot be written: {error.strerror or error}") from error


def _damaged(folder: Path, path: Path, error: Exception) -> EmocacheError:
    why = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
    return EmocacheError(f"{path}: gone or damaged ({why}); delete the folder {folder} and run the same command again,"
                         " which trains this run anew")  # fmt: skip


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def versions() -> dict[str, str]:
    """Return the versions a run is trained with; no part of its identity."""
    return {"python": platform.python_version(), "torch": torch.__version__, "emocache": version("emocache")}
