"""The run folder: its name, its files, and what its run.json says. Written by training, read by evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT = 1
RUN = "run.json"
"""A folder is a finished run exactly if it holds this file."""
PREDICTIONS = "predictions.parquet"
KEPT = "kept.parquet"
WEIGHTS = "weights.safetensors"
TRANSFORMS = "transforms.safetensors"
HISTORY = "history.jsonl"


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
    """The share of the protocol's test part that had features."""

    test: Annotated[int, Field(ge=0)]  # utterances that the protocol and the labels put into the test part
    predicted: Annotated[int, Field(ge=0)]  # of these, the ones with features
    missing: tuple[str, ...] = ()  # ids of the others


class SelectionRecord(_Record):
    """The choice made on validation."""

    metric: str | None = None  # that chose the epoch
    tried: tuple[dict[str, Any], ...] = ()  # one entry for each setting of a search


class WarningRecord(_Record):
    """A warning that training gave."""

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


def run_folder(runs: Path, experiment: str, corpora: Sequence[str], setting: str, fold: int, seed: int) -> Path:
    """`<runs>/<experiment>/<corpora>/<setting>/fold<k>-seed<s>`."""
    return runs / experiment / "+".join(corpora) / setting / f"fold{fold}-seed{seed}"
