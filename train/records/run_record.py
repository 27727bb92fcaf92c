"""The run folder: its name, its files, and what its run.json says. Written by training, read by evaluation."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

FORMAT: Final = 1
RUN = "run.json"
"""A folder is a finished run exactly if it holds this file."""
PREDICTIONS = "predictions.parquet"
KEPT = "kept.parquet"
WEIGHTS = "weights.safetensors"
TRANSFORMS = "transforms.safetensors"
HISTORY = "history.jsonl"
FILES = (RUN, PREDICTIONS, KEPT, WEIGHTS, TRANSFORMS, HISTORY)
"""All that a run folder may hold."""
ASKED = "asked.json"
"""Beside the run folders of one setting: when training was last asked for them and found them stored."""
SOURCES = "sources"
"""Beside the run folders of one setting: a folder that says where their features come from, see `run_sources`."""
FINAL_FOLDER = re.compile(r"final-seed\d+")
"""The name of a run on all utterances, beside the runs that test: nothing is tested by it."""
RUN_FOLDER = re.compile(r"fold\d+-seed\d+")
"""The name of a run folder; one that is still being written, or being removed, has another name."""


WATCH_FILE = re.compile(rf"({RUN_FOLDER.pattern}|{FINAL_FOLDER.pattern})\.watch\.jsonl")
"""The name of the file, beside a run folder, with the epochs of a run that is not stored yet."""


def watch_file(run: Path) -> Path:
    """Return the path of a run's file of epochs, beside the folder that the run is stored in."""
    return run.with_name(f"{run.name}.watch.jsonl")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StreamRecord(_Record):
    """One stream that a run read."""

    corpus: str
    name: str
    fingerprint: str  # 64 hex digits
    weights: str | None = None  # where its encoder's are from, "" of one without weights; None: not recorded


class ProtocolRecord(_Record):
    """The declared split: all that the experiment's `[protocol]` says of it."""

    model_config = ConfigDict(extra="allow")

    name: str
    resample: str | None = None  # the column that groups are from; None: sessions or speakers
    codes: dict[str, tuple[str, ...]] = {}  # short names for values of a column, such as C1 for a culture
    file_sha256: str | None = None  # of the fold file


class CoverageRecord(_Record):
    """The share of the protocol's test part that had features."""

    test: Annotated[int, Field(ge=0)]  # utterances that the protocol and the labels put into the test part
    predicted: Annotated[int, Field(ge=0)]  # of these, the ones with features
    missing: tuple[str, ...] = ()  # ids of the others
    enrolled: Annotated[int, Field(ge=0)] = 0  # further ones, not counted, that enrol their speakers


class TriedRecord(_Record):
    """One setting of a search."""

    settings: dict[str, Any]  # of what is searched
    epoch: int  # the best on validation; where several parts validated in turn the lower median of theirs
    value: float = math.nan  # of the metric in that epoch, or of what all those parts were given, together


class SelectionRecord(_Record):
    """The choice made on validation."""

    metric: str | None = None  # that chose the epoch
    value: float = math.nan  # of that metric, in the epoch chosen
    best_epoch: int | None = None  # from 1; None of a fusion, and of several heads together
    chosen: dict[str, Any] = {}  # the best setting of a search
    tried: tuple[TriedRecord, ...] = ()  # every setting of a search
    refit: bool = False  # trained anew on training and validation part
    parts: int = 1  # that validated each setting in turn
    averaged: tuple[TriedRecord, ...] = ()  # the settings whose mean predicts, the best first; none where one does
    grid: dict[str, tuple[Any, ...]] = {}  # the searched values, where grids were widened
    by_target: dict[str, "SelectionRecord"] = {}  # of each target that has a head of its own


@dataclass(frozen=True, slots=True)
class Caution:
    """One thing to know when one reads a number. Told in training, kept in run.json, marked in every table.

    Attributes:
        kind: a few words, which tables show as a mark.
        text: what it means, and the remedy; the same in all folds and seeds of which it is true.
    """

    kind: Annotated[str, Field(min_length=1)]
    text: str


class FoldRecord(_Record):
    """The part of run.json that the training of one fold decides; what has a default is absent from older runs."""

    coverage: CoverageRecord
    without_features: dict[str, int] = {}  # utterances of the training and validation part, by the part's name
    prior: dict[str, float]  # class -> its frequency in the training part, or target -> its training mean
    selection: SelectionRecord = SelectionRecord()
    parameters: int = 0  # of the head, or of the heads together
    threshold: float | None = None  # between the classes low and high, where they are cut from numbers
    warnings: tuple[Caution, ...] = ()
    seconds: float = 0.0


class RunRecord(FoldRecord):
    """All that run.json says; what has a default is absent from older runs."""

    format: Literal[1] = FORMAT
    experiment: Annotated[str, Field(min_length=1)]
    corpora: Annotated[tuple[str, ...], Field(min_length=1)]
    streams: tuple[StreamRecord, ...]
    task: Literal["classification", "regression", "frame_regression", "distribution"]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    classes: tuple[str, ...] | None  # of a classification
    auxiliary: str | None = None  # label column of a second target
    protocol: ProtocolRecord
    fold: Annotated[int, Field(ge=0)]  # of a final run 0
    final: bool = False  # trained on all utterances: tested on none
    folds: Annotated[int, Field(ge=1)]
    seed: int
    report: tuple[str, ...] | None = None  # papers whose tables are made of it; None: before files said so
    setting: str  # equal for runs that differ in nothing but fold and seed
    config: dict[str, Any]
    command: tuple[str, ...] = ()  # of `emocache train`: the experiment, by name or file, and each setting changed
    members: tuple[dict[str, str], ...] = ()  # experiment and setting of each member of a fusion
    manifests: dict[str, str]
    split_sha256: str
    item_digest: str  # of the features read
    incomplete: bool  # trained with --allow-incomplete
    transductive: bool  # something fitted saw test features
    marks: tuple[str, ...] = ()  # what else must be told beside the numbers
    recordings: dict[str, Any] = {}  # those that several utterances share, see `copies.record`
    missing_policy: str | None = None  # what utterances without features get
    dropped_classes: dict[str, int] = {}  # label -> utterances that the label map leaves out
    unlabelled: int = 0  # utterances
    device: str | None = None  # "cpu", "cuda" or "cuda:1"
    threads: int | None = None
    versions: dict[str, str] = {}  # of what it was trained with
    made: AwareDatetime | None = None  # when it was stored
    predictions_sha256: str | None = None

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


def parse_record(data: bytes) -> RunRecord:
    """Read the text of a run.json.

    Args:
        data: its bytes.

    Returns:
        What it says.

    Raises:
        ValueError: it is no JSON, or does not say what it must; one line names the field.
    """
    try:
        return RunRecord.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None
