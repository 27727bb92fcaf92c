"""Runs that differ in nothing but fold and seed, taken together as one result."""

import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...cache import EmocacheError
from ...cache.nesting import flatten
from ...train.records.generations import missing_cells
from ...train.records.run_record import CoverageRecord, RunRecord, SelectionRecord
from .layers_told import layers_told
from .shipped import shipped_report
from .stored_runs import Run

Cell = tuple[int, int]
"""(fold, seed): the place of one run in a result's grid."""


@dataclass(frozen=True)
class Result:
    """The runs of one experiment on the same corpora with the same setting: one row of a table."""

    runs: Mapping[Cell, Run]
    difference: str  # what sets it apart from results of the same experiment and corpora; "" if it is alone

    @cached_property
    def first(self) -> RunRecord:
        """The record of the first run, for what all have in common."""
        return self.runs[min(self.runs)].record

    @property
    def corpus(self) -> str:
        """The corpora's names, joined by `+`."""
        return "+".join(self.first.corpora)

    @property
    def streams(self) -> list[str]:
        """The streams' names, each once."""
        return list(dict.fromkeys(stream.name for stream in self.first.streams))

    @property
    def streams_told(self) -> str:
        """The streams in a few words, for people; see `layers_told`."""
        return layers_told(self.streams)

    @property
    def classes(self) -> list[str]:
        """Every class of any run, in the first run's order; empty for a regression."""
        return list(dict.fromkeys(name for run in self.runs.values() for name in run.record.classes or ()))

    @property
    def targets(self) -> list[str]:
        """The part of a metric's name after its point: the targets, or "" of a classification."""
        return [""] if self.first.task == "classification" else list(self.first.targets)

    @property
    def folds(self) -> list[int]:
        """The folds with at least one run."""
        return sorted({fold for fold, _ in self.runs})

    @property
    def seeds(self) -> list[int]:
        """The seeds with at least one run."""
        return sorted({seed for _, seed in self.runs})

    @property
    def missing_runs(self) -> list[Cell]:
        """The cells of the grid without a run: every fold of the protocol, with every seed asked for or seen."""
        return missing_cells({cell: run.record for cell, run in self.runs.items()})

    @property
    def incomplete(self) -> bool:
        """True where any run was trained on incomplete streams."""
        return any(run.record.incomplete for run in self.runs.values())

    @property
    def transductive(self) -> bool:
        """True where in any run something fitted saw test features."""
        return any(run.record.transductive for run in self.runs.values())

    @property
    def report(self) -> list[str]:
        """The papers whose tables are made of any run; where a run does not say, its shipped file does."""
        records = [run.record for run in self.runs.values()]
        named = [r.report if r.report is not None else shipped_report(r.experiment) for r in records]
        return list(dict.fromkeys(name for names in named for name in names))

    @property
    def trials(self) -> int:
        """The number of settings that each run of a search chose from; 1 without a search."""
        return max(1, *(len(one.tried) for one in self._selections))

    @property
    def trainings(self) -> int:
        """The number of heads that each run trained to choose: every setting once for each part that validated it."""
        return max(max(1, len(one.tried)) * one.parts for one in self._selections)

    @property
    def selection(self) -> str:
        """The words that must be told of a choice; "" where there was one setting, and one part that validated."""
        parts, average = (max(count) for count in zip(*((s.parts, len(s.averaged)) for s in self._selections),
                                                      strict=True))  # fmt: skip
        where = f"{parts} validation parts in turn ({self.trainings} trainings)" if parts > 1 else "validation"
        if average > 1:
            return f"mean of the {average} best of {self.trials} settings on {where}"
        if self.trials > 1:
            return f"chosen among {self.trials} settings on {where}"
        return f"epochs chosen on {where}" if parts > 1 else ""

    @property
    def _selections(self) -> list[SelectionRecord]:
        """The choices of all runs, that of each target where targets have heads of their own."""
        whole = [run.record.selection for run in self.runs.values()]
        return [choice for one in whole for choice in one.by_target.values() or (one,)]

    @property
    def file_name(self) -> str:
        """Unique to the result, and no path: dots divide folders, and a checksum tells odd names apart."""
        name = self.first.experiment
        safe = re.sub(r"[^A-Za-z0-9._+-]+", "_", name.replace("/", "."))
        odd = "" if safe == name.replace("/", ".") and "." not in name else f"-{zlib.crc32(name.encode()):08x}"
        return f"{safe}{odd}-{re.sub('[^0-9a-f]', '_', self.first.setting)}"

    @property
    def coverage(self) -> CoverageRecord:
        """Summed over the folds; of each fold its first seed counts."""
        parts = [self.runs[min(cell for cell in self.runs if cell[0] == fold)].record.coverage for fold in self.folds]
        missing = dict.fromkeys(name for part in parts for name in part.missing)
        return CoverageRecord(
            test=sum(part.test for part in parts),
            predicted=sum(part.predicted for part in parts),
            missing=tuple(missing),
            enrolled=sum(part.enrolled for part in parts),
        )

    @property
    def warnings(self) -> dict[tuple[str, str], int]:
        """{(kind, text): how many runs were warned of it in training}."""
        found = ((one.kind, one.text) for run in self.runs.values() for one in dict.fromkeys(run.record.warnings))
        return dict(Counter(found))

    @property
    def marks(self) -> list[str]:
        """The words that tables say beside the numbers; last are training's warnings, with the runs that have each."""
        marks = ["incomplete"] if self.incomplete else []
        marks += ["transductive"] if self.transductive else []
        if self.missing_runs:
            marks.append(f"{len(self.runs)} of {len(self.runs) + len(self.missing_runs)} runs")
        marks += [mark for run in self.runs.values() for mark in run.record.marks]
        kinds = Counter(kind for run in self.runs.values() for kind in {one.kind: None for one in run.record.warnings})
        whole = len(self.runs)
        marks += [kind if count == whole else f"{kind} {count}/{whole}" for kind, count in kinds.items()]
        return list(dict.fromkeys(marks))


TEXTS = ("description", "report")
"""Settings, also of a fusion's members, that say nothing of what was trained."""


def group(runs: Iterable[Run]) -> list[Result]:
    """Group runs into results.

    Args:
        runs: of any experiments.

    Returns:
        The results, sorted by corpus, experiment and what sets them apart.

    Raises:
        EmocacheError: two runs of the same result, fold and seed; runs of one result that contradict each other.
    """
    alike: dict[tuple[str, tuple[str, ...]], dict[str, dict[Cell, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        record = run.record
        cells = alike[record.experiment, record.corpora][record.setting]
        other = cells.setdefault((record.fold, record.seed), run)
        if other is not run:
            raise EmocacheError(f"{other.folder} and {run.folder} are the same run twice; delete one or name only one")
    results = []
    for settings in alike.values():
        for cells in settings.values():
            _check_alike(list(cells.values()))
        named = _differences([cells[min(cells)].record for cells in settings.values()])
        results += [Result(cells, name) for cells, name in zip(settings.values(), named, strict=True)]
    return sorted(results, key=lambda r: (r.corpus, r.first.experiment, r.difference, r.first.setting))


def _check_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for field in ("task", "targets", "folds"):
            mine, theirs = getattr(run.record, field), getattr(first.record, field)
            if mine != theirs:
                raise EmocacheError(
                    f"{run.folder}: {field} is {mine!r}, but {theirs!r} in {first.folder}, which claims the same"
                    " setting; delete one and train it again"
                )


def _differences(records: Sequence[RunRecord]) -> list[str]:
    """For each record the values by which it differs from the others, as `key=value key=value`."""
    if len(records) == 1:
        return [""]
    described = [_describe(record) for record in records]
    # What follows from another difference is told only where it is the one thing that tells two apart.
    for keys in (("config",), ("config", "fingerprint"), ("config", "fingerprint", "manifest", "split", "items")):
        flat = [{k: v for part in keys for k, v in one[part].items()} for one in described]
        names = dict.fromkeys(key for one in flat for key in one)
        varying = [key for key in names if len({one.get(key) for one in flat}) > 1]
        texts = [" ".join(f"{key}={one.get(key, 'unset')}" for key in varying) for one in flat]
        if len(set(texts)) == len(texts):
            return texts
    return [f"setting={record.setting}" for record in records]


def _describe(record: RunRecord) -> dict[str, dict[str, str]]:
    config = {key: value for key, value in record.config.items() if key != "seeds"}
    told = {key: text for key, text in flat_texts(config).items() if key.rpartition(".")[2] not in TEXTS}
    return {
        "config": told,
        "fingerprint": {f"{s.corpus}/{s.name}": s.fingerprint[:12] for s in record.streams},
        "manifest": {f"manifest.{corpus}": sha256[:12] for corpus, sha256 in record.manifests.items()},
        "split": {"split": record.split_sha256[:12], "protocol.file_sha256": (record.protocol.file_sha256 or "")[:12]},
        "items": {"items": record.item_digest[:12]},
    }


def flat_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Return nested settings as dotted keys with short texts.

    >>> flat_texts({"streams": ["whisper-base"], "head": {"kind": "gru", "layers": 2}})
    {'streams': 'whisper-base', 'head.kind': 'gru', 'head.layers': '2'}
    """
    return {
        key: ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
        for key, value in flatten(config).items()
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
