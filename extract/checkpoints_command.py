"""`emocache checkpoints`: where weights are from, where they lie, what is missing, and getting it."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..cache import EmocacheError
from .encoders.families import VARIANTS
from .encoders.fetching import tell_of
from .encoders.lookup import check_folder, repository_of
from .encoders.needs import Need, fetch, need_of, remedies
from .encoders.registry import REGISTRY


def all_names() -> list[str]:
    """List the names of the table that are no variants of others."""
    variants = {variant.family for variant in VARIANTS}
    return [name for name, entry in REGISTRY.items() if entry.family not in variants]


def checkpoints(
    names: Sequence[str],
    folder: Path | None,
    fetching: bool,
    given: Path | None,
    offline: bool,
    origins: Mapping[str, str],
    as_json: bool = False,
) -> int:
    """Print what encoders need, or get it.

    Args:
        names: of encoders.
        folder: what `--checkpoints` gives.
        fetching: get what is missing.
        given: a copy of the weights file of the only name.
        offline: never ask the hub.
        origins: as `encoders.load` takes it.
        as_json: print one JSON document.

    Returns:
        The number of encoders that lack something.

    Raises:
        EmocacheError: an unknown encoder; a file is given for several encoders; or offline, and to be fetched.
    """
    if fetching and offline and given is None:
        raise EmocacheError("--fetch asks the hub, and --offline forbids it; leave one of them out")
    if given is not None and (not fetching or len(names) != 1):
        raise EmocacheError("--from FILE goes with --fetch and one name, whose weights the file holds")
    check_folder(folder)
    needs = {need.weights: need for need in (need_of(name, folder, origins) for name in dict.fromkeys(names))}
    if fetching:
        needs = {weights: _fetched(need, folder, given) for weights, need in needs.items()}
    lacking = [need for need in needs.values() if need.missing]
    if as_json:
        print(json.dumps({"checkpoints": [_document(need) for need in needs.values()]}, indent=2, ensure_ascii=False))
        return len(lacking)
    asked = {} if offline or fetching else _ask(list(needs.values()))
    width = max(map(len, needs))
    for need in needs.values():
        print(f"{need.weights:<{width}}  {_state(need, asked)}")
    if lacking:
        print(f"{len(lacking)} of {len(needs)} lack something:")
    for line in remedies(lacking):
        print(f"  {line}")
    return len(lacking)


def _document(need: Need) -> dict[str, object]:
    return {
        "name": need.weights,
        "source": need.source,
        "missing": str(need.missing) if need.missing else None,
        "where": None if need.where is None else str(need.where),
        "bytes": need.size,
        "licence": need.licence or None,
    }


def _fetched(need: Need, folder: Path | None, given: Path | None) -> Need:
    if not need.lacks_weights and given is None:
        return need
    try:
        fetch(need, given)
    except EmocacheError as error:
        print(f"{need.weights}: {' '.join(str(error).split())}", file=sys.stderr)
        return need if need.lacks_weights else replace(need, lacks_weights=True)
    return need_of(need.weights, folder)


def _ask(needs: Sequence[Need]) -> dict[str, str]:
    """Ask the hub for size and licence of what is not here; one answer that does not come is enough to give up."""
    told: dict[str, str] = {}
    for need in needs:
        source = repository_of(need.weights) if need.lacks_weights else None
        if source is None:
            continue
        told[need.weights] = tell_of(*source)
        if not told[need.weights]:
            break
    return told


def _state(need: Need, asked: dict[str, str]) -> str:
    size = "" if need.size is None else f"{need.size / 1e9:.2f} GB"
    there = f"missing: {need.missing}" if need.missing else "here" if need.where else "ready"
    detail = asked.get(need.weights) or ", ".join(filter(None, (size, need.licence)))
    where = "" if need.where is None or str(need.where) == need.source else f"; in {need.where}"
    return f"{there}; {need.source}" + (f" ({detail})" if detail else "") + where
