"""Stored runs that differ in nothing but the data they were trained on, and which of them count today.

Neither training nor evaluation overwrites a run: after a corrected label the old and the new ones lie side by side.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from .run_record import ASKED, RUN, RunRecord

NOT_HASHED = ("seeds", "description", "report")
"""Settings that change no number of a run."""


@dataclass(frozen=True)
class Generation:
    """The stored runs of one experiment with one setting hash, and so from one state of the data."""

    runs: Mapping[Path, RunRecord]  # by their folders

    @property
    def first(self) -> RunRecord:
        """The record of one run, for what all have in common."""
        return next(iter(self.runs.values()))

    @property
    def name(self) -> str:
        """The experiment and the corpora, in words."""
        return f"{self.first.experiment} on {' + '.join(self.first.corpora)}"

    @cached_property
    def wanted(self) -> int:
        """The number of runs that the whole grid has."""
        cells = {(run.fold, run.seed): run for run in self.runs.values()}
        return len(cells) + len(missing_cells(cells))

    @property
    def share(self) -> float:
        """The part of the grid that is there: 1.0 where every fold has every seed."""
        return len({(run.fold, run.seed) for run in self.runs.values()}) / self.wanted

    @cached_property
    def latest(self) -> datetime:
        """The moment when one of the runs was last trained, or found to be what training would make again."""
        return max(*(made_at(folder, run) for folder, run in self.runs.items()), *map(_asked_at, self.runs))

    @property
    def data(self) -> tuple[Any, ...]:
        """All that run.json says of the data: manifests, split, streams and the features read."""
        run = self.first
        split = run.split_sha256, run.protocol.file_sha256
        return sorted(run.manifests.items()), split, run.streams, run.item_digest


@dataclass(frozen=True)
class Lineage:
    """The generations of one experiment with the same settings.

    Attributes:
        current: those that count: the most complete one, of equally complete ones the newest, and any of the same data.
        older: what that one supersedes. newer: of newer data, and less complete.
    """

    current: list[Generation]
    older: list[Generation]
    newer: list[Generation]


def lineages(runs: Mapping[Path, RunRecord]) -> list[Lineage]:
    """Sort runs by what they are of, and tell which count.

    Args:
        runs: their records, by their folders.

    Returns:
        A lineage for each experiment, corpora and settings, in the order of the runs.
    """
    found: dict[str, dict[str, dict[Path, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for folder, run in runs.items():
        found[kind(run)][run.setting][folder] = run
    return [_lineage([Generation(those) for those in settings.values()]) for settings in found.values()]


def _lineage(generations: list[Generation]) -> Lineage:
    taken = max(generations, key=lambda one: (one.share, one.latest))
    others = [one for one in generations if one.data != taken.data]
    return Lineage(
        [one for one in generations if one.data == taken.data],
        [one for one in others if one.latest <= taken.latest],
        [one for one in others if one.latest > taken.latest],
    )


def kind(run: RunRecord) -> str:
    """Return all that a run is but for its data, fold and seed: equal for the runs of one lineage."""
    config = {name: value for name, value in run.config.items() if name not in NOT_HASHED}
    if isinstance(members := config.get("members"), dict):
        # The seeds of the members are those of the fusion, unless it is over them.
        hidden = NOT_HASHED[1:] if (config.get("fusion") or {}).get("over_seeds") else NOT_HASHED
        config["members"] = {
            name: {key: value for key, value in settings.items() if key not in hidden}
            for name, settings in members.items()
        }
    return json.dumps([run.experiment, run.corpora, run.task, run.targets, config], sort_keys=True)


def stale_members(run: RunRecord, superseded: Iterable[Generation]) -> list[str]:
    """Return the experiments that a fusion was made of, of which it has older runs than there are now."""
    older = {(one.first.experiment, one.first.corpora, one.first.setting) for one in superseded}
    return [m["experiment"] for m in run.members if (m["experiment"], run.corpora, m["setting"]) in older]


def missing_cells(runs: Mapping[tuple[int, int], RunRecord]) -> list[tuple[int, int]]:
    """Return (fold, seed) of the grid without a run: every fold of the protocol, with every seed asked for or seen."""
    configured = [run.config.get("seeds") for run in runs.values()]
    asked = {seed for seeds in configured if isinstance(seeds, list) for seed in seeds}
    seeds = sorted(asked | {seed for _, seed in runs})
    grid = ((fold, seed) for fold in range(runs[min(runs)].folds) for seed in seeds)
    return [cell for cell in grid if cell not in runs]


def made_at(folder: Path, run: RunRecord) -> datetime:
    """Return when a run was stored; of an older one, which does not say, the date of its run.json."""
    return run.made or datetime.fromtimestamp((folder / RUN).stat().st_mtime, UTC)


def _asked_at(folder: Path) -> datetime:
    """When training last found the runs beside this one to be what it would make again."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        asked = datetime.fromisoformat(json.loads((folder.parent / ASKED).read_bytes())["asked"])
        if asked.tzinfo is not None:
            return asked
    return datetime.fromtimestamp(0, UTC)
