"""A fusion as something to run: its members are trained where they are not stored yet, then their predictions fused."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...cache import EmocacheError
from ...cache.recipe import canonical_json
from ..config.fusion_settings import FusionSettings, FusionTable
from ..fit.fold_result import FoldResult
from ..records.columns import PART, Columns
from ..records.run_record import FORMAT, CoverageRecord, FoldRecord, RunRecord, SelectionRecord, run_folder
from ..stored.run_folders import is_stored, read_run, recorded, write_run
from .experiment_plan import Plan
from .fusion import (
    Aligned,
    Values,
    align,
    fit_weights,
    fused_score,
    fused_table,
    majority,
    weighted,
)

_ENSEMBLE = 0  # the seed of a run that averages over seeds
# Of run.json, what is the same in all members.
_SAME = ("task", "targets", "classes", "folds", "manifests", "split_sha256", "missing_policy", "dropped_classes",
         "unlabelled", "recordings", "device", "threads")  # fmt: skip


@dataclass(frozen=True, eq=False)
class FusionPlan:
    """Every run of one fusion, checked. Its members must be stored before `train` is called.

    Attributes:
        experiment: its name. settings: its file. members: their plans, in order. command: see `RunRecord.command`.
    """

    experiment: str
    settings: FusionSettings
    members: list[Plan]
    command: tuple[str, ...] = ()

    @property
    def corpora(self) -> tuple[str, ...]:
        """Those of every member."""
        return self.members[0].corpora

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of every member; one that stands for all where the fusion is over seeds."""
        return (_ENSEMBLE,) if self.settings.fusion.over_seeds else self.members[0].settings.seeds

    @property
    def setting(self) -> str:
        """12 hex digits that cover the rule and the members' settings, which cover the split and what they read."""
        covered: list[Any] = [FORMAT, self.settings.fusion.model_dump(mode="json")]
        covered += [member.setting for member in self.members]
        if self.settings.fusion.over_seeds:
            covered.append([member.settings.seeds for member in self.members])
        return sha256(canonical_json(covered)).hexdigest()[:12]

    def folder(self, fold: int, seed: int) -> Path:
        """Return the folder that a run is stored in."""
        return run_folder(self.members[0].runs, self.experiment, self.corpora, self.setting, fold, seed)

    def all_runs(self) -> list[tuple[int, int]]:
        """(fold, seed) of every run that is asked for."""
        folds = dict.fromkeys(fold for fold, _ in self.members[0].all_runs())
        return [(fold, seed) for seed in dict.fromkeys(self.seeds) for fold in folds]

    def to_train(self) -> list[tuple[int, int]]:
        """(fold, seed) of the runs that are not stored yet."""
        return [run for run in self.all_runs() if not is_stored(self.folder(*run))]

    def release(self, number: int) -> None:
        """Forget the frames of a member whose runs are stored: not all of them need fit into memory together."""
        member = self.members[number]
        self.members[number] = replace(member, dataset=replace(member.dataset, features={}))

    def train(self, fold: int, seed: int) -> str:
        """Fuse and store one run from the members' stored predictions; returns a line that tells of it."""
        started = time.perf_counter()
        stored = [self._stored(member, fold, seed) for member in self.members]
        valid, test = (self._aligned(stored, part) for part in ("valid", "test"))
        metric = self.members[0].settings.selection.metric
        weights = self._weights(valid, metric)
        value = fused_score(valid, self._fused(valid, weights), metric).value(metric)
        tables = [fused_table(p, a, self._fused(a, weights)) for p, a in (("valid", valid), ("test", test))]
        records = [record for one in stored for record, _ in one]
        trained = FoldRecord(
            coverage=_coverage(records),
            prior=records[0].prior,
            selection=SelectionRecord(metric=metric, value=value, chosen={"weights": weights}),
            parameters=sum(record.parameters for record in records),
            warnings=tuple(dict.fromkeys(caution for record in records for caution in record.warnings)),
            seconds=round(time.perf_counter() - started, 3),
        )
        result = FoldResult(trained, pa.concat_tables(tables), None, {}, {}, [])
        write_run(self.folder(fold, seed), self._record(records, trained, fold, seed), result)
        fitted = self.settings.fusion.weights == "validation" and weights is not None
        told = f", weights {' '.join(f'{weight:.2g}' for weight in weights or ())}" if fitted else ""
        return f"fold {fold} seed {seed}: validation {metric} {value:.3f}{told}"

    def _stored(self, member: Plan, fold: int, seed: int) -> list[tuple[RunRecord, pa.Table]]:
        """run.json and predictions of the member's runs that count; EmocacheError where they are damaged."""
        seeds = dict.fromkeys(member.settings.seeds) if self.settings.fusion.over_seeds else [seed]
        return [read_run(member.folder(fold, own)) for own in seeds]

    def _aligned(self, stored: Sequence[Sequence[tuple[RunRecord, pa.Table]]], part: str) -> Aligned:
        """The members' predictions of one part; a member with several runs is their mean."""
        first = self.members[0].settings
        record = stored[0][0][0]
        columns = Columns(first.task, record.classes or record.targets)
        names = [member.experiment for member in self.members]
        tables = []
        for name, runs in zip(names, stored, strict=True):
            own = [table.filter(pc.equal(table[PART], part)) for _, table in runs]
            if len(own) > 1:
                seeds = align(own, [name] * len(own), columns)
                own = [fused_table(part, seeds, weighted(seeds, [1.0] * len(own)))]
            tables += own
        return align(tables, names, columns)

    def _weights(self, valid: Aligned, metric: str) -> tuple[float, ...] | None:
        """Of each member; None for a vote."""
        fusion = self.settings.fusion
        if fusion.rule == "vote":
            return None
        if fusion.weights == "validation":
            return fit_weights(valid, metric)[0]
        given = fusion.weights or (1.0,) * len(self.members)
        return tuple(weight / sum(given) for weight in given)

    def _fused(self, aligned: Aligned, weights: Sequence[float] | None) -> Values:
        return majority(aligned) if weights is None else weighted(aligned, weights)

    def _record(self, records: Sequence[RunRecord], trained: FoldRecord, fold: int, seed: int) -> RunRecord:
        """Return all of run.json: of the members together, or of the first where all have the same."""
        first = records[0]
        transductive = any(record.transductive for record in records)
        whole = {
            **{name: getattr(first, name) for name in _SAME},
            "protocol": first.protocol.model_copy(update={"transductive": transductive}),
            "experiment": self.experiment,
            "corpora": self.corpora,
            "streams": tuple(dict.fromkeys(stream for record in records for stream in record.streams)),
            "fold": fold,
            "seed": seed,
            "setting": self.setting,
            "report": self.settings.report,
            "command": self.command,
            "config": {
                **self.settings.model_dump(mode="json"),
                "seeds": list(self.seeds),
                "members": {plan.experiment: recorded(plan.settings) for plan in self.members},
            },
            "members": [{"experiment": plan.experiment, "setting": plan.setting} for plan in self.members],
            "item_digest": sha256(canonical_json([record.item_digest for record in records])).hexdigest(),
            "incomplete": any(record.incomplete for record in records),
            "transductive": transductive,
            "marks": tuple(dict.fromkeys(mark for record in records for mark in record.marks)),
        }
        return RunRecord(**{**dict(trained), **whole})


def make_fusion(experiment: str, settings: FusionSettings, members: Sequence[Plan]) -> FusionPlan:
    """Make the plan of a fusion.

    Args:
        experiment: its name.
        settings: what its file says.
        members: the plans of its members, in their order.

    Returns:
        The plan; its members must be stored before it is carried out.

    Raises:
        EmocacheError: the members do not predict the same of the same utterances in the same folds, or have other
            seeds; the message tells what differs.
    """
    first = members[0]
    for other in members[1:]:
        for setting, a, b in _differences(first, other, settings.fusion):
            raise EmocacheError(f"fusion.members: {first.experiment!r} and {other.experiment!r} differ in {setting}:"
                                f" {a} and {b}; give both the same")  # fmt: skip
    if settings.fusion.rule == "vote" and first.settings.task != "classification":
        raise EmocacheError(f"fusion.rule 'vote' counts classes, and the members' task is {first.settings.task!r};"
                            " set rule = 'average'")  # fmt: skip
    return FusionPlan(experiment, settings, list(members))


def _differences(one: Plan, other: Plan, fusion: FusionTable) -> list[tuple[str, Any, Any]]:
    """List what two members must share and do not: (setting, its two values), the most telling first."""
    a, b = one.settings, other.settings
    compared: list[tuple[str, Any, Any]] = [
        ("task", a.task, b.task),
        ("targets", a.targets, b.targets),
        ("threshold", a.threshold, b.threshold),
        ("classes, that is labels", one.dataset.classes, other.dataset.classes),
        ("missing", a.missing, b.missing),
        ("vote", a.vote, b.vote),
        ("folds, that is protocol", _folds(one), _folds(other)),
    ]
    if not fusion.over_seeds:
        compared.append(("seeds (or set fusion.over_seeds = true)", a.seeds, b.seeds))
    if fusion.weights == "validation":
        compared.append(("selection.metric", a.selection.metric, b.selection.metric))
    return [(name, x, y) for name, x, y in compared if x != y]


def _folds(plan: Plan) -> str:
    p = plan.settings.protocol
    return f"{p.name}, {len(plan.folds)} of {len(plan.dataset.examples)} utterances, split_sha256 {plan.split[:12]}"


def _coverage(records: Sequence[RunRecord]) -> CoverageRecord:
    """Of the test part: an utterance is missing where no member has features."""
    total = records[0].coverage.test
    lacking = [set(record.coverage.missing) for record in records]
    missing = tuple(key for key in records[0].coverage.missing if all(key in one for one in lacking))
    found = {"predicted": total - len(missing), "missing": missing}
    return records[0].coverage.model_copy(update=found)
