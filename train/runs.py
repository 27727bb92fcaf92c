"""Run folders: complete exactly if they exist."""

import json
import platform
from collections.abc import Mapping, Sequence
from hashlib import file_digest, sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors

from ..cache import EmocacheError
from ..cache.opening import open_objects
from ..cache.recipe import canonical_json
from .dataset import Dataset
from .fold import FoldResult
from .settings import Settings

FORMAT = 1


def setting_hash(settings: Settings, dataset: Dataset, split: str) -> str:
    """12 hex digits, equal for runs that differ in fold and seed only.

    They cover the settings, the split, the streams' fingerprints, the manifests, and the digest of the items read:
    when a stream is completed or repaired, its runs are trained again.
    """
    config = settings.model_dump(mode="json", exclude={"seeds", "description"})
    streams = [[s.corpus, s.name, s.fingerprint] for s in dataset.sources]
    covered: list[Any] = [FORMAT, config, split, streams, dataset.manifests, dataset.item_digest]
    covered += [_sha256_of(file) for file in settings.head.files()]
    return sha256(canonical_json(covered)).hexdigest()[:12]


def _sha256_of(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise EmocacheError(f"[head] names {file}, which cannot be read: {error.strerror}") from error


def run_folder(runs: Path, experiment: str, corpora: Sequence[str], setting: str, fold: int, seed: int) -> Path:
    """`<runs>/<experiment>/<corpora>/<setting>/fold<k>-seed<s>`."""
    return runs / experiment / "+".join(corpora) / setting / f"fold{fold}-seed{seed}"


def write_run(folder: Path, record: Mapping[str, Any], result: FoldResult) -> None:
    """Store a finished run, durably and all at once. A run that another process stored meanwhile stays as it is.

    Args:
        folder: see `run_folder`.
        record: what run.json holds beside `result.record`.
        result: weights, transforms, history and predictions.

    Raises:
        EmocacheError: the folder cannot be written.
    """
    document = {"format": FORMAT, **record, **result.record, "versions": versions()}
    trained = {
        "weights.safetensors": save_tensors(result.weights),
        "transforms.safetensors": save_arrays(result.transforms),
        "history.jsonl": "".join(json.dumps(line) + "\n" for line in result.history).encode(),
    }
    files = {
        "predictions.parquet": _parquet(result.predictions),
        **({} if result.kept is None else {"kept.parquet": _parquet(result.kept)}),
        **(trained if result.weights else {}),  # a fusion trains nothing
        "run.json": (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    try:
        open_objects(folder.parent).put_shard(folder.name, {name: [data] for name, data in files.items()})
    except OSError as error:
        if not folder.is_dir():
            raise EmocacheError(f"run {folder} cannot be written: {error.strerror or error}") from error


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def versions() -> dict[str, str]:
    """What a run was trained with; not part of its identity."""
    return {"python": platform.python_version(), "torch": torch.__version__, "emocache": version("emocache")}
