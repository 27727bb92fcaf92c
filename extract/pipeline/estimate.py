"""The cost of a run, told before it starts."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...cache import EmocacheError, Load, Task, Utterance
from ..encoders.encoder import Encoder, storage_dtype
from ..encoders.face_clips import FRAMES_A_SECOND
from .encoding import Target

_BYTES = {"float16": 2, "float32": 4}
_SPEED = {True: 40.0, False: 2000.0}  # cost units a second, of models and of signal transforms, on a small CPU


def loads(
    utterances: Iterable[Utterance],
    encoders: Mapping[Encoder, Sequence[int | None]],
    dtype: str | None,
    fps: float | None,
) -> dict[str, Load]:
    """Estimate the cost of each utterance, for cutting units: {id: Load}."""
    found = {}
    models = {e: runs_on_device(e) or _sees(e) for e in encoders}
    for utterance in utterances:
        seconds = sum(encoder.cost(utterance) / _SPEED[model] for encoder, model in models.items())
        size = max(_bytes(encoder, utterance, dtype, fps) for encoder in encoders)
        found[utterance.id] = Load(seconds, round(size))
    return found


def runs_on_device(encoder: Encoder) -> bool:
    """Tell by its recipe whether `--device` and `--precision` are for an encoder; signal transforms do without."""
    return "precision" in encoder.recipe(None)


def total_bytes(
    tasks: Iterable[Task],
    targets: Iterable[Target],
    utterances: Mapping[str, Utterance],
    dtype: str | None,
    fps: float | None,
) -> int:
    """Bytes of frames that the tasks will write, over the streams that lack them."""
    encoders = {target.writer.name: target.encoder for target in targets}
    each = (_bytes(encoders[stream], utterances[i], dtype, fps) for t in tasks for stream in t.units for i in t.ids)
    return round(sum(each))


def _bytes(encoder: Encoder, utterance: Utterance, dtype: str | None, fps: float | None) -> float:
    share = min(1.0, fps / FRAMES_A_SECOND) if fps is not None and _sees(encoder) else 1.0
    return share * encoder.expected_frames(utterance) * encoder.dim * _BYTES[dtype or storage_dtype(encoder)]


def _sees(encoder: Encoder) -> bool:
    return not {"video", "pictures"}.isdisjoint(encoder.inputs)


def check_room(cache: Path | None, needed: int) -> None:
    """Refuse a run that cannot fit the disk.

    Args:
        cache: that is written to.
        needed: bytes.

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
