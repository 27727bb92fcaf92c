"""Leaving out the runs that others of newer data supersede, and saying so."""

from collections.abc import Sequence

from ...train.records.generations import Generation, Lineage, lineages, stale_members
from .stored_runs import Run


def current_runs(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Choose the runs that count: of those that differ in nothing but their data, one state of the data.

    Args:
        runs: of any experiments.

    Returns:
        Those that count, in their order; and lines on what is left out, and why. None where nothing is.
    """
    found = lineages({run.folder: run.record for run in runs})
    kept = {folder for lineage in found for one in lineage.current for folder in one.runs}
    older = [one for lineage in found for one in lineage.older]
    lines = [line for lineage in found for line in _newer_lines(lineage)]
    if count := sum(len(one.runs) for one in older):
        told = "1 other run of older data is" if count == 1 else f"{count} other runs of older data are"
        lines.append(f"{told} left out (--all)")
    for one in (one for lineage in found for one in lineage.current):
        if stale := stale_members(one.first, older):
            lines.append(f"{one.name}: fuses runs of older data of {', '.join(stale)}; train it again")
    return [run for run in runs if run.folder in kept], lines


def _newer_lines(lineage: Lineage) -> list[str]:
    return [
        f"{one.name}: {_count(one)} of newer data are left out (--all): of older data there are"
        f" {_count(lineage.current[0])}, which are taken until the newer are as complete; train on"
        for one in lineage.newer
    ]


def _count(one: Generation) -> str:
    return f"{len(one.runs)} of {one.wanted} runs"
