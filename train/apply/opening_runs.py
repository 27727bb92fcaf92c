"""From a folder to the models in it: those of all folds and seeds, one of them, or the one of all utterances."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from ...cache import EmocacheError, parquet
from ..config.settings import Settings
from ..records import columns
from ..records.run_record import FINAL_FOLDER, PREDICTIONS, RUN, RUN_FOLDER, RunRecord
from ..stored.run_sources import RunSources, read_sources
from .stored_models import StoredModel, open_model, readable_record

_CELL = re.compile(r"fold(?P<fold>\d+)-seed(?P<seed>\d+)")


@dataclass(frozen=True, eq=False)
class Models:
    """The models that answer together.

    Attributes:
        folder: of their setting. sources: of their features. models: one or more of one setting.
    """

    folder: Path
    sources: RunSources
    models: tuple[StoredModel, ...]

    @property
    def record(self) -> RunRecord:
        """Of the first, for what all have in common."""
        return self.models[0].record

    @property
    def settings(self) -> list[Settings]:
        """The settings of every head; a search may have chosen different ones."""
        return [part.settings for model in self.models for part in model.parts]

    @cached_property
    def _parts(self) -> dict[str, str]:
        return _parts(self.models[0].folder)

    @property
    def told(self) -> str:
        """The models that answer, in words."""
        if len(self.models) == 1:
            return self.models[0].folder.name
        return f"the mean of {len(self.models)} models, of every fold and seed"

    def part_of(self, recording: str) -> str:
        """Tell the part that a recording had in what was trained.

        Args:
            recording: sha256 of a media file.

        Returns:
            "" if training knows nothing of it; "train", "valid" or "test" of one model; else "train", because one of
            several models was trained on it.
        """
        keys = self.sources.utterances_of(recording)
        if not keys:
            return ""
        if len(self.models) > 1 or self.record.final:
            return "train"
        if self.record.selection.parts > 1 or self.record.selection.refit:
            # What validated in turn, or before a refit, trains the head that answers.
            return "test" if all(self._parts.get(key) == "test" for key in keys) else "train"
        found = {self._parts.get(key, "train") for key in keys}
        return found.pop() if len(found) == 1 else "train"


def open_models(path: Path, fold: int | None = None, seed: int | None = None) -> Models:
    """Read the models below a folder.

    Args:
        path: of a run, of the runs of one setting, or of one above that holds one setting only.
        fold: only models of this fold. seed: only models of this seed.

    Returns:
        The models that are asked for. Without fold and seed, the final one if there is one, else all.

    Raises:
        EmocacheError: no such folder, none or several settings in it, no such fold or seed, or anything damaged.
    """
    if not path.is_dir():
        raise EmocacheError(f"{path} is not a folder; give one that `emocache train` or `emocache export` wrote")
    path = path.resolve()
    if RUN_FOLDER.fullmatch(path.name) or FINAL_FOLDER.fullmatch(path.name):
        if (fold is not None or seed is not None) and not _is_asked(path, fold, seed):
            raise EmocacheError(f"{path} is not the run of {_asked(fold, seed)}; give the folder above")
        return _read(path.parent, [path])
    folder = _setting(path)
    runs = sorted(one.parent for one in folder.glob(f"*/{RUN}") if RUN_FOLDER.fullmatch(one.parent.name))
    final = sorted(one.parent for one in folder.glob(f"*/{RUN}") if FINAL_FOLDER.fullmatch(one.parent.name))
    asked = fold is not None or seed is not None
    chosen = [run for run in runs if _is_asked(run, fold, seed)] if asked else final or runs
    if not chosen:
        there = ", ".join(run.name for run in (*runs, *final)) or "none"
        raise EmocacheError(f"{folder} has no run of {_asked(fold, seed)}; there are: {there}")
    return _read(folder, chosen)


def _read(folder: Path, runs: Sequence[Path]) -> Models:
    records = [readable_record(run) for run in runs]  # first, for a fusion has no sources that could be missing
    sources = read_sources(folder)
    models = (open_model(run, record, sources) for run, record in zip(runs, records, strict=True))
    return Models(folder, sources, tuple(models))


def _setting(path: Path) -> Path:
    """Find the one folder of a setting in a folder, or above one."""
    found = {run.parent.parent for run in path.rglob(RUN)
             if RUN_FOLDER.fullmatch(run.parent.name) or FINAL_FOLDER.fullmatch(run.parent.name)}  # fmt: skip
    if not found:
        raise EmocacheError(f"no runs below {path}; give a folder that `emocache train` or `emocache export` wrote")
    if len(found) > 1:
        names = sorted(one.relative_to(path).as_posix() for one in found)
        more = f" and {len(names) - 6} others" if len(names) > 6 else ""
        raise EmocacheError(f"{path} holds runs of {len(names)} settings; give the folder of one of them:"
                            f" {', '.join(names[:6])}{more}")  # fmt: skip
    return found.pop()


def _asked(fold: int | None, seed: int | None) -> str:
    return " ".join(f"--{name} {value}" for name, value in (("fold", fold), ("seed", seed)) if value is not None)


def _is_asked(run: Path, fold: int | None, seed: int | None) -> bool:
    cell = _CELL.fullmatch(run.name)
    return cell is not None and fold in (None, int(cell["fold"])) and seed in (None, int(cell["seed"]))


def _parts(folder: Path) -> dict[str, str]:
    """{key of an utterance: its part of the fold}; nothing where that is not stored, so that none counts as a test."""
    try:
        table = parquet.read((folder / PREDICTIONS).read_bytes())
    except (OSError, pa.ArrowException):
        return {}
    names = (columns.PART, "corpus", "id")
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return {f"{corpus}/{id_}": part for part, corpus, id_ in rows}
