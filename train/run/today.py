"""Comparing stored runs with a cache: a run is current exactly if training would reuse it today."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...cache import Cache, EmocacheError
from ..config.fusion_settings import FusionSettings
from ..config.setting_errors import validated
from ..records.generations import kind
from ..records.run_record import RunRecord
from ..stored.run_folders import settings_of
from ..stored.stored_results import CURRENT, FINAL, SUPERSEDED, UNKNOWN, Stored, StoredResult, with_members
from .experiment_plan import Plan, make_plan
from .fusion_plan import make_fusion


def compared(stored: Stored, cache: Cache) -> Stored:
    """Return what is stored with its standing against a cache, in place of that among each other.

    Args:
        stored: the runs.
        cache: with today's manifests and streams.

    Returns:
        Results that are `current`, `superseded`, or `unknown` where today's setting cannot be told: a corpus or a
        stream is not in this cache, or training refuses what is in it. A note says why.

    Raises:
        EmocacheError: the cache has no corpus at all.
    """
    if not cache.corpora():
        raise EmocacheError(f"cache {cache.objects.url} {cache.why_empty()}")
    first = {kind(one.records[0]): one.records[0] for one in stored.results if one.records}
    today = {of: _setting_or_reason(run, cache) for of, run in first.items()}
    results = [_standing(one, *today[kind(one.records[0])]) if one.records else one for one in stored.results]
    replaced = {kind(one.records[0]) for one in results if one.state == CURRENT and len(one.folders) == one.wanted}
    for number, one in enumerate(results):
        if one.state == SUPERSEDED and kind(one.records[0]) not in replaced:
            results[number] = replace(one, notes=("no complete runs of today's data take its place yet",))
    return replace(stored, results=with_members(results))


def _standing(one: StoredResult, setting: str | None, reason: str) -> StoredResult:
    if setting is None:
        return replace(one, state=UNKNOWN, notes=(reason,))
    if one.state == FINAL and setting == one.records[0].setting:
        return one
    return replace(one, state=CURRENT if setting == one.records[0].setting else SUPERSEDED, notes=())


def _setting_or_reason(run: RunRecord, cache: Cache) -> tuple[str | None, str]:
    try:
        return setting_today(run, cache), ""
    except EmocacheError as error:
        return None, " ".join(str(error).split())


def setting_today(run: RunRecord, cache: Cache) -> str:
    """Return the setting hash that training with a run's settings would have today.

    Args:
        run: a stored one, also of a fusion.
        cache: with the manifests and streams.

    Returns:
        The hash; that of the run if it would be reused.

    Raises:
        EmocacheError: training would be refused, such as for a stream that is not there.
    """
    if not run.members:
        return _plan(run.experiment, run.config, run.corpora, cache).setting
    members = [_plan(m["experiment"], run.config["members"][m["experiment"]], run.corpora, cache) for m in run.members]
    own: dict[str, Any] = {name: run.config[name] for name in ("description", "report", "fusion") if name in run.config}
    return make_fusion(run.experiment, validated(FusionSettings, own, _place, ""), members).setting


def _plan(experiment: str, config: dict[str, Any], corpora: Sequence[str], cache: Cache) -> Plan:
    settings = settings_of(config)
    # The hash tells whether as much is extracted as the run had.
    return make_plan(cache, corpora, Path(), experiment, settings, allow_incomplete=True)


def _place(_: str) -> str:
    return "run.json"
