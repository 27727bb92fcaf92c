"""The run on all utterances of an experiment: beside the runs that test, and by their votes."""

from pathlib import Path

import torch

from ...cache.telling import Progress
from ..fit.final_fit import train_final, votes
from ..inputs.joining import JoinedStreams
from ..stored.run_folders import is_stored, read_history, read_record, write_run
from .experiment_plan import Plan
from .trainings_told import epochs_told


def final_folder(plan: Plan) -> Path:
    """Return the folder that the run is stored in."""
    return plan.folder(0, 0).parent / f"final-seed{plan.settings.seeds[0]}"


def train_final_run(plan: Plan) -> str:
    """Train and store the run, if it is not stored; returns a line that tells of it.

    Args:
        plan: the runs of all its folds and seeds are stored: they vote.
    """
    folder = final_folder(plan)
    if is_stored(folder):
        return f"final: reused: {folder}"
    runs = [plan.folder(fold, seed) for seed in plan.settings.seeds for fold in range(len(plan.folds))]
    records = [read_record(run).selection for run in runs]
    voted = votes(records, [read_history(run) for run in runs], plan.settings.targets)
    seed, device, streams = plan.settings.seeds[0], torch.device(plan.device), JoinedStreams(plan.dataset)
    progress = Progress("final runs", 1)
    tell_epoch = epochs_told(progress, "all utterances", sum(map(len, voted.values())))
    with progress, plan.watched(folder, 0, seed, tell_epoch) as watch:
        result = train_final(plan.dataset, plan.settings, voted, seed, device, streams, watch)
        write_run(folder, plan.record(0, seed, result.record).model_copy(update={"final": True}), result)
    told = "; ".join(
        f"{f'{target}: ' if target else ''}{len(one.rates)} epochs"
        + "".join(f", {key} {value}" for key, value in one.chosen.items())
        for target, those in voted.items()
        for one in those
    )
    count = int(plan.dataset.present.sum())
    return f"final: all {count} utterances, by the votes of {len(runs)} runs {told}: {folder}"
