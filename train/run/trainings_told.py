"""The trainings of a run as they are told: before, while and after it is trained."""

from collections.abc import Iterator
from typing import Any

from ...cache.telling import Progress, manner, tell
from ..config.search import WIDENINGS, search_points
from ..config.settings import Settings
from ..fit.loop import Watch
from ..records.run_record import SelectionRecord


def trainings_of(settings: Settings) -> int:
    """Return the trainings that a run of a fold consists of, but for those of grids that are widened.

    They are those of the search, each setting once for every part that validates, and those for testing after them; all
    of them for each target that has heads of its own.
    """
    heads = len(settings.targets) if settings.targets_apart else 1
    return heads * (parts_of(settings) * len(list(search_points(settings))) + refits_of(settings))


def parts_of(settings: Settings) -> int:
    """Return the number of parts that validate each setting, one after the other."""
    return settings.protocol.validation_folds if settings.protocol.validation == "nested" else 1


def refits_of(settings: Settings) -> int:
    """Return the number of heads that are trained anew with what was chosen, of one target."""
    return settings.selection.average if settings.selection.refit or parts_of(settings) > 1 else 0


def choice_told(settings: Settings) -> Iterator[str]:
    """Yield lines on how settings and epochs are chosen; none where there is one setting, validated once."""
    trials, parts, average = len(list(search_points(settings))), parts_of(settings), settings.selection.average
    if trials > 1:
        searched = ", ".join(settings.search)
        wider = f", and up to {WIDENINGS} times beyond a grid whose end is best" if settings.selection.widen else ""
        mean = f" the {average} whose mean predicts" if average > 1 else ""
        yield f"search: {trials} settings of {searched}{wider} tried in each fold and seed; validation chooses{mean}"
    if parts > 1:
        yield (f"nested: {parts} parts of the training part validate in turn; then all of it trains, for the median of"
               " their epochs")  # fmt: skip


def epochs_told(progress: Progress, name: str, trainings: int) -> Watch:
    """Return what takes each epoch of one run and tells it.

    Args:
        progress: counts runs.
        name: of the run.
        trainings: that it consists of, one after the other.
    """
    begun = 0

    def told(line: dict[str, Any]) -> None:
        nonlocal begun, trainings
        epoch, epochs = line["epoch"], line["epochs"]
        begun += epoch == 1
        trainings = max(trainings, begun)  # grids may have been widened
        part = f", training {begun}/{trainings}" if trainings > 1 else ""
        text = f"{name}{part}, epoch {epoch}/{epochs}, loss {line['train_loss']:.3f}"
        if manner.verbose:
            tell(text, err=True)
        progress.under_way(min(1.0, (begun - 1 + epoch / epochs) / trainings), text)

    return told


def chosen_told(settings: Settings, selection: SelectionRecord) -> str:
    """Return a line on what a run has chosen, and on the numbers that it tried beyond the grids of its settings."""
    told = f"over {len(settings.targets)} targets, each with a head of its own"
    if selection.best_epoch is not None:
        chosen = "".join(f", {key} {value}" for key, value in selection.chosen.items())
        told = f"in epoch {selection.best_epoch}{chosen}"
    if selection.averaged:
        told += f", averaged with the {len(selection.averaged) - 1} next best"
    new: dict[str, dict[Any, None]] = {}
    for one in (selection, *selection.by_target.values()):
        for key, values in one.grid.items():
            new.setdefault(key, {}).update(dict.fromkeys(v for v in values if v not in settings.search[key]))
    beyond = "; ".join(f"{key} {', '.join(f'{value:g}' for value in values)}" for key, values in new.items() if values)
    told += f"; beyond the grid: {beyond}" if beyond else ""
    return f"validation {selection.metric} {selection.value:.3f} {told}"
