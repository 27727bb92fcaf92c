"""One utterance with its label, and labels that have times of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...cache.expression import text_of

OWN = ("corpus", "speaker", "session", "culture", "gender", "split")
"""The columns of a manifest that every `Example` has."""


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """Time-stamped values of K targets: times (S,) seconds, increasing, and values (S, K), both float64."""

    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]

    @property
    def period(self) -> float:
        """Usual distance of two stamps in seconds; infinite for a single one."""
        return usual_distance(self.times)


Label = int | npt.NDArray[np.float64] | Stamps
"""A class number, K values, or time-stamped values."""


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance of the protocol, with features or without."""

    corpus: str
    id: str
    speaker: str | None
    session: str | None
    gender: str | None
    split: str | None
    reference: Label
    culture: str | None = None
    auxiliary: int | None = None  # class number of the second target; None where unknown
    columns: Mapping[str, str | float | None] = field(default_factory=dict)  # others that the settings name
    media: tuple[str, ...] = ()  # sha256 of each; told only where there are several corpora, which may share them
    recordings: tuple[str, ...] = ()  # those that another utterance of the corpus has as well
    places: tuple[tuple[str, str], ...] = ()  # (fold, part) of a fold file, see `lists.placing`

    @property
    def key(self) -> str:
        """Unique over corpora."""
        return f"{self.corpus}/{self.id}"

    def column(self, name: str) -> str | None:
        """Return the manifest's entry, as text; None where there is none. "corpus" is a column too."""
        return text_of(self.cell(name))

    def cell(self, name: str) -> str | float | None:
        """Return the same as the manifest has it: a text or a number."""
        return getattr(self, name) if name in OWN else self.columns[name]


def stamps_of(example: Example) -> Stamps:
    """Return the time-stamped label of an utterance in a frame-wise task."""
    if not isinstance(example.reference, Stamps):
        raise TypeError(f"{example.key} has no time-stamped reference")
    return example.reference


def on_grid(
    stamps: Stamps, centres: npt.NDArray[np.float64], delay: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Interpolate to frames the values that the annotators gave `delay` seconds after each frame.

    Args:
        stamps: native stamps.
        centres: (T,) frame centres in seconds.
        delay: seconds that the annotators lag behind the signal.

    Returns:
        (T, K) float64, and (T,) bool: False, and zeros, where no stamp lies within one period.
    """
    wanted = centres + delay
    values = np.stack([np.interp(wanted, stamps.times, column) for column in stamps.values.T], axis=1)
    near = is_near(wanted, stamps.times, stamps.period)
    return np.where(near[:, None], values, 0.0), near


def usual_distance(times: npt.NDArray[np.float64]) -> float:
    """Return the median distance of neighbours among increasing (n,) times; infinite for a single one."""
    return float(np.median(np.diff(times))) if len(times) > 1 else float("inf")


def is_near(wanted: npt.NDArray[np.float64], known: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.bool_]:
    """Tell, (n,), whether one of the increasing times `known` lies within `reach` of each of the (n,) `wanted`."""
    if not len(known):
        return np.zeros(len(wanted), bool)
    # Of sorted times only the neighbours on either side can be the nearest.
    after = np.clip(np.searchsorted(known, wanted), 0, len(known) - 1)
    before = np.maximum(after - 1, 0)
    # A frame exactly one period away counts, whatever rounding does to its time.
    return np.minimum(np.abs(known[after] - wanted), np.abs(known[before] - wanted)) <= reach * (1 + 1e-9)


def on_stamps(
    outputs: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], stamps: Stamps, delay: float
) -> npt.NDArray[np.float64]:
    """Bring predictions (T, K) at frame centres to the native stamps, with the delay undone: (S, K) float64."""
    wanted = stamps.times - delay
    return np.stack([np.interp(wanted, centres, column) for column in outputs.T], axis=1)
