"""What a run will cost, told before it starts."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..cache import EmocacheError, Load, Task, Utterance
from .encoders.base import Encoder
from .encoding import Target

_BYTES = {"float16": 2, "float32": 4}
_SPEED = {True: 40.0, False: 2000.0}  # cost units a second, of models and of signal transforms, on a small CPU


def loads(
    utterances: Iterable[Utterance], encoders: Mapping[Encoder, Sequence[int | None]], dtype: str
) -> dict[str, Load]:
    """What each utterance is expected to cost, for cutting units: {id: Load}."""
    found = {}
    models = {e: "precision" in e.recipe(None) or "video" in e.inputs for e in encoders}
    for utterance in utterances:
        seconds = sum(encoder.cost(utterance) / _SPEED[model] for encoder, model in models.items())
        size = max(encoder.expected_frames(utterance) * encoder.dim for encoder in encoders) * _BYTES[dtype]
        found[utterance.id] = Load(seconds, size)
    return found


def total_bytes(
    tasks: Iterable[Task], targets: Iterable[Target], utterances: Mapping[str, Utterance], dtype: str
) -> int:
    """Bytes of frames that the tasks will write, over the streams that lack them."""
    encoders = {target.writer.name: target.encoder for target in targets}
    size = 0
    for task in tasks:
        for stream in task.units:
            encoder = encoders[stream]
            size += sum(encoder.expected_frames(utterances[i]) for i in task.ids) * encoder.dim * _BYTES[dtype]
    return size


def check_room(cache: Path | None, needed: int) -> None:
    """Refuse a run that cannot fit the disk.

    Raises:
        EmocacheError: less room than the frames need.
    """
    if cache is None:
        return
    folder = next(parent for parent in (cache, *cache.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EmocacheError(
            f"{needed / 1e9:.2f} GB of frames do not fit {folder}, which has {free / 1e9:.2f} GB free; free some,"
            " choose fewer layers, --dtype float16 or --pca"
        )
