"""The search: every combination of the values that an experiment lists, and those beyond its grids."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...cache import EmocacheError
from .experiment_files import merge, nested
from .parsing import parse_settings
from .settings import Settings

_MOST_POINTS = 1000  # of a search; each is trained in every fold and seed
_FEWEST = 3  # numbers of a grid that has ends
# Tables whose numbers may be widened: those of [features] may be impossible for the frames that there are.
_WIDENED = ("training", "loss", "augment", "head")

WIDENINGS = 3
"""The most times that the grids of one run are widened."""


def search_points(settings: Settings) -> Iterator[tuple[dict[str, Any], Settings]]:
    """Yield every point of the search: its values, and the settings with these. One, without a search.

    Args:
        settings: with `search` or without.

    Raises:
        EmocacheError: a point sets what does not exist, or a value that does not fit; there are too many, or fewer
            than `selection.average`.
    """
    if (count := math.prod(map(len, settings.search.values()))) > _MOST_POINTS:
        raise EmocacheError(f"search: {count} combinations of {', '.join(settings.search)}, each trained in every fold"
                            f" and seed; give at most {_MOST_POINTS}")  # fmt: skip
    if count < settings.selection.average:
        raise EmocacheError(f"selection.average = {settings.selection.average} takes the mean of as many settings, and"
                            f" the search has {count}; list more in [search], or lower it")  # fmt: skip
    if not settings.search:
        yield {}, settings
        return
    raw = _alone(settings)
    for values in itertools.product(*settings.search.values()):
        chosen = dict(zip(settings.search, values, strict=True))
        point = raw
        for key, value in chosen.items():
            point = merge(point, nested(key, value))
        # Read anew, so that a point is checked as if an experiment had set it.
        made = parse_settings(point, lambda _: "[search]")
        if made.targets_scale != settings.targets_scale:
            raise EmocacheError(f"search: {' and '.join(chosen)} would try heads with bounded outputs beside others,"
                                " whose targets have another scale; give each an experiment of its own")  # fmt: skip
        yield chosen, made


def chosen_settings(settings: Settings, chosen: Mapping[str, Any]) -> Settings:
    """Return settings with what their search has chosen, and without the search."""
    if not chosen:
        return settings.model_copy(update={"search": {}})
    raw = _alone(settings)
    for key, value in chosen.items():
        raw = merge(raw, nested(key, value))
    return parse_settings(raw, lambda _: "run.json").model_copy(update={"targets_scale": settings.targets_scale})


def _alone(settings: Settings) -> dict[str, Any]:
    """The settings as those of one head, whose point of the search is set next."""
    raw = settings.model_dump(exclude={"search"})
    return merge(raw, {"selection": {"average": 1, "widen": False}})


def end_of(values: Sequence[Any], value: Any) -> int:
    """Tell the end of a grid at which a choice lies.

    Args:
        values: of a searched setting.
        value: one of them.

    Returns:
        1 for the largest of three or more numbers; -1 for the smallest, unless that is 0, or 1 among integers, below
        which nothing lies; else 0.
    """
    numbers = _numbers(values)
    if len(numbers) < _FEWEST:
        return 0
    bounded = numbers[0] == 0 or (numbers[0] == 1 and all(isinstance(number, int) for number in numbers))
    return 1 if value == numbers[-1] else -1 if value == numbers[0] and not bounded else 0


def beyond(values: Sequence[Any], value: Any) -> float | int | None:
    """Return the number that comes next beyond the end of a grid, if the choice lies at one.

    It continues the grid: by its step where that is everywhere the same, else by the ratio of the two numbers at that
    end, or by their difference where they have no ratio. Integers stay integers.

    Args:
        values: of a searched setting.
        value: that was chosen.

    Returns:
        The number, with four digits; None where the choice lies at no end.

    >>> beyond((0.01, 0.1, 1.0), 1.0), beyond((64, 128, 256), 64), beyond((0.1, 0.2, 0.3), 0.3), beyond((1, 2, 3), 2)
    (10.0, 32, 0.4, None)
    """
    end = end_of(values, value)
    if not end:
        return None
    numbers = _numbers(values)[::end]
    last, before = numbers[-1], numbers[-2]
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    even = max(steps) - min(steps) <= 1e-6 * abs(steps[0])
    found = last * last / before if min(last, before) > 0 and not even else 2 * last - before
    if all(isinstance(number, int) for number in numbers):
        return round(found) if round(found) != last else None
    return 0.0 if abs(found) <= 1e-6 * abs(last - before) else float(f"{found:.4g}")


def wider(settings: Settings, chosen: Mapping[str, Any]) -> Settings | None:
    """Return the settings with one more value for each searched number whose choice lies at an end of its grid.

    Args:
        settings: with a search.
        chosen: what is best by now.

    Returns:
        The settings, whose grids end with what is new; None where no choice lies at an end, or nothing beyond it can
        be tried: a value that is not allowed, or too many combinations.
    """
    found = settings
    for key, values in settings.search.items():
        new = beyond(values, chosen[key]) if key.partition(".")[0] in _WIDENED else None
        if new is None:
            continue
        tried = found.model_copy(update={"search": {**found.search, key: (*values, new)}})
        try:
            list(search_points(tried))
        except EmocacheError:
            continue
        found = tried
    return None if found is settings else found


def _numbers(values: Sequence[Any]) -> list[float]:
    """The different numbers of a grid, ascending; none where it has anything else."""
    numbers = {value for value in values if isinstance(value, int | float) and not isinstance(value, bool)}
    return sorted(numbers) if len(numbers) == len(set(map(repr, values))) else []
