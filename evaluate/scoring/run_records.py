"""Finding the runs that training left, and checking what each says of itself."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...cache import EmocacheError

_RUN_FOLDER = re.compile(r"fold\d+-seed\d+")  # a run still being written has another name


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StreamRecord(_Record):
    """One stream that a run read."""

    corpus: str
    name: str
    fingerprint: str  # 64 hex digits


class ProtocolRecord(_Record):
    """The declared split; what else training stored of it is in the run's config."""

    name: str
    resample: str | None = None  # the column that groups are from; None: sessions or speakers
    codes: dict[str, tuple[str, ...]] = {}  # short names for values of a column, such as C1 for a culture


class CoverageRecord(_Record):
    """How much of the protocol's test part had features."""

    test: Annotated[int, Field(ge=0)]  # utterances that the protocol and the labels put into the test part
    predicted: Annotated[int, Field(ge=0)]  # of these, the ones with features
    missing: tuple[str, ...] = ()  # ids of the others


class SelectionRecord(_Record):
    """What was chosen on validation."""

    metric: str | None = None  # that chose the epoch
    tried: tuple[dict[str, Any], ...] = ()  # one entry for each setting of a search


class WarningRecord(_Record):
    """What training warned of."""

    kind: Annotated[str, Field(min_length=1)]  # a few words, which tables show
    text: str  # what it means, and the remedy


class RunRecord(_Record):
    """The part of run.json that evaluation reads; what has a default is absent from older runs."""

    format: Literal[1]
    experiment: Annotated[str, Field(min_length=1)]
    corpora: Annotated[tuple[str, ...], Field(min_length=1)]
    streams: tuple[StreamRecord, ...]
    task: Literal["classification", "regression", "frame_regression", "distribution"]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    classes: tuple[str, ...] | None  # of a classification
    auxiliary: str | None = None  # label column of a second target
    protocol: ProtocolRecord
    fold: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=1)]
    seed: int
    report: tuple[str, ...] | None = None  # papers whose tables are made of it; None: before files said so
    setting: str  # equal for runs that differ in nothing but fold and seed
    config: dict[str, Any]
    manifests: dict[str, str]
    split_sha256: str
    item_digest: str  # of the features read
    incomplete: bool  # trained with --allow-incomplete
    transductive: bool  # something fitted saw test features
    marks: tuple[str, ...] = ()  # what else must be told beside the numbers
    warnings: tuple[WarningRecord, ...] = ()  # what a reader must know, with what it means
    selection: SelectionRecord = SelectionRecord()
    coverage: CoverageRecord
    predictions_sha256: str | None = None
    prior: dict[str, float]  # class -> its frequency in the training part, or target -> its training mean

    @model_validator(mode="after")
    def _prior_fits_task(self) -> Self:
        if self.task == "classification" and not self.classes:
            raise ValueError("a classification needs classes")
        needed = self.classes if self.task == "classification" else self.targets
        if absent := sorted(set(needed or ()) - set(self.prior)):
            raise ValueError(f"prior lacks {', '.join(absent)}")
        return self


@dataclass(frozen=True)
class Run:
    """One head trained on one fold with one seed."""

    folder: Path
    record: RunRecord

    @property
    def predictions(self) -> Path:
        """The file with the predictions."""
        return self.folder / "predictions.parquet"


def discover(paths: Sequence[Path]) -> list[Run]:
    """Every complete run at or below the paths, in the order of their folders' names.

    Args:
        paths: folders; overlapping ones count once.

    Raises:
        EmocacheError: a path that is no folder, no run below any of them, or an unreadable run.json.
    """
    for path in paths:
        if not path.is_dir():
            raise EmocacheError(f"{path} is not a folder; give the folder that `emocache train --runs` wrote to")
    folders = sorted({folder.resolve() for path in paths for folder in _run_folders(path)})
    if not folders:
        where = ", ".join(str(path) for path in paths)
        raise EmocacheError(f"no runs below {where}; `emocache train EXPERIMENT --runs DIR` writes them")
    return [read_run(folder) for folder in folders]


def read_run(folder: Path) -> Run:
    """The run in one folder; EmocacheError if its run.json cannot be read or does not say what it must."""
    path = folder / "run.json"
    try:
        return Run(folder, RunRecord.model_validate_json(path.read_bytes()))
    except OSError as error:
        raise EmocacheError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = f"{place}: {first['msg']}" if place else first["msg"]
        raise EmocacheError(
            f"{path}: {problem}; it is damaged or of another version: delete the folder and train this run again"
        ) from None


def _run_folders(path: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(path):
        if _RUN_FOLDER.fullmatch(Path(folder).resolve().name):
            below.clear()
            if "run.json" not in files:
                raise EmocacheError(f"{folder}: a run folder without run.json; delete it and train this run again")
            yield Path(folder)
