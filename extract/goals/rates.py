"""The pace of encoders as earlier runs on this machine had it: seconds of media that they encode in a second."""

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ...cache import EmocacheError
from ..weights.home import home, recall, remember
from .passes import Making


def rates_file() -> Path:
    """Return the file that remembers, beside what else emocache keeps of its own; it need not be there yet."""
    return home() / "rates.json"


def setting(encoder: str, how: Making) -> str:
    """Name all that an encoder's pace depends on, but for the hardware.

    >>> setting("vgg-face", Making(fps=5))
    'vgg-face, float32, 5 pictures a second, dlib'
    """
    pictures = "" if how.fps is None else f", {how.fps:g} pictures a second"
    every = "" if how.detect_every == 1 else f" in every {how.detect_every}. picture"
    return f"{encoder}, {how.precision}{pictures}, {Path(how.detector).name}{every}"


def recorded_rates(hardware: str) -> dict[str, float]:
    """Return {setting: seconds of media a second} of earlier runs; what is damaged counts as never recorded."""
    rates = (recall(rates_file()) or {}).get(hardware)
    return {key: float(rate) for key, rate in rates.items() if _is_rate(rate)} if isinstance(rates, dict) else {}


def record_rates(hardware: str, rates: Mapping[str, float]) -> None:
    """Remember what a run measured, in the place of what was known. Where that cannot be written, nothing is lost.

    Args:
        hardware: that it ran on.
        rates: {setting: seconds of media a second}.
    """
    if not rates:
        return
    known = recall(rates_file()) or {}
    known[hardware] = {**recorded_rates(hardware), **rates}
    with suppress(OSError, EmocacheError):
        remember(rates_file(), known)


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
