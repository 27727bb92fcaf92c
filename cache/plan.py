"""Plans: which missing utterances form which unit of work, fixed once so that every worker follows the same cut."""

import contextlib
import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import index
from .objects import Objects, create_once
from .sealed import DamagedError, seal, unseal

if TYPE_CHECKING:
    from .writer import StreamWriter

_Units = dict[str, list[tuple[str, str]]]  # {unit key: [(utterance id, item key), ...]}
_UNITS_OF_A_PLAN = 64  # a document of 65,536 utterances at most, which is read in under a second
_MAX_BYTES, _MAX_UTTERANCES, _MAX_SECONDS = 64 << 20, 1024, 600.0


class Load(NamedTuple):
    """The expected cost of one utterance, for cutting units."""

    seconds: float  # of encoding, over all streams
    bytes: int  # of frames, in the stream where it has most


@dataclass(frozen=True)
class Task:
    """Utterances to encode together, shortest first, and the unit they belong to in each stream."""

    ids: tuple[str, ...]
    units: Mapping[str, str]  # {stream name: unit key}
    number: int  # where the plans have it, whatever is done already: what `--shard i/n` deals out


def plan_tasks(
    writers: Sequence["StreamWriter"], loads: Mapping[str, Load], *, retry_failed: bool = False, min_units: int = 1
) -> list[Task]:
    """Plan what is left to encode, following the plans there are and writing new ones for what none of them covers.

    Args:
        writers: the streams filled in one pass; utterances that the same streams miss are cut into the same units.
        loads: the utterances wanted, with their costs.
        retry_failed: treat committed failures as missing.
        min_units: cut so that about this many units come out, for that many workers.

    Returns:
        the tasks; a task whose utterances several streams miss is one for all of them.
    """
    missing = {writer.name: missing_of(writer, loads, retry_failed) for writer in writers if loads}
    if not any(missing.values()):
        return []
    uncovered: dict[str, list[str]] = defaultdict(list)
    units: dict[str, _Units] = {}
    last: dict[str, int] = {}
    for writer in writers:
        units[writer.name], last[writer.name] = read(writer.objects)
        covered = {key for items in units[writer.name].values() for _, key in items}
        for utterance, key in missing[writer.name].items():
            if key not in covered:
                uncovered[utterance].append(writer.name)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for utterance, names in uncovered.items():
        groups[tuple(names)].append(utterance)
    for writer in writers:
        cuts = [
            cut for names, ids in sorted(groups.items()) if writer.name in names for cut in _cut(ids, loads, min_units)
        ]
        if cuts:
            keys = missing[writer.name]
            fresh = {_unit_key([keys[i] for i in cut]): [(i, keys[i]) for i in cut] for cut in cuts}
            cut_now = list(fresh.items())
            for start in range(0, len(cut_now), _UNITS_OF_A_PLAN):
                plan = seal({"units": cut_now[start : start + _UNITS_OF_A_PLAN]})
                last[writer.name] += 1
                if not create_once(writer.objects, f"plans/{last[writer.name]:06d}.json", plan):
                    # Another worker has planned meanwhile.
                    return plan_tasks(writers, loads, retry_failed=retry_failed, min_units=min_units)
            units[writer.name].update(fresh)
    return _tasks(units, missing, loads)


def missing_of(writer: "StreamWriter", ids: Collection[str], retry_failed: bool = False) -> dict[str, str]:
    """{id: item key} of those utterances of the manifest that the stream does not have yet, sorted by id.

    Args:
        writer: of the stream.
        ids: of the utterances wanted.
        retry_failed: treat committed failures as missing.
    """
    every = writer.manifest.ids
    found = index.mark_current(index.load(writer.objects), writer.keys)
    done = np.zeros(len(every), bool)
    done[every.positions(found.items.column("id").filter(found.items.column("current")))] = True
    wanted = np.unique(every.positions(ids))
    wanted = wanted[wanted >= 0]
    keys = writer.keys.of(every.at(wanted[~done[wanted]]))
    failed = set() if retry_failed else {(failure.id, failure.key) for failure in found.failures}
    return {utterance: key for utterance, key in keys.items() if (utterance, key) not in failed}


def read(objects: Objects) -> tuple[_Units, int]:
    """The units of every plan of a stream, in the order they were made, and the number of the last plan.

    A damaged plan is left out: what it covered is planned again, and nothing committed depends on it.
    """
    units: _Units = {}
    names = objects.names("plans")
    for name in names:
        with contextlib.suppress(DamagedError):
            for unit, items in from_bytes(objects.get(f"plans/{name}"), name).items():
                units.setdefault(unit, items)  # its key is the hash of its items
    return units, max((int(name.partition(".")[0]) for name in names), default=0)


def from_bytes(data: bytes, what: str) -> _Units:
    """Read the units of one plan.

    Args:
        data: the bytes of the plan.
        what: what errors call it.

    Returns:
        {unit key: (utterance id, item key) of each of its utterances}.

    Raises:
        DamagedError: other bytes than were written, or no plan of emocache's, whoever has sealed it: unit keys become
            names of records.
    """
    document = unseal(data, what)
    try:
        units: _Units = {unit: [(i, key) for i, key in items] for unit, items in document["units"]}
        texts = [text for items in units.values() for pair in items for text in pair]
        plain = all(re.fullmatch("[0-9a-f]+", unit) for unit in units) and all(isinstance(t, str) for t in texts)
    except (KeyError, TypeError, ValueError):
        plain = False
    if not plain:
        raise DamagedError(f"{what}: is no plan of emocache's; delete it and extract again")
    return units


def _unit_key(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]


def _cut(ids: Sequence[str], loads: Mapping[str, Load], min_units: int) -> list[list[str]]:
    """Length-grouped units: neighbours in length share one, so that batches need little padding."""
    most = max(1, min(_MAX_UTTERANCES, -(-len(ids) // min_units)))
    cuts: list[list[str]] = []
    size, seconds = 0, 0.0
    for utterance in sorted(ids, key=lambda i: (loads[i].bytes, i)):
        load = loads[utterance]
        size, seconds = size + load.bytes, seconds + load.seconds
        if not cuts or len(cuts[-1]) >= most or size > _MAX_BYTES or seconds > _MAX_SECONDS:
            cuts.append([])
            size, seconds = load.bytes, load.seconds
        cuts[-1].append(utterance)
    return cuts


def _tasks(
    units: Mapping[str, _Units], missing: Mapping[str, Mapping[str, str]], loads: Mapping[str, Load]
) -> list[Task]:
    """Streams whose unit has the same utterances left share a task, so that each is encoded once for all of them."""
    # A unit is told by its utterances: streams number them apart, and the smallest number gives the order of work.
    numbers: dict[frozenset[str], int] = {}
    for planned in units.values():
        for number, items in enumerate(planned.values()):
            cut = frozenset(i for i, _ in items)
            numbers[cut] = min(number, numbers.get(cut, number))
    tasks: dict[tuple[str, ...], Task] = {}
    for stream, planned in units.items():
        taken: set[str] = set()
        for unit, items in planned.items():
            left = [i for i, key in items if missing[stream].get(i) == key and i not in taken]
            taken.update(left)
            if left:
                # Of like sizes together, so that batches have little padding.
                ids = tuple(sorted(left, key=lambda i: (loads[i].bytes, i)))
                number = numbers[frozenset(i for i, _ in items)]
                before = tasks.get(ids, Task(ids, {}, number))
                tasks[ids] = Task(ids, {**before.units, stream: unit}, min(number, before.number))
    return list(tasks.values())
