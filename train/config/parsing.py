"""Merged tables become the settings of an experiment with a head."""

from collections.abc import Mapping
from typing import Any

from ...cache import EmocacheError
from ...cache.nesting import flatten
from ..heads import HeadSettings, head_entry
from .sections import FeatureSettings
from .setting_errors import Place, validated
from .settings import LOSSES, NUMBERS, Settings


def parse_settings(raw: Mapping[str, Any], place: Place) -> Settings:
    """Return the settings of merged tables, with the defaults that depend on the task and on the head.

    Args:
        raw: the merged tables.
        place: gives the file that sets a dotted key.

    Returns:
        Settings whose head is of its own kind's class, with every default filled in.

    Raises:
        EmocacheError: see `setting_errors.validated`.
    """
    raw = dict(raw)
    head = raw.get("head")
    if not isinstance(head, Mapping) or "kind" not in head:
        raise EmocacheError(f"{place('head')}: the [head] table needs a kind")
    try:
        head_settings = head_entry(head["kind"]).settings
    except EmocacheError as error:
        raise EmocacheError(f"{place('head.kind')}: {error}") from None
    # The head comes first: its own settings decide which task and which scale of targets fit.
    raw["head"] = validated(head_settings, head, place, "head.")
    _check_features(raw.get("features"), place)
    task = raw.get("task", "classification")
    if not isinstance(task, str) or task not in LOSSES:
        raise EmocacheError(f"{place('task')}: task {task!r} is unknown; it can be: {', '.join(LOSSES)}")
    for table, key, default in (
        ("loss", "kind", LOSSES.get(task, ("",))[0]),
        ("selection", "metric", {"classification": "accuracy", "distribution": "loss"}.get(task, "ccc")),
    ):
        if isinstance(raw.get(table, {}), Mapping):
            raw[table] = {key: default, **raw.get(table, {})}
    raw["targets_scale"] = _targets_scale(raw.get("targets_scale"), task, raw["head"])
    if isinstance(raw.get("search"), Mapping):
        raw["search"] = flatten(raw["search"])
    return validated(Settings, raw, place, "")


def _targets_scale(asked: Any, task: str, head: HeadSettings) -> Any:
    """Targets that have a unit are standardised by default, where the head's values can follow; others never are."""
    if task in NUMBERS and head.bounds() is None:
        return "train" if asked is None else asked
    return None if asked == "none" else asked


def _check_features(features: Any, place: Place) -> None:
    """Check what a file sets for single inputs, so that an error names the input's table."""
    if not isinstance(features, Mapping):
        return
    common = {key: value for key, value in features.items() if not isinstance(value, Mapping)}
    for role, own in features.items():
        if isinstance(own, Mapping) and role != "roles":
            validated(FeatureSettings, {**common, **own}, place, f"features.{role}.")
