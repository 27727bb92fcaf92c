"""The search: every combination of the values that an experiment lists."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...cache import EmocacheError
from .experiment_files import merge, nested
from .parsing import parse_settings
from .settings import Settings

_MOST_POINTS = 1000  # of a search; each is trained in every fold and seed


def search_points(settings: Settings) -> Iterator[tuple[dict[str, Any], Settings]]:
    """Yield every point of the search: its values, and the settings with these. One, without a search.

    Args:
        settings: with `search` or without.

    Raises:
        EmocacheError: a point sets what does not exist, or a value that does not fit; or there are too many.
    """
    if (count := math.prod(map(len, settings.search.values()))) > _MOST_POINTS:
        raise EmocacheError(f"search: {count} combinations of {', '.join(settings.search)}, each trained in every fold"
                            f" and seed; give at most {_MOST_POINTS}")  # fmt: skip
    if not settings.search:
        yield {}, settings
        return
    raw = settings.model_dump(exclude={"search"})
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
    raw = settings.model_dump(exclude={"search"})
    for key, value in chosen.items():
        raw = merge(raw, nested(key, value))
    return parse_settings(raw, lambda _: "run.json").model_copy(update={"targets_scale": settings.targets_scale})
