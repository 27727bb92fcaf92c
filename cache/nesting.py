"""Nested tables, such as settings and recipes, as one flat table."""

from collections.abc import Mapping
from typing import Any


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to {dotted key: value}; an empty table leaves nothing.

    >>> flatten({"seed": 1, "head": {"kind": "gru", "layers": 2}})
    {'seed': 1, 'head.kind': 'gru', 'head.layers': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
