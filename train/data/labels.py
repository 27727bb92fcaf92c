"""Labels and tracks as what a head is trained towards and scored on."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, Manifest, Track
from ...cache.expression import text_of
from ..config.settings import Settings
from .example import Stamps

_LARGEST = float(np.finfo(np.float32).max)  # heads compute in float32


def labels_of(
    manifest: Manifest, settings: Settings, dropped: Counter[str]
) -> Sequence[str | npt.NDArray[np.float64] | Stamps | None]:
    """Read the label of each utterance of a manifest; None where it has none.

    Args:
        manifest: the corpus.
        settings: task, targets and label map.
        dropped: counts the labels that the label map leaves out.

    Returns:
        In the order of `manifest.ids`: a class name, (K,) values, or `Stamps`. With `targets_apart` an utterance needs
        one of the targets only; what it lacks of the others is NaN.

    Raises:
        EmocacheError: a target that the manifest lacks, text where numbers are needed or the reverse, negative votes,
            or tracks of several targets with different times.
    """
    if settings.task == "classification" and settings.threshold is None:
        return _classes(manifest, settings, dropped)
    if settings.task != "frame_regression":
        columns = [_numbers(manifest, target, settings) for target in settings.targets]
        rows = zip(*columns, strict=True)
        needed = any if settings.targets_apart else all
        values = [np.array(row, np.float64) if needed(value is not None for value in row) else None for row in rows]
        if settings.task == "distribution":
            return [_shares(f"{manifest.corpus}/{id_}", row) for id_, row in zip(manifest.ids, values, strict=True)]
        return values
    absent = [target for target in settings.targets if target not in manifest.track_names]
    if absent:
        known = ", ".join(manifest.track_names) or "none"
        raise EmocacheError(f"corpus {manifest.corpus!r} has no track {absent[0]!r}; it has: {known}; set targets to"
                            " one of them, or for a label of utterances task = 'regression'")  # fmt: skip
    crop = settings.features.crop_s
    return [
        _stamps(f"{manifest.corpus}/{u.id}", [u.tracks.get(t) for t in settings.targets], crop, settings.targets_apart)
        for u in manifest
    ]


def limit(values: npt.NDArray[np.float64], seen: npt.NDArray[np.int64], threshold: str) -> float:
    """Compute the limit that a number must exceed to be high.

    Args:
        values: (U,) numbers.
        seen: rows of the training part.
        threshold: "median", "mean" or "zero".

    Returns:
        The median or mean of the rows that may be seen, or zero.
    """
    if threshold == "zero":
        return 0.0
    return float(np.median(values[seen]) if threshold == "median" else np.mean(values[seen]))


def binarise(values: npt.NDArray[np.float64], seen: npt.NDArray[np.int64], threshold: str) -> npt.NDArray[np.int64]:
    """Divide numbers into the classes low and high.

    Args:
        values: (U,) numbers.
        seen: rows of the training part.
        threshold: "median", "mean" or "zero", see `limit`.

    Returns:
        (U,) int64: 1, which is high, above the limit; 0, which is low, below and at it.

    Raises:
        EmocacheError: the training part has one of the two classes only.
    """
    boundary = limit(values, seen, threshold)
    classes = (values > boundary).astype(np.int64)
    if len(np.unique(classes[seen])) < 2:
        side = "high" if classes[seen].any() else "low"
        raise EmocacheError(f"threshold = {threshold!r} ({boundary:g}): every utterance of a training part is {side};"
                            " use another threshold or target")  # fmt: skip
    return classes


def _classes(manifest: Manifest, settings: Settings, dropped: Counter[str]) -> list[str | None]:
    """Read the class names of the only target, by the label map where there is one."""
    target = settings.targets[0]
    if target in manifest.track_names and target not in manifest.label_names:
        raise EmocacheError(f"corpus {manifest.corpus!r}: target {target!r} is a track; set threshold to divide its"
                            " means, or task = 'frame_regression'")  # fmt: skip
    column = manifest.column(target)
    if any(isinstance(label, float) and not label.is_integer() for label in column):
        raise EmocacheError(
            f"corpus {manifest.corpus!r}: target {target!r} holds numbers; classification needs text, or set"
            " task = 'regression', or a threshold"
        )
    labels = [text_of(label) for label in column]
    if not settings.labels:
        return labels
    classes = {label: name for name, members in settings.labels.items() for label in members}
    dropped.update(label for label in labels if label is not None and label not in classes)
    return [None if label is None else classes.get(label) for label in labels]


def _numbers(manifest: Manifest, target: str, settings: Settings) -> list[float | None]:
    """Read one target's numbers; of a track its mean, over the part that is used where frames are cropped."""
    crop = settings.features.crop_s
    if target in manifest.track_names and (crop is not None or target not in manifest.label_names):
        tracks = [_cropped(u.tracks.get(target), crop) for u in manifest]
        return [None if track is None else float(np.mean(track.values)) for track in tracks]
    column = manifest.column(target)
    if any(isinstance(value, str) for value in column):
        what = settings.task if settings.threshold is None else "a threshold"
        raise EmocacheError(f"corpus {manifest.corpus!r}: target {target!r} holds text; {what} of it needs numbers")
    for id_, value in zip(manifest.ids, column, strict=True):
        if value is not None and abs(value) > _LARGEST:
            raise EmocacheError(f"{manifest.corpus}/{id_}: target {target!r} is {value:g}, too large for float32")
    return column


def _shares(where: str, row: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
    """Turn votes into shares; None where nobody voted."""
    if row is not None and row.min() < 0:
        raise EmocacheError(f"{where}: a target is {row.min():g}; a distribution needs votes or shares of 0 or more")
    if row is None or not row.any():
        return None
    return np.asarray(row / row.sum())


def _cropped(track: Track | None, crop: float | None) -> Track | None:
    """Keep the stamps before `crop` seconds; None where there are none."""
    if track is None:
        return None
    inside = track.times < (np.inf if crop is None else crop)
    return Track(track.times[inside], track.values[inside]) if inside.any() else None


def _stamps(where: str, tracks: Sequence[Track | None], crop: float | None, apart: bool) -> Stamps | None:
    cropped = [_cropped(track, crop) for track in tracks]
    found = [track for track in cropped if track is not None]
    if not found or (len(found) < len(tracks) and not apart):
        return None
    if any(not np.array_equal(track.times, found[0].times) for track in found):
        raise EmocacheError(f"{where}: the targets' tracks have different times; train one target an experiment")
    unknown = np.full(len(found[0].times), np.nan)
    return Stamps(found[0].times, np.stack([unknown if t is None else t.values for t in cropped], axis=1))
