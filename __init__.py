"""emocache: frozen embeddings extracted once, emotion heads trained many times.

The four stages are the four subpackages: `cache` (the feature store), `extract`, `train` and `evaluate`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .prediction import Predictions

__version__ = "0.1.0"


def predict(run: str | Path, media: Sequence[str | Path], **options: Any) -> "Predictions":
    """Predict emotions in new media by stored runs, as `emocache predict` does.

    Args:
        run: folder of a run, of the runs of one setting, or one that `emocache export` wrote.
        media: files, folders and tables.
        options: those of `prediction.Predictor`, which is also what to keep for many calls.

    Returns:
        The prediction for each clip, and what has failed.

    Raises:
        EmocacheError: see `prediction.Predictor`.
    """
    from .prediction import Predictor

    return Predictor(run, **options).predict(media)
