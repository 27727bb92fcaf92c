"""The epochs of a run as they are told while it is trained."""

from typing import Any

from ...cache.telling import Progress, manner, tell
from ..config.search import search_points
from ..config.settings import Settings
from ..fit.loop import Watch


def trainings_of(settings: Settings) -> int:
    """Return the trainings that a run of a fold consists of: heads, times settings searched and a refit."""
    heads = len(settings.targets) if settings.targets_apart else 1
    return heads * (len(list(search_points(settings))) + settings.selection.refit)


def epochs_told(progress: Progress, name: str, trainings: int) -> Watch:
    """Return what takes each epoch of one run and tells it.

    Args:
        progress: counts runs.
        name: of the run.
        trainings: that it consists of, one after the other.
    """
    begun = 0

    def told(line: dict[str, Any]) -> None:
        nonlocal begun
        epoch, epochs = line["epoch"], line["epochs"]
        begun += epoch == 1
        part = f", training {begun}/{trainings}" if trainings > 1 else ""
        text = f"{name}{part}, epoch {epoch}/{epochs}, loss {line['train_loss']:.3f}"
        if manner.verbose:
            tell(text, err=True)
        progress.under_way(min(1.0, (begun - 1 + epoch / epochs) / trainings), text)

    return told
